"""A run that was stopped, however and wherever, ends as if it never had been."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import CheckpointError, OutOfMemory, UsageError, VoltaError
from volta3d.files import content_hash, read_json, write_json
from volta3d.pretrain.checkpoint import available, optimizer_tensors
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.run import RunFolder
from volta3d.pretrain.trainer import Trainer
from volta3d.views.batch import ViewBatch

Config = Callable[..., PretrainConfig]
Same = Callable[[Path, Path], None]
STEPS = 6  # 2 epochs of 3 windows; 10 micro-steps

# the paper's cadence, and what preset 'stable' does otherwise
RECIPES: dict[str, tuple[str, ...]] = {
    "paper": (),
    "stable": (
        "optim.cadence=optimiser_step",
        "objective.bottleneck=standardised",
        "objective.cls_student=clean",
        "objective.patch_tokens=masked",
        "optim.clip_by=global",
    ),
}


class Killed(BaseException):
    """Stands for a process that ends without a word."""


def kill_after(steps: int) -> Callable[[int, int, str], None]:
    """Die after a step was logged and before it was saved."""

    def notify(step: int, _steps: int, _text: str) -> None:
        if step == steps:
            raise Killed

    return notify


def terminate_after(steps: int) -> Callable[[int, int, str], None]:
    def notify(step: int, _steps: int, _text: str) -> None:
        if step == steps:
            signal.raise_signal(signal.SIGTERM)

    return notify


@pytest.fixture(scope="module")
def straight(
    cohort: Path, tiny: Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """The run that nothing stopped, of either recipe."""
    done: dict[str, Path] = {}

    def run(recipe: str) -> Path:
        if recipe not in done:
            done[recipe] = tmp_path_factory.mktemp("straight") / recipe
            assert pretrain([cohort], done[recipe], tiny(*RECIPES[recipe])).step == STEPS
        return done[recipe]

    return run


@pytest.fixture
def finished(straight: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of a finished run, free to be spoilt."""
    return shutil.copytree(straight("paper"), tmp_path / "finished")


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("recipe", RECIPES)
def test_R1_two_runs_with_one_seed_are_the_same(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    recipe: str,
) -> None:
    torch.manual_seed(12345)  # the global random state must not matter
    pretrain([cohort], tmp_path / "again", tiny(*RECIPES[recipe]))
    assert_same_run(tmp_path / "again", straight(recipe))


def test_R1_another_seed_is_another_run(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    metrics: Callable[[Path], list[dict[str, Any]]],
) -> None:
    pretrain([cohort], tmp_path / "other", tiny("seed=1", "epochs=1"))
    ours, theirs = metrics(tmp_path / "other"), metrics(straight("paper"))
    assert ours[1]["kind"] == theirs[1]["kind"] == "step"
    assert ours[1]["loss"] != theirs[1]["loss"]


@pytest.mark.parametrize(
    ("recipe", "stops"),
    [("paper", (1,)), ("paper", (3,)), ("paper", (4, 5)), ("stable", (2, 3))],
    ids=["mid-epoch", "epoch-end", "twice", "stable-twice"],
)
def test_R2_R4_asked_to_stop_and_resumed(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    recipe: str,
    stops: tuple[int, ...],
) -> None:
    # checkpoint_steps=0: the checkpoint resumed from is the one the signal caused
    run, config = tmp_path / "run", tiny(*RECIPES[recipe], "checkpoint_steps=0")
    for number, stop in enumerate(stops):
        with pytest.raises(VoltaError, match=f"Stopped by SIGTERM after step {stop}"):
            pretrain([cohort], run, config, resume=number > 0, notify=terminate_after(stop))
        assert available(run / "checkpoints")[0].name == f"step-{stop:08d}"
    assert pretrain([cohort], run, config, resume=True).step == STEPS
    assert_same_run(run, straight(recipe))


@pytest.mark.parametrize(
    ("recipe", "stop"), [("paper", 2), ("paper", 3), ("stable", 4)], ids=["2", "epoch-end", "4"]
)
def test_R4_F18_killed_between_log_and_checkpoint(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    recipe: str,
    stop: int,
) -> None:
    run, config = tmp_path / "run", tiny(*RECIPES[recipe])
    with pytest.raises(Killed):
        pretrain([cohort], run, config, notify=kill_after(stop))
    assert available(run / "checkpoints")[0].name == f"step-{stop - 1:08d}"
    pretrain([cohort], run, config, resume=True)
    assert_same_run(run, straight(recipe))


@pytest.mark.parametrize("recipe", RECIPES)
def test_R3_stopped_inside_an_accumulation_window(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
) -> None:
    # no threads: two that make views ahead would note a fifth one while the fourth is refused
    run, config = tmp_path / "run", tiny(*RECIPES[recipe], "workers=0")
    seen: list[tuple[int, ...]] = []
    whole = Trainer.views

    def views(self: Trainer, part: np.ndarray, epoch: int) -> ViewBatch:
        if epoch >= 0:
            seen.append((epoch, *part.tolist()))
            if len(seen) == 4:  # the second micro-step of the second window
                raise Killed
        return whole(self, part, epoch)

    monkeypatch.setattr(Trainer, "views", views)
    with pytest.raises(Killed):
        pretrain([cohort], run, config)
    pretrain([cohort], run, config, resume=True)
    assert seen[4:6] == seen[2:4]  # the window under way is repeated whole
    assert len(seen) == 10 + 2  # and nothing else is
    assert_same_run(run, straight(recipe))


@pytest.mark.parametrize("recipe", RECIPES)
def test_R9_a_fresh_trainer_stands_where_the_old_one_stood(
    trainer: Callable[..., Trainer], tmp_path: Path, recipe: str
) -> None:
    settings = (*RECIPES[recipe], "objective.teacher_temperature_epochs=2")
    old, new, fresh = (trainer(*settings) for _ in range(3))
    old.start_statistics()
    list(old.epoch(0, 0))
    old.progress.epoch, old.progress.windows = 1, 0
    folder = RunFolder(tmp_path / "run", resume=False)
    folder.identify(old.config, old.scans, old.fabric)
    folder.save(old)
    restored = folder.restore(new)
    assert restored is not None and restored == old.progress
    before, after = old.distillation.state_dict(), new.distillation.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    start = fresh.distillation.state_dict()
    moved = ["cls_center.value", "patch_center.value", "pair.teacher.encoder.norm.weight"]
    if recipe == "stable":
        moved += ["standardiser.mean", "standardiser.variance"]
    assert not [name for name in moved if torch.equal(after[name], start[name])]
    ours, theirs = optimizer_tensors(old.optimizer), optimizer_tensors(new.optimizer)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    now = new.schedule.at(restored.step)
    assert now == old.schedule.at(old.progress.step)
    assert now.teacher_temperature == pytest.approx(0.055)  # half way from .04 to .07


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("lr=2e-3", "config.lr: 0.001 -> 0.002"),
        ("views.flip=0.25", "config.views.flip: 0.5 -> 0.25"),
        ("seed=7", "config.seed: 0 -> 7"),
    ],
)
def test_R10_a_changed_configuration_is_refused_with_a_diff(
    cohort: Path, tiny: Config, finished: Path, change: str, shown: str
) -> None:
    before = contents(finished)
    with pytest.raises(CheckpointError) as caught:
        pretrain([cohort], finished, tiny(change), resume=True)
    assert shown in str(caught.value)
    assert contents(finished) == before


def test_R10_a_changed_cohort_is_refused_and_nothing_is_written(
    make_cohort: Callable[..., Cohort], tiny: Config, finished: Path, tmp_path: Path
) -> None:
    before = contents(finished)
    other = make_cohort(tmp_path / "other", 11, seed=1).path
    with pytest.raises(CheckpointError, match=r"data\.scans: 10 -> 11") as caught:
        pretrain([other], finished, tiny(), resume=True)
    assert "data.hash" in str(caught.value)
    assert contents(finished) == before


def test_R10_how_often_to_save_and_how_loud_to_ring_may_change(
    cohort: Path, tiny: Config, finished: Path
) -> None:
    free = ("checkpoint_minutes=5", "checkpoint_steps=9", "keep_checkpoints=3")
    loud = ("monitor.alarm=stop", "monitor.alarm_after_epochs=7")
    assert pretrain([cohort], finished, tiny(*free, *loud), resume=True).step == STEPS


def test_a_finished_run_resumed_changes_nothing(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    finished: Path,
    assert_same_run: Same,
) -> None:
    pretrain([cohort], finished, tiny(), resume=True)
    assert_same_run(finished, straight("paper"))


def test_F6_checkpoints_that_vanished_are_an_error_not_a_fresh_start(
    cohort: Path, tiny: Config, finished: Path
) -> None:
    shutil.rmtree(finished / "checkpoints")
    with pytest.raises(CheckpointError, match="they are gone"):
        pretrain([cohort], finished, tiny(), resume=True)


def test_F6_a_run_that_died_before_its_first_checkpoint_says_that_it_starts_again(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
) -> None:
    run, config = tmp_path / "run", tiny("checkpoint_steps=0")
    with pytest.raises(Killed):
        pretrain([cohort], run, config, notify=kill_after(2))
    with pytest.warns(UserWarning, match="stopped at step 2 before its first checkpoint"):
        pretrain([cohort], run, config, resume=True)
    assert_same_run(run, straight("paper"))


@pytest.fixture
def start_child(
    cohort: Path, tiny: Config, tmp_path: Path
) -> Callable[[Path], subprocess.Popen[str]]:
    """Start a real process that pretrains, a tenth of a second a step; wait for its third step."""

    def start(run: Path) -> subprocess.Popen[str]:
        config = tmp_path / "config.yaml"
        config.write_text(tiny().to_yaml())
        child = Path(__file__).with_name("child.py")
        process = subprocess.Popen(
            [sys.executable, str(child), str(cohort), str(run), str(config), "0.1"],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        log = run / "metrics.jsonl"
        while process.poll() is None:
            if log.is_file() and log.read_text().count('"kind": "step"') >= 3:
                return process
            time.sleep(0.01)
        raise AssertionError(f"the child ended too early: {process.communicate()[1]}")

    return start


def test_R2_F1_kill_9_and_a_new_process_end_as_if_nothing_had_happened(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    start_child: Callable[[Path], subprocess.Popen[str]],
) -> None:
    run = tmp_path / "run"
    with start_child(run) as process:
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert pretrain([cohort], run, tiny(), resume=True).step == STEPS
    assert_same_run(run, straight("paper"))


def test_R2_F7_sigterm_saves_and_leaves_in_time(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
    start_child: Callable[[Path], subprocess.Popen[str]],
    metrics: Callable[[Path], list[dict[str, Any]]],
) -> None:
    run = tmp_path / "run"
    with start_child(run) as process:
        process.terminate()
        # one window takes a tenth of a second; the rest is room for a busy machine
        _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Stopped by SIGTERM after step" in said and "--resume" in said
    assert "Traceback" not in said
    reached = metrics(run)[-1]["step"]
    assert 3 <= reached < STEPS
    assert available(run / "checkpoints")[0].name == f"step-{reached:08d}"
    weights = load_file(available(run / "checkpoints")[0] / "model.safetensors")
    assert all(bool(v.isfinite().all()) for v in weights.values())
    pretrain([cohort], run, tiny(), resume=True)
    assert_same_run(run, straight("paper"))


def test_F9_a_first_ctrl_c_saves_and_a_second_quits(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
) -> None:
    def press(times: int) -> Callable[[int, int, str], None]:
        def notify(done: int, _: int, __: str) -> None:
            for _ in range(times if done == 2 else 0):
                signal.raise_signal(signal.SIGINT)

        return notify

    run = tmp_path / "once"
    with pytest.raises(VoltaError, match="SIGINT after step 2, everything is saved"):
        pretrain([cohort], run, tiny("checkpoint_steps=0"), notify=press(1))
    pretrain([cohort], run, tiny("checkpoint_steps=0"), resume=True)
    assert_same_run(run, straight("paper"))
    with pytest.raises(KeyboardInterrupt):
        pretrain([cohort], tmp_path / "twice", tiny("checkpoint_steps=0"), notify=press(2))
    assert not available(tmp_path / "twice" / "checkpoints")


def test_F8_slurm_s_warning_saves_and_the_requeued_job_ends_at_the_same_step(
    cohort: Path,
    tiny: Config,
    straight: Callable[[str], Path],
    tmp_path: Path,
    assert_same_run: Same,
) -> None:
    def warned(done: int, _: int, __: str) -> None:
        if done == 3:
            signal.raise_signal(signal.SIGUSR1)  # sbatch --signal=USR1@60

    run = tmp_path / "run"
    with pytest.raises(VoltaError, match="SIGUSR1 after step 3, everything is saved"):
        pretrain([cohort], run, tiny("checkpoint_steps=0"), notify=warned)
    assert available(run / "checkpoints")[0].name == "step-00000003"
    assert pretrain([cohort], run, tiny("checkpoint_steps=0"), resume=True).step == STEPS
    assert_same_run(run, straight("paper"))


@pytest.mark.parametrize(("found", "way"), [(1, "release that started it"), (3, "Update volta3d")])
def test_R12_a_checkpoint_of_another_release_is_refused_with_the_way_out(
    cohort: Path, tiny: Config, tmp_path: Path, found: int, way: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(VoltaError, match="Stopped by SIGTERM"):
        pretrain([cohort], run, tiny(), notify=terminate_after(2))
    file = available(run / "checkpoints")[0] / "state.json"
    state = {**read_json(file), "format": found}
    state.pop("seal")
    write_json(file, {**state, "seal": content_hash(state)})
    with pytest.raises(CheckpointError, match=f"format {found}, this release") as refused:
        pretrain([cohort], run, tiny(), resume=True)  # an older one beside it isn't taken silently
    assert way in str(refused.value)
    write_json(file, {**state, "seal": "0" * 16})  # damaged, whatever it says of itself
    with pytest.warns(UserWarning, match="passed over"):
        assert pretrain([cohort], run, tiny(), resume=True).step == STEPS


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["python", "gpu", "cpu"],
)
def test_F15_out_of_memory_keeps_the_checkpoint_and_says_what_would_help(
    cohort: Path, tiny: Config, tmp_path: Path, error: Exception
) -> None:
    def runs_out(done: int, _: int, __: str) -> None:
        if done == 2:
            raise error

    run = tmp_path / "run"
    with pytest.raises(OutOfMemory, match=r"Halve batch_size and double accumulate"):
        pretrain([cohort], run, tiny(), notify=runs_out)
    assert available(run / "checkpoints")[0].name == "step-00000001"
    assert pretrain([cohort], run, tiny(), resume=True).step == 6


def test_F15_other_errors_are_not_taken_for_memory(
    cohort: Path, tiny: Config, tmp_path: Path
) -> None:
    def breaks(done: int, _: int, __: str) -> None:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        pretrain([cohort], tmp_path / "run", tiny(), notify=breaks)


def test_O7_a_mistyped_folder_to_resume_is_said(cohort: Path, tiny: Config, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no run to resume"):
        pretrain([cohort], tmp_path / "nowhere", tiny("epochs=1"), resume=True)


def test_a_cls_loss_that_never_starts_is_said(cohort: Path, tiny: Config, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="it stays off"):
        pretrain([cohort], tmp_path / "run", tiny("objective.cls_start_epoch=2"))


@pytest.mark.parametrize(
    ("assignment", "said"), [("monitor.probe=agee", "'age'"), ("device=cuda", "device=auto")]
)
def test_O7_what_cannot_work_leaves_no_run_behind(
    cohort: Path, tiny: Config, tmp_path: Path, assignment: str, said: str
) -> None:
    if assignment == "device=cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match=said):
        pretrain([cohort], tmp_path / "run", tiny(assignment))
    pretrain([cohort], tmp_path / "run", tiny("epochs=1"))
