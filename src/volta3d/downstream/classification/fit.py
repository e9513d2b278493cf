"""Fine-tuning: the loop in which a network learns one fold.

Shape legend: B batch, n scans, C classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from volta3d.arms.classifier import Notify
from volta3d.arms.fold_data import FoldData, FoldResult, class_weights
from volta3d.arms.networks.classifier import Classifier
from volta3d.config import ClassifyConfig
from volta3d.downstream.classification.inputs import CHUNK, Cubes
from volta3d.downstream.classification.selection import BestEpoch
from volta3d.errors import Diverged
from volta3d.randomness import numpy_generator


class Learner:
    """One network on one fold.

    Args:
        network: freshly built; trained in place.
        cubes: the scans.
        rows: [n] the cohort's index of each labelled scan.
        stored: what the network's stem makes of each labelled scan [n, ...], for all that is not
            augmented; None: computed as needed.
        config: of the run.
        standardised: whether the head scales each feature by its spread over the training part.
        bf16: whether the network computes in bf16.
    """

    def __init__(
        self,
        network: Classifier,
        cubes: Cubes,
        rows: np.ndarray,
        stored: Tensor | None,
        config: ClassifyConfig,
        *,
        standardised: bool,
        bf16: bool,
    ) -> None:
        self.network, self.cubes, self.rows, self.stored = network, cubes, rows, stored
        self.config, self.standardised, self.bf16 = config, standardised, bf16
        self.device = cubes.scans.device
        self.mean, self.deviation = 0.0, 1.0

    def learn(self, data: FoldData, notify: Notify | None = None) -> FoldResult:
        """Train, choose the epoch on inner validation, predict inner and test.

        Raises:
            Diverged: a loss or a score is NaN or infinite.
        """
        network, config, q = self.network, self.config, data
        if not q.classes:  # numbers are learnt in units of their deviation
            self.mean = float(q.train_values.mean())
            self.deviation = float(q.train_values.std()) or 1.0
        targets = self._targets(q.train_values, q.classes)
        weights = self._weights(q)
        if self.standardised:
            network.head.standardise(self._features(q.train))
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=config.lr, weight_decay=config.weight_decay)
        best, kept = BestEpoch(config.patience), self._state()
        history: list[dict[str, Any]] = []
        choosing = config.epoch == "inner" and len(q.inner) > 0
        for epoch in range(config.epochs):
            loss = self._epoch(q, targets, weights, optimizer, epoch)
            inner = self._inner_loss(q, weights)
            if inner is not None and not math.isfinite(inner):
                raise _diverged(f"The loss on inner validation is not finite in epoch {epoch}")
            history.append({"epoch": epoch, "loss": loss, "inner_loss": inner})
            if notify is not None:
                notify(epoch + 1)
            if choosing and inner is not None and best.better(epoch, inner):
                kept = self._state()
            if choosing and best.give_up:
                break
        chosen = len(history) - 1
        if choosing and best.epoch >= 0:
            network.load_state_dict(kept, strict=False)
            chosen = best.epoch
        facts = {} if q.classes else {"mean": self.mean, "deviation": self.deviation}
        return FoldResult(
            inner=self.predict(q.inner, q.classes),
            test=self.predict(q.test, q.classes),
            epoch=chosen,
            history=history,
            tensors=self._state(),
            facts=facts,
        )

    def predict(self, positions: np.ndarray, classes: int) -> np.ndarray:
        """Class probabilities [k, C], or numbers [k, 1], of some labelled scans.

        Raises:
            Diverged: they are not finite.
        """
        logits = self._logits(positions).double()
        if not bool(torch.isfinite(logits).all()):
            raise _diverged("What the network says of the scans is not finite")
        if classes:
            return logits.softmax(1).cpu().numpy()
        numbers: np.ndarray = (logits * self.deviation + self.mean).cpu().numpy()
        return numbers

    def _epoch(
        self,
        q: FoldData,
        targets: Tensor,
        weights: Tensor | None,
        optimizer: torch.optim.Optimizer,
        epoch: int,
    ) -> float:
        """One pass over the training part; the mean loss."""
        self.network.train()
        order = numpy_generator(q.seed, "classify order", epoch).permutation(len(q.train))
        total = 0.0
        for start in range(0, len(order), self.config.batch_size):
            part = order[start : start + self.config.batch_size]
            stemmed = self._stem(q.train[part], epoch)
            with self._autocast():
                logits = self.network.rest(stemmed)
            loss = _loss(logits.float(), targets[torch.from_numpy(part)], weights)
            value = float(loss.detach())
            if not math.isfinite(value):
                names = [self.cubes.scans.scan_ids[self.rows[i]] for i in q.train[part]]
                raise _diverged(
                    f"The loss is not finite in epoch {epoch}, scans {', '.join(names)}"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += value * len(part)
        return total / len(order)

    def _inner_loss(self, q: FoldData, weights: Tensor | None) -> float | None:
        if not len(q.inner):
            return None
        targets = self._targets(q.inner_values, q.classes)
        return float(_loss(self._logits(q.inner), targets, weights))

    @torch.no_grad()
    def _logits(self, positions: np.ndarray) -> Tensor:
        """Logits [k, O] in fp32, nothing augmented."""
        self.network.eval()
        parts = [torch.empty(0, self.network.head.linear.out_features, device=self.device)]
        for start in range(0, len(positions), CHUNK):
            with self._autocast():
                logits = self.network.rest(self._stem(positions[start : start + CHUNK], None))
            parts.append(logits.float())
        return torch.cat(parts)

    @torch.no_grad()
    def _features(self, positions: np.ndarray) -> Tensor:
        self.network.eval()
        parts = []
        for start in range(0, len(positions), CHUNK):
            with self._autocast():
                made = self.network.features(self._stem(positions[start : start + CHUNK], None))
            parts.append(made.float())
        return torch.cat(parts)

    def _stem(self, positions: np.ndarray, epoch: int | None) -> Tensor:
        """What the stem makes of some labelled scans, augmented in a training epoch."""
        varied = epoch is not None and self.config.augment.enabled
        if self.stored is not None and not varied:
            return self.stored[torch.from_numpy(positions).to(self.device)]
        rows = self.rows[positions]
        cubes = self.cubes.varied(rows, epoch or 0) if varied else self.cubes.plain(rows)
        with self._autocast():
            return self.network.stem(cubes)

    def _targets(self, values: np.ndarray, classes: int) -> Tensor:
        if classes:
            return torch.from_numpy(values.astype(np.int64)).to(self.device)
        scaled = (values - self.mean) / self.deviation
        return torch.from_numpy(scaled.astype(np.float32)).to(self.device)

    def _weights(self, q: FoldData) -> Tensor | None:
        if not q.classes or self.config.class_weights == "none":
            return None
        weights = class_weights(q.train_values, q.classes).astype(np.float32)
        return torch.from_numpy(weights).to(self.device)

    def _state(self) -> dict[str, Tensor]:
        """Copies of what is trained, and of the head's buffers."""
        trained = {n for n, p in self.network.named_parameters() if p.requires_grad}
        return {
            name: value.detach().clone()
            for name, value in self.network.state_dict().items()
            if name in trained or name.startswith("head.")
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def _loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy, each scan with its class's weight, or the squared error of scaled numbers.

    The plain mean over the batch: weights have a mean of one over the training part. Divided by the
    weights of each batch instead, a rare class would count for less than its share, as it does in
    batches that hold none of it.
    """
    if targets.dtype != torch.int64:
        return functional.mse_loss(logits[:, 0], targets)
    if weights is None:
        return functional.cross_entropy(logits, targets)
    return (weights[targets] * functional.cross_entropy(logits, targets, reduction="none")).mean()


def _diverged(what: str) -> Diverged:
    return Diverged(what, fix="Lower lr, look at the scans, or use --set precision=fp32")
