"""Commands that answer a question with an encoder: classify, predict, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from volta3d.arms import CLASSIFIER_TUNES, CLASSIFIERS, spec_help
from volta3d.cli.app import FOUND, Set, app, example, say
from volta3d.cli.repetitions import Fractions, Seeds, repetition_settings
from volta3d.progress import Steps


@app.command(
    epilog=example(
        "volta3d classify cohort --target sex --arm volta=run/encoder --arm vit=scratch "
        "--arm linear=linear:run/encoder --arm volume=volume --out sex --preset small "
        "--folds 3 --set epochs=2"
    )
)
def classify(
    cohort: Annotated[Path, typer.Argument(help="A prepared cohort.")],
    target: Annotated[str, typer.Option(help="A column of participants.tsv, or of --labels.")],
    arm: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=SPEC",
            help=spec_help(CLASSIFIERS, CLASSIFIER_TUNES),
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    folds: Annotated[int | None, typer.Option(help="Folds by subject; 5 as in the paper.")] = None,
    fractions: Fractions = None,
    seeds: Seeds = None,
    preset: Annotated[str, typer.Option(help="paper, small, or a YAML file.")] = "paper",
    labels: Annotated[
        Path | None, typer.Option(help="A table of your own: scan_id or participant_id, TARGET.")
    ] = None,
    assignments: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where it stopped.")] = False,
) -> None:
    """Sex, diagnosis, age or any column from scans: arms compared by cross-validation."""
    from volta3d.config import load_classify
    from volta3d.downstream.classification.classify import classify as run
    from volta3d.evaluate.classification.summary_lines import render
    from volta3d.evaluate.evaluate import evaluate as measure

    settings = list(assignments or [])
    if folds is not None:
        settings.append(f"folds={folds}")
    settings += repetition_settings(fractions, seeds)
    config = load_classify(preset, settings)
    with Steps("classify", "epochs") as steps:
        result = run(cohort, target, arm, out, config, labels=labels, resume=resume, progress=steps)
    for line in result.findings:
        say(f"Noticed: {line}")
    if result.left:
        say(f"{out}: {result.left} jobs are being done by other processes; they will finish it")
        return
    (metrics,) = measure([out])
    say(render(metrics))
    say(f"{out}: {result.scans} scans of {result.subjects} subjects. Models: {out}/arms/*/model")
    missing = [d for d in result.dropped if d["reason"] != "other-class"]
    if missing:
        say(
            f"{len(missing)} scans left out, the first: {missing[0]['scan_id']}, "
            f"{missing[0]['what']}. All are in {out / 'folds.json'}."
        )
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d predict sex/arms/volta/model my-bids --out told"))
def predict(
    model: Annotated[
        Path,
        typer.Argument(
            help="A fitted model: RUN/arms/NAME/model; for label maps RUN/arms/NAME averages the "
            "networks of all folds."
        ),
    ],
    scans: Annotated[
        list[Path], typer.Argument(metavar="SCAN...", help="NIfTI or DICOM, files or folders.")
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="The folder for what is predicted. Earlier results of the same model stay there; "
            "a scan given again gets the later one."
        ),
    ],
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    flips: Annotated[
        str | None,
        typer.Option(
            help="Label maps: none, or left-right: average a mirrored pass in. Default: as the "
            "model's run did."
        ),
    ] = None,
    largest: Annotated[
        bool | None,
        typer.Option(
            "--largest/--no-largest",
            help="Label maps: keep each structure's largest part. Default: as the model's run did.",
        ),
    ] = None,
) -> None:
    """New scans through a fitted model, prepared the way it wants them."""
    from volta3d.downstream.predict import predict as run

    with Steps("predict", "scans") as steps:
        result = run(model, scans, out, device=device, flips=flips, largest=largest, progress=steps)
    say(f"{result.table}: {result.predicted} scans")
    if result.refused:
        first = result.refused[0]
        say(
            f"{len(result.refused)} scans refused, the first: {first['source']}: {first['what']} "
            f"{first['how_to_fix']} All are in {result.refusals}."
        )
        raise typer.Exit(FOUND)


@app.command(epilog=example("volta3d evaluate sex"))
def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or prediction files; folders of predict, with --labels; with "
            "--reference folders of label maps.",
        ),
    ],
    reference: Annotated[
        Path | None,
        typer.Option(help="A folder of reference label maps: score any label maps against it."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --reference: a folder for metrics.json, cases.tsv; with folders of predict: "
            "for metrics.json, predictions.parquet."
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="With --reference: hippocampus (if not given), or {left: 48, right: 47}; with "
            "folders of predict: a table with scan_id or participant_id and the target.",
        ),
    ] = None,
    target: Annotated[
        str, typer.Option(help="With folders of predict: the column, if not the models' target.")
    ] = "",
    people: Annotated[
        Path | None,
        typer.Option(
            help="With runs: the cohort, or a table with scan_id or participant_id and site, sex "
            "or age; adds scores by group of people."
        ),
    ] = None,
) -> None:
    """Metrics from predictions alone: scores, intervals over subjects, tests between arms."""
    from volta3d.config import load_segment
    from volta3d.evaluate.evaluate import evaluate as run
    from volta3d.evaluate.summary_lines import render

    wanted: Any = labels
    if reference is not None and labels is not None:
        wanted = load_segment("paper", [f"labels={labels}"]).labels
    found = run(runs, reference=reference, out=out, labels=wanted, target=target, people=people)
    folders = [out] if out is not None else runs
    for place, metrics in zip(folders, found, strict=False):  # of --reference one for all
        say(render(metrics))
        left = metrics.get("left_out")
        if left:
            folder = place.parent if place.is_file() else place
            say(
                f"{metrics['dropped']} scans left out, the first: {left['first']}. All are in "
                f"{folder / left['file']}."
            )
    if any(m.get(key) for m in found for key in ("not_scored", "left_out", "empty_classes")):
        raise typer.Exit(FOUND)
