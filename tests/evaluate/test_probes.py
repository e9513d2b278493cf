"""``probe`` end to end on a tiny encoder and cohort."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import PretrainConfig, build
from volta3d.errors import EncoderError, UsageError
from volta3d.evaluate.probes import origin_warnings, probe
from volta3d.model.pair import build_pair
from volta3d.pretrain.encoder import save_encoder

SIZE, SCANS = 16, 30
CONTRACT = Contract(size=SIZE, spacing=8.0, synthetic=True)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    views = {"downsample": 2, "global_size": 8, "local_size": 4, "locals": 0}
    model = {"patch_size": 4, "width": 16, "depth": 1, "heads": 2, "mlp": 32, "prototypes": 8}
    small = {"summariser_heads": 2, "head_hidden": 8, "bottleneck": 8}
    config = build(PretrainConfig, {"views": views, "model": {**model, **small}})
    pair = build_pair(config.model, config.views.global_size, 7)  # not the weights of seed 0
    folder = tmp_path_factory.mktemp("encoder") / "encoder"
    save_encoder(folder, network=pair.teacher, config=config, contract=CONTRACT, card_facts={})
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Brightness grows with age, the foreground with being M; brain volume is unknown."""
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, SCANS)
    sex = np.where(np.arange(SCANS) % 2 == 0, "M", "F")
    volumes = rng.random((SCANS, SIZE, SIZE, SIZE), dtype=np.float32) * 0.2
    volumes += (0.1 + 0.6 * (age - 20) / 60)[:, None, None, None].astype(np.float32)
    head = np.where(sex == "M", 1.5e6, 1.3e6) + rng.normal(0, 2e4, SCANS)
    people = pd.DataFrame(
        {
            "scan_id": [f"s{i:02d}" for i in range(SCANS)],
            "participant_id": [f"p{i:02d}" for i in range(SCANS)],
            "dataset": "tiny",
            "sex": sex,
            "age": age,
            "foreground_mm3": head,
        }
    )
    folder = tmp_path_factory.mktemp("cohort") / "cohort"
    return write_cohort(folder, CONTRACT, np.clip(volumes, 0, 1), people)


@pytest.fixture(scope="module")
def table(encoder: Path, cohort: Cohort, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return probe(encoder, cohort.path)


def test_every_arm_and_target_is_there(table: pd.DataFrame) -> None:
    kinds = ("token", "mean", "regions")
    arms = {f"{name} {kind}" for name in ("trained", "untrained") for kind in kinds}
    arms.add("volume only")
    for column, metrics in (("sex", {"AUROC", "balanced accuracy"}), ("age", {"r", "R2", "MAE"})):
        own = table[table["column"] == column]
        assert set(own["features"]) == arms and set(own["metric"]) == metrics
        assert set(own["probe"]) == {"linear", "knn"} and set(own["n"]) == {SCANS}
    assert (table["low"] <= table["score"] + 1e-9).all()
    assert (table["score"] <= table["high"] + 1e-9).all()


def test_known_answers_are_found(table: pd.DataFrame) -> None:
    linear = table[table["probe"] == "linear"].set_index(["column", "features", "metric"])["score"]
    assert linear["age", "trained mean", "r"] > 0.8  # brightness
    assert linear["sex", "volume only", "AUROC"] > 0.95  # head size
    assert abs(linear["sex", "trained mean", "AUROC"] - 0.5) < 0.35  # nothing of sex in the voxels


def test_the_json_is_strict_and_complete(encoder: Path, cohort: Cohort, tmp_path: Path) -> None:
    out = tmp_path / "probes.json"
    table = probe(encoder, cohort.path, ["age"], out)

    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is not JSON")

    rows = json.loads(out.read_text(), parse_constant=refuse)
    assert len(rows) == len(table) and {r["column"] for r in rows} == {"age"}
    again = tmp_path / "again.json"
    probe(encoder, cohort.path, ["age"], again)
    assert again.read_bytes() == out.read_bytes()


def test_bad_targets_say_what_there_is(encoder: Path, cohort: Cohort) -> None:
    with pytest.raises(UsageError, match=r"No such column.*participant_id"):
        probe(encoder, cohort.path, ["agee"])
    with pytest.raises(UsageError, match="Too little to predict"):
        probe(encoder, cohort.path, ["diagnosis"])


def test_another_preparation_is_refused(encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    volumes = rng.random((12, 8, 8, 8), dtype=np.float32)
    people = pd.DataFrame({"scan_id": [str(i) for i in range(12)], "age": np.arange(12.0) + 20})
    other = write_cohort(tmp_path / "other", Contract(size=8, spacing=8.0), volumes, people)
    with pytest.raises((EncoderError, UsageError)):
        probe(encoder, other.path, ["age"])


def test_L8_the_data_set_of_origin_is_probed_and_warned_of(
    encoder: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    """Two data sets, one brighter than the other; a third cohort where they are the same."""
    rng = np.random.default_rng(1)
    second = np.arange(SCANS) % 2 == 1
    people = pd.DataFrame(
        {
            "scan_id": [f"s{i:02d}" for i in range(SCANS)],
            "participant_id": [f"p{i:02d}" for i in range(SCANS)],
            "dataset": np.where(second, "one", "other"),
        }
    )
    noise = rng.random((SCANS, SIZE, SIZE, SIZE), dtype=np.float32) * 0.2
    brighter = noise + 0.5 * second[:, None, None, None].astype(np.float32)
    apart = probe(encoder, write_cohort(tmp_path / "apart", CONTRACT, brighter, people).path)
    assert set(apart["column"]) == {"dataset"}
    (line,) = origin_warnings(apart)
    assert "data set" in line and "AUROC 1.00" in line
    alike = probe(encoder, write_cohort(tmp_path / "alike", CONTRACT, noise, people).path)
    assert set(alike["column"]) == {"dataset"} and origin_warnings(alike) == []
    assert "dataset" not in set(table["column"])  # one alone is no question
