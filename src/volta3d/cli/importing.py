"""The command that brings other people's encoders in: import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volta3d.cli.app import FOUND, app, example, say
from volta3d.errors import UsageError


@app.command(
    "import",
    epilog=example(
        "volta3d import encoder-bundle/models/model.pt --as monai-vit --option heads=4 "
        "--contract cohort/contract.yaml --out imported"
    ),
)
def import_(
    weights: Annotated[Path, typer.Argument(help="A .safetensors, .pt, .pth or .ckpt file.")],
    out: Annotated[Path, typer.Option(help="The encoder folder to write.")],
    contract: Annotated[
        str,
        typer.Option(
            help="How its scans are prepared: the name of a known model (brainiac, "
            "3d-neuro-simclr, brain2vec, amaes-unet-b, fomo25-unet), or a YAML file."
        ),
    ],
    kind: Annotated[
        str,
        typer.Option(
            "--as",
            help="monai-vit, vitautoenc, unetr, swinunetr, dinov2-3d, monai-resnet, unet or "
            "autoencoderkl. [as the contract says]",
        ),
    ] = "",
    matched: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the network's tensors to be found.")
    ] = 1.0,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=NUMBER", help="What shapes don't tell, such as heads=12."),
    ] = None,
) -> None:
    """Other people's weights to an encoder that embed, probe and classify can use."""
    from volta3d.encoder.imported import import_encoder

    options = dict(_number(text) for text in option or ())
    report = import_encoder(
        weights, out, contract=contract, kind=kind, matched=matched, options=options
    )
    say(f"{out}: {report.text()}")
    if report.missing or report.other_shape:
        say("What is missing has random weights: a comparison with it says little")
        raise typer.Exit(FOUND)


def _number(text: str) -> tuple[str, int]:
    key, _, value = text.partition("=")
    if not key or not value.isdigit():
        raise UsageError("--option takes KEY=NUMBER", where=text, fix="Write for example heads=12")
    return key, int(value)
