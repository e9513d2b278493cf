"""Pretrain on a folder of scans, probe the encoder, and put what came out on docs/RESULTS.md.

Run: python benchmarks/pretraining.py SOURCE --work DIR [--preset small] [--workers 2]

Every step is a command of volta3d on artefacts in DIR; what is there already is used, so a killed
run goes on and the page can be written anew without training again. No figure is typed by hand.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from results_page import publish_part

from volta3d.files import read_json
from volta3d.pretrain.log import read_metrics


def volta3d(*arguments: str) -> None:
    """Run one command; 3 means finished with something found, which the page shows."""
    print("volta3d", *arguments, flush=True)
    code = subprocess.run([sys.executable, "-m", "volta3d", *arguments], check=False).returncode
    if code not in (0, 3):
        raise SystemExit(code)


def run_all(source: Path, work: Path, preset: str, workers: int) -> None:
    """The pipeline, each stage skipped when its artefact is there."""
    cohort, run = work / "cohort", work / "run"
    volta3d("prepare", str(source), "--out", str(cohort), "--workers", str(workers))
    if not (run / "encoder" / "config.json").exists():
        resume = ["--resume"] if (run / "config.yaml").exists() else []
        volta3d("pretrain", str(cohort), "--out", str(run), "--preset", preset, *resume)
    encoder = str(run / "encoder")
    if not (work / "features.parquet").exists():
        volta3d("embed", encoder, str(cohort), "--out", str(work / "features.parquet"))
    if not (work / "probes.json").exists():
        volta3d("probe", encoder, str(cohort), "--out", str(work / "probes.json"))


def page(source: Path, work: Path, preset: str) -> str:
    """The part of docs/RESULTS.md."""
    run = work / "run"
    records = read_metrics(run / "metrics.jsonl")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    environment, cohort = read_json(run / "environment.json"), read_json(run / "cohort.json")
    steps = [r for r in records if r["kind"] == "step"]
    seconds = sum(
        config["batch_size"] * config["accumulate"] / r["scans_per_second"] for r in steps
    )
    datasets = ", ".join(d for c in cohort["cohorts"] for d in c["datasets"])
    scans = sum(c["scans"] for c in cohort["cohorts"])
    prototypes = config["model"]["prototypes"]
    alarms = sorted({r["name"] for r in records if r["kind"] == "alarm"})
    command = f"python benchmarks/pretraining.py {source} --work results --preset {preset}"
    text = [
        f"## Pretraining on {datasets}: {scans} scans, preset `{preset}`",
        "",
        f"Command: `{command}`",
        "",
        f"Machine: {environment['processor']}, {environment['threads']} threads, "
        f"{environment['precision']}; torch {environment['packages'].get('torch')}. "
        f"Seed {config['seed']}. {len(steps)} optimiser steps in {seconds / 60:.0f} minutes of "
        f"training (monitors apart, other work on the machine). Data hash "
        + ", ".join(f"`{c['hash']}`" for c in cohort["cohorts"])
        + ".",
        "",
        f"Collapse alarms: **{', '.join(alarms) or 'none'}**. A collapsed teacher has information "
        f"0 (alarm below .05 nat) and a CLS loss at ln K = {math.log(prototypes):.3f}.",
        "",
        "| epoch | step | information (nat) | H(p)/ln K | prototypes used | CLS loss "
        "| effective rank | ICC | masked MSE "
        f"| probe {_column(records)}, token | probe {_column(records)}, mean |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *_monitor_rows(records, steps),
        "",
        "CLS loss and masked MSE are means over the 16 steps before; probes are the ones watched "
        "while training (five-fold, linear, all scans). The last row's encoder is probed below.",
        "",
        "### What the features know",
        "",
        "Cross-validated by subject; intervals are 95 % bootstrap intervals over subjects. "
        "`untrained` is the same network with the weights the run started from; `gain` is the "
        "paired difference to it on the same subjects and folds. `volume only` is a model of "
        "the head's volume and, where a parcellation gives it, the brain's: sex is nearly solved "
        "by head size, so no score on sex counts that stays below it.",
        "",
        "| column | probe | features | metric | score | 95 % | gain | 95 % of the gain | n |",
        "|---|---|---|---|---|---|---|---|---|",
        *_probe_rows(read_json(work / "probes.json")),
        "",
    ]
    return "\n".join(text)


def _column(records: list[dict[str, Any]]) -> str:
    found = [r["probe"]["column"] for r in records if r["kind"] == "epoch" and r.get("probe")]
    return found[-1] if found else "none"


def _number(value: object, digits: int = 2) -> str:
    return f"{value:.{digits}f}" if isinstance(value, int | float) else "undefined"


def _probe(record: dict[str, Any], which: str) -> str:
    scores = record.get("probe", {}).get(which) or {}
    return ", ".join(f"{k} {_number(v)}" for k, v in scores.items()) or "undefined"


def _monitor_rows(records: list[dict[str, Any]], steps: list[dict[str, Any]]) -> list[str]:
    rows = []
    for r in (r for r in records if r["kind"] == "epoch"):
        near = [s for s in steps if r["step"] - 16 < s["step"] <= r["step"]]
        cls = sum(s["cls"] for s in near) / len(near) if near else None
        mse = sum(s["reconstruction"] for s in near) / len(near) if near else None
        cells = [
            str(r["epoch"]),
            str(r["step"]),
            _number(r["information"]),
            _number(r["teacher_entropy"]),
            str(r["prototypes_used"]),
            _number(cls) if near else "",
            _number(r["effective_rank"], 1),
            _number(r["icc"]),
            _number(mse, 4) if near else "",
            _probe(r, "token"),
            _probe(r, "mean"),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return rows


def _probe_rows(rows: list[dict[str, Any]]) -> list[str]:
    shown = []
    for r in rows:
        if r["metric"] not in ("AUROC", "r", "MAE"):
            continue
        gain, gained = "", ""
        if r.get("gain") is not None:
            gain = f"{r['gain']:+.3f}"
            gained = f"{r['gain_low']:+.2f} to {r['gain_high']:+.2f}"
        cells = [
            *(r[k] for k in ("column", "probe", "features", "metric")),
            _number(r["score"], 3),
            f"{_number(r['low'])} to {_number(r['high'])}",
            gain,
            gained,
            str(r["n"]),
        ]
        shown.append("| " + " | ".join(cells) + " |")
    return shown


def main() -> None:
    """Parse, run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    run_all(given.source, given.work, given.preset, given.workers)
    publish_part("pretraining", page(given.source, given.work, given.preset))


if __name__ == "__main__":
    main()
