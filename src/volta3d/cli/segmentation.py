"""The command that trains segmentations: segment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from volta3d.arms import SEGMENTER_TUNES, SEGMENTERS, spec_help
from volta3d.cli.app import FOUND, Set, app, example, say
from volta3d.cli.repetitions import Fractions, Seeds, repetition_settings
from volta3d.progress import Steps


@app.command(
    epilog=example(
        "volta3d segment cohort --arm volta=run/encoder --arm unet=unet --out outlines "
        "--preset small --holdout 0.2 --set epochs=1 --set crops.size=48 --set overlap=0 "
        "--set unetr.features=4"
    )
)
def segment(
    cohort: Annotated[Path, typer.Argument(help="A cohort prepared with label maps.")],
    arm: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SPEC",
            help=spec_help(SEGMENTERS, SEGMENTER_TUNES),
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    folds: Annotated[int | None, typer.Option(min=2, help="Folds by subject; default 5.")] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Instead: the share set aside, .2 in the paper.")
    ] = None,
    fractions: Fractions = None,
    seeds: Seeds = None,
    preset: Annotated[str, typer.Option(help="paper, small, or a YAML file.")] = "paper",
    assignments: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
) -> None:
    """Hippocampi or any structures outlined: arms compared in the scans' own space."""
    from volta3d.config import load_segment
    from volta3d.downstream.segmentation.segment import segment as run
    from volta3d.evaluate.segmentation.outlines import draw_outlines
    from volta3d.evaluate.segmentation.score import evaluate_segmentation
    from volta3d.evaluate.segmentation.summary_lines import render

    config = load_segment(preset, [*(assignments or []), *repetition_settings(fractions, seeds)])
    with Steps("segment", "epochs") as steps:
        result = run(
            cohort, arm, out, config, folds=folds, holdout=holdout, resume=resume, progress=steps
        )
    for line in result.findings:
        say(f"Noticed: {line}")
    if result.left:
        say(f"{out}: {result.left} jobs are being done by other processes; they will finish it")
        return
    say(render(evaluate_segmentation(out).summary))
    pictures = draw_outlines(out, cohort)
    say(f"{out}: {result.scans} scans of {result.subjects} subjects. Models: {out}/arms/*/model")
    say(f"Pictures: {', '.join(str(p) for p in pictures)}")
    if result.refused:
        first = result.refused[0]
        say(
            f"{len(result.refused)} scans left out, the first: {first['scan_id']}: "
            f"{first['what']}. {first['how_to_fix']}. All are in {out / 'refused.tsv'}."
        )
        raise typer.Exit(FOUND)
