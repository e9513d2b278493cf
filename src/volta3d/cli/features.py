"""Commands that use an encoder as it is: embed, probe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from volta3d.cli.app import FOUND, app, example, say
from volta3d.progress import Steps

ScaleMismatch = Annotated[
    Literal["refuse", "ok"],
    typer.Option(help="Scans whose voxels differ by more than a quarter: refuse, or ok: resample."),
]
MAIN = ("AUROC", "r", "MAE")  # the metrics of a probe that are printed


@app.command(epilog=example("volta3d embed run/encoder cohort --out features.parquet"))
def embed(
    encoder: Annotated[Path, typer.Argument(help="An encoder folder.")],
    data: Annotated[list[Path], typer.Argument(metavar="COHORT|SCAN...", help="What to embed.")],
    out: Annotated[Path, typer.Option(help="A .parquet file.")],
    batch_size: Annotated[int, typer.Option(min=1, help="Scans at once.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    features: Annotated[
        list[str] | None,
        typer.Option(help="token, mean, regions (27) or regions216; repeatable. [token and mean]"),
    ] = None,
    scale_mismatch: ScaleMismatch = "refuse",
) -> None:
    """Scans to a table of features, one row a scan."""
    from volta3d.encoder.embed import embed as run

    given = data if len(data) > 1 else data[0]
    with Steps("embed", "scans") as steps:
        table = run(
            encoder,
            given,
            out,
            batch_size=batch_size,
            device=device,
            kinds=features or ("token", "mean"),
            mismatch=scale_mismatch,
            progress=steps,
        )
    for line in table.attrs["volta3d"]["scale_text"]:
        say(line)
    say(f"{out}: {len(table)} scans, {table.shape[1]} columns")
    refused = table.attrs["refused"]
    for row in refused:
        say(f"Left out: {row['source']}: {row['what']}. {row['how_to_fix']}.")
    if refused:
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d probe run/encoder cohort --target age"))
def probe(
    encoder: Annotated[Path, typer.Argument(help="An encoder folder.")],
    cohort: Annotated[Path, typer.Argument(help="A prepared cohort.")],
    target: Annotated[
        list[str] | None, typer.Option(help="A column of participants.tsv; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table as JSON.")] = None,
    scale_mismatch: ScaleMismatch = "refuse",
) -> None:
    """How much a linear model and nearest neighbours read from the features, cross-validated."""
    from volta3d.evaluate.probes import origin_warnings
    from volta3d.evaluate.probes import probe as run

    with Steps("embed", "scans") as steps:
        table = run(encoder, cohort, target or None, out, mismatch=scale_mismatch, progress=steps)
    for line in table.attrs["scale_text"]:
        say(line)
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
    for line in origin_warnings(table):
        say(f"Worth a look: {line}")


def gain_cells(row: Mapping[Any, Any]) -> tuple[str, str]:
    """The paired gain and its interval, empty for the baselines themselves."""
    if row.get("gain") is None or row["gain"] != row["gain"]:
        return "", ""
    return f"{row['gain']:+.3f}", f"{row['gain_low']:+.2f} to {row['gain_high']:+.2f}"
