"""One micro-step: the teacher sees clean globals, the student corrupted ones, three losses result.

Shape legend: B scans, V = 2 B global views, N locals per scan, T tokens, K prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from volta3d.config import PretrainConfig
from volta3d.model.heads import unit
from volta3d.model.pair import Network, Pair
from volta3d.model.patches import Grid
from volta3d.objective.alignment import TeacherTokens, patch_alignment
from volta3d.objective.center import Center, Standardiser
from volta3d.objective.cls import cls_loss
from volta3d.objective.koleo import koleo_loss
from volta3d.objective.reconstruction import foreground_error, reconstruction_loss
from volta3d.objective.schedules import Now
from volta3d.pretrain.compiler import compiles
from volta3d.pretrain.distributed import Ranks
from volta3d.views.batch import ViewBatch


@dataclass
class Losses:
    """The three losses of equation 6, KoLeo where it is on, and the weighted sum; fp32 scalars.

    ``teacher_entropy`` is that of the teacher's CLS distributions over ln K, ``cls_kl`` what is
    left of the CLS loss when their entropy is taken off: the student's distance from the teacher.
    """

    total: Tensor
    reconstruction: Tensor
    cls: Tensor
    patch: Tensor
    koleo: Tensor
    reconstruction_foreground: Tensor
    teacher_entropy: Tensor
    cls_kl: Tensor

    def stacked(self) -> Tensor:
        """All of them [6], without gradient."""
        return torch.stack([value.detach() for value in vars(self).values()])

    def named(self, numbers: list[float]) -> dict[str, float]:
        """Numbers in the order of :meth:`stacked` under the names of the log."""
        names = ["loss" if name == "total" else name for name in vars(self)]
        return dict(zip(names, numbers, strict=True))

    def values(self) -> dict[str, float]:
        """Plain numbers for the log, fetched from the device at once."""
        return self.named(self.stacked().tolist())


@dataclass
class TeacherMoments:
    """Means over a micro-batch of what the teacher put out; the centres move by them."""

    cls: Tensor  # [K]
    patch: Tensor  # [K]
    bottleneck: Tensor  # [bottleneck]
    bottleneck_square: Tensor  # [bottleneck]

    def scaled(self, weight: float) -> TeacherMoments:
        """Every mean times ``weight``."""
        return TeacherMoments(*(weight * value for value in vars(self).values()))

    def summed(self, ranks: Ranks) -> TeacherMoments:
        """The sum over all processes, in one exchange."""
        together = ranks.summed(torch.cat(list(vars(self).values())))
        return TeacherMoments(*together.split([len(value) for value in vars(self).values()]))

    def plus(self, other: TeacherMoments | None) -> TeacherMoments:
        """The sum with ``other``; None counts as zero."""
        if other is None:
            return self
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return TeacherMoments(*(a + b for a, b in pairs))


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

    @torch.no_grad()
    def teach(
        self, patches: Tensor, grid: Grid, now: Now
    ) -> tuple[Tensor, TeacherTokens, TeacherMoments]:
        """From patches [V, T, P]: CLS distributions [V, K], what it says of tokens, the moments."""
        teacher = self.pair.teacher
        tokens = teacher.encoder.encode(patches, grid)
        cls, bottleneck = self.cls_logits(teacher, tokens)
        head = teacher.patch_head
        known, prototypes = unit(head.bottleneck(tokens)).flatten(0, 1), head.last_layer.weight()
        with torch.autocast(patches.device.type, enabled=False):
            moments = TeacherMoments(
                cls=cls.float().mean(0),
                patch=known.mean(0) @ prototypes.T,  # the mean of the logits: they are linear
                bottleneck=bottleneck.float().mean(0),
                bottleneck_square=bottleneck.float().square().mean(0),
            )
        temperature = now.teacher_temperature
        cls = self.cls_center.distributions(cls, temperature)
        said = TeacherTokens(known, prototypes, self.patch_center.value, temperature)
        return cls, said, moments

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
        objective, student = self.config.objective, self.pair.student
        scans = views.global_views.shape[0] // 2
        grid, globals_ = self.grid(views.global_views), 2 * scans
        device = views.global_views.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        patches = student.encoder.patches.cut(views.corrupted, views.global_views, dtype=dtype)
        teacher_cls, teacher_patch, moments = self.teach(patches[globals_:], grid, now)

        # the student's passes over views of one size are one batch
        seen = patches if objective.cls_student == "clean" else patches[:globals_]
        encoded = student.encoder.encode(seen, grid).split(globals_)
        tokens = encoded[0]
        rebuilt = self.pair.decoder(tokens, grid)
        reconstruction = reconstruction_loss(rebuilt, views.global_views, views.masks, masked)
        head = student.patch_head
        patch = patch_alignment(
            unit(head.bottleneck(tokens)).flatten(0, 1),
            head.last_layer.weight(),
            teacher_patch,
            objective.student_temperature,
            self.masked_tokens(views.masks).flatten()
            if objective.patch_tokens == "masked"
            else None,
        )

        tokens = encoded[-1]
        token = student.summariser(tokens)
        apart = (
            koleo_loss(token.unflatten(0, (2, scans))) if objective.koleo else patch.detach() * 0.0
        )
        logits = [self.logits_of(student, token)[0]]
        if views.local_views is not None:
            logits.append(self.cls_logits(student, student.encoder(views.local_views))[0])
        student_cls = torch.cat(logits).unflatten(0, (-1, scans))
        cls = cls_loss(
            teacher_cls.unflatten(0, (2, scans)), student_cls, objective.student_temperature
        )

        total = (
            objective.reconstruction * reconstruction
            + now.cls_weight * cls
            + objective.patch * patch
            + objective.koleo * apart
        )
        threshold = views.global_views.flatten(1).mean(1).view(-1, 1, 1, 1, 1)
        foreground = foreground_error(rebuilt, views.global_views, views.masks, threshold)
        entropy = torch.special.entr(teacher_cls).sum(1).mean()
        losses = Losses(
            total=total,
            reconstruction=reconstruction,
            cls=cls,
            patch=patch,
            koleo=apart,
            reconstruction_foreground=foreground,
            teacher_entropy=entropy / math.log(self.config.model.prototypes),
            cls_kl=cls.detach() - entropy,
        )
        return losses, moments

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
        """Move both centres and the standardiser; called after the values were used."""
        self.cls_center.update(moments.cls)
        self.patch_center.update(moments.patch)
        self.standardiser.update(moments.bottleneck, moments.bottleneck_square)

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
                means = (cls.mean(0), patch.mean((0, 1)), raw.mean(0), raw.square().mean(0))
                moments = TeacherMoments(*(value.float() for value in means))
                total = moments.scaled(1 / len(batches)).plus(total)
            if total is None:
                raise ValueError("no scans to start the statistics from")
            if first:
                self.standardiser.start(total.bottleneck, total.bottleneck_square)
            else:
                self.cls_center.start(total.cls)
                self.patch_center.start(total.patch)
