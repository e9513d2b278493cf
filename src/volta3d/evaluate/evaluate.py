"""``evaluate``: metrics from predictions alone, whatever kind of run they are from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volta3d.downstream.classification.predictions import PREDICTIONS, is_told
from volta3d.errors import UsageError, VoltaError
from volta3d.evaluate.classification.score import evaluate_predictions
from volta3d.evaluate.segmentation.arms import PREDICTIONS as LABELMAPS
from volta3d.evaluate.segmentation.score import evaluate_reference, evaluate_segmentation


def evaluate(
    runs: Sequence[Path | str],
    *,
    reference: Path | str | None = None,
    out: Path | str | None = None,
    labels: Any = None,
    target: str = "",
    people: Path | str | None = None,
) -> list[dict[str, Any]]:
    """Metrics of each run, also published as metrics.json in its folder.

    Args:
        runs: folders of ``classify`` or ``segment``, or prediction files of the first; folders of
            ``predict`` with scores, all together one set of metrics (a folder that is also a run is
            one of these where ``labels`` are given); with ``reference`` folders of
            label maps by anybody.
        reference: a folder of label maps that the others are scored against, in its own space.
        out: with ``reference``: a folder for metrics.json and cases.tsv; with folders of
            ``predict``: for predictions.parquet and metrics.json.
        labels: with ``reference``: which structures, as in the settings of ``segment``
            (hippocampus if not given); with folders of ``predict``: a table of known labels.
        people: with runs: a table with scan_id or participant_id and site, sex or age, or the
            cohort; scores by group of people are added.
        target: with folders of ``predict``: the table's column, if it isn't the models' target.

    Returns:
        What each metrics.json holds, in the order of ``runs``.

    Raises:
        VoltaError: a run without predictions, or with damaged ones.
        UsageError: nothing given, runs of different kinds, options that are not for them, or an
            ``out`` that holds something else.
    """
    if not runs:
        raise UsageError("Nothing to evaluate", fix="Name a run folder")
    if people is not None and (reference is not None or labels is not None):
        raise UsageError(
            "--people is for runs of classify and segment",
            where=people,
            fix="Leave it out, or name run folders alone",
        )
    if reference is not None:
        if target:
            raise UsageError(
                "--target is for folders of predict, and these are label maps",
                where=target,
                fix="Leave it out; --labels says which structures",
            )
        wanted = "hippocampus" if labels is None else labels
        return [evaluate_reference(reference, runs, out, wanted).summary]
    paths = [Path(run) for run in runs]
    absent = next((path for path in paths if not path.exists()), None)
    if absent is not None:
        raise VoltaError("No such run", where=absent, fix="Check the path")
    predicted = [
        path for path in paths if is_told(path) and (labels is not None or not _is_run(path))
    ]
    if predicted:
        if len(predicted) < len(paths):
            raise UsageError(
                "Folders of predict and other runs together",
                where=next(path for path in paths if path not in predicted),
                fix="Evaluate them apart",
            )
        from volta3d.evaluate.classification.external_validation import (
            evaluate_external,  # torch loads slowly
        )

        table = None if labels is None else Path(labels)
        return [evaluate_external(predicted, table, None if out is None else Path(out), target)]
    given = {"--labels": labels is not None, "--out": out is not None, "--target": bool(target)}
    if any(given.values()):
        raise UsageError(
            f"{' and '.join(name for name, there in given.items() if there)} would change nothing: "
            "a run knows its labels and keeps its metrics",
            where=paths[0],
            fix="Leave it out, or name folders of predict",
        )
    table = None if people is None else Path(people)
    return [_evaluate(path, table) for path in paths]


def _is_run(path: Path) -> bool:
    return (path / PREDICTIONS).is_file()


def _evaluate(run: Path, people: Path | None) -> dict[str, Any]:
    if run.is_file() or _is_run(run):
        return evaluate_predictions(run, people=people)
    if (run / LABELMAPS).is_dir():
        return evaluate_segmentation(run, people).summary
    raise VoltaError(
        "There are no predictions in this folder",
        where=run,
        fix="Name a run of volta3d classify or segment; if it was stopped, run that again with "
        "--resume",
    )
