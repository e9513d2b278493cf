"""Whatever the code cites can be opened: sections of METHOD.md, equations, ids of PROMISES.md."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
METHOD = (ROOT / "docs" / "METHOD.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^## (\d+) ", METHOD, re.MULTILINE))
EQUATIONS = set(re.findall(r"\*\*Equation (\d+)\.\*\*", METHOD))
PROMISES = re.findall(
    r"^- \*\*([A-Z]\d+)\*\*", (ROOT / "docs" / "PROMISES.md").read_text("utf-8"), re.MULTILINE
)
CITED = re.compile(r"METHOD(?:\.md)?,?\s+(?:sections?\s+)?((?:\d+(?:,\s+|\s+and\s+|\s+to\s+)?)+)")
EQUATION = re.compile(r"\bequations?\s+((?:\d+(?:,\s+|\s+and\s+|\s+to\s+)?)+)")
KEPT = re.compile(r"def test_((?:[A-Z]\d{1,2}_)+)")


def texts() -> list[tuple[str, str]]:
    paths = [
        path
        for folder in ("src", "tests", "benchmarks", "docs")
        for kind in ("*.py", "*.yaml", "*.md")
        for path in sorted((ROOT / folder).rglob(kind))
        if "_build" not in path.parts and "generated" not in path.parts
    ]
    return [(str(p.relative_to(ROOT)), p.read_text(encoding="utf-8")) for p in paths]


def cited(pattern: re.Pattern[str]) -> set[tuple[str, str]]:
    """(file, number) for all numbers in a citation."""
    return {
        (name, number)
        for name, text in texts()
        for numbers in pattern.findall(re.sub(r"\s*\n\s*#?\s*", " ", text))
        for number in re.findall(r"\d+", numbers)
    }


def test_every_section_of_the_method_that_is_cited_is_there() -> None:
    wanted = cited(CITED)
    assert len(wanted) > 40  # the pattern sees citations at all
    assert {(f, n) for f, n in wanted if n not in SECTIONS} == set()


def test_every_equation_that_is_cited_is_there() -> None:
    assert {"1", "2", "3", "4", "5", "6"} == EQUATIONS
    wanted = {(f, n) for f, n in cited(EQUATION) if f.startswith(("src", "tests"))}
    assert len(wanted) > 5
    assert {(f, n) for f, n in wanted if n not in EQUATIONS} == set()


def test_every_promise_that_a_test_names_is_there_and_each_stands_once() -> None:
    assert len(PROMISES) == len(set(PROMISES))
    named = {
        (name, promise)
        for name, text in texts()
        if name.startswith("tests")
        for ids in KEPT.findall(text)
        for promise in ids.strip("_").split("_")
    }
    assert len({promise for _, promise in named}) > 100
    assert {(f, p) for f, p in named if p not in PROMISES} == set()
