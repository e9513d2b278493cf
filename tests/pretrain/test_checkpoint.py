"""Checkpoints: nothing may be missing from one, and none is ever half of one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from volta3d import files
from volta3d.errors import CheckpointError
from volta3d.files import content_hash, sha256
from volta3d.pretrain import checkpoint
from volta3d.pretrain.trainer import Trainer

Make = Callable[..., Trainer]
IDENTITY = {"config": {"lr": 1.0}, "data": {"hash": "x"}}


def save(trainer: Trainer, folder: Path, step: int) -> Path:
    trainer.progress.step = step
    return checkpoint.save(
        folder,
        distillation=trainer.distillation,
        optimizer=trainer.optimizer,
        progress=trainer.progress,
        identity=IDENTITY,
        keep=2,
    )


def load(trainer: Trainer, folder: Path) -> checkpoint.Progress | None:
    return checkpoint.load_newest(
        folder,
        distillation=trainer.distillation,
        optimizer=trainer.optimizer,
        identity=IDENTITY,
    )


@pytest.fixture
def trained(trainer: Make) -> Trainer:
    """One with an optimiser that has state."""
    made = trainer()
    made.start_statistics()
    list(made.epoch(0, 0))
    return made


def reseal(path: Path, change: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
    """Write state.json anew as if the checkpoint had been saved as it is now."""
    state = json.loads((path / "state.json").read_text())
    state.pop("seal")
    state["sha256"] = {name: sha256(path / name) for name in checkpoint.FILES}
    change(state)
    (path / "state.json").write_text(json.dumps({**state, "seal": content_hash(state)}))


def without(path: Path, key: str) -> None:
    tensors = load_file(path)
    del tensors[key]
    save_file(tensors, path)


@pytest.mark.parametrize("name", checkpoint.FILES)
def test_R8_every_tensor_dropped_in_turn_is_missed(
    trained: Trainer, trainer: Make, tmp_path: Path, name: str
) -> None:
    whole = save(trained, tmp_path / "whole", 3)
    fresh, original = trainer(), (whole / name).read_bytes()
    keys = sorted(load_file(whole / name))
    assert len(keys) > 20
    assert {"cls_center.value", "patch_center.value"} <= set(keys) or "optimizer" in name
    for key in keys:
        without(whole / name, key)
        reseal(whole)
        with pytest.raises(CheckpointError), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is passed over
            load(fresh, tmp_path / "whole")
        (whole / name).write_bytes(original)
    reseal(whole)
    assert load(fresh, tmp_path / "whole") is not None


def test_R8_every_entry_of_the_state_dropped_in_turn_is_missed(
    trained: Trainer, trainer: Make, tmp_path: Path
) -> None:
    whole = save(trained, tmp_path, 3)
    original = (whole / "state.json").read_text()
    state = json.loads(original)
    dropped = [(k,) for k in state if k != "seal"] + [("progress", k) for k in state["progress"]]

    for keys in dropped:

        def drop(content: dict[str, Any], keys: tuple[str, ...] = keys) -> None:
            inner = content[keys[0]] if len(keys) > 1 else content
            del inner[keys[-1]]

        reseal(whole, drop)
        with pytest.raises(CheckpointError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(trainer(), tmp_path)
        (whole / "state.json").write_text(original)


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_F6_a_damaged_newest_one_is_passed_over_with_a_warning(
    trained: Trainer, trainer: Make, tmp_path: Path, damage: str
) -> None:
    save(trained, tmp_path, 1)
    newest = save(trained, tmp_path, 2) / "model.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "truncated":
        content = content[:-7]
    else:
        content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match="passed over"):
        found = load(trainer(), tmp_path)
    assert found is not None and found.step == 1


class Killed(BaseException):
    """Stands in for a process that ends right here."""


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_F2_ended_at_any_write_an_older_one_is_whole(
    trained: Trainer, trainer: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    save(trained, tmp_path, 1)
    real, step = getattr(os, call), 1
    for moment in range(40):
        left = [moment]

        def dies(*given: Any, left: list[int] = left, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*given, **more)

        monkeypatch.setattr(files.os, call, dies)
        try:
            save(trained, tmp_path, step + 1)
            ended = False
        except Killed:
            ended = True
        monkeypatch.setattr(files.os, call, real)
        found = load(trainer(), tmp_path)
        assert found is not None and found.step in (step, step + 1)
        step = found.step
        if not ended:
            assert moment > 0
            return
    raise AssertionError("a checkpoint takes over 40 such calls")


@pytest.mark.slow
def test_F1_killed_at_100_random_moments_of_saving_a_whole_one_always_loads(
    trained: Trainer, trainer: Make, tmp_path: Path
) -> None:
    """A child saves without a pause; it is killed 100 times and never leaves half a checkpoint."""
    draw, fresh, reached = random.Random(0), trainer(), 0
    save(trained, tmp_path / "checkpoints", 1)
    for _ in range(100):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            _save_for_ever(trained, tmp_path / "checkpoints", write)
        os.close(write)
        assert os.read(read, 1)  # the first one of this child is written
        time.sleep(draw.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(read)
        found = load(fresh, tmp_path / "checkpoints")
        assert found is not None and found.step > reached
        reached = found.step
        trained.progress.step = reached


def _save_for_ever(trained: Trainer, folder: Path, told: int) -> None:
    step = trained.progress.step
    try:
        while True:
            step += 1
            save(trained, folder, step)
            os.write(told, b".")
    finally:
        os._exit(1)
