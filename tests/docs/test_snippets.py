"""What the documentation tells a reader to type is typed here, and answers as it says.

A block after ``<!-- run -->`` must end with exit code 0, after ``<!-- run: 0 or 3 -->`` with one of
those. In a ```console block lines after ``$ `` are commands; the others must stand in the answer in
this order, ``…`` for whatever stands between.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from volta3d.cli import main

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
BLOCK = re.compile(
    r"<!-- run(?:: (?P<codes>[0-9 or]+))? -->\n+```(?P<kind>console|python)\n(?P<text>.*?)```",
    re.DOTALL,
)
FIRST = "tutorial/first-figure.md"
PAGES = [FIRST, *sorted(str(p.relative_to(DOCS)) for p in (DOCS / "how-to").glob("*.md"))]


@dataclass(frozen=True)
class Command:
    """A line to type, and what must stand in the answer."""

    words: list[str]
    answer: list[str]


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(shlex.split(line[2:]), []))
        elif line.strip():
            found[-1].answer.append(line)
    return found


def stands_in(answer: list[str], given: str) -> bool:
    """Whether the parts between ellipses follow each other in what was printed."""
    place = 0
    given = " ".join(given.split())
    for part in "\n".join(answer).split("…"):
        part = " ".join(part.split())
        found = given.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return True


def typed(words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code and what was printed; ``volta3d`` runs in this process, which is faster."""
    capfd.readouterr()
    if words[0] == "python":
        done = subprocess.run([sys.executable, *words[1:]], check=False, timeout=200)
        return done.returncode, "".join(capfd.readouterr())
    assert words[0] == "volta3d", f"cannot run {words[0]}"
    try:
        main(words[1:])
    except SystemExit as end:
        code = end.code
        return (code if isinstance(code, int) else 0), "".join(capfd.readouterr())
    return 0, "".join(capfd.readouterr())


def test_answers_are_compared() -> None:
    assert stands_in(["a 1", "…", "b"], "a  1\nother\nb\n")
    assert not stands_in(["a 1", "…", "b"], "b\na 1\n")
    assert not stands_in(["run/encoder: trained for 30 steps"], "run/encoder: trained for 3 steps")


def test_the_important_pages_have_something_to_run() -> None:
    counted = {page: len(BLOCK.findall((DOCS / page).read_text("utf-8"))) for page in PAGES}
    assert counted[FIRST] >= 6
    for name in ("own-scans", "own-labels", "resume", "choose-a-preset", "out-of-memory"):
        assert counted[f"how-to/{name}.md"], name


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_snippets_do_what_the_page_says(
    page: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if page != FIRST and not (desk / "run" / "encoder").is_dir():
        pytest.skip("the tutorial comes first, and it did not finish")
    monkeypatch.chdir(desk)
    names: dict[str, object] = {}
    for block in BLOCK.finditer((DOCS / page).read_text(encoding="utf-8")):
        allowed = {int(c) for c in re.findall(r"\d", block["codes"] or "0")}
        if block["kind"] == "python":
            exec(compile(block["text"], page, "exec"), names)
            continue
        for command in commands(block["text"]):
            code, printed = typed(command.words, capfd)
            line = shlex.join(command.words)
            assert code in allowed, f"{line}: {code}\n{printed}"
            assert stands_in(command.answer, printed), f"{line}\n{printed}"
            assert "Traceback" not in printed


TREE = re.compile(r"<!-- tree: (?P<at>\S+) -->\n```\n(?P<text>.*?)```", re.DOTALL)


def paths(text: str) -> dict[str, bool]:
    """The patterns of a drawn tree, and whether each is a folder that is not looked into."""
    found: dict[str, bool] = {}
    parents: list[str] = []
    for line in text.splitlines():
        name = line.strip().split("  ")[0].split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], name.rstrip("/")]
        found["/".join(parents[1:])] = name.endswith("/")
    found.pop("", None)
    return {
        pattern: folder
        for pattern, folder in found.items()
        if not (folder and any(other.startswith(pattern + "/") for other in found))
    }


@pytest.mark.slow
@pytest.mark.parametrize("at", ["cohort", "run", "run/encoder", "report"])
def test_artefacts_are_drawn_as_they_are(at: str, desk: Path) -> None:
    """Everything drawn is there, and everything there is drawn."""
    if not (desk / "report").is_dir():
        pytest.skip("the tutorial did not finish")
    text = (DOCS / "reference" / "artefacts.md").read_text(encoding="utf-8")
    (drawn,) = [m["text"] for m in TREE.finditer(text) if m["at"] == at]
    wanted = paths(drawn)
    files = [p for p in (desk / at).rglob("*") if p.is_file() and p.name != ".lock"]
    made = {p.relative_to(desk / at).as_posix() for p in files}
    for pattern, folder in wanted.items():
        fitting = {m for m in made if re.fullmatch(_regex(pattern, folder), m)}
        assert fitting, f"{pattern} is not there: {sorted(made)[:40]}"
        made -= fitting
    assert made == set()


def _regex(pattern: str, folder: bool) -> str:
    text = re.escape(pattern).replace(r"\*", "[^/]+")
    return text + "/.+" if folder else text
