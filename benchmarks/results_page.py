"""docs/RESULTS.md: parts that scripts write, each replacing its own and leaving the others.

Run: python benchmarks/results_page.py STUDY_FOLDER
puts the tables of a finished study on the page, as the study wrote them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from volta3d.files import write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "RESULTS.md"
HEAD = (
    "# Results\n\nEvery part is written by the command it names; don't edit. Scans used to test are"
    " never used to choose anything."
)
ORDER = (
    "pretraining", "classification", "msd", "msd-arms", "miccai2012", "study", "near-duplicates",
)  # fmt: skip
PART = re.compile(r"<!-- part: ([\w-]+) -->\n(.*?)\n<!-- end -->", re.DOTALL)


def publish_part(name: str, text: str, page: Path = PAGE) -> None:
    """Put a part on the page, in its place among the others.

    Raises:
        ValueError: a name that ORDER doesn't have.
    """
    if name not in ORDER:
        raise ValueError(name)
    known = dict(PART.findall(page.read_text(encoding="utf-8"))) if page.is_file() else {}
    known[name] = text.strip()
    parts = [f"<!-- part: {n} -->\n{known[n]}\n<!-- end -->" for n in ORDER if n in known]
    write_text(page, "\n\n".join([HEAD, *parts]) + "\n")
    print(page)


def lowered(text: str) -> str:
    """Markdown with every heading one level further down."""
    return re.sub(r"^#", "##", text, flags=re.MULTILINE)


if __name__ == "__main__":
    publish_part("study", lowered((Path(sys.argv[1]) / "RESULTS.md").read_text(encoding="utf-8")))
