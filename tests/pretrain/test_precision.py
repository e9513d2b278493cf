"""bf16 happens inside the network only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from volta3d.config import PretrainConfig
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import Autocast
from volta3d.pretrain.precision import uses_bf16
from volta3d.pretrain.trainer import Trainer
from volta3d.views.batch import ViewBatch


@pytest.fixture
def trainer_bf16(cohort: Path, tiny: Callable[..., PretrainConfig]) -> Trainer:
    config = tiny("precision=bf16")
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[Autocast("bf16-mixed", "cpu")])
    return Trainer(Scans.open([cohort], config, fabric.device), config, fabric)


def test_X11_views_losses_and_state_stay_fp32_while_products_run_in_bf16(
    trainer_bf16: Trainer,
) -> None:
    made, seen = trainer_bf16, {}
    views = made.views(np.array([0, 1]), 0)
    fine = views.global_views
    assert not torch.equal(fine, fine.bfloat16().float()), "the views must not be bf16 already"

    def inputs(_: object, given: tuple[ViewBatch, object]) -> None:
        seen["views"] = given[0].corrupted.clone()

    def product(_: object, __: object, out: torch.Tensor) -> None:
        seen["product"] = out

    student = made.distillation.pair.student
    made.distillation.register_forward_pre_hook(inputs)
    next(
        m for m in student.encoder.modules() if isinstance(m, torch.nn.Linear)
    ).register_forward_hook(product)
    losses, moments = made.module(views, made.schedule.at(0))
    assert seen["product"].dtype == torch.bfloat16
    assert torch.equal(seen["views"], views.corrupted), "nothing rounds them on the way"
    assert all(value.dtype == torch.float32 for value in losses.all().values())
    assert all(value.dtype == torch.float32 for value in moments.values.values())
    made.window([np.array([0, 1])], 0, made.schedule.at(3))
    state = made.distillation.state_dict()
    assert {v.dtype for v in state.values() if v.is_floating_point()} == {torch.float32}
    for values in made.optimizer.state.values():
        assert values["exp_avg"].dtype == torch.float32


def test_bf16_and_fp32_agree_on_the_losses(
    trainer_bf16: Trainer, trainer: Callable[..., Trainer]
) -> None:
    part = np.array([0, 1, 2])
    found = []
    for made in (trainer_bf16, trainer()):
        losses, _ = made.module(made.views(part, 0), made.schedule.at(0))
        found.append(losses.values())
    for name, value in found[1].items():
        assert found[0][name] == pytest.approx(value, rel=0.03, abs=1e-3), name


def test_auto_asks_the_hardware(
    tiny: Callable[..., PretrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    for capability in (True, False):
        found = {"avx512_bf16": capability, "amx_bf16": False}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert uses_bf16("auto", cpu) is capability
        assert uses_bf16("bf16", cpu) and not uses_bf16("fp32", cpu)
