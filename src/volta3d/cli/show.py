"""Commands for a person who wants to see something: demo, report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volta3d.cli.app import app, example, say


@app.command(epilog=example("volta3d demo --out demo-out --quick --subjects 24 --epochs 2"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "demo-out"
    ),
    quick: Annotated[
        bool, typer.Option(help="A minute and a half: it runs, but learns little.")
    ] = False,
    subjects: Annotated[int | None, typer.Option(help="Synthetic people.", min=20)] = None,
    epochs: Annotated[int | None, typer.Option(help="Pretraining epochs.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Processes for preparation.", min=1)] = 2,
) -> None:
    """Synthetic brains through the whole pipeline to a report, on a CPU, in about six minutes."""
    from volta3d.demo import demo as run

    summary = run(out, subjects=subjects, epochs=epochs, quick=quick, workers=workers, say=say)
    say(summary.text())


@app.command(epilog=example("volta3d report run --out report"))
def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of pretrain, classify, segment.")
    ],
    out: Annotated[Path, typer.Option(help="The report folder.")],
    embeddings: Annotated[Path | None, typer.Option(help="A table that embed wrote.")] = None,
    probes: Annotated[Path | None, typer.Option(help="A table that probe wrote.")] = None,
    cohort: Annotated[
        list[Path] | None,
        typer.Option(help="For quarantine, QC, and scans under label maps; repeatable."),
    ] = None,
) -> None:
    """Runs to one folder that opens in a browser, offline."""
    from volta3d.report import report as run

    index = run(runs, out, embeddings=embeddings, probes=probes, cohort=cohort)
    say(f"{index}")
