"""Methods paragraphs of downstream runs, written from their resolved settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from volta3d.report.style import number
from volta3d.report.task_run import TaskRun

KINDS = {
    "vit": "the 3D vision transformer",
    "swin": "a Swin transformer [@swin]",
    "linear": "a linear model on the frozen encoder's features",
    "volume": "head and brain volume alone",
    "unetr": "a UNETR [@unetr]",
    "unet": "a 3D U-Net [@unet]",
}


def task_methods(run: TaskRun) -> list[str]:
    """The paragraph, with citations as ``[@key]``; [] before a run is scored."""
    if run.elsewhere and run.arms:
        return [_elsewhere(run)]
    settings = run.config.get("settings")
    if not isinstance(settings, Mapping) or not run.arms:
        return []
    write = _segmented if run.kind == "segmentation" else _told
    return [write(run, _reader(settings))]


def _reader(settings: Mapping[str, Any]) -> Callable[[str], str]:
    def said(name: str) -> str:
        value = settings.get(name)
        return value if isinstance(value, str) else number(value, 6, trim=True)

    return said


def _told(run: TaskRun, said: Callable[[str], str]) -> str:
    people = number(run.metrics.get("subjects"))
    classes = [str(label) for label in run.metrics.get("labels", [])]
    what = f"{run.target} ({' against '.join(classes)})" if classes else run.target
    text = (
        f"For {what} the arms {_arms(run)} were compared on {people} participants by "
        f"{said('folds')}-fold cross-validation, stratified and by participant, the same folds "
        f"for every arm. Networks were trained for {said('epochs')} epochs with AdamW [@adamw], "
        f"learning rate {said('lr')}, weight decay {said('weight_decay')}, batch size "
        f"{said('batch_size')}; "
    )
    text += (
        "the epoch was chosen on a validation part inside each training part. "
        if said("epoch") == "inner"
        else "the last epoch was used. "
    )
    fractions = sorted({float(r["fraction"]) for r in run.rows})
    if len(fractions) > 1:
        shares = ", ".join(f"{100 * f:g}" for f in fractions)
        text += (
            f"Reduced training parts of {shares} % were nested and stratified, with "
            f"{said('seeds')} seed(s). "
        )
    return text + _intervals(run)


def _elsewhere(run: TaskRun) -> str:
    classes = [str(label) for label in run.metrics.get("labels", [])]
    what = f"{run.target} ({' against '.join(classes)})" if classes else run.target
    return (
        f"Models of {what} that had been fitted elsewhere, {_arms(run)}, told of "
        f"{number(run.metrics.get('subjects'))} participants; labels were compared afterwards, and "
        "thresholds are those of the models. " + _intervals(run)
    )


def _intervals(run: TaskRun) -> str:
    tests = sorted({str(p["test"]) for p in run.metrics.get("comparisons", [])})
    text = (
        f"95 % intervals are percentiles over {number(run.metrics.get('resamples'))} resamples of "
        "participants"
    )
    if tests:
        text += f"; arms were compared by {', '.join(_cited(t) for t in tests)}, with Holm's "
        text += "correction [@holm]"
    return text + "."


def _cited(test: str) -> str:
    return test.replace("DeLong", "DeLong's test [@delong]", 1)


def _segmented(run: TaskRun, said: Callable[[str], str]) -> str:
    split = run.config.get("split") or {}
    way = (
        f"{split['folds']}-fold cross-validation by participant"
        if "folds" in split
        else f"a hold-out of {100 * float(split.get('holdout', 0)):g} % of the participants"
    )
    return (
        f"For {run.target} the arms {_arms(run)} were compared by {way}. Networks were trained for "
        f"{said('epochs')} epochs on crops with Dice and cross-entropy loss [@monai], AdamW "
        f"[@adamw], learning rate {said('lr')}, weight decay {said('weight_decay')}, batch size "
        f"{said('batch_size')}; the epoch was chosen on {run.config.get('selection', '?')}. Label "
        "maps were predicted by a sliding window, brought back to each scan's own space, and "
        "scored there by Dice and the 95th percentile of surface distances in mm; the background "
        "was left out. 95 % intervals are percentiles over resampled participants; arms were "
        "compared by Wilcoxon's signed rank test on participants with Holm's correction [@holm]."
    )


def _arms(run: TaskRun) -> str:
    declared = run.config.get("arms") or {}
    words = []
    for name in run.arms:
        known = declared.get(name)
        about: Mapping[str, Any] = known if isinstance(known, Mapping) else {}
        kind = str(about.get("kind", ""))
        start = "pretrained" if about.get("encoder_sha256") else "untrained"
        tune = str(about.get("tune", ""))
        parts = [KINDS.get(kind, kind)]
        if kind in ("vit", "unetr"):
            parts += [start, *([f"{tune} tuning"] if tune and start == "pretrained" else [])]
        words.append(f"{name} ({', '.join(p for p in parts if p)})")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
