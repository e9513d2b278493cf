"""Commands that do many stages in one: study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volta3d.cli.app import FOUND, app, example, say
from volta3d.errors import UsageError


@app.command(epilog=example("volta3d study tiny.yaml --out study-out"))
def study(
    study: Annotated[
        str, typer.Argument(metavar="STUDY.yaml", help="A file, or: paper, ablations, small, ...")
    ],
    out: Annotated[Path, typer.Option(help="The study's folder, new or to go on in.")],
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Where a cohort's scans are; repeatable."),
    ] = None,
    scale: Annotated[
        str, typer.Option(help="One of the study's own scales; paper has tiny, to try it out.")
    ] = "",
) -> None:
    """Cohorts, encoders, arms and tables in one command; stopped at any time, it goes on."""
    from volta3d.study import study as run

    result = run(study, out, sources=sources(source or []), scale=scale, say=say)
    for note in result.found:
        say(f"Worth a look: {note}")
    if result.failed:
        raise typer.Exit(1)
    say(f"{result.out / 'RESULTS.md'}\n{result.report}")
    if result.found:
        raise typer.Exit(FOUND)


def sources(texts: list[str]) -> dict[str, str]:
    """``NAME=FOLDER`` texts as a mapping.

    Raises:
        UsageError: a text of another form.
    """
    found = {}
    for text in texts:
        name, separator, folder = text.partition("=")
        if not (name and separator and folder):
            raise UsageError("--source takes NAME=FOLDER", where=text, fix="Write NAME=FOLDER")
        found[name] = folder
    return found
