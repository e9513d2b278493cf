"""Hippocampi outlined on hand-drawn labels, and the tables on docs/RESULTS.md.

Run: python benchmarks/segmentation.py COHORT --work DIR --arm NAME=SPEC... [--name msd] [--folds 5]
     [--preset small] [--set KEY=VALUE]...

``volta3d segment``, ``evaluate`` and ``report`` on artefacts in DIR. A killed run goes on, several
processes share one. No figure is typed by hand. ``--name`` is the part of the page.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from claims import machine
from pretraining import volta3d
from results_page import publish_part

from volta3d.cohort.store import Cohort
from volta3d.config import parse_yaml, read_yaml
from volta3d.files import read_json
from volta3d.progress import duration
from volta3d.study.tables import segmentation, table


def page(cohort: Path, run: Path, command: str) -> str:
    """The part of docs/RESULTS.md."""
    metrics = read_json(run / "metrics.json")
    config = parse_yaml(read_yaml(run / "config.yaml"), where=run / "config.yaml")
    people = Cohort.open(cohort).participants
    names, found = ", ".join(sorted(set(people["dataset"]))), machine()
    settings = config["settings"]
    saw = {name: about.get("pretraining_saw") for name, about in config["arms"].items()}
    told = "; ".join(f"{name}: {what}" for name, what in saw.items() if what)
    text = [
        f"## Segmentation on {names}, preset `{settings['preset']}`",
        f"Command: `{command}`",
        f"Machine: {found['processor']}, {found['cores']} cores. {len(people)} scans of "
        f"{people['participant_id'].nunique()} people; folds by person, the same for all arms. "
        f"{settings['epochs']} epochs for every arm; the epoch that is kept: "
        f"{metrics.get('selection', settings['selection'])}. What pretraining saw: "
        f"{told or 'no arm was pretrained'}. Scored in the scans' own space; intervals are 95 % "
        "bootstrap intervals over subjects.",
        *segmentation(metrics),
        "Training, all folds together, on a machine that did other things too:",
        _times(run),
    ]
    return "\n\n".join(text)


def _times(run: Path) -> str:
    steps: dict[str, int] = {}
    seconds: dict[str, float] = {}
    for file in sorted((run / "jobs").glob("*.json")):
        record: dict[str, Any] = read_json(file)["record"]
        steps[record["arm"]] = steps.get(record["arm"], 0) + record["steps"]
        seconds[record["arm"]] = seconds.get(record["arm"], 0.0) + record["seconds"]
    rows = [[arm, steps[arm], duration(seconds[arm])] for arm in steps]
    return table(["arm", "optimiser steps", "time"], rows)


def main() -> None:
    """Parse, run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arm", action="append", required=True)
    parser.add_argument("--name", default="msd")
    parser.add_argument("--folds", default="5")
    parser.add_argument("--preset", default="small")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    given = parser.parse_args()
    run = given.work / given.name
    resume = ["--resume"] if (run / "config.yaml").exists() else []
    arms = [word for arm in given.arm for word in ("--arm", arm)]
    settings = [word for one in given.settings for word in ("--set", one)]
    volta3d(
        "segment", str(given.cohort), *arms, "--folds", given.folds, "--preset", given.preset,
        *settings, "--out", str(run), *resume,
    )  # fmt: skip
    volta3d("evaluate", str(run))
    missing = read_json(run / "metrics.json").get("not_scored")
    if missing:
        raise SystemExit(f"{len(missing)} label maps are not there yet; run this again later")
    report = given.work / f"{given.name}-report"
    volta3d("report", str(run), "--cohort", str(given.cohort), "--out", str(report))
    command = shlex.join(["python", "benchmarks/segmentation.py", *sys.argv[1:]])
    publish_part(given.name, page(given.cohort, run, command))


if __name__ == "__main__":
    main()
