"""The micro-step and the window around it (METHOD section 6)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from volta3d.config import PretrainConfig, build
from volta3d.errors import ConfigError, Diverged
from volta3d.objective.koleo import koleo_loss
from volta3d.objective.schedules import Now
from volta3d.pretrain.optimiser import clip_gradients
from volta3d.pretrain.trainer import Trainer, windows

Make = Callable[..., Trainer]
PLAIN = ("optim.clip=0", "views.locals=0")


def gradients(trainer: Trainer, window: list[np.ndarray], now: Now) -> dict[str, torch.Tensor]:
    """The gradients that reach the optimiser in one window."""
    seen: dict[str, torch.Tensor] = {}

    def note(*_: object) -> None:
        for name, parameter in trainer.distillation.named_parameters():
            if parameter.grad is not None:
                seen[name] = parameter.grad.clone()

    trainer.optimizer.register_step_pre_hook(note)
    trainer.window(window, 0, now)
    return seen


# reconstruction divides by each micro-batch's own number of masked voxels, which differ a little
# from scan to scan; without it only rounding is left
@pytest.mark.parametrize(("weight", "tolerance"), [(0, 1e-4), (100, 2e-2)])
def test_X12_eight_by_one_equals_a_batch_of_eight(
    trainer: Make, weight: float, tolerance: float
) -> None:
    """With centre and teacher still during the window, accumulation is a mean of gradients."""
    settings = (*PLAIN, "optim.cadence=optimiser_step", f"objective.reconstruction={weight}")
    one = trainer(*settings, "batch_size=1", "accumulate=8")
    eight = trainer(*settings, "batch_size=8", "accumulate=1")
    order, now = np.arange(8), one.schedule.at(1)
    split = gradients(one, [order[i : i + 1] for i in range(8)], now)
    whole = gradients(eight, [order], now)
    assert split.keys() == whole.keys() and len(split) > 20
    for name, value in whole.items():
        scale = float(value.abs().max()) + 1e-6
        assert torch.allclose(split[name], value, atol=tolerance * scale), name
    ours, theirs = (t.distillation.state_dict() for t in (one, eight))
    for name in ("cls_center.value", "patch_center.value", "standardiser.mean"):
        assert torch.allclose(ours[name], theirs[name], atol=1e-6), name


def test_an_incomplete_window_is_scaled_by_its_own_scans(trainer: Make) -> None:
    """Three scans in micro-batches of two: weights 2/3 and 1/3, nothing dropped."""
    settings = (*PLAIN, "optim.cadence=optimiser_step", "objective.reconstruction=0")
    one, three = trainer(*settings, "batch_size=2"), trainer(*settings, "batch_size=3")
    now = one.schedule.at(1)
    split = gradients(one, [np.array([0, 1]), np.array([2])], now)
    whole = gradients(three, [np.array([0, 1, 2])], now)
    for name, value in whole.items():
        scale = float(value.abs().max()) + 1e-6
        assert torch.allclose(split[name], value, atol=1e-4 * scale), name


def test_every_scan_is_in_exactly_one_window() -> None:
    plan = windows(np.random.default_rng(0).permutation(11), 2, 3)
    assert [[len(part) for part in window] for window in plan] == [[2, 2, 2], [2, 2, 1]]
    assert sorted(int(i) for window in plan for part in window for i in part) == list(range(11))


def test_cadence_decides_how_often_the_teacher_moves(trainer: Make) -> None:
    """One window of four micro-steps at momentum m: the faithful centre moves four times."""
    window = [np.array([i]) for i in range(4)]
    moved = {}
    for cadence in ("micro_step", "optimiser_step"):
        made = trainer("batch_size=1", "accumulate=4", f"optim.cadence={cadence}")
        calls = {"teacher": 0, "centre": 0}
        pair, distillation = made.distillation.pair, made.distillation
        update, statistics = pair.update_teacher, distillation.update_statistics

        def teacher(
            momentum: float, calls: dict[str, int] = calls, update: object = update
        ) -> None:
            calls["teacher"] += 1
            update(momentum)  # type: ignore[operator]

        def centre(moments: object, calls: dict[str, int] = calls, f: object = statistics) -> None:
            calls["centre"] += 1
            f(moments)  # type: ignore[operator]

        pair.update_teacher = teacher  # type: ignore[method-assign]
        distillation.update_statistics = centre  # type: ignore[method-assign,assignment]
        made.window(window, 0, made.schedule.at(0))
        moved[cadence] = calls
    assert moved["micro_step"] == {"teacher": 4, "centre": 4}
    assert moved["optimiser_step"] == {"teacher": 1, "centre": 1}


def test_X7_the_teacher_gets_no_gradient_and_stays_in_eval(trainer: Make) -> None:
    made = trainer()
    made.module.train()
    made.window([np.array([0, 1])], 0, made.schedule.at(3))
    teacher = made.distillation.pair.teacher
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())


def test_the_last_layers_rest_in_the_first_epoch_only(trainer: Make) -> None:
    made = trainer()

    def heads() -> list[torch.Tensor]:
        student = made.distillation.pair.student
        found = [*student.cls_head.last_layer.parameters()]
        return [p.detach().clone() for p in (*found, *student.patch_head.last_layer.parameters())]

    window, first = [np.array([0, 1])], made.schedule.at(0)
    later = made.schedule.at(made.schedule.steps_per_epoch)
    assert first.freeze_prototypes and not later.freeze_prototypes
    before = heads()
    made.window(window, 0, first)
    assert all(torch.equal(a, b) for a, b in zip(before, heads(), strict=True))
    made.window(window, 1, later)
    assert not any(torch.equal(a, b) for a, b in zip(before, heads(), strict=True))


def test_a_clean_student_pass_feeds_the_cls_loss(trainer: Make) -> None:
    """With ``clean`` the corruption changes patches and reconstruction, never the CLS loss."""
    part = np.array([0, 1])
    values = {}
    for student in ("clean", "corrupted"):
        for fill in ("zeros", "noise"):
            made = trainer(f"objective.cls_student={student}", f"masking.fill={fill}")
            losses, _ = made.distillation(made.views(part, 0), made.schedule.at(0))
            values[student, fill] = losses.values()
    assert values["clean", "zeros"]["cls"] == values["clean", "noise"]["cls"]
    assert values["clean", "zeros"]["patch"] != values["clean", "noise"]["patch"]
    assert values["corrupted", "zeros"]["cls"] != values["corrupted", "noise"]["cls"]


def test_the_total_is_equation_6_with_koleo(trainer: Make) -> None:
    made = trainer("objective.koleo=0.5", "objective.cls_student=clean")
    views, now = made.views(np.array([0, 1, 2]), 0), made.schedule.at(0)
    losses, _ = made.distillation(views, now)
    v = losses.values()
    parts = (
        100 * v["reconstruction"] + now.weights["cls"] * v["cls"] + v["patch"] + 0.5 * v["koleo"]
    )
    assert v["loss"] == pytest.approx(parts, rel=1e-5)
    student = made.distillation.pair.student
    token = student.summariser(student.encoder(views.global_views)).unflatten(0, (2, 3))
    assert v["koleo"] == pytest.approx(float(koleo_loss(token).detach()), rel=1e-4)


def test_koleo_needs_a_true_batch() -> None:
    with pytest.raises(ConfigError, match="batch_size"):
        build(PretrainConfig, {"batch_size": 1, "objective": {"koleo": 0.1}})


@pytest.mark.parametrize("by", ["parameter", "global"])
def test_clipping_by_parameter_and_by_the_whole(by: str) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 4, 0]), torch.tensor([0.6, 0.8])
    norm = clip_gradients(parameters, 2.0, by)
    assert float(norm) == pytest.approx((25 + 1) ** 0.5)
    norms = [float(p.grad.norm()) for p in parameters if p.grad is not None]
    if by == "parameter":
        assert norms == pytest.approx([2.0, 1.0], rel=1e-5)
    else:
        assert norms == pytest.approx([10 / 26**0.5, 2 / 26**0.5], rel=1e-5)


@pytest.mark.parametrize("where", ["input", "weight"])
def test_F14_nan_leaves_weights_teacher_and_centre_as_they_were(trainer: Make, where: str) -> None:
    """The error names the scans and what to do."""
    made = trainer("optim.cadence=optimiser_step")
    made.start_statistics()
    if where == "input":
        held = made.scans.batch(range(len(made.scans)))
        held[1] = float("nan")
        made.scans._resident = held
    else:
        with torch.no_grad():
            next(made.distillation.pair.decoder.parameters()).fill_(float("inf"))
    before = {k: v.clone() for k, v in made.distillation.state_dict().items()}
    with pytest.raises(Diverged, match=r"scan-0-01.*resume"):
        made.window([np.array([0, 1])], 0, made.schedule.at(0))
    after = made.distillation.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.grad is None for p in made.parameters)
