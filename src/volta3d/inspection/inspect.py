"""What is this file or folder, and is it sound? Reads everything, changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import yaml

from volta3d.cohort.store import CONTRACT, QUARANTINE, Cohort
from volta3d.config import PretrainConfig, build
from volta3d.encoder.load import load_encoder
from volta3d.errors import VoltaError
from volta3d.inspection import task
from volta3d.prepare.checks import voxel_sizes
from volta3d.prepare.dicom import any_dicom
from volta3d.prepare.findings import Refused
from volta3d.prepare.formats import is_image
from volta3d.prepare.geometry import to_ras
from volta3d.prepare.image import read_image
from volta3d.prepare.layouts import discover
from volta3d.pretrain import checkpoint
from volta3d.pretrain.encoder import CARD, CONFIG, WEIGHTS
from volta3d.pretrain.log import read_metrics

Problem = dict[str, str]
SHOWN = 8  # problems of one kind that are named one by one


def inspect(path: Path | str) -> dict[str, Any]:
    """Find out what ``path`` is and check all of it.

    Args:
        path: a cohort, run, encoder or model folder, a checkpoint, a NIfTI scan, a table that
            ``embed`` or ``classify`` wrote, or a folder of raw scans.

    Returns:
        ``path``; ``kind``: cohort, run, task run, encoder, model, checkpoint, scan, features,
        predictions or scans; ``sound``: whether it can be used as it is; ``problems``: mappings
        with ``what``, ``where`` and ``fix``; ``facts``: what there is to know, plain JSON types.

    Raises:
        VoltaError: nothing is there, or nothing that volta3d knows.
    """
    path = Path(path)
    if not path.exists():
        raise VoltaError("Nothing is there", where=path, fix="Check the path")
    kind, examine = _kind(path)
    try:
        facts, problems = examine(path)
    except VoltaError as error:
        facts, problems = {}, [_problem(error)]
    return {
        "path": str(path),
        "kind": kind,
        "sound": not problems,
        "problems": problems,
        "facts": facts,
    }


Examination = tuple[dict[str, Any], list[Problem]]


def _kind(path: Path) -> tuple[str, Callable[[Path], Examination]]:
    if path.is_file():
        if is_image(path):
            return "scan", _scan
        if path.suffix == ".parquet" and task.is_predictions(path):
            return "predictions", task.predictions
        if path.suffix == ".parquet":
            return "features", _features
        if any_dicom(path):
            return "scans", _scans
        raise VoltaError(
            "Not a file that volta3d knows",
            where=path,
            fix="Name a .nii or .nii.gz scan, a DICOM zip, a .parquet of features, or a folder",
        )
    named = {p.name for p in path.iterdir()}
    if CONTRACT in named or {QUARANTINE, "volumes.zarr"} & named:
        return "cohort", _cohort
    if {"state.json", "optimizer.safetensors"} & named:
        return "checkpoint", _checkpoint
    if CONFIG in named and task.is_model(path):
        return "model", task.model
    if {CONFIG, WEIGHTS} & named:
        return "encoder", _encoder
    if "config.yaml" in named and task.is_task_run(path):
        return "task run", task.task_run
    if {"metrics.jsonl", "config.yaml", "checkpoints"} & named:
        return "run", _run
    return "scans", _scans


def _cohort(path: Path) -> Examination:
    cohort = Cohort.open(path)
    table, problems = cohort.participants, []
    for index, scan_id in enumerate(cohort.scan_ids):
        try:
            volume = cohort.volume(index)
            cohort.label(index)
        except VoltaError as error:
            problems.append(_problem(error) | {"where": scan_id})
            continue
        fix = "Prepare the cohort again; if it stays, leave the scan out"
        if not np.isfinite(volume).all():
            problems.append({"what": "Holds NaN or infinity", "where": scan_id, "fix": fix})
        elif volume.min() == volume.max():
            problems.append({"what": "Holds one value only", "where": scan_id, "fix": fix})
    contract = cohort.contract
    size = sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    facts: dict[str, Any] = {
        "scans": len(cohort),
        "participants": int(table["participant_id"].nunique()),
        "datasets": _counts(table["dataset"]),
        "sites": _counts(table["site"]),
        "sex": _counts(table["sex"]),
        "diagnosis": _counts(table["diagnosis"]),
        "age": _spread(table["age"]),
        "labelled": int((table["label_file"] != "").sum()),
        "quarantined": len(cohort.quarantine),
        "findings": _counts(table["findings"].str.split(";").explode()),
        "synthetic": contract.synthetic,
        "preparation": contract.preparation(),
        "software": contract.software,
        "hash": cohort.hash(),
        "megabytes": round(size / 1e6, 1),
    }
    return facts, problems


def _run(path: Path) -> Examination:
    problems: list[Problem] = []
    facts: dict[str, Any] = {}
    try:
        config = _run_config(path)
        facts |= {"preset": config.preset, "epochs": config.epochs, "seed": config.seed}
    except VoltaError as error:
        problems.append(_problem(error))
    records = read_metrics(path / "metrics.jsonl")
    steps = [r for r in records if r.get("kind") == "step"]
    epochs = [r for r in records if r.get("kind") == "epoch"]
    facts["step"] = steps[-1]["step"] if steps else 0
    facts["epoch"] = round(steps[-1]["epoch"], 2) if steps else 0
    facts["alarms"] = sorted({r["name"] for r in records if r.get("kind") == "alarm"})
    if epochs:
        kept = ("information", "teacher_entropy", "effective_rank", "icc", "mean_cosine", "probe")
        facts["monitors"] = {k: epochs[-1][k] for k in kept if k in epochs[-1]}
    bad = [s["step"] for s in steps if s.get("loss") is None]
    if bad:
        what = f"The loss is not finite at step {bad[0]}"
        fix = "Resume from the last checkpoint with a lower lr"
        problems.append({"what": what, "where": str(path / "metrics.jsonl"), "fix": fix})
    found = checkpoint.available(path / "checkpoints")
    facts["checkpoints"] = [p.name for p in found]
    for folder in found:
        problems += _checkpoint(folder)[1]
    encoder = path / "encoder"
    facts["finished"] = encoder.is_dir()
    if encoder.is_dir():
        facts["encoder"], more = _checked(_encoder, encoder)
        problems += more
    elif not found:
        fix = "Run the pretrain command again with --resume"
        problems.append({"what": "No checkpoint and no encoder", "where": str(path), "fix": fix})
    return facts, problems


def _run_config(path: Path) -> PretrainConfig:
    file = path / "config.yaml"
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise VoltaError(
            f"The run's configuration cannot be read: {error}", where=file, fix="Restore it"
        ) from error
    return build(PretrainConfig, content if isinstance(content, dict) else {})


def _checkpoint(path: Path) -> Examination:
    try:
        state, model, _ = checkpoint.read(path)
    except VoltaError as error:
        return {}, [_problem(error)]
    bad = [k for k, v in model.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    problems = [
        {"what": f"Weights are not finite: {name}", "where": str(path), "fix": "Use an earlier one"}
        for name in bad[:SHOWN]
    ]
    return {**state["progress"], "parameters": sum(v.numel() for v in model.values())}, problems


def _encoder(path: Path) -> Examination:
    loaded = load_encoder(path)
    content, problems = loaded.config, []
    parts = {"encoder": loaded.encoder, "summariser": loaded.summariser}
    for name, part in parts.items():
        for key, value in part.state_dict().items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                fix = "Restore the folder, or take an earlier checkpoint"
                what = f"Weights are not finite: {name}.{key}"
                problems.append({"what": what, "where": str(path), "fix": fix})
    if not (path / CARD).is_file():
        fix = "Restore it from a copy of the folder"
        problems.append(
            {"what": "The model card is missing", "where": str(path / CARD), "fix": fix}
        )
    known = content.get("facts", {})
    facts = {
        "preset": content.get("preset"),
        "parameters": content.get("parameters"),
        "model": content.get("model"),
        "image_size": loaded.image_size,
        "downsample": loaded.downsample,
        "preparation": loaded.contract.preparation(),
        "software": content.get("software"),
        "weights": loaded.report.text(),
        **{k: known.get(k) for k in ("scans", "datasets", "synthetic", "steps", "alarms")},
    }
    return facts, problems


def _scan(path: Path) -> Examination:
    try:
        image = read_image(path)
    except Refused as error:
        found = error.finding
        return {}, [{"what": found.what, "where": str(path), "fix": found.how_to_fix}]
    data = np.asarray(image.data)
    finite = data[np.isfinite(data)] if data.dtype.kind == "f" else data
    ras, _ = to_ras(np.empty(data.shape, np.bool_), image.affine)
    facts: dict[str, Any] = {
        "shape": list(data.shape),
        "voxel_mm": [round(float(v), 4) for v in voxel_sizes(image.affine)],
        "axes": "".join(_axes(image.affine)),
        "shape_ras": list(ras.shape),
        "type": str(data.dtype),
        "minimum": float(finite.min()) if finite.size else None,
        "maximum": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean(dtype=np.float64)) if finite.size else None,
        "not_finite": int(data.size - finite.size),
        "findings": [f.content() for f in image.findings],
    }
    return facts, []


def _axes(affine: np.ndarray) -> tuple[str, ...]:
    import nibabel as nib

    return tuple(str(a) for a in nib.aff2axcodes(affine))


def _scans(path: Path) -> Examination:
    found = discover(path)
    facts = {
        "scans": len(found.scans),
        "participants": len({s.participant_id for s in found.scans}),
        "labelled": sum(s.label is not None for s in found.scans),
        "first": [s.scan_id for s in found.scans[:SHOWN]],
    }
    problems = [
        {"what": f.what, "where": str(source), "fix": f.how_to_fix} for source, f in found.refused
    ]
    for scan in found.scans:
        if scan.series is None:  # DICOM series are judged while they are sorted
            problems += _scan(scan.source)[1]
    return facts, problems


def _features(path: Path) -> Examination:
    try:
        table = pd.read_parquet(path)
    except Exception as error:  # pyarrow has its own family of errors
        fix = "Write it again with volta3d embed"
        return {}, [{"what": f"Cannot be read: {error}", "where": str(path), "fix": fix}]
    problems = []
    features = [c for c in table if str(c).startswith(("token_", "mean_"))]
    bad = int((~np.isfinite(table[features].to_numpy(float)).all(axis=1)).sum())
    if bad:
        what, fix = f"The features of {bad} scans are not finite", "Embed these scans again"
        problems.append({"what": what, "where": str(path), "fix": fix})
    facts = {
        "scans": len(table),
        "features": len(features),
        "columns": [str(c) for c in table.columns if c not in features],
    }
    return facts, problems


def _checked(examine: Callable[[Path], Examination], path: Path) -> Examination:
    try:
        return examine(path)
    except VoltaError as error:
        return {}, [_problem(error)]


def _problem(error: VoltaError) -> Problem:
    return {"what": error.what, "where": error.where, "fix": error.fix}


def _counts(column: pd.Series) -> dict[str, int]:
    named = column.fillna("").astype(str)
    return {str(k): int(v) for k, v in named[named != ""].value_counts().items()}


def _spread(column: pd.Series) -> dict[str, float | int]:
    values = pd.to_numeric(column, errors="coerce").dropna()
    if not len(values):
        return {"known": 0}
    return {
        "known": len(values),
        "minimum": float(values.min()),
        "mean": round(float(values.mean()), 1),
        "maximum": float(values.max()),
    }


def render(found: dict[str, Any]) -> str:
    """The result of ``inspect`` for a person."""
    state = "sound" if found["sound"] else f"NOT sound, {len(found['problems'])} problems"
    lines = [f"{found['path']}: {found['kind']}, {state}"]
    for name, value in found["facts"].items():
        text = _text(value)
        if text:
            lines.append(f"  {name.replace('_', ' '):<16}{text}")
    for problem in found["problems"][:SHOWN]:
        lines.append(f"  ! {problem['what']} ({problem['where']}). {problem['fix']}.")
    more = len(found["problems"]) - SHOWN
    if more > 0:
        lines.append(f"  ! and {more} more; see --json")
    return "\n".join(lines)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_text(v)}" for k, v in value.items() if _text(v))
    if isinstance(value, list):
        return ", ".join(_text(v) for v in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else ""
    return "" if value is None else str(value)
