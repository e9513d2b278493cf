"""What the headline may claim, and what not."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from volta3d.report.evidence import Probe
from volta3d.report.figures_probes import gain_text, interval_text
from volta3d.report.runfolder import Run, read_run
from volta3d.report.tables_probes import gain_table
from volta3d.report.verdict import comparisons, health, limits_of, probe_lead


def probe(features: str, score: float, half: float = 0.05, **more: Any) -> Probe:
    """A row of the probe table."""
    row: dict[str, Any] = {"column": "age", "probe": "linear", "metric": "r", "n": 100, **more}
    return Probe(features=features, score=score, low=score - half, high=score + half, **row)


def gained(score: float, low: float, high: float, **more: Any) -> Probe:
    """A trained row with a paired gain."""
    gain = {"gain": (low + high) / 2, "gain_low": low, "gain_high": high}
    return probe("trained token", score, **{**gain, **more})


def state(*rows: Probe) -> tuple[str | None, str | None]:
    """Against the untrained encoder, and against the volumes."""
    [found] = comparisons(rows)
    return found.answers[0].untrained, found.answers[0].volume


def test_a_paired_gain_decides_even_where_intervals_overlap() -> None:
    before = probe("untrained token", 0.50)
    assert state(gained(0.55, 0.01, 0.09), before)[0] == "good"
    assert state(gained(0.55, -0.01, 0.11), before)[0] == "unclear"
    assert state(gained(0.45, -0.09, -0.01), before)[0] == "bad"


def test_of_an_error_less_is_better() -> None:
    before = probe("untrained token", 14.0, metric="MAE")
    assert state(gained(13.0, -1.5, -0.5, metric="MAE"), before)[0] == "good"
    assert state(gained(15.0, 0.5, 1.5, metric="MAE"), before)[0] == "bad"
    volume = probe("volume only", 14.0, metric="MAE")
    assert state(probe("trained token", 13.0, metric="MAE"), volume) == (None, "good")


def test_without_a_gain_intervals_must_not_touch() -> None:
    trained = probe("trained token", 0.60)
    assert state(trained, probe("untrained token", 0.49))[0] == "good"
    assert state(trained, probe("untrained token", 0.51))[0] == "unclear"
    assert state(trained, probe("untrained token", math.nan))[0] == "unclear"


def test_features_are_compared_with_the_same_pooling_only() -> None:
    assert state(probe("trained token", 0.9), probe("untrained mean", 0.1))[0] is None


def test_the_volumes_are_named_when_they_know_more() -> None:
    rows = [
        gained(0.8, 0.1, 0.2),
        probe("untrained token", 0.65),
        probe("volume only", 0.95, half=0.02),
    ]
    [sentence] = probe_lead(comparisons(rows))
    assert "better than the untrained encoder on age" in sentence
    assert "worse than head and brain volume alone on age" in sentence


def test_the_headline_metric_is_fixed_beforehand() -> None:
    """R2 and nearest neighbours that look better never take the place of r, linear."""
    rows = [
        probe("trained token", 0.99, metric="R2"),
        probe("trained token", 0.99, probe="knn"),
        probe("trained token", 0.10),
    ]
    [found] = comparisons(rows)
    assert [row.score for row in found.rows] == [0.10]


def test_chance_follows_the_number_of_classes() -> None:
    row = probe("trained token", 0.5, metric="balanced accuracy", kind="4 classes")
    assert row.chance == pytest.approx(0.25)
    assert probe("trained token", 0.5, metric="balanced accuracy").chance is None
    assert probe("trained token", 0.5, metric="AUROC", kind="4 classes").chance == 0.5


def test_small_numbers_carry_no_minus_of_a_zero() -> None:
    row = probe("trained token", 0.08, gain=-0.001, gain_low=-0.004, gain_high=0.2)
    assert gain_text(row) == "0.00 [0.00, 0.20]"
    assert interval_text(probe("trained token", -0.001, half=0.1)) == "0.00 [\u22120.10, 0.10]"


def test_a_row_of_the_gain_table_stands_beside_its_baselines() -> None:
    rows = [
        gained(0.55, 0.01, 0.09),
        probe("trained mean", 0.52, gain=0.0, gain_low=-0.1, gain_high=0.1),
        probe("untrained token", 0.50),
        probe("untrained mean", 0.51),
        probe("volume only", 0.40),
    ]
    table = gain_table(rows)
    assert [row[3:6] for row in table.rows] == [
        ("token", "0.55 [0.50, 0.60]", "0.50 [0.45, 0.55]"),
        ("mean", "0.52 [0.47, 0.57]", "0.51 [0.46, 0.56]"),
    ]
    assert {row[7] for row in table.rows} == {"0.40 [0.35, 0.45]"}
    assert table.strong == {0}


@pytest.fixture(scope="module")
def collapsed(fabricate: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose information stays near 0."""
    folder = tmp_path_factory.mktemp("collapsed") / "run"
    return read_run(fabricate.write_run(folder, collapsed=True))


def test_a_collapse_stands_in_the_headline(collapsed: Run) -> None:
    found = health(collapsed)
    assert (found.state, found.title) == ("bad", "Collapsed")
    assert "the teacher says the same of every scan" in found.sentence


def test_a_living_run_does_not(made: dict[str, Path]) -> None:
    assert health(read_run(made["run"])).title == "Not collapsed"


@pytest.mark.parametrize(
    ("bottleneck", "title"), [("standardised", "Not collapsed"), ("plain", "Features degenerate")]
)
def test_a_high_cosine_condemns_only_a_plain_bottleneck(
    made: dict[str, Path], bottleneck: str, title: str
) -> None:
    run = read_run(made["run"])
    run.raw["objective"]["bottleneck"] = bottleneck
    run.epochs[-1]["mean_cosine"] = 0.999
    assert health(run).title == title


def test_warnings_are_told_and_are_no_collapse(made: dict[str, Path]) -> None:
    run = read_run(made["run"])
    run.epochs[-1]["effective_rank"] = 9.0
    run.epochs[-1]["gradient_norms"] = {"cls": 0.001, "patch": 1.0}
    end = {"kind": "alarm", "name": "knn_token", "step": run.epochs[-1]["step"]}
    found = health(Run(**{**vars(run), "alarms": [*run.alarms, end]}))
    assert (found.state, found.title) == ("good", "Not collapsed")
    assert "last record: cls to patch gradient, effective rank, knn token." in found.sentence
    assert "none rings now" not in found.sentence


def test_a_rank_below_two_condemns(made: dict[str, Path]) -> None:
    run = read_run(made["run"])
    run.epochs[-1]["effective_rank"] = 1.5
    assert health(run).title == "Features degenerate"


def test_the_figures_draw_the_limits_that_ring() -> None:
    assert [value for value, _ in limits_of("teacher_entropy")] == [0.1, 0.98]
    assert [value for value, _ in limits_of("effective_rank")] == [2.0]
    assert [value for value, _ in limits_of("information")] == [0.05]


def test_few_scans_prove_nothing(made: dict[str, Path]) -> None:
    run = read_run(made["run"])
    few = Run(**{**vars(run), "scans": 12})
    assert health(few).state == "unclear"
    assert "only 12 scans" in health(few).sentence


def test_before_training_nothing_is_claimed(made: dict[str, Path]) -> None:
    run = read_run(made["run"])
    assert health(Run(**{**vars(run), "epochs": run.epochs[:1]})).title == "Not known yet"
    assert health(Run(**{**vars(run), "epochs": []})).title == "Not known yet"


def test_a_step_written_twice_counts_once(made: dict[str, Path], tmp_path: Path) -> None:
    """After a crash and a resume the later record of a step holds."""
    run = tmp_path / "run"
    run.mkdir()
    records = [(1, 5.0), (2, 4.0), (3, 9.0), (3, 3.0), (4, 2.0)]
    lines = [f'{{"kind": "step", "step": {s}, "cls": {v}}}\n' for s, v in records]
    (run / "metrics.jsonl").write_text("".join(lines))
    steps, values = read_run(run).step_series("cls")
    np.testing.assert_array_equal(steps, [1, 2, 3, 4])
    np.testing.assert_array_equal(values, [5, 4, 3, 2])
