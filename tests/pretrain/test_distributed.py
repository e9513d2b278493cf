"""Data parallel with gloo on CPUs: two processes do what one does, and end together."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from volta3d.config import PretrainConfig
from volta3d.errors import UsageError, VoltaError
from volta3d.pretrain.checkpoint import available
from volta3d.pretrain.distributed import Launched, Ranks, launched
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.log import read_metrics
from volta3d.pretrain.loop import pretrain, warn_of_idle

CHILD = Path(__file__).with_name("rank_child.py")
Tiny = Callable[..., PretrainConfig]
SAME = ("optim.clip=0", "optim.cadence=optimiser_step")


@dataclass
class Ended:
    code: int
    text: str


def start(what: str, cohort: Path, out: Path, config: PretrainConfig, world: int) -> list[Ended]:
    """Start the processes of a run the way torchrun does, and wait for all of them."""
    file = out.with_name(f"{out.name}.yaml")
    file.write_text(config.to_yaml(), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(world):
        said = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "GROUP_RANK": 0,
            "WORLD_SIZE": world,
            "LOCAL_WORLD_SIZE": world,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "test",
            "OMP_NUM_THREADS": 1,
        }
        processes.append(
            subprocess.Popen(
                [sys.executable, str(CHILD), what, str(cohort), str(out), str(file)],
                env=os.environ | {k: str(v) for k, v in said.items()},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        return [Ended(p.wait(120), p.stdout.read() if p.stdout else "") for p in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def windows(
    cohort: Path, tiny: Tiny, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Tensor]]:
    """What one uneven window comes to in one process, and in each of two."""
    folder, found = tmp_path_factory.mktemp("ranks"), {}
    child = runpy.run_path(str(CHILD))
    child["window"](cohort, folder / "of-1", tiny(*SAME))
    ended = start("window", cohort, folder / "of-2", tiny(*SAME), 2)
    assert [e.code for e in ended] == [0, 0], ended
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        found[f"{rank} of {world}"] = load_file(folder / f"of-{world}-{rank}.safetensors")
    return found


def part(found: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {name: value for name, value in found.items() if name.startswith(kind)}


@pytest.mark.parametrize("kind", ["gradient", "value", "state"])
def test_G1_G2_two_processes_equal_one_on_an_uneven_window(
    windows: dict[str, dict[str, Tensor]], kind: str
) -> None:
    """Losses, gradients, centres and the weights after the step."""
    one, two = part(windows["0 of 1"], kind), part(windows["0 of 2"], kind)
    assert one.keys() == two.keys() and len(one) > 5
    for name, value in one.items():
        # sums in another order; AdamW's first step is the sign of the gradient times lr, so a
        # gradient near zero may move a weight by up to lr, and the teacher by .4 % of that
        if "foreground" in name:  # for the log, by each process's own number of voxels
            assert torch.allclose(value, two[name], rtol=2e-2)
            continue
        atol = 1e-4 * (float(value.abs().max()) + 1e-6)
        if kind == "state" and "center" not in name and "standardiser" not in name:
            atol += 2e-3
        assert torch.allclose(value, two[name], atol=atol, rtol=1e-4), name


def test_G1_both_processes_hold_the_same_bits(windows: dict[str, dict[str, Tensor]]) -> None:
    first, second = windows["0 of 2"], windows["1 of 2"]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_G4_gradients_are_sent_once_a_window_and_the_forward_knows(
    windows: dict[str, dict[str, Tensor]],
) -> None:
    for rank in ("0 of 2", "1 of 2"):
        assert windows[rank]["sent"].tolist() == [False, True]


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_G6_each_scan_counts_once_an_epoch_and_no_process_is_left_out(world: int) -> None:
    order = np.random.default_rng(0).permutation(11)
    seen: list[int] = []
    for batch in (order[:4], order[4:8], order[8:]):
        for rank in range(world):
            own, counted = Ranks(rank, world).part(batch)
            assert len(own) >= 1 and counted in (0, len(own))
            seen += own[:counted].tolist()
    assert sorted(seen) == list(range(11))


def steps(run: Path) -> list[dict[str, Any]]:
    return [r for r in read_metrics(run / "metrics.jsonl") if r["kind"] == "step"]


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)], ids=["2-to-1", "1-to-2"])
def test_G3_saved_on_some_and_resumed_on_others(
    cohort: Path, tiny: Tiny, tmp_path: Path, before: int, after: int
) -> None:
    """Stopped by a signal to one process alone, resumed with another number of processes."""
    config, whole, run = tiny(*SAME), tmp_path / "whole", tmp_path / "run"
    pretrain([cohort], whole, config)
    if before == 2:
        ended = start("term", cohort, run, config, 2)
        assert all(e.code == 1 and "everything is saved" in e.text for e in ended), ended
        pretrain([cohort], run, config, resume=True)
    else:
        with pytest.raises(VoltaError, match="everything is saved"):
            pretrain([cohort], run, config, notify=_stop_at(2))
        ended = start("train", cohort, run, config, after)
        assert [e.code for e in ended] == [0, 0], ended
    ours, theirs = steps(run), steps(whole)
    assert [r["step"] for r in ours] == [r["step"] for r in theirs] == [1, 2, 3, 4, 5, 6]
    assert [r["loss"] for r in ours] == pytest.approx([r["loss"] for r in theirs], rel=1e-3)
    assert available(run / "checkpoints")[0].name == "step-00000006"
    assert (run / "encoder" / "config.json").exists()


@pytest.mark.slow
def test_G3_nobody_leaves_before_the_first_process_has_saved(
    cohort: Path, tiny: Tiny, tmp_path: Path
) -> None:
    """A launcher ends all processes when one has left: rank 0 would be killed while it writes."""
    for one in start("slow", cohort, tmp_path / "run", tiny(*SAME), 2):
        assert one.code == 1 and "everything is saved" in one.text
        assert "when it left there were ['step-00000002'" in one.text, one.text


def _stop_at(step: int) -> Callable[[int, int, str], None]:
    import signal

    def notify(done: int, _: int, __: str) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return notify


@pytest.mark.slow
def test_G5_a_dead_process_ends_the_others(cohort: Path, tiny: Tiny, tmp_path: Path) -> None:
    first, second = start("die", cohort, tmp_path / "run", tiny(), 2)
    assert second.code == 1
    assert first.code == 1 and "Another process of this run ended" in first.text
    assert available(tmp_path / "run" / "checkpoints"), "the last checkpoint stays"


@pytest.mark.slow
def test_F13_nan_in_one_process_stops_all_at_the_same_step(
    cohort: Path, tiny: Tiny, tmp_path: Path
) -> None:
    ended = start("nan", cohort, tmp_path / "run", tiny(), 2)
    for one in ended:
        assert one.code == 1 and "became NaN or infinite in epoch 0" in one.text, ended
    assert [r["step"] for r in steps(tmp_path / "run")] == [1]


def test_ranks_are_those_that_the_launcher_says(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where only the variables that torch itself needs are set, as the cluster page says."""
    said = {"RANK": 5, "LOCAL_RANK": 1, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4}
    for name, value in (said | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 29500}).items():
        monkeypatch.setenv(name, str(value))
    for name in ("TORCHELASTIC_RUN_ID", "GROUP_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    fabric = build_fabric(tiny())
    environment = fabric.strategy.cluster_environment
    assert environment is not None
    environment.set_global_rank(1)  # as a strategy does that counts by itself
    assert environment.global_rank() == 5 and environment.world_size() == 8


def test_processes_without_work_are_told_of(tiny: Tiny) -> None:
    with pytest.warns(UserWarning, match="2 of them have nothing to do"):
        warn_of_idle(tiny("batch_size=2"), 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_idle(tiny("batch_size=4"), 4)


def test_a_micro_batch_is_divided_by_all_its_masked_voxels() -> None:
    masks = torch.zeros(2, 1, 4, 4, 4, dtype=torch.bool)
    masks[:, :, :2] = True
    assert Ranks().masked(masks, 3, 3) is None
    alone = Ranks(0, 2)
    object.__setattr__(alone, "summed", lambda values: values + 36.0)  # what the other process has
    assert float(alone.masked(masks, 2, 3) or 0) == pytest.approx((64 + 36) * 2 / 3)
    assert float(alone.masked(masks, 0, 3) or 0) == 0.0


def test_how_this_process_was_started() -> None:
    assert launched({}) == Launched(1, 1)
    torchrun = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"}
    assert launched(torchrun) == Launched(4, 2)
    # as sbatch --ntasks passes it on, which Lightning refuses too
    ntasks = {"SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "8"}
    with pytest.raises(UsageError, match=r"--nodes=2 --ntasks-per-node=4"):
        launched({**ntasks, "SLURM_STEP_NUM_NODES": "2"})
    both = {**ntasks, "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    assert launched(both) == Launched(4, 2)
    srun = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}
    assert launched(srun) == Launched(4, 2)
    assert launched({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}) == Launched(1, 1)
    with pytest.raises(UsageError, match="divide"):
        launched(torchrun | {"WORLD_SIZE": "9"})
