"""A fabricated run folder: nothing here was trained, every number comes from a formula."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import write_cohort
from volta3d.config import PretrainConfig, load_pretrain
from volta3d.report import report

EPOCHS, PER_EPOCH, SCANS = 40, 16, 124
PROTOTYPES = 256


def head(size: int, seed: int) -> np.ndarray:
    """A head-like blob [size, size, size] in [0, 1] with skull, cortex and ventricles."""
    draws = np.random.default_rng(seed)
    axes = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(axes, axes, axes, indexing="ij")
    stretch = 1 + 0.06 * draws.normal(size=3)
    r = np.sqrt((x / 0.7 / stretch[0]) ** 2 + (y / 0.85 / stretch[1]) ** 2 + (z / 0.75) ** 2)
    brain = 0.55 + 0.25 * np.cos(9 * x) * np.cos(8 * y) * np.cos(8 * z) + 0.05 * x
    volume = np.where(r < 0.9, brain, np.where(r < 1.0, 0.95, 0.0))
    ventricle = (np.abs(np.abs(x) - 0.12) < 0.06) & (np.abs(y) < 0.35) & (np.abs(z - 0.1) < 0.2)
    volume = np.where(ventricle, 0.15, volume) + 0.02 * draws.normal(size=volume.shape)
    clipped: np.ndarray = np.clip(volume, 0, 1).astype(np.float32)
    return clipped


def config_of(**changes: Any) -> PretrainConfig:
    """The small preset with as many epochs and prototypes as the fabricated metrics have."""
    settings = [f"epochs={EPOCHS}", f"model.prototypes={PROTOTYPES}", "monitor.every_epochs=2"]
    return load_pretrain("small", [*settings, *(f"{k}={v}" for k, v in changes.items())])


def metrics(collapsed: bool = False) -> list[dict[str, Any]]:
    """Step, epoch and alarm records that look like a run that dips, then lives (or does not)."""
    draws = np.random.default_rng(0)
    config, total = config_of(), EPOCHS * PER_EPOCH
    log_k, records = math.log(PROTOTYPES), [_epoch(0, collapsed, draws)]
    for step in range(1, total + 1):
        t = step / total
        alive = 0.0 if collapsed else 1 / (1 + math.exp(-9 * (t - 0.55)))
        rec = 0.016 + 0.15 * math.exp(-8 * t) + 0.002 * draws.normal()
        cls = log_k - 0.005 - 1.15 * alive + 0.03 * draws.normal()
        koleo = 3 * math.exp(-5 * t)
        patch = 5.4 - 3.5 * (1 - math.exp(-3 * t)) + 0.04 * draws.normal()
        records.append(
            {
                "kind": "step",
                "step": step,
                "epoch": step / PER_EPOCH,
                "loss": 100 * rec + cls + patch,
                "reconstruction": rec,
                "reconstruction_foreground": 1.7 * rec,
                "cls": cls,
                "patch": patch,
                "gradient_norm": float(np.exp(0.5 + 0.3 * draws.normal())),
                "koleo": koleo,
                "cls_weight": min(max(0.0, (t - 0.1) / 0.2), 1.0),
                "lr": config.lr * min(t / 0.1, 0.5 + 0.5 * math.cos(math.pi * (t - 0.1) / 0.9)),
                "weight_decay": 0.1 - 0.06 * (0.5 + 0.5 * math.cos(math.pi * t)),
                "momentum": 1 - 0.004 * (0.5 + 0.5 * math.cos(math.pi * t)),
                "teacher_temperature": 0.02,
                "scans_per_second": 1.9 + 0.05 * draws.normal(),
            }
        )
        if step % (2 * PER_EPOCH) == 0:
            record = _epoch(step // PER_EPOCH, collapsed, draws)
            records.append(record)
            if record["information"] < 0.05:
                alarm = {"kind": "alarm", "name": "information", "value": record["information"]}
                alarm |= {"limit": 0.05, "what": "the teacher says the same of every scan"}
                records.append({**alarm, "step": step, "epoch": record["epoch"]})
    return records


def _epoch(epoch: int, collapsed: bool, draws: np.random.Generator) -> dict[str, Any]:
    t = epoch / EPOCHS
    alive = 0.0 if collapsed else 1 / (1 + math.exp(-10 * (t - 0.5)))
    information = 0.02 + 0.25 * math.exp(-25 * t) + 1.6 * alive
    return {
        "kind": "epoch",
        "step": epoch * PER_EPOCH,
        "epoch": epoch,
        "information": information,
        "teacher_entropy": 0.985 - 0.5 * alive if not collapsed else 0.995,
        "mean_entropy": 0.99 - 0.1 * alive,
        "prototypes_used": int(20 + 150 * alive),
        "feature_std": 0.1 + 0.5 * alive,
        "effective_rank": 4 + 14 * alive - 2 * math.exp(-((t - 0.2) ** 2) / 0.01),
        "mean_cosine": 0.985 - 0.4 * alive,
        "bottleneck_cosine": 0.97 - 0.5 * alive,
        "icc": 0.05 + 0.45 * alive,
        "center_norm": 0.4 + alive,
        "gradient_norms": {
            "reconstruction": 1.5 * math.exp(-t),
            "cls": 0.04 + 0.5 * alive,
            "patch": 0.9,
        },
        "probe": {
            "column": "age",
            "token": {
                "r": 0.36 - 0.1 * math.exp(-((t - 0.15) ** 2) / 0.01) + 0.2 * alive,
                "n": 124,
            },
            "mean": {"r": 0.31 + 0.16 * alive + 0.01 * draws.normal(), "n": 124},
        },
    }


def write_run(
    folder: Path,
    *,
    size: int = 16,
    patch: int = 4,
    synthetic: bool = True,
    pictures: bool = True,
    **changes: Any,
) -> Path:
    """A run folder as ``pretrain`` leaves it, small; without pictures it is drawn sooner."""
    (folder / "pictures").mkdir(parents=True)
    collapsed = bool(changes.pop("collapsed", False))
    lines = "".join(json.dumps(record) + "\n" for record in metrics(collapsed))
    (folder / "metrics.jsonl").write_text(lines)
    (folder / "config.yaml").write_text(config_of(**changes).to_yaml())
    environment: dict[str, Any] = {
        "volta3d": "0.1.0",
        "python": "3.11",
        "packages": {"torch": "2.13.0"},
    }
    environment |= {"device": "cpu", "threads": 2, "precision": "32-true"}
    (folder / "environment.json").write_text(json.dumps(environment))
    cohort = {"path": "cohort", "hash": "0123456789abcdef", "scans": SCANS, "datasets": ["phantom"]}
    cohort |= {"synthetic": synthetic, "quarantined": 2}
    (folder / "cohort.json").write_text(json.dumps({"cohorts": [cohort], "scan_ids": []}))
    if pictures:
        volumes = np.stack([head(size, seed) for seed in range(3)])
        write_pictures(folder / "pictures", volumes, patch)
    (folder / "encoder").mkdir()
    (folder / "encoder" / "model.safetensors").write_bytes(b"stand-in")
    contract = {"contract": Contract(synthetic=synthetic).content()}
    (folder / "encoder" / "config.json").write_text(json.dumps(contract))
    return folder


def write_pictures(folder: Path, volumes: np.ndarray, patch: int) -> None:
    """Reconstructions that sharpen over epochs, and patch tokens made of local statistics."""
    draws = np.random.default_rng(1)
    n, size = volumes.shape[:2]
    grid = size // patch
    mask = np.repeat(draws.random((n, grid, grid, grid)) < 0.5, patch, 1)
    mask = np.repeat(np.repeat(mask, patch, 2), patch, 3)
    for epoch, blur in ((0, 0.0), (10, 0.3), (20, 0.6), (40, 0.9)):
        mean = volumes.mean(axis=0, keepdims=True)
        rebuilt = blur * volumes + (1 - blur) * mean + 0.03 * draws.normal(size=volumes.shape)
        tensors = {
            "input": volumes,
            "corrupted": np.where(mask, 0, volumes).astype(np.float32),
            "rebuilt": rebuilt.astype(np.float32),
            "mask": mask.astype(np.uint8),
        }
        save_file(tensors, folder / f"reconstruction-epoch-{epoch}.safetensors")
    blocks = volumes.reshape(n, grid, patch, grid, patch, grid, patch)
    place = np.linspace(-1, 1, grid)
    where = np.stack(np.meshgrid(np.abs(place), place, place, indexing="ij"), -1)
    facts = [blocks.mean(axis=(2, 4, 6)), 3 * blocks.std(axis=(2, 4, 6))]
    facts += [np.broadcast_to(0.3 * where[..., i], facts[0].shape) for i in range(3)]
    tokens = np.stack(facts, -1).reshape(n, grid**3, 5) @ draws.normal(size=(5, 24))
    tokens = (tokens + 0.05 * draws.normal(size=tokens.shape)).astype(np.float32)
    save_file({"volume": volumes, "tokens": tokens}, folder / "patch-tokens.safetensors")


def people(count: int = SCANS) -> pd.DataFrame:
    """A participants table with two sites, three diagnoses and a few unknowns."""
    draws = np.random.default_rng(2)
    table = pd.DataFrame({"scan_id": [f"phantom_sub-{i:03d}" for i in range(count)]})
    table["participant_id"] = table["scan_id"]
    table["dataset"] = "phantom"
    table["site"] = draws.choice(["north", "south"], count)
    table["sex"] = draws.choice(["M", "F", ""], count, p=[0.48, 0.48, 0.04])
    table["age"] = draws.uniform(20, 86, count).round(1)
    table["diagnosis"] = draws.choice(["control", "atrophy", "mild"], count, p=[0.6, 0.2, 0.2])
    return table


def write_embeddings(path: Path, table: pd.DataFrame) -> Path:
    """Features that know age and a little sex."""
    draws = np.random.default_rng(3)
    width = 12
    age = (table["age"].to_numpy() - 50) / 20
    sex = (table["sex"] == "M").to_numpy(float)
    site = (table["site"] == "north").to_numpy(float)
    signal = np.outer(age, draws.normal(size=width)) + np.outer(sex, draws.normal(size=width))
    signal += 0.4 * np.outer(site, draws.normal(size=width))
    token = signal + 0.7 * draws.normal(size=signal.shape)
    table = table.copy()
    for i in range(width):
        table[f"token_{i}"] = token[:, i].astype(np.float32)
        table[f"mean_{i}"] = token[:, i].astype(np.float32)
    table.to_parquet(path)
    return path


def probe_rows() -> list[dict[str, Any]]:
    """Probe scores: age clearly better, sex within the uncertainty."""
    rows: list[dict[str, Any]] = []
    for column, kind, metric, scores in (
        ("age", "number", "r", {"trained": (0.71, 0.07), "untrained": (0.41, 0.12)}),
        ("sex", "2 classes", "AUROC", {"trained": (0.81, 0.08), "untrained": (0.76, 0.08)}),
    ):
        for probe in ("linear", "knn"):
            less = 0.0 if probe == "linear" else 0.06
            entries = [
                (f"{who} {pooling}", score - less - (0.03 if pooling == "mean" else 0.0), half)
                for who, (score, half) in scores.items()
                for pooling in ("token", "mean")
            ]
            entries.append(("volume only", 0.3 if metric == "r" else 0.74, 0.09))
            for features, score, half in entries:
                row: dict[str, Any] = {
                    "column": column,
                    "kind": kind,
                    "features": features,
                    "probe": probe,
                }
                row |= {"metric": metric, "score": score, "low": score - half}
                if features.startswith("trained"):
                    gain = scores["trained"][0] - scores["untrained"][0]
                    row |= {"gain": gain, "gain_low": gain - 0.1, "gain_high": gain + 0.1}
                rows.append({**row, "high": score + half, "n": 120})
    return rows


def write_small_cohort(path: Path, *, synthetic: bool = True, text: str = "") -> Path:
    """Three tiny scans with a quarantine table."""
    table = people(3)
    table["findings"] = ["", "sex-unknown", "sex-unknown;spike"]
    if text:
        table[["site", "sex", "diagnosis", "findings"]] = text
    refused = pd.DataFrame(
        {
            "source": ["sub-901_T1w.nii.gz", text or "sub-902_T1w.nii.gz"],
            "code": ["crc", "empty"],
            "what": ["The compressed data fail their checksum", text or "The file is empty"],
            "how_to_fix": ["Copy the file again", "Export the scan again"],
        }
    )
    contract = Contract(size=8, synthetic=synthetic)
    volumes = [head(8, i) for i in range(3)]
    write_cohort(path, contract, volumes, table, quarantine=refused)
    return path


def write_classification(
    folder: Path, *, target: str = "sex", arms: tuple[str, ...] = ("volta", "scratch", "volume")
) -> Path:
    """A scored run of ``classify``: the first arm knows most, predictions drawn from a formula."""
    from volta3d.downstream.classification.predictions import PREDICTIONS, write_predictions
    from volta3d.evaluate.classification.score import evaluate_predictions

    folder.mkdir(parents=True)
    draws, people, rows = np.random.default_rng(4), 60, []
    truth = np.arange(people) % 2
    for rank, arm in enumerate(arms):
        for fraction in (0.5, 1.0):
            for seed in (0, 1):
                strength = 2.4 * fraction - 0.9 * rank
                logits = strength * (truth - 0.5) + draws.normal(size=people)
                for person in range(people):
                    row = {"arm": arm, "fraction": fraction, "seed": seed, "fold": person % 3}
                    row |= {"scan_id": f"s{person:02d}", "subject": f"p{person:02d}"}
                    row |= {"target": "FM"[truth[person]], "threshold": 0.5, "baseline": math.nan}
                    row |= {"score": float(1 / (1 + np.exp(-logits[person]))), "epoch": 3}
                    rows.append(row)
    declared = {
        arm: {"kind": "volume" if arm == "volume" else "vit", "tune": "last",
              "encoder_sha256": "ab" if rank == 0 else "", "pretraining_saw": "none"}
        for rank, arm in enumerate(arms)
    }  # fmt: skip
    about = {"kind": "classification", "target": target, "labels": ["F", "M"], "folds": 3}
    about |= {"folds_hash": "f0", "synthetic": True, "arms": declared, "dropped": 2}
    write_predictions(folder / PREDICTIONS, pd.DataFrame(rows), about)
    settings = {"folds": 3, "epochs": 5, "lr": 1e-4, "weight_decay": 1e-5, "batch_size": 8}
    settings |= {"epoch": "inner", "seeds": 2}
    config = {"command": "classify", "kind": "classification", "target": target}
    config |= {"software": "volta3d 0.1.0", "arms": declared, "settings": settings}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    for arm in arms:
        (folder / "arms" / arm).mkdir(parents=True)
        records = [
            {"kind": "epoch", "epoch": e, "loss": 0.7 / (1 + e), "inner_loss": 0.8 / (1 + e)}
            for e in range(5)
        ]
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "arms" / arm / "metrics.jsonl").write_text(lines)
    evaluate_predictions(folder, resamples=200)
    return folder


def write_segmentation(folder: Path, arms: tuple[str, ...] = ("unet", "volta")) -> Path:
    """A scored run of ``segment`` without its label maps: ``unet`` misses one structure."""
    from volta3d.evaluate.segmentation.score import plain
    from volta3d.evaluate.segmentation.summary import summarise

    folder.mkdir(parents=True)
    draws, rows = np.random.default_rng(5), []
    for case in range(12):
        for arm, level in (("unet", 0.80), ("volta", 0.87)):
            if arm not in arms:
                continue
            for structure in ("left", "right"):
                missed = (case, arm, structure) == (3, "unet", "left")
                dice = 0.0 if missed else float(level + 0.02 * draws.normal())
                distance = math.nan if missed else float(3 * (1 - level) + 0.2 * draws.random())
                row = {"arm": arm, "case": f"sub-{case:02d}", "subject": f"p{case:02d}"}
                row |= {"structure": structure, "status": "missed" if missed else "ok"}
                row |= {"dice": dice, "hd95_mm": distance, "msd_mm": distance / 3}
                row |= {"reference_mm3": 3000.0 + case, "mm3": 0.0 if missed else 2900.0}
                rows.append({**row, "resampled": False})
    cases = pd.DataFrame(rows)
    cases.to_csv(folder / "cases.tsv", sep="\t", index=False)
    declared = {"volta": {"kind": "unetr", "tune": "full", "encoder_sha256": "ab"}}
    declared["unet"] = {"kind": "unet", "tune": "", "encoder_sha256": ""}
    config: dict[str, Any] = {"command": "segment", "kind": "segmentation", "synthetic": True}
    config |= {"selection": "the reported scans themselves, as in the paper: OPTIMISTIC"}
    config |= {"split": {"holdout": 0.2}, "folds_hash": "f1", "arms": declared}
    config |= {"settings": {"epochs": 5, "lr": 1e-4, "weight_decay": 1e-5, "batch_size": 2}}
    (folder / "config.yaml").write_text(json.dumps(config))
    problem = {"arm": "unet", "case": "sub-99", "what": "It has no label map"}
    summary = {"kind": "segmentation", "selection": config["selection"], "synthetic": True}
    summary |= {"structures": ["left", "right"], **summarise(cases), "not_scored": [problem]}
    (folder / "metrics.json").write_text(json.dumps(plain(summary)))
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One full report and everything it was made from."""
    root = tmp_path_factory.mktemp("report")
    paths = {"run": write_run(root / "run"), "probes": root / "probes.json"}
    paths["probes"].write_text(json.dumps(probe_rows()))
    paths["embeddings"] = write_embeddings(root / "features.parquet", people())
    paths["cohort"] = write_small_cohort(root / "cohort")
    given = {name: paths[name] for name in ("embeddings", "probes", "cohort")}
    paths["index"] = report([paths["run"]], root / "out", **given)
    return paths


@pytest.fixture(scope="session")
def fabricate() -> ModuleType:
    """This module, for tests that need other pieces than ``made``."""
    spec = importlib.util.spec_from_file_location("fabricated_run", __file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
