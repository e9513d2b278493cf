"""The losses of twenty steps, as they were when the numbers were last looked at.

A change of the method that nobody meant shows here. Where one is meant, write the numbers anew with
``python tests/pretrain/test_golden.py`` and say why in the commit.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.config import load_pretrain
from volta3d.pretrain.log import read_metrics
from volta3d.pretrain.loop import pretrain

GOLDEN = Path(__file__).with_name("golden.json")
STEPS = 20
NAMES = ("loss", "reconstruction", "cls", "patch", "teacher_entropy")
SETTINGS = ("epochs=10", "precision=fp32", "device=cpu", "monitor.every_epochs=10")


def twenty_steps(folder: Path, *settings: str) -> list[dict[str, float]]:
    """The losses of a run of preset smoke on eight scans of blobs, fp32."""
    rng = np.random.default_rng(0)
    coarse = rng.random((8, 4, 4, 4), dtype=np.float32)
    volumes = coarse.repeat(8, 1).repeat(8, 2).repeat(8, 3)
    people = pd.DataFrame({"scan_id": [f"s{i}" for i in range(8)], "dataset": "blobs"})
    cohort = write_cohort(folder / "cohort", Contract(size=32, synthetic=True), volumes, people)
    config = load_pretrain("smoke", [*SETTINGS, *settings])
    pretrain([cohort.path], folder / "run", config)
    records = read_metrics(folder / "run" / "metrics.jsonl")
    return [{n: r[n] for n in NAMES} for r in records if r["kind"] == "step"]


def apart(found: list[dict[str, float]], golden: list[dict[str, float]]) -> float:
    """The largest relative difference of any loss of any step."""
    return max(
        abs(a[n] - b[n]) / abs(b[n]) for a, b in zip(found, golden, strict=True) for n in NAMES
    )


# Sums in another order change a loss by 1e-7 at first; AdamW, which divides by small second
# moments, and a teacher sharpened to a temperature of .02 let that grow: 5e-4 by step 20 with two
# threads instead of one, so ten times that is allowed for other processors.
TOLERANCE = 5e-3


@pytest.mark.filterwarnings("ignore")  # eight blobs ring alarms, which is not what is asked here
def test_R11_the_losses_of_twenty_steps_are_the_golden_ones(tmp_path: Path) -> None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = twenty_steps(tmp_path)
    assert len(found) == len(golden) == STEPS
    assert apart(found, golden) < TOLERANCE
    # and a change of the method is seen: a centre that moves a little faster
    changed = twenty_steps(tmp_path / "changed", "objective.center_momentum=0.85")
    assert apart(changed, golden) > 3 * TOLERANCE


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        rounded = [
            {n: float(f"{v:.7g}") for n, v in step.items()}
            for step in twenty_steps(Path(temporary))
        ]
    GOLDEN.write_text(json.dumps(rounded, indent=1) + "\n", encoding="utf-8")
