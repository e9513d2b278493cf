"""How each kind of job is done: one call of the stage it names, in its own folder of the study."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volta3d.cohort.part import draw_subjects, part_of
from volta3d.cohort.store import Cohort
from volta3d.config import (
    PrepareConfig,
    StudyConfig,
    build,
    load_pretrain,
    parse_yaml,
    read_yaml,
)
from volta3d.config.study import CohortEntry, Settings, TaskEntry
from volta3d.errors import VoltaError
from volta3d.progress import Steps
from volta3d.study.plan import Job

Record = dict[str, Any]
MAPS = "reference-maps"  # in a task's folder: how the label maps of somebody else score


@dataclass(frozen=True)
class Place:
    """A study and its folder: where each job's artefact lies.

    Attributes:
        out: the study's folder.
        config: the study.
    """

    out: Path
    config: StudyConfig

    def cohort(self, name: str) -> Path:
        """The folder of a cohort."""
        given = self.config.cohorts[name].cohort
        return Path(given) if given else self.out / "cohorts" / name

    def run(self, name: str) -> Path:
        """The pretraining run of an encoder."""
        return self.out / "encoders" / name

    def encoder(self, name: str) -> Path:
        """The folder of an encoder."""
        given = self.config.encoders[name].encoder
        return Path(given) if given else self.run(name) / "encoder"

    def features(self, name: str) -> Path:
        """The features an encoder makes of the first cohort it was trained on."""
        return self.out / "features" / f"{name}.parquet"

    def probes(self, name: str) -> Path:
        """What probes read from an encoder's features."""
        return self.out / "features" / f"{name}-probes.json"

    def task(self, name: str) -> Path:
        """The downstream run of a task."""
        return self.out / "tasks" / name


def do(job: Job, place: Place) -> Record:
    """Make a job's artefact; what an interrupted call left is gone on with.

    Returns:
        What the ledger keeps of it; ``found`` lists what a person should look at.
    """
    ways: dict[str, Callable[[str, Place], Record]] = {
        "cohort": make_cohort,
        "encoder": make_encoder,
        "features": make_features,
        "task": make_task,
    }
    return ways[job.kind](job.name, place)


def assignments(settings: Settings) -> list[str]:
    """Settings as ``--set`` takes them."""
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def make_cohort(name: str, place: Place) -> Record:
    """Prepare scans or phantoms, take a part of another cohort, or look at the one given."""
    entry, out = place.config.cohorts[name], place.cohort(name)
    found = []
    if entry.part_of:
        whole = Cohort.open(place.cohort(entry.part_of))
        part_of(whole, out, draw_subjects(whole, entry.share, place.config.seed))
    elif not entry.cohort:
        found = _prepare(name, entry, place)
    cohort = Cohort.open(out)
    subjects = cohort.participants["participant_id"].nunique()
    facts = {"scans": len(cohort), "participants": subjects, "cohort_hash": cohort.hash()}
    return {**facts, "found": found}


def _prepare(name: str, entry: CohortEntry, place: Place) -> list[str]:
    from volta3d.prepare import prepare

    sources = [Path(folder) for folder in entry.source]
    if entry.phantom is not None:
        sources = [_phantoms(name, entry, place)]
    with Steps(f"prepare {name}", "scans") as steps:
        result = prepare(
            sources,
            place.cohort(name),
            layout=entry.layout or None,
            workers=entry.workers,
            config=build(PrepareConfig, {}, assignments(entry.prepare)),
            progress=steps,
        )
    return [f"{result.quarantined} scans quarantined"] if result.quarantined else []


def _phantoms(name: str, entry: CohortEntry, place: Place) -> Path:
    from volta3d.phantom import generate

    wanted = entry.phantom
    assert wanted is not None
    raw = place.out / "raw" / name
    if not (raw / "participants.tsv").exists():  # generate publishes its folder whole
        with Steps(f"phantom {name}", "subjects") as steps:
            generate(
                raw,
                subjects=wanted.subjects,
                seed=wanted.seed,
                spacing=wanted.spacing,
                workers=entry.workers,
                progress=steps,
            )
    return raw


def make_encoder(name: str, place: Place) -> Record:
    """Pretrain, or look at the folder given."""
    from volta3d.encoder.load import load_encoder
    from volta3d.pretrain.loop import pretrain

    found: list[str] = []
    if not place.config.encoders[name].encoder:
        config = load_pretrain(
            place.config.preset_of(name),
            [f"seed={place.config.seed}", *assignments(place.config.settings_of(name))],
        )
        run = place.run(name)
        cohorts = [place.cohort(c) for c in place.config.cohorts_of(name)]
        excluded = [place.cohort(c) for c in place.config.excluded_by(name)]
        with Steps(f"pretrain {name}", "steps") as steps:
            resume = (run / "config.yaml").exists()
            result = pretrain(cohorts, run, config, resume=resume, exclude=excluded, notify=steps)
        found = [f"alarm {alarm}" for alarm in sorted(set(result.alarms))]
    weights = load_encoder(place.encoder(name)).config["weights_sha256"]
    return {"weights_sha256": weights, "found": found}


def make_features(name: str, place: Place) -> Record:
    """Embed the encoder's first cohort and probe the features."""
    from volta3d.encoder.embed import embed
    from volta3d.evaluate.probes import probe

    cohort = place.cohort(place.config.cohorts_of(name)[0])
    embed(place.encoder(name), cohort, place.features(name))
    if place.config.probes:
        probe(place.encoder(name), cohort, list(place.config.probes), place.probes(name))
    return {}


def make_task(name: str, place: Place) -> Record:
    """Compare the arms of a task, and evaluate their predictions.

    Raises:
        VoltaError: an encoder saw subjects of the task's cohort while it was pretrained, and the
            task does not allow it.
    """
    from volta3d.evaluate.evaluate import evaluate
    from volta3d.evaluate.segmentation.outlines import draw_outlines

    task, out = place.config.tasks[name], place.task(name)
    shared, left_out = shared_subjects(name, place)
    if shared and task.shared_subjects == "refuse":
        raise VoltaError(
            f"Encoders saw subjects of this task's cohort while they were pretrained: {shared[0]}"
            + (f", and {len(shared) - 1} more" if len(shared) > 1 else ""),
            where=f"tasks.{name}",
            fix="Take them out with encoders.NAME.exclude, or say shared_subjects: allow",
        )
    {"classification": _classify, "segmentation": _segment}[task.kind](name, task, place)
    evaluate([out])
    if task.reference:
        score_maps(task, out)
    if task.kind == "segmentation":
        draw_outlines(out, place.cohort(task.cohort))  # Figure 3, which the report shows
    note = f"{len(shared)} scans were seen while pretraining; scores are optimistic"
    audited = {"shared": len(shared), "left_out": left_out} if left_out is not None else {}
    return {"run": out.name, "found": [note] if shared else [], **audited}


def score_maps(task: TaskEntry, run: Path) -> None:
    """Score the label maps of ``task.reference`` on the run's test scans, by the run's rule.

    Raises:
        VoltaError: the folder is missing, or holds no label map of these scans.
    """
    from volta3d.evaluate.evaluate import evaluate

    if not Path(task.reference).is_dir():
        raise VoltaError(
            "The folder of label maps to compare with is not there",
            where=task.reference,
            fix="Correct tasks.NAME.reference in the study, or leave it out",
        )
    labels = read_yaml_settings(run)["labels"]
    evaluate([task.reference], reference=run / "reference", out=run / MAPS, labels=labels)


def read_yaml_settings(run: Path) -> dict[str, Any]:
    """The settings in a run's config.yaml."""
    content = parse_yaml(read_yaml(run / "config.yaml"), where=run)
    settings: dict[str, Any] = content["settings"]
    return settings


def shared_subjects(task: str, place: Place) -> tuple[list[str], int | None]:
    """Scans that an encoder of the task was pretrained on although their subject is tested.

    Beside them, how many scans of tested people were left out of pretraining, the most of any
    encoder; None where the study pretrained no encoder of the task. People are recognised as
    ``audit`` does: by their ids under any name, and by their images.
    """
    from volta3d.cohort.exclude import exclusion

    config = place.config
    tested = [Cohort.open(place.cohort(config.tasks[task].cohort))]
    seen: list[str] = []
    out: int | None = None
    for encoder in config.encoders_of(task):
        cohorts = [Cohort.open(place.cohort(c)) for c in config.cohorts_of(encoder)]
        excluded = [Cohort.open(place.cohort(c)) for c in config.excluded_by(encoder)]
        if not cohorts:
            continue
        left_out = exclusion(cohorts, excluded).scan_ids if excluded else frozenset()
        found = exclusion(cohorts, tested).scan_ids
        seen += [f"{encoder}: {scan}" for scan in sorted(found - left_out)]
        out = max(out or 0, len(found & left_out))
    return seen, out


def arm_texts(task: str, place: Place) -> list[str]:
    """The arms of a task as the command line takes them, encoders' names made folders."""
    found = []
    for arm, spec in place.config.tasks[task].arms.items():
        word, colon, encoder = spec.rpartition(":")
        known = encoder in place.config.encoders
        found.append(f"{arm}={word}{colon}{place.encoder(encoder) if known else encoder}")
    return found


def _classify(name: str, task: TaskEntry, place: Place) -> None:
    from volta3d.config import load_classify
    from volta3d.downstream.classification.classify import classify

    own = {"seed": place.config.seed, "folds": task.folds, "seeds": task.seeds}
    settings = {**own, "fractions": list(task.fractions), **task.set}
    out = place.task(name)
    with Steps(f"classify {name}", "epochs") as steps:
        classify(
            place.cohort(task.cohort),
            task.target,
            arm_texts(name, place),
            out,
            load_classify(task.preset, assignments(settings)),
            resume=(out / "config.yaml").exists(),
            progress=steps,
        )


def _segment(name: str, task: TaskEntry, place: Place) -> None:
    from volta3d.config import load_segment
    from volta3d.downstream.segmentation.segment import segment

    settings = {"seed": place.config.seed, "seeds": task.seeds, **task.set}
    out = place.task(name)
    with Steps(f"segment {name}", "steps") as steps:
        segment(
            place.cohort(task.cohort),
            arm_texts(name, place),
            out,
            load_segment(task.preset, assignments(settings)),
            folds=None if task.holdout else task.folds,
            holdout=task.holdout or None,
            resume=(out / "config.yaml").exists(),
            progress=steps,
        )
