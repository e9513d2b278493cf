"""One micro-step: the teacher sees clean globals, the student corrupted ones, losses result.

Shape legend: B scans, V = 2 B global views, N locals per scan, T tokens, K prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volta3d.config import PretrainConfig
from volta3d.errors import ConfigError
from volta3d.model.pair import Network, Pair
from volta3d.model.patches import Grid
from volta3d.objective.center import Center, Standardiser
from volta3d.objective.reconstruction import foreground_error
from volta3d.objective.schedules import Now
from volta3d.objective.terms import TERMS, Part, Term, active, total_of
from volta3d.pretrain.compiler import compiles
from volta3d.pretrain.moments import TeacherMoments
from volta3d.pretrain.outputs import StepOutputs
from volta3d.views.batch import ViewBatch


@dataclass
class Losses:
    """The weighted sum of equation 6, its terms that are on, and what is watched beside them.

    Args:
        total: fp32 scalar, as all of them.
        terms: by their name in the table.
        watched: ``reconstruction_foreground``; ``teacher_entropy``, that of the teacher's CLS
            distributions over ln K; ``cls_kl``, what is left of the CLS loss when their entropy is
            taken off: the student's distance from the teacher. Only those whose term is on.
    """

    total: Tensor
    terms: dict[str, Tensor]
    watched: dict[str, Tensor]

    def all(self) -> dict[str, Tensor]:
        """Everything under the names of the log."""
        return {"loss": self.total, **self.terms, **self.watched}

    def stacked(self) -> Tensor:
        """All of them as a vector, without gradient."""
        return torch.stack([value.detach() for value in self.all().values()])

    def named(self, numbers: list[float]) -> dict[str, float]:
        """Numbers in the order of :meth:`stacked` under the names of the log."""
        return dict(zip(self.all(), numbers, strict=True))

    def values(self) -> dict[str, float]:
        """Plain numbers for the log, fetched from the device at once."""
        return self.named(self.stacked().tolist())


WATCHED = ("reconstruction_foreground", "teacher_entropy", "cls_kl")


def logged(values: dict[str, float]) -> dict[str, float | None]:
    """All names of the log; None for what belongs to a term that is off."""
    names = ("loss", *(term.name for term in TERMS), *WATCHED)
    return {name: values.get(name) for name in names} | values


class SelfDistillation(nn.Module):
    """Student, teacher, decoder and the teacher's running statistics.

    Args:
        pair: student, teacher and decoder.
        config: the run's configuration.
    """

    def __init__(self, pair: Pair, config: PretrainConfig) -> None:
        super().__init__()
        objective = config.objective
        self.config = config
        self.pair = pair
        self.terms = active(objective)
        if not self.terms:
            names = ", ".join(f"objective.{term.name}" for term in TERMS)
            raise ConfigError(
                "Every loss term is off", where="objective", fix=f"Set one of {names} above 0"
            )
        self._rest()
        compiled = config.compile and compiles(config.device)
        for network in (pair.student, pair.teacher):
            network.encoder.checkpointing = config.checkpointing
            for block in network.encoder.blocks if compiled else ():
                block.compile()
        self.cls_center = Center(config.model.prototypes, objective.center_momentum)
        self.patch_center = Center(config.model.prototypes, objective.center_momentum)
        self.standardiser = Standardiser(
            config.model.bottleneck, objective.bottleneck_momentum, objective.bottleneck_epsilon
        )

    @property
    def names(self) -> list[str]:
        """Of the terms that are on."""
        return [term.name for term in self.terms]

    def _rest(self) -> None:
        """Parts of the student that no term trains stay as they are."""
        uses, student = uses_of(self.terms), self.pair.student
        parts: dict[Part, nn.Module] = {
            "decoder": self.pair.decoder,
            "summary": student.summariser,
            "cls_head": student.cls_head,
            "patch_head": student.patch_head,
        }
        for name, module in parts.items():
            if name not in uses:
                module.requires_grad_(False)

    def cls_logits(self, network: Network, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [V, T, width] to (logits [V, K], raw bottleneck [V, bottleneck])."""
        return self.logits_of(network, network.summariser(tokens))

    def logits_of(self, network: Network, token: Tensor) -> tuple[Tensor, Tensor]:
        """Summariser tokens [V, width] to (logits [V, K], raw bottleneck [V, bottleneck])."""
        raw = network.cls_head.bottleneck(token)
        ready = self.standardiser(raw) if self.standardised else raw
        return network.cls_head.logits(ready), raw

    @property
    def standardised(self) -> bool:
        """Whether the CLS bottleneck is standardised before its L2 normalisation."""
        return self.config.objective.bottleneck == "standardised"

    def forward(
        self, views: ViewBatch, now: Now, masked: Tensor | None = None
    ) -> tuple[Losses, TeacherMoments]:
        """The losses of one micro-batch, and the moments by which the centres move.

        Args:
            views: of this process's scans.
            now: rates and weights.
            masked: what the reconstruction's sum is divided by, see ``reconstruction_loss``.

        Source: equations 1 to 6; METHOD section 6.
        """
        outputs = StepOutputs(self, views, now, uses_of(self.terms), masked)
        terms = {term.name: term.function(outputs) for term in self.terms}
        losses = Losses(total_of(terms, now.weights), terms, self._watched(outputs, terms))
        return losses, outputs.moments()

    def term(self, term: Term, views: ViewBatch, now: Now) -> Tensor:
        """One term alone, with no more than it needs."""
        return term.function(StepOutputs(self, views, now, uses_of([term])))

    @torch.no_grad()
    def _watched(self, outputs: StepOutputs, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        watched = {}
        if "reconstruction" in terms:
            target = outputs.target
            threshold = target.flatten(1).mean(1).view(-1, 1, 1, 1, 1)
            error = foreground_error(outputs.rebuilt, target, outputs.masks, threshold)
            watched["reconstruction_foreground"] = error
        if "cls" in terms:
            entropy = torch.special.entr(outputs.teacher_cls).sum(-1).mean()
            watched["teacher_entropy"] = entropy / math.log(self.config.model.prototypes)
            watched["cls_kl"] = terms["cls"].detach() - entropy
        return watched

    def grid(self, volumes: Tensor) -> Grid:
        """Tokens along each axis for volumes [V, 1, D, H, W]."""
        depth, height, width = (edge // self.config.model.patch_size for edge in volumes.shape[2:])
        return depth, height, width

    def masked_tokens(self, masks: Tensor) -> Tensor:
        """bool [V, T]: tokens of which at least half of the voxels were replaced."""
        edge = self.config.model.patch_size
        share = nn.functional.avg_pool3d(masks.float(), edge)
        return share.flatten(1) >= 0.5

    @torch.no_grad()
    def update_statistics(self, moments: TeacherMoments) -> None:
        """Move centres and standardiser; called after the values were used."""
        means = moments.values
        if "cls" in means:
            self.cls_center.update(means["cls"])
            self.standardiser.update(means["bottleneck"], means["bottleneck_square"])
        if "patch" in means:
            self.patch_center.update(means["patch"])

    @torch.no_grad()
    def start_statistics(self, batches: Collection[ViewBatch]) -> None:
        """Set the standardiser, then the centres, from a first look at some scans.

        The logits depend on the standardiser, so the scans pass twice: ``batches`` is gone through
        twice, and may make each batch when its turn comes.
        """
        for first in (True, False):
            total: TeacherMoments | None = None
            for views in batches:
                tokens = self.pair.teacher.encoder(views.global_views)
                cls, raw = self.cls_logits(self.pair.teacher, tokens)
                patch = self.pair.teacher.patch_head(tokens)
                means = {
                    "cls": cls.mean(0),
                    "patch": patch.mean((0, 1)),
                    "bottleneck": raw.mean(0),
                    "bottleneck_square": raw.square().mean(0),
                }
                moments = TeacherMoments({name: value.float() for name, value in means.items()})
                total = moments.scaled(1 / len(batches)).plus(total)
            if total is None:
                raise ValueError("no scans to start the statistics from")
            means = total.values
            if first:
                self.standardiser.start(means["bottleneck"], means["bottleneck_square"])
            else:
                self.cls_center.start(means["cls"])
                self.patch_center.start(means["patch"])


def uses_of(terms: Sequence[Term]) -> frozenset[Part]:
    """What these terms depend on together."""
    return frozenset[Part]().union(*(term.uses for term in terms))
