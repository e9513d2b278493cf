"""The table of loss terms: everything that names the losses reads it.

The step computes the terms that are on and sums them (equation 6). The log, the gradient norms, the
model card, the report's charts and its methods paragraph, and the doctor go through the same table.
A new term is a function, a row here and its weight in ``ObjectiveConfig``, under the row's name.

Shape legend: B scans, V = 2 B global views, N locals per scan, T tokens, K prototypes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from volta3d.config import ObjectiveConfig
from volta3d.objective.curves import linear

if TYPE_CHECKING:  # torch loads slowly, and reports read the table without it
    from torch import Tensor

    from volta3d.objective.alignment import TeacherTokens

Part = Literal["corrupted", "summary", "teacher", "decoder", "cls_head", "patch_head"]


class Outputs(Protocol):
    """What a micro-step offers to the terms; each is computed when it is first asked for."""

    @property
    def objective(self) -> ObjectiveConfig:
        """The settings."""

    @property
    def scans(self) -> int:
        """B."""

    @property
    def target(self) -> Tensor:
        """The clean globals [V, 1, D, H, W]."""

    @property
    def masks(self) -> Tensor:
        """bool, the same shape, True where a voxel of the corrupted globals was replaced."""

    @property
    def masked(self) -> Tensor | None:
        """What a sum over masked voxels is divided by, where not by their number here."""

    @property
    def tokens(self) -> Tensor:
        """The student's tokens of the corrupted globals [V, T, width]."""

    @property
    def rebuilt(self) -> Tensor:
        """The decoder's output [V, 1, D, H, W] from ``tokens``."""

    @property
    def token(self) -> Tensor:
        """The student's summary [V, width] of the globals that the CLS loss looks at."""

    @property
    def student_cls(self) -> Tensor:
        """The student's CLS logits of all views [2 + N, B, K], globals first."""

    @property
    def teacher_tokens(self) -> Tensor:
        """The teacher's tokens of the clean globals [V, T, width], without gradient."""

    @property
    def teacher_cls(self) -> Tensor:
        """The teacher's CLS distributions of the clean globals [2, B, K]."""

    @property
    def student_patch(self) -> tuple[Tensor, Tensor]:
        """The student's patch bottleneck of unit length [V·T, d], and its prototypes [K, d]."""

    @property
    def teacher_patch(self) -> TeacherTokens:
        """What the teacher says of the same tokens, uncorrupted."""

    @property
    def masked_tokens(self) -> Tensor:
        """bool [V, T]: tokens of which at least half of the voxels were replaced."""


@dataclass(frozen=True)
class Term:
    """One summand of the loss.

    Args:
        name: in metrics.jsonl, and of its weight in ``ObjectiveConfig``; a weight of 0 turns the
            term off, and nothing that only it needs is computed.
        title: in charts.
        caption: what its chart shows, one or two sentences.
        phrase: in the model card, "masked reconstruction".
        function: from the micro-step's outputs to a scalar in fp32, the mean over the views here.
        uses: what its value depends on.
        methods: what it is, for a paper, with citations as ``[@key]``.
        share: of its weight at an epoch (a fraction of one counts), 0 to 1.
        compares_scans: whether its value depends on which scans are in a batch.
    """

    name: str
    title: str
    caption: str
    phrase: str
    function: Callable[[Outputs], Tensor]
    uses: frozenset[Part]
    methods: Callable[[ObjectiveConfig], str]
    share: Callable[[ObjectiveConfig, float], float] = lambda objective, epoch: 1.0
    compares_scans: bool = False

    def weight(self, objective: ObjectiveConfig) -> float:
        """The weight that is configured."""
        return float(getattr(objective, self.name))


def active(objective: ObjectiveConfig) -> list[Term]:
    """The terms whose weight is not 0, in the order of the table."""
    return [term for term in TERMS if term.weight(objective)]


def weights_at(objective: ObjectiveConfig, epoch: float) -> dict[str, float]:
    """The weight of every term at an epoch; 0 for those that are off."""
    return {t.name: t.weight(objective) * t.share(objective, epoch) for t in TERMS}


def total_of(values: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The weighted sum of equation 6.

    Raises:
        ValueError: there is nothing to sum.
    """
    if not values:
        raise ValueError("no loss term is on")
    weighted = [weights[name] * value for name, value in values.items()]
    return sum(weighted[1:], start=weighted[0])


def _reconstruction(outputs: Outputs) -> Tensor:
    from volta3d.objective.reconstruction import reconstruction_loss

    return reconstruction_loss(outputs.rebuilt, outputs.target, outputs.masks, outputs.masked)


def _cls(outputs: Outputs) -> Tensor:
    from volta3d.objective.cls import cls_loss

    temperature = outputs.objective.student_temperature
    return cls_loss(outputs.teacher_cls, outputs.student_cls, temperature)


def _cls_methods(o: ObjectiveConfig) -> str:
    seen = "a second, uncorrupted pass of" if o.cls_student == "clean" else "the corrupted views of"
    return (
        "the cross-entropy between teacher and student distributions of the global summary over "
        f"all pairs of different views [@dino], with {seen} the student"
    )


def _cls_share(objective: ObjectiveConfig, epoch: float) -> float:
    """Off before ``cls_start_epoch``, then a straight line up over ``cls_ramp_epochs``."""
    since = epoch - objective.cls_start_epoch
    if not objective.cls_ramp_epochs:
        return float(since >= 0)
    return linear(0.0, 1.0, since / objective.cls_ramp_epochs)


def _patch(outputs: Outputs) -> Tensor:
    from volta3d.objective.alignment import patch_alignment

    only_masked = outputs.objective.patch_tokens == "masked"
    return patch_alignment(
        *outputs.student_patch,
        outputs.teacher_patch,
        outputs.objective.student_temperature,
        outputs.masked_tokens.flatten() if only_masked else None,
    )


def _patch_methods(o: ObjectiveConfig) -> str:
    tokens = (
        "all patch tokens of the same view, as in MC-SSL [@mcssl]"
        if o.patch_tokens == "all"
        else "masked patch tokens of the same view"
    )
    return (
        f"the cross-entropy between teacher and student for {tokens}, a form of patch-level "
        "self-distillation [@ibot]"
    )


def _koleo(outputs: Outputs) -> Tensor:
    from volta3d.objective.koleo import koleo_loss

    return koleo_loss(outputs.token.unflatten(0, (2, outputs.scans)))


TERMS = (
    Term(
        name="reconstruction",
        title="Reconstruction, masked MSE",
        caption="Over all masked voxels, and over those with head in them; the background is easy.",
        phrase="masked reconstruction",
        function=_reconstruction,
        uses=frozenset({"corrupted", "decoder"}),
        methods=lambda o: "the mean squared error over masked voxels",
    ),
    Term(
        name="cls",
        title="CLS loss, nat",
        caption="At ln K the student knows nothing about the teacher's output. A loss that falls "
        "far below while information is low has collapsed the other way.",
        phrase="distillation of the summary token",
        function=_cls,
        uses=frozenset({"summary", "teacher", "cls_head"}),
        methods=_cls_methods,
        share=_cls_share,
    ),
    Term(
        name="patch",
        title="Patch loss, nat",
        caption="The same cross-entropy for every patch token.",
        phrase="distillation of the patch tokens",
        function=_patch,
        uses=frozenset({"corrupted", "teacher", "patch_head"}),
        methods=_patch_methods,
    ),
    Term(
        name="koleo",
        title="KoLeo",
        caption="Minus the mean log distance of a scan's feature to the nearest other of its "
        "batch: falls as features spread.",
        phrase="KoLeo, which keeps the summary tokens of a batch apart",
        function=_koleo,
        uses=frozenset({"summary"}),
        methods=lambda o: "a KoLeo term, which kept the global summaries of a batch apart [@koleo]",
        compares_scans=True,
    ),
)
