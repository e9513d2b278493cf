"""Names of files and folders: spelled once, in the order of docs/reference/artefacts.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from volta3d import artefacts

SOURCE = Path(artefacts.__file__).parent
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.name != "artefacts.py")
NAMES = {value for name, value in vars(artefacts).items() if name.isupper()}
# Files that still spell names themselves: take a line out when its file imports artefacts instead.
SPELL_STILL = set(
    """
    cli/downstream.py
    cli/scans.py
    cli/segmentation.py
    cli/training.py
    cli/whole.py
    cohort/arrays.py
    cohort/store.py
    demo/run.py
    demo/tasks.py
    downstream/arms.py
    downstream/classification/classify.py
    downstream/classification/folder.py
    downstream/classification/predict_scores.py
    downstream/classification/predictions.py
    downstream/classification/trial.py
    downstream/segmentation/checkpoint.py
    downstream/segmentation/gather.py
    downstream/segmentation/job.py
    downstream/segmentation/labelmap_files.py
    downstream/segmentation/predictions.py
    downstream/segmentation/segment.py
    encoder/load.py
    encoder/weights.py
    evaluate/classification/score.py
    evaluate/classification/told.py
    evaluate/segmentation/labelsets.py
    evaluate/segmentation/outlines.py
    evaluate/segmentation/score.py
    evaluate/segmentation/subjects.py
    evaluate/segmentation/summary.py
    inspection/inspect.py
    inspection/task.py
    ledger.py
    phantom/bids.py
    phantom/generate.py
    prepare/assemble.py
    prepare/brainmask.py
    prepare/layouts/bids.py
    prepare/layouts/bids_labels.py
    prepare/layouts/bids_names.py
    prepare/layouts/caps.py
    prepare/layouts/folder.py
    pretrain/checkpoint.py
    pretrain/encoder.py
    pretrain/log.py
    pretrain/loop.py
    pretrain/monitor.py
    pretrain/run.py
    report/figures_attention.py
    report/labels_shown.py
    report/page.py
    report/runfolder.py
    report/sections_shared.py
    report/sections_tasks.py
    report/task_run.py
    study/jobs.py
    study/run.py
    study/summary.py
    study/tables.py
    """.split()
)


def spelled(code: str) -> set[str]:
    """Names of artefacts written out in code; a word such as "model" only as a part of a path."""
    tree = ast.parse(code)
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)} & NAMES
    parts = {
        side.value
        for n in ast.walk(tree)
        if isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div)
        for side in (n.left, n.right)
        if isinstance(side, ast.Constant)
    }
    return {t for t in texts if "." in t} | (parts & NAMES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_names_of_artefacts_stand_in_one_file(path: Path) -> None:
    own = spelled(path.read_text(encoding="utf-8"))
    if path.relative_to(SOURCE).as_posix() in SPELL_STILL:
        assert own, "it spells none any more: take it out of SPELL_STILL"
    else:
        assert own == set(), "import them from volta3d.artefacts"


def test_a_name_written_out_is_noticed() -> None:
    assert spelled('run / "config.yaml"') == {"config.yaml"}
    assert spelled('NAME = "metrics.jsonl"') == {"metrics.jsonl"}
    assert spelled('run / "arms" / arm') == {"arms"}
    assert spelled('content["arms"]') == set()


def test_no_name_stands_twice() -> None:
    values = [value for name, value in vars(artefacts).items() if name.isupper()]
    assert len(values) == len(NAMES)


def test_folders_of_an_arm() -> None:
    assert artefacts.arm_folder(Path("run"), "vit") == Path("run/arms/vit")
    assert artefacts.model_folder(Path("run"), "vit") == Path("run/arms/vit/model")
