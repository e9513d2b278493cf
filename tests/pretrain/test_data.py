"""The scans of one or several cohorts: the same batches however they are held."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import PretrainConfig
from volta3d.errors import CohortError, UsageError, VoltaError
from volta3d.pretrain import data
from volta3d.pretrain.data import Scans
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.trainer import Trainer

Make = Callable[..., Cohort]
Tiny = Callable[..., PretrainConfig]


@pytest.mark.parametrize("downsample", [1, 2])
def test_R5_held_in_memory_or_streamed_the_batches_are_the_same_bit_by_bit(
    make_cohort: Make, tmp_path: Path, downsample: int
) -> None:
    cohorts = [make_cohort(tmp_path / "a", 3), make_cohort(tmp_path / "b", 2, seed=1)]
    held = Scans(cohorts, downsample=downsample)
    streamed = Scans(cohorts, downsample=downsample, keep="stream")
    assert held.resident and not streamed.resident
    for indices in ([0, 4, 2], np.array([3]), [1, 1]):
        assert torch.equal(held.batch(indices), streamed.batch(indices))
    edge = 16 // downsample
    assert held.batch([0]).shape == (1, 1, edge, edge, edge)
    assert held.identity() == streamed.identity()
    assert held.bytes == 5 * edge**3 * (2 if downsample == 1 else 4)
    assert "held" in held.about() and "read from the store" in streamed.about()


def test_zscored_cohorts_are_held_in_16_bit_too(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).normal(size=(3, 16, 16, 16)).astype(np.float32)
    contract = Contract(size=16, scaling="zscore", value_range=None, storage="float16")
    people = pd.DataFrame({"scan_id": ["a", "b", "c"]})
    cohort = write_cohort(tmp_path / "c", contract, volumes, people)
    held, streamed = Scans([cohort]), Scans([cohort], keep="stream")
    assert torch.equal(held.batch([0, 2, 1]), streamed.batch([0, 2, 1]))


def test_every_stored_value_survives_being_held(tmp_path: Path) -> None:
    volume = (np.arange(2**16, dtype=np.float32) / np.float32(2**16 - 1)).reshape(1, 64, 32, 32)
    cubes = volume.repeat(2, 2).repeat(2, 3)
    people = pd.DataFrame({"scan_id": ["all"]})
    cohort = write_cohort(tmp_path / "c", Contract(size=64), cubes, people)
    assert torch.equal(Scans([cohort]).batch([0]), Scans([cohort], keep="stream").batch([0]))


def test_R5_resident_and_streamed_train_the_same_weights(
    trainer: Callable[..., Trainer],
) -> None:
    states = []
    for keep in ("resident", "stream"):
        made = trainer(f"data={keep}")
        assert made.scans.resident is (keep == "resident")
        losses = [record["loss"] for record in made.epoch(0, 0)]
        states.append((losses, made.distillation.state_dict()))
    (losses, state), (others, other) = states
    assert losses == others and all(torch.equal(state[name], other[name]) for name in state)


def test_more_than_memory_allows_is_streamed(
    make_cohort: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(tmp_path / "a", 3)
    monkeypatch.setattr(Scans, "_fits", lambda _: False)
    assert not Scans([cohort]).resident


def test_two_cohorts_of_another_preparation_are_refused(make_cohort: Make, tmp_path: Path) -> None:
    cohorts = [make_cohort(tmp_path / "a", 2), make_cohort(tmp_path / "b", 2, edge=8, seed=1)]
    with pytest.raises(CohortError, match=r"prepared differently: size"):
        Scans(cohorts)


def test_a_scan_given_twice_is_refused(make_cohort: Make, tmp_path: Path) -> None:
    cohort = make_cohort(tmp_path / "a", 2)
    with pytest.raises(CohortError, match=r"occurs twice: scan-0-00"):
        Scans([cohort, cohort])


def test_cubes_too_small_for_the_preset_say_how_to_prepare(
    make_cohort: Make, tmp_path: Path, tiny: Tiny
) -> None:
    cohort = make_cohort(tmp_path / "a", 2, edge=8)
    out = tmp_path / "run"
    with pytest.raises(CohortError, match=r"size=16"):
        pretrain([cohort.path], out, tiny())
    assert not out.exists(), "nothing is made before everything was checked"


def test_F14_a_scan_with_nan_is_named(tmp_path: Path, tiny: Tiny) -> None:
    volumes = np.random.default_rng(0).normal(size=(3, 16, 16, 16)).astype(np.float32)
    contract = Contract(size=16, scaling="zscore", value_range=None, storage="float16")
    people = pd.DataFrame({"scan_id": ["a", "broken", "c"]})
    cohort = write_cohort(tmp_path / "c", contract, volumes, people)
    stored = zarr.open_array(cohort.path / "volumes.zarr", mode="r+")
    stored[1, 3, 3, 3] = np.nan  # writing refuses it, so it comes from elsewhere
    with pytest.raises(CohortError, match="broken"):
        Scans([cohort])
    streamed = Scans([cohort], keep="stream")
    assert streamed.batch([0, 2]).isfinite().all()
    with pytest.raises(CohortError, match="broken"):
        streamed.batch([1])


def test_a_run_folder_with_a_run_and_an_output_that_is_a_file(
    cohort: Path, tiny: Tiny, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="not a folder"):
        pretrain([cohort], tmp_path / "file", tiny())
    assert (tmp_path / "file").read_text() == "mine"
    run = tmp_path / "run"
    pretrain([cohort], run, tiny("epochs=1"))
    with pytest.raises(UsageError, match="--resume"):
        pretrain([cohort], run, tiny("epochs=1"))


def test_F17_a_second_process_on_one_run_folder_is_refused(
    cohort: Path, tiny: Tiny, tmp_path: Path
) -> None:
    import fcntl

    run = tmp_path / "run"
    run.mkdir()
    with (run / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(VoltaError, match="Another process"):
            pretrain([cohort], run, tiny())
    assert [p.name for p in run.iterdir()] == [".lock"]


class Odd(Exception):
    """An exception of some library, which cannot be made again from its arguments."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{detail} ({code})")


@pytest.mark.parametrize("keep", ["resident", "stream"])
@pytest.mark.parametrize("downsample", [1, 2])
def test_F11_an_odd_exception_of_a_read_names_its_scan(
    make_cohort: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keep: Literal["resident", "stream"],
    downsample: int,
) -> None:
    cohort = make_cohort(tmp_path / "a", 3)
    stored = Cohort.stored

    def failing(self: Cohort, index: int) -> np.ndarray:
        if index == 1:
            raise Odd(7, "the codec is tired")
        return stored(self, index)

    monkeypatch.setattr(Cohort, "stored", failing)
    with pytest.raises(CohortError) as raised:
        Scans([cohort], keep=keep, downsample=downsample).batch([0, 1])
    assert cohort.scan_ids[1] in str(raised.value) and "the codec is tired (7)" in str(raised.value)
    assert str(cohort.path) in str(raised.value) and isinstance(raised.value.__cause__, Odd)


@pytest.mark.parametrize("workers", [0, 2])
def test_F12_a_stalled_read_ends_with_the_scans_name(
    make_cohort: Make,
    tmp_path: Path,
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    cohort = make_cohort(tmp_path / "a", 3)
    stalled, released = threading.Event(), threading.Event()
    stored = Cohort.stored

    def hanging(self: Cohort, index: int) -> np.ndarray:
        if index == 2:
            stalled.set()
            released.wait(60)
        return stored(self, index)

    monkeypatch.setattr(Cohort, "stored", hanging)
    monkeypatch.setattr(data, "PATIENCE", 0.5)
    began = time.monotonic()
    with pytest.raises(CohortError, match=f"{cohort.scan_ids[2]} was not read within"):
        pretrain([cohort.path], tmp_path / "run", tiny("data=stream", f"workers={workers}"))
    released.set()
    assert stalled.is_set() and time.monotonic() - began < 50


def test_out_of_memory_while_reading_stays_what_it_is(
    make_cohort: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Cohort, index: int) -> np.ndarray:
        raise MemoryError

    cohort = make_cohort(tmp_path / "a", 2)
    monkeypatch.setattr(Cohort, "stored", full)
    with pytest.raises(MemoryError):
        Scans([cohort], keep="stream").batch([0])


def test_F5_pretraining_needs_no_temporary_folder(
    make_cohort: Make, tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = make_cohort(tmp_path / "a", 6)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "a" / "contract.yaml"))  # a file
    pretrain([cohort.path], tmp_path / "run", tiny())
    assert (tmp_path / "run" / "encoder" / "model.safetensors").is_file()
