"""Sex from brains, arms compared with less and less data, and the tables on docs/RESULTS.md.

Run: python benchmarks/classification.py COHORT ENCODER --work DIR [--preset small] [--seeds N]

``volta3d classify``, ``evaluate`` and ``report`` on artefacts in DIR. A killed run goes on. No
figure is typed by hand.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml
from claims import machine
from pretraining import volta3d
from results_page import publish_part

from volta3d.cohort.store import Cohort
from volta3d.files import read_json
from volta3d.progress import duration
from volta3d.study.tables import classification, table

FRACTIONS = ".2,.6,1"


def arms(encoder: Path) -> list[str]:
    """What is compared: the encoder three ways, and what every such figure needs beside it."""
    given = (f"volta={encoder}", "vit=scratch", "swin=swin", f"linear=linear:{encoder}")
    return [word for arm in (*given, "volume=volume") for word in ("--arm", arm)]


def page(cohort: Path, run: Path, command: str) -> str:
    """The part of docs/RESULTS.md."""
    metrics = read_json(run / "metrics.json")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    found, settings = machine(), config["settings"]
    names = sorted(set(Cohort.open(cohort).participants["dataset"]))
    saw = {name: about["pretraining_saw"] for name, about in config["arms"].items()}
    told = "; ".join(f"{name}: {what}" for name, what in saw.items() if what != "none")
    where = f"{', '.join(names)}, preset `{settings['preset']}`"
    text = [
        f"## Classification: {config['target']} on {where}",
        f"Command: `{command}`",
        f"Machine: {found['processor']}, {found['cores']} cores. Seeds: {settings['seeds']}. "
        f"{settings['epochs']} epochs, batches of {settings['batch_size']}, the epoch chosen on "
        f"an inner validation part. What pretraining saw: {told or 'nothing'}. No label "
        "reached it, but brains it saw are not new to it.",
        "Volume alone is the measure: head size nearly tells the sex. Fractions are nested parts "
        "of the training part; the test folds are always the same.",
        *classification(metrics),
        "Seconds of training, all folds together, on a machine that did other things too:",
        _times(run),
    ]
    return "\n\n".join(text)


def _times(run: Path) -> str:
    taken: dict[tuple[str, float], float] = defaultdict(float)
    for file in sorted((run / "jobs").glob("*.json")):
        record: dict[str, Any] = read_json(file)["record"]
        taken[record["arm"], record["fraction"]] += record["seconds"]
    shares = sorted({fraction for _, fraction in taken})
    rows = [
        [arm, *(duration(taken[arm, share]) for share in shares)]
        for arm in dict.fromkeys(arm for arm, _ in taken)
    ]
    return table(["arm", *(f"{100 * share:g} %" for share in shares)], rows)


def main() -> None:
    """Parse, run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohort", type=Path)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--seeds", type=int, help="that of classify when not given")
    given = parser.parse_args()
    run = given.work / "sex"
    resume = ["--resume"] if (run / "config.yaml").exists() else []
    seeds = ["--seeds", str(given.seeds)] if given.seeds else []
    volta3d(
        "classify", str(given.cohort), "--target", "sex", *arms(given.encoder),
        "--fractions", FRACTIONS, *seeds, "--preset", given.preset, "--out", str(run), *resume,
    )  # fmt: skip
    volta3d("evaluate", str(run))
    volta3d("report", str(run), "--cohort", str(given.cohort), "--out", str(given.work / "report"))
    command = (
        f"python benchmarks/classification.py {given.cohort} {given.encoder} --work {given.work} "
        + " ".join(["--preset", given.preset, *seeds])
    )
    publish_part("classification", page(given.cohort, run, command))


if __name__ == "__main__":
    main()
