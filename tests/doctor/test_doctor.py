"""``doctor``: counts that can be checked by hand, a measured probe, and the view budget."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from volta3d.cli import app
from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_pretrain
from volta3d.doctor import doctor, render
from volta3d.doctor.budget import view_budget
from volta3d.doctor.plan import PeakMemory, plan_run
from volta3d.errors import CohortError
from volta3d.model.pair import build_pair
from volta3d.objective.diagnostics import icc
from volta3d.views.batch import make_views

SMOKE = load_pretrain("smoke", ["precision=fp32"])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    rng = np.random.default_rng(0)
    size, scans = SMOKE.views.global_size * SMOKE.views.downsample, 9
    coarse = rng.random((scans, 4, 4, 4), dtype=np.float32)
    volumes = coarse.repeat(size // 4, 1).repeat(size // 4, 2).repeat(size // 4, 3)
    people = pd.DataFrame({"scan_id": [f"s{i}" for i in range(scans)]})
    folder = tmp_path_factory.mktemp("doctor") / "cohort"
    return write_cohort(folder, Contract(size=size, synthetic=True), volumes, people)


def test_the_plan_counts_what_a_run_counts(cohort: Cohort) -> None:
    plan = plan_run(cohort, SMOKE)
    pair = build_pair(SMOKE.model, SMOKE.views.global_size, 0)
    trained = sum(p.numel() for p in pair.parameters() if p.requires_grad)
    assert plan["parameters"] == trained
    window = SMOKE.batch_size * SMOKE.accumulate
    assert plan["steps"] == SMOKE.epochs * math.ceil(9 / window)
    per_voxel = 2 if SMOKE.views.downsample == 1 else 4
    assert plan["data"] == per_voxel * 9 * (cohort.contract.size // SMOKE.views.downsample) ** 3
    assert plan["problem"] == "" and plan["resident"] is True
    assert 0 < plan["seconds_views"] < plan["seconds_per_step"]
    training = plan["steps"] * plan["seconds_per_step"] / 3600
    assert plan["parts"]["training"] == pytest.approx(training)


def test_operations_are_counted_not_guessed(cohort: Cohort) -> None:
    """At least the encoder's matrix products: 2 forward, 4 backward per weight, token and view."""
    plan = plan_run(cohort, SMOKE)
    tokens = (SMOKE.views.global_size // SMOKE.model.patch_size) ** 3
    weights = SMOKE.model.depth * (
        4 * SMOKE.model.width**2 + 2 * SMOKE.model.width * SMOKE.model.mlp
    )
    scans = 9 * SMOKE.epochs
    least = (6 + 2) * weights * tokens * 2 * scans  # two globals; the teacher goes forward only
    assert least < plan["flops"] < 20 * least


def test_the_checkpoints_of_the_plan_are_those_of_a_run(cohort: Cohort, tmp_path: Path) -> None:
    from volta3d.pretrain.loop import pretrain

    run = tmp_path / "run"
    pretrain([cohort.path], run, SMOKE)
    parts = ("checkpoints", "encoder", "pictures")
    used = sum(p.stat().st_size for part in parts for p in (run / part).rglob("*") if p.is_file())
    assert used < plan_run(cohort, SMOKE)["disk"] < 4 * used


def test_the_view_budget_is_the_icc_of_the_fresh_teacher(cohort: Cohort) -> None:
    budget = view_budget(cohort, SMOKE)
    rows = {row["views"]: row for row in budget["rows"]}
    network = build_pair(SMOKE.model, SMOKE.views.global_size, SMOKE.seed).teacher
    views = SMOKE.views.model_copy(update={"locals": 0})
    features = []
    for epoch in (0, 1):
        made = make_views(
            cohort.load(downsample=views.downsample),
            cohort.scan_ids,
            epoch=epoch,
            seed=SMOKE.seed,
            views=views,
            masking=SMOKE.masking,
            value_range=cohort.contract.value_range,
        )
        with torch.no_grad():
            token = network.summariser(network.encoder(made.global_views))
        features.append(token.unflatten(0, (2, 9)))
    found = rows["globals as planned"]
    assert found["icc"] == pytest.approx(icc(torch.cat(features)), abs=1e-4)
    objective = SMOKE.objective
    ratio = objective.student_temperature / objective.teacher_temperature[0]
    assert budget["ratio"] == ratio and found["gain"] == pytest.approx(ratio * found["icc"])
    assert found["low"] <= found["icc"] + 0.05 and found["icc"] <= found["high"] + 0.05
    corrupted = rows["globals as planned, corrupted"]
    assert corrupted["planned"] is (objective.cls_student == "corrupted")
    assert corrupted["icc"] < found["icc"]


def test_doctor_gives_plain_json_and_a_page_of_text(cohort: Cohort) -> None:
    found = doctor(cohort.path, SMOKE)
    json.dumps(found, allow_nan=False)
    text = render(found)
    for word in ("Machine", "Plan", "included", "memory", "disk", "View budget", "gain"):
        assert word in text
    assert max(map(len, text.splitlines())) < 160


def test_a_cohort_that_does_not_fit_is_said_so_without_failing(tmp_path: Path) -> None:
    volumes = np.random.default_rng(0).random((2, 8, 8, 8), dtype=np.float32)
    people = pd.DataFrame({"scan_id": ["a", "b"]})
    small = write_cohort(tmp_path / "c", Contract(size=8), volumes, people)
    found = doctor(small.path, SMOKE)
    assert found["cohort"]["fits_preset"] is False and found["views"] is None
    assert "size=" in found["cohort"]["problem"] and "Does not fit" in render(found)
    told = CliRunner().invoke(app, ["doctor", str(small.path), "--preset", "smoke"])
    assert told.exit_code == 3 and "Does not fit" in told.stdout


def test_without_a_cohort_it_plans_for_a_hundred_scans() -> None:
    found = doctor(None, SMOKE)
    assert found["plan"]["scans"] == 100 and found["cohort"] is None and found["views"] is None
    assert "every hundred" in render(found)


def test_a_missing_cohort_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CohortError):
        doctor(tmp_path / "nowhere", SMOKE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [["batch_size=4"], ["batch_size=8", "checkpointing=true"]],
    ids=["kept", "checkpointing"],
)
def test_predicted_memory_is_what_a_run_takes(tmp_path: Path, settings: list[str]) -> None:
    """The probe and a whole ``pretrain``, each in a fresh process.

    Freed blocks go back to the system at once there. As it is, glibc keeps what threads happen to
    leave between two blocks: eight equal runs of this size took 410 to 479 MB.
    """
    config = load_pretrain(
        "smoke",
        [
            "precision=fp32", "views.global_size=48", "views.local_size=24", "views.locals=2",
            "views.downsample=1", "accumulate=1", "epochs=1", *settings,
            "model.patch_size=8", "model.width=128", "model.depth=6", "model.heads=4",
            "model.mlp=512",
        ],
    )  # fmt: skip
    rng = np.random.default_rng(0)
    people = pd.DataFrame({"scan_id": [f"s{i}" for i in range(24)]})
    volumes = (rng.random((64,) * 3, dtype=np.float32) for _ in range(24))
    cohort = write_cohort(tmp_path / "c", Contract(size=64, synthetic=True), volumes, people)
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    found = {}
    for what in ("plan", "run"):
        command = [sys.executable, str(Path(__file__).with_name("peak_child.py"))]
        done = subprocess.run(
            [*command, what, str(cohort.path), str(file)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20)},
        )
        found[what] = int(done.stdout.split()[-1])
    if found["run"] < 0:
        pytest.skip("this system doesn't tell a process's peak memory")
    assert abs(found["plan"] - found["run"]) < 0.1 * found["run"]


def test_peak_memory_sees_a_large_array() -> None:
    memory = PeakMemory(torch.device("cpu"))
    block = torch.ones(50_000_000)  # 200 MB
    del block
    peak = memory.peak()
    if peak is None:
        pytest.skip("this system doesn't tell a process's peak memory")
    assert 150e6 < peak < 400e6
