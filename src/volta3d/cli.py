"""The command line: parse, call the stage of the same name, print, exit with the agreed code.

Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 finished with something quarantined or found.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from volta3d import __version__
from volta3d.errors import VoltaError
from volta3d.progress import Steps

FOUND = 3
MAIN = ("AUROC", "r", "MAE")  # the metrics of a probe that are printed

app = typer.Typer(
    name="volta3d",
    help="Self-supervised pretraining of 3D transformers on brain MRI: scans in, encoder out.",
    epilog="Add --debug to any command for a traceback. Start with: volta3d demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable."),
]


def say(text: str) -> None:
    """Print to standard output as it is."""
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def example(command: str) -> str:
    """The epilogue of a command's help; a test runs these."""
    return f"Example: {command}"


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    if version:
        say(f"volta3d {__version__}")
        raise typer.Exit


@app.command(epilog=example("volta3d demo --out demo-out --subjects 12 --epochs 5"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "demo-out"
    ),
    subjects: Annotated[int, typer.Option(help="Synthetic subjects.", min=8)] = 120,
    epochs: Annotated[int | None, typer.Option(help="Pretraining epochs.", min=1)] = None,
    workers: Annotated[int, typer.Option(help="Processes for preparation.", min=1)] = 2,
) -> None:
    """Synthetic brains through the whole pipeline to a report, on a CPU, in minutes."""
    from volta3d.demo import demo as run

    summary = run(out, subjects=subjects, epochs=epochs, workers=workers, say=say)
    say(summary.text())


@app.command(epilog=example("volta3d prepare my-bids --out cohort --workers 2 --set size=128"))
def prepare(
    sources: Annotated[list[Path], typer.Argument(metavar="SOURCE...", help="Folders of scans.")],
    out: Annotated[Path, typer.Option(help="The cohort folder to make or complete.")],
    layout: Annotated[
        str | None, typer.Option(help="bids or folder; found out if left out.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 1,
    assignments: Set = None,
) -> None:
    """Raw scans to a cohort: one orientation, spacing, cube and intensity range, checked."""
    from volta3d.config import PrepareConfig, build
    from volta3d.prepare import prepare as run

    config = build(PrepareConfig, {}, assignments or [])
    with Steps("prepare", "scans") as steps:
        result = run(sources, out, layout=layout, workers=workers, config=config, progress=steps)
    say(
        f"{result.cohort}: {result.prepared} scans prepared, {result.skipped} there already, "
        f"{result.quarantined} quarantined"
    )
    if result.quarantined:
        say(f"See {result.cohort / 'quarantine.tsv'} for reasons and ways to fix them.")
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d inspect cohort --json"))
def inspect(
    path: Annotated[Path, typer.Argument(help="A cohort, run, encoder or scan.")],
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """What is this, and is it sound?"""
    from volta3d.downstream.inspect import inspect as run
    from volta3d.downstream.inspect import render

    found = run(path)
    say(json.dumps(found, indent=2, default=str) if as_json else render(found))
    if not found.get("sound", True):
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d pretrain cohort --out run --preset smoke --set epochs=2"))
def pretrain(
    cohorts: Annotated[list[Path], typer.Argument(metavar="COHORT...", help="Prepared cohorts.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    preset: Annotated[
        str, typer.Option(help="paper, stable, small, demo, smoke, or a YAML file.")
    ] = "stable",
    assignments: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
) -> None:
    """Cohorts to a pretrained encoder: OUT/encoder, with everything logged beside it."""
    from volta3d.config import load_pretrain
    from volta3d.pretrain.loop import pretrain as run

    config = load_pretrain(preset, assignments or [])
    with Steps("pretrain", "steps") as steps:
        result = run(cohorts, out, config, resume=resume, notify=steps)
    say(f"{result.encoder}: trained for {result.step} steps")
    for line in learnt(result.first, result.last):
        say(line)
    if result.alarms:
        say(f"Alarms: {', '.join(sorted(set(result.alarms)))}. See {out / 'metrics.jsonl'}.")
        raise typer.Exit(FOUND)


def learnt(first: dict[str, Any] | None, last: dict[str, Any] | None) -> list[str]:
    """What the monitors say of a run, in a few lines."""
    if not first or not last:
        return []
    lines = [
        f"  {name}: {first[key]:.3g} before, {last[key]:.3g} after"
        for key, name in (
            ("information", "information over scans (nat)"),
            ("effective_rank", "effective rank"),
            ("icc", "share of variance between scans"),
        )
        if isinstance(first.get(key), float) and isinstance(last.get(key), float)
    ]
    before, after = first.get("probe"), last.get("probe")
    if before and after:
        changes = [
            f"{features} {metric} {before[features][metric]:.2f} -> {value:.2f}"
            for features in ("token", "mean")
            for metric, value in after.get(features, {}).items()
            if isinstance(value, float) and isinstance(before[features].get(metric), float)
        ]
        if changes:
            lines.append(f"  probe on {after['column']}: {', '.join(changes)}")
    return lines


@app.command(epilog=example("volta3d embed run/encoder cohort --out features.parquet"))
def embed(
    encoder: Annotated[Path, typer.Argument(help="An encoder folder.")],
    data: Annotated[list[Path], typer.Argument(metavar="COHORT|SCAN...", help="What to embed.")],
    out: Annotated[Path, typer.Option(help="A .parquet file.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Scans at once.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Scans to a table of features, one row a scan."""
    from volta3d.downstream.embed import embed as run

    table = run(
        encoder, data if len(data) > 1 else data[0], out, batch_size=batch_size, device=device
    )
    say(f"{out}: {len(table)} scans, {table.shape[1]} columns")


@app.command(epilog=example("volta3d probe run/encoder cohort --target age"))
def probe(
    encoder: Annotated[Path, typer.Argument(help="An encoder folder.")],
    cohort: Annotated[Path, typer.Argument(help="A prepared cohort.")],
    target: Annotated[
        list[str] | None, typer.Option(help="A column of participants.tsv; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
) -> None:
    """How much a linear model and nearest neighbours read from the features, cross-validated."""
    from volta3d.evaluate.probes import probe as run

    table = run(encoder, cohort, target or None, out)
    shown = Table(title="Cross-validated by subject, 95 % intervals over subjects")
    names = ("column", "probe", "features", "metric", "score", "interval", "gain", "interval", "n")
    for name in names:
        shown.add_column(name, justify="right" if name in ("score", "gain", "n") else "left")
    before = ""
    for row in table[table["metric"].isin(MAIN)].to_dict("records"):
        part = f"{row['column']}, {row['probe']}, {row['metric']}"
        if before and part != before:
            shown.add_section()
        before = part
        cells = [str(row[k]) for k in ("column", "probe", "features", "metric")]
        shown.add_row(
            *cells,
            f"{row['score']:.3f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            *gain_cells(row),
            str(row["n"]),
        )
    Console(width=None if sys.stdout.isatty() else 110).print(shown)
    say("gain: paired difference to the untrained network. More metrics: --out FILE.json")


def gain_cells(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The paired gain and its interval, empty for the baselines themselves."""
    if row.get("gain") is None or row["gain"] != row["gain"]:
        return "", ""
    return f"{row['gain']:+.3f}", f"{row['gain_low']:+.2f} to {row['gain_high']:+.2f}"


@app.command(epilog=example("volta3d doctor cohort --preset smoke"))
def doctor(
    cohort: Annotated[Path | None, typer.Argument(help="A prepared cohort.")] = None,
    preset: Annotated[str, typer.Option(help="The preset to plan for.")] = "stable",
    assignments: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """This machine, and what a preset would need: memory, hours, disk; the view budget."""
    from volta3d.config import load_pretrain
    from volta3d.doctor import doctor as run
    from volta3d.doctor import render

    found = run(cohort, load_pretrain(preset, assignments or []))
    say(json.dumps(found, indent=2) if as_json else render(found))


@app.command(epilog=example("volta3d report run --out report"))
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The report folder.")],
    embeddings: Annotated[Path | None, typer.Option(help="A table that embed wrote.")] = None,
    probes: Annotated[Path | None, typer.Option(help="A table that probe wrote.")] = None,
    cohort: Annotated[Path | None, typer.Option(help="For quarantine and QC.")] = None,
) -> None:
    """Runs to one folder that opens in a browser, offline."""
    from volta3d.report import report as run

    index = run(runs, out, embeddings=embeddings, probes=probes, cohort=cohort)
    say(f"{index}")


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script: every failure becomes one paragraph and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    given = [a for a in given if a != "--debug"]
    _quieten(debug)
    try:
        app(given, standalone_mode=True)
    except VoltaError as error:
        _fail(error.paragraph(), error.exit_code, debug)
    except KeyboardInterrupt:
        _fail("Interrupted. Run the command again to go on; finished parts are kept.", 1, debug)
    except BrokenPipeError:
        os._exit(1)  # the reader left; nothing more can be said
    except Exception as error:
        _fail(
            f"Something unforeseen went wrong: {type(error).__name__}: {error}. "
            "Run the command again with --debug and report what it prints.",
            1,
            debug,
        )


def _quieten(debug: bool) -> None:
    """Libraries' chatter isn't the user's business; their warnings show with --debug."""
    if not debug:
        warnings.filterwarnings("ignore", module=r"(?!volta3d)")
        logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.showwarning = lambda message, *_a, **_k: Console(stderr=True).print(
        f"Warning: {message}", markup=False, highlight=False
    )


def _fail(paragraph: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    Console(stderr=True).print(f"Error: {paragraph}", markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)
