"""Commands that train an encoder or plan its training: pretrain, doctor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from volta3d.cli.app import FOUND, Set, app, example, say
from volta3d.progress import Steps


@app.command(epilog=example("volta3d pretrain cohort --out run --preset smoke --set epochs=2"))
def pretrain(
    cohorts: Annotated[list[Path], typer.Argument(metavar="COHORT...", help="Prepared cohorts.")],
    out: Annotated[Path, typer.Option(help="The run folder.")],
    preset: Annotated[
        str | None,
        typer.Option(
            help="paper, stable, small, demo, smoke, or a YAML file; stable if none is named. "
            "With --resume the run keeps its own settings.",
        ),
    ] = None,
    assignments: Set = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="COHORT", help="Leave out everybody who is also in this cohort; repeatable."
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
) -> None:
    """Cohorts to a pretrained encoder: OUT/encoder, with everything logged beside it."""
    from volta3d.config import load_own, load_pretrain
    from volta3d.files import read_json
    from volta3d.pretrain.loop import pretrain as run

    changed = assignments or []
    config = load_own(out, preset, changed) if resume else load_pretrain(preset, changed)
    if exclude:
        say("Looking for the people of the cohorts to exclude, by names and pictures")
    with Steps("pretrain", "steps") as steps:
        result = run(
            cohorts, out, config, exclude=exclude or [], resume=resume, notify=steps, tell=say
        )
    if result.rank:
        return  # the first process speaks for all
    say(f"{result.encoder}: trained for {result.step} steps")
    if exclude:
        left_out = read_json(out / "cohort.json")["excluded"]["scans"]
        say(f"  {len(left_out)} scans left out: {out / 'cohort.json'} says which and why")
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
    lines += _agreed(first.get("agreement"), last.get("agreement"))
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


def _agreed(first: dict[str, Any] | None, last: dict[str, Any] | None) -> list[str]:
    """How often the other view of a scan is the nearest of all."""
    if not first or not last:
        return []
    people = f"{last['scans']} people " + ("held out" if last["held_out"] else "trained on")
    pairs = (("token", "retrieval"), ("mean", "retrieval_mean"))
    shown = [f"{name} {first[key]:.2f} -> {last[key]:.2f}" for name, key in pairs]
    return [f"  other view of a scan nearest of all, {people}: {', '.join(shown)}"]


@app.command(epilog=example("volta3d doctor cohort --preset smoke"))
def doctor(
    cohort: Annotated[Path | None, typer.Argument(help="A prepared cohort.")] = None,
    preset: Annotated[str, typer.Option(help="The preset to plan for.")] = "stable",
    assignments: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """This machine, and what a preset would need: memory, hours, disk; the view budget.

    Exit code 3 if the cohort doesn't fit the preset.
    """
    from volta3d.config import load_pretrain
    from volta3d.doctor import doctor as run
    from volta3d.doctor import render

    found = run(cohort, load_pretrain(preset, assignments or []))
    say(json.dumps(found, indent=2) if as_json else render(found))
    if found["cohort"] and found["cohort"]["problem"]:
        raise typer.Exit(FOUND)
