"""Commands on scans and what is made of them: prepare, inspect, audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from volta3d.cli.app import FOUND, Set, app, example, note, say
from volta3d.config.prepare import LAYOUT_NAMES
from volta3d.progress import Steps


@app.command(epilog=example("volta3d prepare my-bids --out cohort --workers 2 --set size=48"))
def prepare(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Folders of scans.")],
    out: Annotated[Path, typer.Option(help="The cohort folder to make or complete.")],
    layout: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(sorted(LAYOUT_NAMES))}; detected if left out."),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="A CSV, TSV or Excel file with sex, age, ... per subject or file."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    dask: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Of a Dask scheduler, e.g. tcp://host:8786.")
    ] = "",
    pseudonyms: Annotated[
        Path | None,
        typer.Option(
            metavar="KEYFILE",
            help="Hide names of people and files behind hashes with this key, which is made if "
            "missing and must lie outside the cohort.",
        ),
    ] = None,
    assignments: Set = None,
) -> None:
    """Raw scans to a cohort: one orientation, spacing, cube and intensity range, checked."""
    from volta3d.config import PrepareConfig, build
    from volta3d.prepare import prepare as run

    config = build(PrepareConfig, {}, assignments or [])
    with Steps("prepare", "scans") as steps:
        result = run(
            sources,
            out,
            layout=layout,
            table=table,
            workers=workers,
            dask=dask,
            pseudonyms=pseudonyms,
            config=config,
            progress=steps,
        )
    say(
        f"{result.cohort}: {result.prepared} scans prepared, {result.skipped} there already, "
        f"{result.quarantined} quarantined"
    )
    if result.formats:
        note("Read from other formats: " + _counted(result.formats))
    if result.warned:
        say(
            f"{result.warned} of {result.prepared + result.skipped} scans have warnings, most "
            f"often {_counted(result.warnings, 3)}; see {result.cohort / 'qc' / 'index.html'}"
        )
    unread = result.findings.get("table-fits-nobody", 0)
    if unread:
        say(
            f"The table of people fits none of {unread} scans, so their age and sex are unknown: "
            f"see {result.cohort / 'qc' / 'findings.tsv'}."
        )
    if result.quarantined:
        say(f"Left out: {_counted(result.reasons)}")
        say(f"See {result.cohort / 'quarantine.tsv'} for reasons and ways to fix them.")
        raise typer.Exit(FOUND)


def _counted(counts: dict[str, int], most: int = 8) -> str:
    """The commonest of what was counted, as ``3 other-format, 1 unreadable``."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = [f"{sum(n for _, n in ordered[most:])} others"] if len(ordered) > most > 3 else []
    return ", ".join([*(f"{n} {name}" for name, n in ordered[:most]), *more])


@app.command(epilog=example("volta3d inspect cohort --json"))
def inspect(
    path: Annotated[Path, typer.Argument(help="A cohort, run, encoder or scan.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """What is this, and is it sound?"""
    from volta3d.inspection.inspect import inspect as run
    from volta3d.inspection.inspect import render

    found = run(path)
    say(json.dumps(found, indent=2, default=str) if as_json else render(found))
    if not found.get("sound", True):
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d audit cohort --out audit.json"))
def audit(
    cohorts: Annotated[list[Path], typer.Argument(metavar="COHORT...", help="Prepared cohorts.")],
    out: Annotated[Path | None, typer.Option(help="A JSON file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """People and images that cohorts share; sites by cohort. Exit code 3 if any are shared."""
    from volta3d.cohort.audit import audit as run

    with Steps("audit", "scans") as steps:
        found = run(cohorts, out=out, progress=steps)
    say(json.dumps(found.content(), indent=2) if as_json else found.text())
    if found.found:
        raise typer.Exit(FOUND)
