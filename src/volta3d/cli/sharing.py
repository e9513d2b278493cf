"""The command that hands a network to other programs: export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volta3d.cli.app import app, example, say


@app.command(
    epilog=example("volta3d export run/encoder --format monai-bundle --out encoder-bundle")
)
def export(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL|ENCODER", help="An encoder folder, or RUN/arms/NAME/model."),
    ],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    format: Annotated[
        str, typer.Option(help="onnx, monai-bundle, or for an encoder shelf.")
    ] = "onnx",
) -> None:
    """A network as an ONNX file or a MONAI bundle, its answers compared before it is published.

    shelf: an encoder in half precision with the licence of its weights, to be shared as it is.
    """
    if format == "shelf":
        from volta3d.encoder.shelf_writer import MEGABYTES, write_shelf

        size = write_shelf(model, out)
        say(f"{out}: {size:.1f} MB")
        if size > MEGABYTES:
            say(f"A package should carry at most {MEGABYTES} MB: share it as a wheel of its own")
        return
    from volta3d.export import export as run

    result = run(model, out, format=format)
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in result.outputs.items())
    say(f"{out}: {result.kind}, scan {list(result.input)} to {shapes}")
    say(f"Run and compared: at most {result.difference:.1g} of the largest answer apart.")
