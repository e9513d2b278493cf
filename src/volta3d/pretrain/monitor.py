"""What is watched while training: is the teacher informative, are the features alive and useful?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from volta3d.cohort.subjects import subjects_of
from volta3d.config import PretrainConfig
from volta3d.errors import ConfigError, Diverged, nearest
from volta3d.files import atomic_file
from volta3d.objective.diagnostics import (
    effective_rank,
    feature_std,
    information,
    mean_offdiagonal_cosine,
)
from volta3d.objective.schedules import Now
from volta3d.pretrain.agreement import agreement, watched_people
from volta3d.pretrain.data import Scans
from volta3d.pretrain.quick_probes import knn_within, quick_knn, quick_probe
from volta3d.pretrain.step import SelfDistillation
from volta3d.views.batch import ViewBatch
from volta3d.views.geometry import centred_on, resample

AT_ONCE = 8  # scans of a look at most, however many processes share a micro-batch
MONITOR_EPOCH = -1  # no training epoch shares these draws


class Monitor:
    """Computes the epoch record of metrics.jsonl on a fixed set of scans.

    Args:
        scans: the pretraining data; a fixed random part of at most ``monitor.scans`` of what is
            trained on is watched, and agreement on the people held out.
        config: the run's configuration.

    Raises:
        ConfigError: the column to probe is not in the cohort.
    """

    def __init__(self, scans: Scans, config: PretrainConfig) -> None:
        self.scans = scans
        self.config = config
        chosen = np.random.default_rng(config.seed).permutation(scans.trained)
        self.indices = np.sort(chosen[: config.monitor.scans])
        self.people = watched_people(scans, self.indices)
        self.column = config.monitor.probe or self._usable_column()
        if self.column and self.column not in scans.participants:
            raise ConfigError(
                f"No column '{self.column}' in the cohort's participants.tsv",
                where="monitor.probe",
                fix=nearest(self.column, [str(c) for c in scans.participants]),
            )

    def _usable_column(self) -> str:
        table = self.scans.participants.iloc[self.indices]
        for name in ("age", "sex", "diagnosis"):
            if name not in table:
                continue
            values = table[name].replace("", np.nan).dropna()
            if len(values) >= 20 and len(set(values)) > 1:
                return name
        return ""

    def _batches(self, indices: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor]]:
        size = min(max(self.config.batch_size, 4), AT_ONCE)
        for start in range(0, len(indices), size):
            part = indices[start : start + size]
            yield part, self.scans.batch(part)

    def views(self, part: np.ndarray, volumes: Tensor, epoch: int = MONITOR_EPOCH) -> ViewBatch:
        """The views of some scans, the same at every call."""
        return self.scans.views(part, self.config, epoch, volumes)

    def seen(self, part: np.ndarray, volumes: Tensor) -> Tensor:
        """One clean view of each scan at the scale of the globals, [B, 1, S, S, S].

        In millimetres it is the middle of the head, else the whole cube.
        """
        views = self.config.views
        if views.spacing_mm is None:
            return whole(volumes, views.global_size)
        edge = sum(views.spacing_mm) / 2 * views.global_size
        heads = self.scans.heads(part, volumes)
        geometries = [[centred_on(head, edge / head.edge_mm)] for head in heads]
        value_range = self.scans.contract.value_range
        low = volumes.amin((1, 2, 3, 4), keepdim=True) if value_range is None else None
        return resample(volumes, geometries, views.global_size, low)

    @torch.no_grad()
    def measure(self, distillation: SelfDistillation, now: Now) -> dict[str, Any]:
        """The monitors of METHOD sections 6 and 10, without the record's step and epoch.

        Raises:
            Diverged: the features are not finite.
        """
        teacher = distillation.pair.teacher
        token, mean, bottleneck, probabilities = [], [], [], []
        for part, volumes in self._batches(self.indices):
            tokens = teacher.encoder(self.seen(part, volumes))
            logits, raw = distillation.cls_logits(teacher, tokens)
            if distillation.standardised:
                raw = distillation.standardiser(raw)  # what the L2 normalisation sees
            token.append(teacher.summariser(tokens).float())
            mean.append(tokens.float().mean(1))
            bottleneck.append(raw.float())
            center = distillation.cls_center
            probabilities.append(center.distributions(logits, now.teacher_temperature))
        features = torch.cat(token).cpu()
        if not bool(features.isfinite().all()):
            raise Diverged(
                "The teacher's features became NaN or infinite",
                fix="The last checkpoint is intact. Lower lr, or use precision=fp32, then --resume",
            )
        record = self._of_the_head(torch.cat(probabilities).cpu(), torch.cat(bottleneck).cpu())
        if "cls" not in distillation.names:
            record = dict.fromkeys(record)  # nobody trains that head: its answers mean nothing
        record |= {
            "feature_std": feature_std(features),
            "effective_rank": effective_rank(features),
            "mean_cosine": mean_offdiagonal_cosine(features),
            "center_norm": float(distillation.cls_center.value.norm()),
            "patch_center_norm": float(distillation.patch_center.value.norm()),
        }
        at_once = min(max(self.config.batch_size, 4), AT_ONCE)
        record["agreement"] = agreement(
            distillation, self.scans, self.people, now, self._views_of, at_once
        )
        record["icc"] = record["agreement"].pop("icc")
        if self.column:
            record["probe"] = self._probe(features, torch.cat(mean).cpu())
            record["knn"] = self._knn(features, torch.cat(mean).cpu())
        return record

    def _of_the_head(self, probabilities: Tensor, bottleneck: Tensor) -> dict[str, Any]:
        """What the CLS head's answers [n, K] and its bottleneck [n, d] say."""
        cosine = mean_offdiagonal_cosine(bottleneck)
        return {**information(probabilities), "bottleneck_cosine": cosine}

    def _views_of(self, part: np.ndarray) -> ViewBatch:
        return self.views(part, self.scans.batch(part))

    def _probe(self, token: Tensor, mean: Tensor) -> dict[str, Any]:
        table = self.scans.participants.iloc[self.indices]
        target, groups = table[self.column].to_numpy(), subjects_of(table)[0]
        return {
            "column": self.column,
            "token": quick_probe(token.numpy(), target, groups, seed=self.config.seed),
            "mean": quick_probe(mean.numpy(), target, groups, seed=self.config.seed),
        }

    def _knn(self, token: Tensor, mean: Tensor) -> dict[str, Any]:
        table = self.scans.participants.iloc[self.indices]
        target, groups = table[self.column].to_numpy(), subjects_of(table)[0]
        data_sets = table["dataset"].to_numpy()
        return {
            "column": self.column,
            "token": quick_knn(token.numpy(), target, groups),
            "mean": quick_knn(mean.numpy(), target, groups),
            "token_within_data_sets": knn_within(token.numpy(), target, groups, data_sets),
        }

    def gradient_norms(self, distillation: SelfDistillation, now: Now) -> dict[str, float]:
        """The norm of each weighted loss's gradient on the student's encoder, on one batch.

        Of ``AT_ONCE`` scans at most: the process that looks holds all of them, while a micro-batch
        is shared among all processes. Each loss has a forward pass of its own, so that a look takes
        no more memory than a step: a graph that is kept for the next loss keeps all activations,
        with ``checkpointing`` those made again too.
        """
        part = self.indices[: min(self.config.batch_size, AT_ONCE)]
        views = self.views(part, self.scans.batch(part))
        parameters = list(distillation.pair.student.encoder.parameters())
        norms = {}
        for term in distillation.terms:
            weight = now.weights[term.name]
            if not weight:
                norms[term.name] = 0.0
                continue
            loss = weight * distillation.term(term, views, now)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            squares = [g.float().square().sum() for g in found if g is not None]
            norms[term.name] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
        return norms

    @torch.no_grad()
    def pictures(self, distillation: SelfDistillation, folder: Path, epoch: int) -> None:
        """Write input, corrupted and rebuilt volumes, and patch tokens, of three scans."""
        part = self.indices[:3]
        volumes = self.scans.batch(part)
        views = self.views(part, volumes)
        student, count = distillation.pair.student, len(part)
        tokens = student.encoder(views.corrupted[:count])
        rebuilt = distillation.pair.decoder(tokens, distillation.grid(views.corrupted))
        pictures = {
            "input": views.global_views[:count],
            "corrupted": views.corrupted[:count],
            "rebuilt": rebuilt.float(),
            "mask": views.masks[:count].to(torch.uint8),
        }
        _save(folder / f"reconstruction-epoch-{epoch}.safetensors", pictures)
        seen = self.seen(part, volumes)
        tokens = distillation.pair.teacher.encoder(seen).float()
        with atomic_file(folder / "patch-tokens.safetensors") as temporary:
            save_file({"volume": seen[:, 0].cpu(), "tokens": tokens.cpu()}, temporary)


def shares(norms: dict[str, float]) -> dict[str, float]:
    """Each term's part of the sum of all gradient norms; all 0 where nothing moves."""
    total = sum(norms.values())
    return {name: norm / total if total else 0.0 for name, norm in norms.items()}


def _save(path: Path, volumes: dict[str, Tensor]) -> None:
    with atomic_file(path) as temporary:
        save_file({k: v[:, 0].cpu().contiguous() for k, v in volumes.items()}, temporary)


def whole(volumes: Tensor, size: int) -> Tensor:
    """The whole cube [B, 1, D, H, W] at the edge the encoder was trained on, [B, 1, size³]."""
    if volumes.shape[2:] == (size, size, size):
        return volumes
    return nn.functional.interpolate(volumes, size=(size,) * 3, mode="trilinear")
