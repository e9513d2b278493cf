"""What a micro-step computes for the loss terms: each thing once, and only if a term asks for it.

Shape legend: B scans, V = 2 B global views, N locals per scan, T tokens, K prototypes.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from volta3d.config import ObjectiveConfig
from volta3d.model.heads import unit
from volta3d.objective.alignment import TeacherTokens
from volta3d.objective.schedules import Now
from volta3d.objective.terms import Part
from volta3d.pretrain.moments import TeacherMoments
from volta3d.views.batch import ViewBatch

if TYPE_CHECKING:
    from volta3d.pretrain.step import SelfDistillation


class StepOutputs:
    """Student's and teacher's outputs for one micro-batch; see ``objective.terms.Outputs``.

    Args:
        distillation: the networks.
        views: of this process's scans.
        now: the teacher's temperature.
        uses: what the terms that are on depend on; passes of the student over views of one size are
            made as one batch, so they are decided before the first of them.
        masked: what the reconstruction's sum is divided by, see ``reconstruction_loss``.
    """

    def __init__(
        self,
        distillation: SelfDistillation,
        views: ViewBatch,
        now: Now,
        uses: frozenset[Part],
        masked: Tensor | None = None,
    ) -> None:
        self.distillation, self.views, self.now = distillation, views, now
        self.uses, self.masked = uses, masked
        self.student, self.teacher = distillation.pair.student, distillation.pair.teacher
        self.scans = views.global_views.shape[0] // 2
        self.grid = distillation.grid(views.global_views)

    @property
    def objective(self) -> ObjectiveConfig:
        """The settings."""
        return self.distillation.config.objective

    @property
    def target(self) -> Tensor:
        """The clean globals [V, 1, D, H, W]."""
        return self.views.global_views

    @property
    def masks(self) -> Tensor:
        """bool, the same shape."""
        return self.views.masks

    @cached_property
    def patches(self) -> dict[str, Tensor]:
        """Patches [V, T, P] of the ``corrupted`` and the ``clean`` globals, those that are used."""
        cut, globals_ = self.student.encoder.patches.cut, 2 * self.scans
        device = self.target.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        summary_of_clean = "summary" in self.uses and self.objective.cls_student == "clean"
        corrupted = "corrupted" in self.uses or ("summary" in self.uses and not summary_of_clean)
        names = ["corrupted"] if corrupted else []
        names += ["clean"] if summary_of_clean or "teacher" in self.uses else []
        views = {"corrupted": self.views.corrupted, "clean": self.target}
        both = cut(*(views[name] for name in names), dtype=dtype)
        # one after the other in memory: a pass over both needs no copy
        return dict(zip(names, both.split(globals_), strict=True)) | {"both": both}

    @cached_property
    def _encoded(self) -> dict[str, Tensor]:
        """The student's tokens of each kind of globals that it sees."""
        summary_of_clean = "summary" in self.uses and self.objective.cls_student == "clean"
        encode, patches = self.student.encoder.encode, self.patches
        if summary_of_clean and "corrupted" in patches:
            tokens = encode(patches["both"], self.grid)
            return dict(zip(("corrupted", "clean"), tokens.split(2 * self.scans), strict=True))
        name = "clean" if summary_of_clean else "corrupted"
        return {name: encode(patches[name], self.grid)}

    @property
    def tokens(self) -> Tensor:
        """The student's tokens of the corrupted globals [V, T, width]."""
        return self._encoded["corrupted"]

    @cached_property
    def rebuilt(self) -> Tensor:
        """The decoder's output [V, 1, D, H, W]."""
        volumes: Tensor = self.distillation.pair.decoder(self.tokens, self.grid)
        return volumes

    @cached_property
    def token(self) -> Tensor:
        """The student's summary [V, width] of the globals that the CLS loss looks at."""
        summary: Tensor = self.student.summariser(self._encoded[self.objective.cls_student])
        return summary

    @cached_property
    def student_cls(self) -> Tensor:
        """The student's CLS logits of all views [2 + N, B, K], globals first."""
        logits = [self.distillation.logits_of(self.student, self.token)[0]]
        if self.views.local_views is not None:
            local = self.student.encoder(self.views.local_views)
            logits.append(self.distillation.cls_logits(self.student, local)[0])
        by_view: Tensor = torch.cat(logits).unflatten(0, (-1, self.scans))
        return by_view

    @cached_property
    def student_patch(self) -> tuple[Tensor, Tensor]:
        """The student's patch bottleneck of unit length [V·T, d], and its prototypes [K, d]."""
        head = self.student.patch_head
        return unit(head.bottleneck(self.tokens)).flatten(0, 1), head.last_layer.weight()

    @property
    def masked_tokens(self) -> Tensor:
        """bool [V, T]."""
        return self.distillation.masked_tokens(self.masks)

    @cached_property
    def teacher_tokens(self) -> Tensor:
        """The teacher's tokens of the clean globals [V, T, width]."""
        with torch.no_grad():
            tokens: Tensor = self.teacher.encoder.encode(self.patches["clean"], self.grid)
        return tokens

    @cached_property
    def _teacher_cls(self) -> tuple[Tensor, Tensor]:
        """Logits [V, K] and raw bottleneck [V, bottleneck]."""
        with torch.no_grad():
            return self.distillation.cls_logits(self.teacher, self.teacher_tokens)

    @cached_property
    def teacher_cls(self) -> Tensor:
        """The teacher's CLS distributions of the clean globals [2, B, K]."""
        center, temperature = self.distillation.cls_center, self.now.teacher_temperature
        said = center.distributions(self._teacher_cls[0], temperature)
        by_view: Tensor = said.unflatten(0, (2, self.scans))
        return by_view

    @cached_property
    def teacher_patch(self) -> TeacherTokens:
        """What the teacher says of the tokens, uncorrupted."""
        with torch.no_grad():
            head = self.teacher.patch_head
            known = unit(head.bottleneck(self.teacher_tokens)).flatten(0, 1)
            center, temperature = self.distillation.patch_center, self.now.teacher_temperature
            return TeacherTokens(known, head.last_layer.weight(), center.value, temperature)

    @torch.no_grad()
    def moments(self) -> TeacherMoments:
        """By what the centres move; without those that no term uses."""
        found: dict[str, Tensor] = {}
        if "teacher" not in self.uses:
            return TeacherMoments(found)
        with torch.autocast(self.target.device.type, enabled=False):
            if "cls_head" in self.uses:
                logits, bottleneck = (value.float() for value in self._teacher_cls)
                found["cls"] = logits.mean(0)
                found["bottleneck"] = bottleneck.mean(0)
                found["bottleneck_square"] = bottleneck.square().mean(0)
            if "patch_head" in self.uses:
                said = self.teacher_patch
                # the mean of the logits: they are linear
                found["patch"] = said.bottleneck.mean(0) @ said.prototypes.T
        return TeacherMoments(found)
