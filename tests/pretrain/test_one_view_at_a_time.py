"""The batched step against METHOD written out: one scan, one view, one token at a time.

The reference shares weights, running statistics and single-scan views with the step, and no code:
networks (METHOD section 4) and losses (section 5) are written here once more, in float64 and in
plain loops, and its gradients are autograd's. What differs then is the step's own fp32 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from volta3d.model.patches import PatchEmbedding
from volta3d.model.vit import Encoder
from volta3d.objective import alignment, cls, koleo, reconstruction
from volta3d.objective.cls import cross_entropy
from volta3d.objective.koleo import koleo_loss
from volta3d.objective.reconstruction import reconstruction_loss
from volta3d.objective.schedules import Now
from volta3d.pretrain.step import SelfDistillation
from volta3d.pretrain.trainer import Trainer
from volta3d.views.batch import ViewBatch

Make = Callable[..., Trainer]
SCANS = 3
TERMS = ("reconstruction", "cls", "patch", "koleo", "total")
# Of each value, and of the largest entry of each gradient (small entries are differences of large
# sums, whose digits they don't have). The reference is in float64, so what is left is the step's
# rounding in fp32: about 1e-7, and up to 3e-5 behind the cold teacher and the standardised
# bottleneck, which magnify it. The mistakes below are off by at least 9e-4 in value, 1e-2 in slope
TOLERANCE = 1e-4
# globals of 4 * 4 * 4 tokens, locals of 2 * 2 * 2; another number of masked voxels in every view
SIZES = (
    "views.global_size=16",
    "views.local_size=8",
    "views.locals=2",
    "model.patch_size=4",
    "model.depth=2",
    "masking.max_edge=1",
    "batch_size=3",
    "objective.cls=2",
    "objective.patch=3",
    "objective.reconstruction=0.5",
)
PAPER = (*SIZES, "objective.teacher_temperature=[0.01,0.01]")  # sharp: it matters which view
OTHER = (
    *SIZES,
    "objective.koleo=0.5",
    "objective.cls_student=clean",
    "objective.bottleneck=standardised",
    "objective.patch_tokens=masked",
)


class Reference:
    """The networks of METHOD section 4 from their weights alone, in float64."""

    def __init__(self, made: Trainer) -> None:
        self.model = made.config.model
        state = made.distillation.state_dict(keep_vars=True)
        self.state = {
            name: value.detach().double().requires_grad_(value.requires_grad)
            for name, value in state.items()
        }

    def __getitem__(self, name: str) -> Tensor:
        return self.state[name]

    def linear(self, x: Tensor, name: str) -> Tensor:
        bias = self.state.get(f"{name}.bias")
        y = x @ self[f"{name}.weight"].T
        return y if bias is None else y + bias

    def norm(self, x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self[f"{name}.weight"] + self[f"{name}.bias"]

    def block(self, x: Tensor, name: str, heads: int) -> Tensor:
        """LayerNorm, attention, residual; LayerNorm, MLP with GELU, residual: [T, width]."""
        projected = self.linear(self.norm(x, f"{name}.norm1"), f"{name}.attention.qkv")
        query, key, value = projected.chunk(3, -1)
        size, mixed = x.shape[-1] // heads, []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = query[:, own] @ key[:, own].T / math.sqrt(size)
            mixed.append(scores.softmax(-1) @ value[:, own])
        x = x + self.linear(torch.cat(mixed, -1), f"{name}.attention.out")
        raised = functional.gelu(self.linear(self.norm(x, f"{name}.norm2"), f"{name}.mlp.up"))
        return x + self.linear(raised, f"{name}.mlp.down")

    def encode(self, who: str, view: Tensor) -> Tensor:
        """One view [1, D, H, W] to its tokens [T, width]."""
        name, p = f"pair.{who}.encoder", self.model.patch_size
        kernel = self[f"{name}.patches.projection.weight"].view(-1, 1, p, p, p)
        bias = self[f"{name}.patches.projection.bias"]
        patches = functional.conv3d(view.double()[None], kernel, bias, stride=p)
        position = self[f"{name}.patches.position"]
        edge = round(position.shape[1] ** (1 / 3))
        native = position[0].T.reshape(1, -1, edge, edge, edge)
        places = functional.interpolate(native, size=patches.shape[2:], mode="trilinear")
        x = (patches + places)[0].flatten(1).T
        for index in range(self.model.depth):
            x = self.block(x, f"{name}.blocks.{index}", self.model.heads)
        return self.norm(x, f"{name}.norm")

    def summarise(self, who: str, tokens: Tensor) -> Tensor:
        """Tokens [T, width] to the token [width] that gathers them."""
        name = f"pair.{who}.summariser"
        x = torch.cat((self[f"{name}.token"][0], tokens))
        return self.block(x, f"{name}.block", self.model.summariser_heads)[0]

    def bottleneck(self, who: str, head: str, x: Tensor) -> Tensor:
        name = f"pair.{who}.{head}.mlp"
        x = functional.gelu(self.linear(x, f"{name}.0"))
        x = functional.gelu(self.linear(x, f"{name}.2"))
        return self.linear(x, f"{name}.4")

    def logits(self, who: str, head: str, bottleneck: Tensor) -> Tensor:
        """Cosines [K] with the prototypes."""
        rows = self[f"pair.{who}.{head}.last_layer.direction"]
        unit = bottleneck / bottleneck.norm()
        return torch.stack([row @ unit / row.norm() for row in rows])

    def rebuild(self, tokens: Tensor) -> Tensor:
        """Tokens [T, width] to a volume [1, D, H, W]: two transposed convolutions."""
        channels, width = self.model.decoder_channels, tokens.shape[-1]
        first = round((self["pair.decoder.expand"].shape[0] / channels) ** (1 / 3))
        second = self.model.patch_size // first
        grid = round(len(tokens) ** (1 / 3))
        expand = self["pair.decoder.expand"].view(first, first, first, channels, width)
        refine = self["pair.decoder.refine"].view(second, second, second, 1, channels)
        x = tokens.T.reshape(1, width, grid, grid, grid)
        for kernel, name in ((expand, "expand_bias"), (refine, "refine_bias")):
            weight = kernel.permute(4, 3, 0, 1, 2)
            bias = self[f"pair.decoder.{name}"]
            x = functional.conv_transpose3d(x, weight, bias, stride=weight.shape[-1])
        return x[0]


def entropy_of(p: Tensor, z: Tensor, temperature: float) -> Tensor:
    """H(p, z) of equation 2."""
    scaled = z / temperature
    return -(p * (scaled - scaled.exp().sum().log())).sum()


def mean(values: list[Tensor]) -> Tensor:
    return sum(values[1:], start=values[0]) / len(values)


@dataclass
class Found:
    """What a step comes to: values by name, gradients of each loss by the weight's name."""

    values: dict[str, Tensor]
    gradients: dict[str, dict[str, Tensor]]


def differentiated(values: dict[str, Tensor], weights: dict[str, Tensor]) -> Found:
    """Every loss by every weight that learns; zero where the loss does not depend on it."""
    learnt = {name: weight for name, weight in weights.items() if weight.requires_grad}
    gradients = {}
    for term in TERMS:
        if term in values and values[term].requires_grad:
            found = torch.autograd.grad(
                values[term], [*learnt.values()], retain_graph=True, materialize_grads=True
            )
            gradients[term] = dict(zip(learnt, found, strict=True))
    return Found({name: value.detach() for name, value in values.items()}, gradients)


def one_at_a_time(made: Trainer, now: Now) -> Found:
    """METHOD, sections 4, 5 and 6, for scans 0, 1, 2."""
    objective, prototypes = made.config.objective, made.config.model.prototypes
    net = Reference(made)
    alone = [made.views(np.array([scan]), 0) for scan in range(SCANS)]
    t_student, t_teacher = objective.student_temperature, now.teacher_temperature

    def narrow(who: str, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """CLS logits [K], and the bottleneck before anything is done to it."""
        raw = ready = net.bottleneck(who, "cls_head", net.summarise(who, tokens))
        if objective.bottleneck == "standardised":
            variance = net["standardiser.variance"]
            spread = (variance + objective.bottleneck_epsilon * variance.mean()).sqrt()
            ready = (raw - net["standardiser.mean"]) / spread
        return net.logits(who, "cls_head", ready), raw

    teacher_cls: dict[tuple[int, int], Tensor] = {}  # p of (global, scan)
    student_cls: dict[tuple[int, int], Tensor] = {}  # z of (view, scan)
    raw_cls, raw_patch, raw_bottleneck = [], [], []
    squares, voxels, foreground, inside = [], 0, [], 0
    patches, features = [], {}
    for scan, views in enumerate(alone):
        for g in range(2):
            clean, corrupted, mask = (
                batch[g] for batch in (views.global_views, views.corrupted, views.masks)
            )
            with torch.no_grad():
                known = net.encode("teacher", clean)
                logits, raw = narrow("teacher", known)
                p = ((logits - net["cls_center.value"]) / t_teacher).softmax(-1)
            teacher_cls[g, scan] = p
            raw_cls.append(logits)
            raw_bottleneck.append(raw)

            tokens = net.encode("student", corrupted)
            rebuilt, x = net.rebuild(tokens), clean.double()
            squares.append((rebuilt - x)[mask].square().sum())
            voxels += int(mask.sum())
            seen = mask & (clean > clean.mean())
            foreground.append((rebuilt - x)[seen].square().sum().detach())
            inside += int(seen.sum())

            edge = made.config.model.patch_size
            replaced = mask[0].unfold(0, edge, edge).unfold(1, edge, edge).unfold(2, edge, edge)
            share = replaced.reshape(len(tokens), -1).double().mean(-1)
            for t in range(len(tokens)):
                with torch.no_grad():
                    h = net.bottleneck("teacher", "patch_head", known[t])
                    h = net.logits("teacher", "patch_head", h)
                    p = ((h - net["patch_center.value"]) / t_teacher).softmax(-1)
                raw_patch.append(h)
                if objective.patch_tokens == "masked" and share[t] < 0.5:
                    continue
                z = net.bottleneck("student", "patch_head", tokens[t])
                z = net.logits("student", "patch_head", z)
                patches.append(entropy_of(p, z, t_student))

            if objective.cls_student == "clean":
                tokens = net.encode("student", clean)
            student_cls[g, scan] = narrow("student", tokens)[0]
            feature = net.summarise("student", tokens)
            features[g, scan] = feature / feature.norm()
        assert views.local_views is not None
        for index, local in enumerate(views.local_views):
            student_cls[2 + index, scan] = narrow("student", net.encode("student", local))[0]

    views_ = 2 + made.config.views.locals
    aligned, divergence = torch.zeros((), dtype=torch.float64), []
    for g in range(2):
        for v in range(views_):
            if v != g:
                pairs = [
                    entropy_of(teacher_cls[g, b], student_cls[v, b], t_student)
                    for b in range(SCANS)
                ]
                aligned = aligned + mean(pairs)
                for b in range(SCANS):
                    q = (student_cls[v, b].detach() / t_student).softmax(-1)
                    p = teacher_cls[g, b]
                    divergence.append((p * (p / q).log()).sum())
    nearest = [
        -torch.stack([(features[g, b] - features[g, o]).norm() for o in range(SCANS) if o != b])
        .min()
        .log()
        for g in range(2)
        for b in range(SCANS)
    ]
    entropies = [-(p * p.log()).sum() / math.log(prototypes) for p in teacher_cls.values()]
    values = {
        "reconstruction": mean(squares) * len(squares) / voxels,
        "cls": aligned / (2 * (made.config.views.locals + 1)),
        "patch": mean(patches),
        "reconstruction_foreground": mean(foreground) * len(foreground) / inside,
        "teacher_entropy": mean(entropies),
        "cls_kl": mean(divergence),
        "moments.cls": mean(raw_cls),
        "moments.patch": mean(raw_patch),
        "moments.bottleneck": mean(raw_bottleneck),
        "moments.bottleneck_square": mean([raw.square() for raw in raw_bottleneck]),
    }
    if objective.koleo:
        values["koleo"] = mean(nearest)
    values["total"] = (
        objective.reconstruction * values["reconstruction"]
        + now.weights["cls"] * values["cls"]
        + objective.patch * values["patch"]
        + objective.koleo * values.get("koleo", torch.zeros(()))
    )
    # the settings are such that it matters
    assert (len(patches) < 0.8 * len(raw_patch)) == (objective.patch_tokens == "masked")
    return differentiated(values, net.state)


def batched(made: Trainer, now: Now) -> Found:
    """The step itself, on the same scans at once."""
    losses, moments = made.distillation(made.views(np.arange(SCANS), 0), now)
    values = {"total": losses.total, **losses.terms, **losses.watched}
    values |= {f"moments.{name}": value for name, value in moments.values.items()}
    return differentiated(values, dict(made.distillation.named_parameters()))


def ready(make: Make, settings: tuple[str, ...]) -> tuple[Trainer, Now]:
    """A trainer whose teacher differs from its student, with views told apart by both.

    A fresh network says the same of every view, and then it doesn't matter which one is compared
    with which.
    """
    made = make(*settings)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.distillation.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(2 * noise / math.sqrt(parameter.shape[1]))
            else:
                parameter.add_(0.3 * noise)
    made.start_statistics()
    return made, made.schedule.at(3)


def different(ours: Found, reference: Found) -> set[str]:
    """Names of the values, and of the losses ("d cls") whose gradients, differ."""

    def differ(a: Tensor, b: Tensor) -> bool:
        gap, scale = (a.double() - b).abs(), float(b.abs().max())
        return not bool((gap <= TOLERANCE * (b.abs() + scale)).all())  # NaN differs

    assert ours.values.keys() == reference.values.keys()
    assert ours.gradients.keys() == reference.gradients.keys()
    found = {name for name, value in reference.values.items() if differ(ours.values[name], value)}
    for loss, gradients in reference.gradients.items():
        theirs = ours.gradients[loss]
        assert theirs.keys() == gradients.keys()
        if any(differ(theirs[name], value) for name, value in gradients.items()):
            found.add(f"d {loss}")
    return found


@pytest.mark.parametrize("settings", [PAPER, OTHER], ids=["paper", "other"])
def test_the_batched_step_equals_one_view_at_a_time(
    trainer: Make, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...]
) -> None:
    """Every loss, every moment of the centres, and the gradient of every loss by every weight."""
    monkeypatch.setitem(alignment.ENTRIES, "cpu", 50 * 16)  # pieces that end within a view
    made, now = ready(trainer, settings)
    reference = one_at_a_time(made, now)
    assert {*reference.gradients} >= {"reconstruction", "cls", "patch", "total"}
    for name in reference.gradients["total"]:
        reached = [float(g[name].abs().max()) for g in reference.gradients.values()]
        assert max(reached) > 1e-3, f"{name}: no loss depends on it, so nothing is compared"
    assert different(batched(made, now), reference) == set()


# mistakes that could be in the step, each with what must be found different
Mistake = Callable[[pytest.MonkeyPatch], None]


def cls_pairs(wanted: Callable[[int, int], bool]) -> Mistake:
    def loss(teacher: Tensor, logits: Tensor, temperature: float) -> Tensor:
        pairs = [(g, v) for g in range(2) for v in range(len(logits)) if wanted(g, v)]
        return mean([cross_entropy(teacher[g], logits[v], temperature).mean() for g, v in pairs])

    return lambda patch: patch.setattr(cls, "cls_loss", loss)


def another_scans_teacher(patch: pytest.MonkeyPatch) -> None:
    true = cls.cls_loss
    patch.setattr(cls, "cls_loss", lambda p, z, t: true(p.roll(1, 1), z, t))


def scan_major(patch: pytest.MonkeyPatch) -> None:
    """Locals in order scan, view instead of view, scan."""
    forward = SelfDistillation.forward

    def mixed(self: SelfDistillation, views: ViewBatch, *rest: Any) -> Any:
        assert views.local_views is not None
        order = torch.arange(len(views.local_views)).view(-1, SCANS).T.flatten()
        return forward(self, replace(views, local_views=views.local_views[order]), *rest)

    patch.setattr(SelfDistillation, "forward", mixed)


def corrupted_teacher(patch: pytest.MonkeyPatch) -> None:
    """Teacher and student change places: clean for the one, corrupted for the other."""
    cut = PatchEmbedding.cut
    patch.setattr(PatchEmbedding, "cut", lambda self, *v, **k: cut(self, *reversed(v), **k))


def local_views_without_gradient(patch: pytest.MonkeyPatch) -> None:
    forward = Encoder.forward
    patch.setattr(Encoder, "forward", lambda self, volumes: forward(self, volumes).detach())


def per_view(patch: pytest.MonkeyPatch) -> None:
    """Every view counts the same instead of every masked voxel."""

    def loss(rebuilt: Tensor, target: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
        alone = zip(rebuilt.split(1), target.split(1), mask.split(1), strict=True)
        return mean([reconstruction_loss(*one) for one in alone])

    patch.setattr(reconstruction, "reconstruction_loss", loss)


def student_only(name: str, value: Any) -> Mistake:
    """``patch_alignment`` with another field in what it is told of the teacher."""
    true = alignment.patch_alignment

    def wrong(ours: Tensor, prototypes: Tensor, teacher: Any, *rest: Any) -> Tensor:
        return true(ours, prototypes, replace(teacher, **{name: value(teacher)}), *rest)

    return lambda patch: patch.setattr(alignment, "patch_alignment", wrong)


def views_together(patch: pytest.MonkeyPatch) -> None:
    """A scan's own second view may be the nearest."""
    patch.setattr(koleo, "koleo_loss", lambda features: koleo_loss(features.flatten(0, 1)[None]))


def any_voxel(patch: pytest.MonkeyPatch) -> None:
    """Tokens count from the first masked voxel on."""
    pool = functional.max_pool3d

    def touched(self: SelfDistillation, masks: Tensor) -> Tensor:
        return pool(masks.float(), self.config.model.patch_size).flatten(1) > 0

    patch.setattr(SelfDistillation, "masked_tokens", touched)


CLS, PATCH = {"cls", "cls_kl", "d cls"}, {"patch", "d patch"}
MISTAKES: dict[str, list[tuple[Mistake, set[str]]]] = {
    "paper": [
        (cls_pairs(lambda g, v: True), CLS),
        (cls_pairs(lambda g, v: v == g or v > 1), CLS),
        (cls_pairs(lambda g, v: v < 2 and v != g), CLS),
        (another_scans_teacher, CLS),
        (scan_major, CLS),
        (local_views_without_gradient, {"d cls"}),
        (student_only("center", lambda t: 0 * t.center), PATCH),
        (student_only("temperature", lambda t: 0.1), PATCH),
        (student_only("bottleneck", lambda t: t.bottleneck.roll(1, 0)), PATCH),
        (per_view, {"reconstruction", "reconstruction_foreground", "d reconstruction"}),
    ],
    "other": [
        (cls_pairs(lambda g, v: True), CLS),
        (scan_major, CLS),
        (views_together, {"koleo", "d koleo"}),
        (any_voxel, PATCH),
    ],
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_step_would_be_found(
    trainer: Make, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made, now = ready(trainer, {"paper": PAPER, "other": OTHER}[name])
    reference = one_at_a_time(made, now)
    for index, (mistake, expected) in enumerate(MISTAKES[name]):
        with monkeypatch.context() as patch:
            mistake(patch)
            found = different(batched(made, now), reference)
        assert "d total" in found, index
        assert found - {"total", "d total"} == expected, index
    with monkeypatch.context() as patch:
        corrupted_teacher(patch)
        found = different(batched(made, now), reference)
    assert found >= {"reconstruction", "teacher_entropy", "moments.cls", "moments.patch", *PATCH}
