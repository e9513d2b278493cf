"""Names of files and folders: spelled once, in the order of docs/reference/artefacts.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from volta3d import artefacts

SOURCE = Path(artefacts.__file__).parent
FILES = sorted(p for p in SOURCE.rglob("*.py") if p.name != "artefacts.py")
NAMES = {value for name, value in vars(artefacts).items() if name.isupper()}
# Rooms that still spell names themselves: take one out when it imports artefacts instead.
SPELL_STILL = {
    "cli", "cohort", "downstream", "encoder", "evaluate", "inspection",
    "ledger", "phantom", "prepare", "pretrain", "report", "study",
}  # fmt: skip


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
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    own = spelled(path.read_text(encoding="utf-8"))
    assert room in SPELL_STILL or own == set(), "import them from volta3d.artefacts"


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
