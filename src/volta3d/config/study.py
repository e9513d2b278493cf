"""Settings of ``volta3d study``: cohorts, encoders, tasks, and what is compared in each."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from volta3d.config.base import (
    Config,
    Positive,
    Range,
    Some,
    build,
    parse_yaml,
    preset_names,
    read_yaml,
)
from volta3d.errors import ConfigError, nearest

Settings = dict[str, Any]
"""Dotted keys to values, as ``--set`` takes them."""

FOLDER = "studies"
SCALES = "scales"  # key of a study's file: the same study with other budgets, by name


class PhantomEntry(Config):
    """Synthetic subjects that the study makes for itself."""

    subjects: Some = 60
    spacing: Positive = 2.0  # mm
    seed: int = 0


class CohortEntry(Config):
    """One cohort: prepared from scans, from phantoms, given as it is, or a part of another."""

    source: tuple[str, ...] = ()  # folders of scans
    layout: str = ""  # found out when empty
    phantom: PhantomEntry | None = None
    cohort: str = ""  # a folder that prepare made
    part_of: str = ""  # the name of another cohort of the study
    share: Range = (0.0, 1.0)  # of its participants, in a random order
    prepare: Settings = Field(default_factory=dict)
    workers: Some = 1

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        origins = [
            bool(self.source),
            self.phantom is not None,
            bool(self.cohort),
            bool(self.part_of),
        ]
        if sum(origins) != 1:
            raise ValueError("a cohort has one of: source, phantom, cohort, part_of")
        return self


class EncoderEntry(Config):
    """One encoder: pretrained by the study, or given as a folder."""

    cohorts: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()  # cohorts whose subjects are taken out of the training scans
    preset: str = ""  # small, or that of what it is like
    set: Settings = Field(default_factory=dict)
    like: str = ""  # another encoder of the study, whose settings come first
    encoder: str = ""  # a folder that pretrain made


class TaskEntry(Config):
    """One question to a cohort, with the arms that answer it."""

    kind: Literal["classification", "segmentation"]
    cohort: str
    target: str = ""  # the column, for classification
    arms: dict[str, str]  # name: scratch, swin, unet, volume, an encoder's name, linear:NAME ...
    fractions: tuple[float, ...] = (1.0,)
    seeds: Some = 1
    folds: Some = 5
    holdout: float = Field(default=0.0, ge=0, lt=1)  # of segmentation, instead of folds
    preset: str = "small"
    set: Settings = Field(default_factory=dict)
    shared_subjects: Literal["refuse", "allow"] = "refuse"  # between it and pretraining
    reference: str = ""  # a folder of anybody's label maps, scored on the same test scans
    table: str = ""  # what a publication calls its table of this task
    figure: str = ""  # and its figure: of reduced data, or of outlines
    threshold: Literal["half", "youden"] = "youden"  # of the sensitivities in that table
    published: dict[str, dict[str, str]] = Field(default_factory=dict)  # arm, metric, figure


class StudyConfig(Config):
    """A whole study."""

    name: str = "study"
    seed: int = 0
    cohorts: dict[str, CohortEntry]
    encoders: dict[str, EncoderEntry] = Field(default_factory=dict)
    tasks: dict[str, TaskEntry] = Field(default_factory=dict)
    probes: tuple[str, ...] = ()  # columns probed on every encoder's features, where they are known

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name, cohort in self.cohorts.items():
            _known(f"cohorts.{name}.part_of", cohort.part_of, self.cohorts)
        for name, encoder in self.encoders.items():
            _known(f"encoders.{name}.like", encoder.like, self.encoders)
            for cohort_name in (*encoder.cohorts, *encoder.exclude):
                _known(f"encoders.{name}.cohorts", cohort_name, self.cohorts)
            if bool(encoder.encoder) == bool(self.cohorts_of(name)):
                raise ValueError(f"encoders.{name} has either cohorts to train on or a folder")
        for name, task in self.tasks.items():
            _known(f"tasks.{name}.cohort", task.cohort, self.cohorts)
            if task.reference and task.kind != "segmentation":
                raise ValueError(f"tasks.{name}.reference is for segmentation")
            for arm in task.published:
                _known(f"tasks.{name}.published", arm, task.arms)
            if task.kind == "classification" and not task.target:
                raise ValueError(f"tasks.{name} needs a target, a column of participants.tsv")
        return self

    def chain(self, encoder: str) -> list[EncoderEntry]:
        """An encoder's entry after those it is like, the most general first.

        Raises:
            ValueError: they go round in a circle.
        """
        found: list[EncoderEntry] = []
        seen: list[str] = []
        name = encoder
        while name:
            if name in seen:
                raise ValueError(f"encoders.{encoder}.like goes round in a circle")
            seen.append(name)
            found.insert(0, self.encoders[name])
            name = self.encoders[name].like
        return found

    def cohorts_of(self, encoder: str) -> tuple[str, ...]:
        """The cohorts an encoder is trained on, its own or those of what it is like."""
        return next((e.cohorts for e in reversed(self.chain(encoder)) if e.cohorts), ())

    def excluded_by(self, encoder: str) -> tuple[str, ...]:
        """The cohorts whose subjects an encoder must not see, its own or what it is like."""
        return next((e.exclude for e in reversed(self.chain(encoder)) if e.exclude), ())

    def preset_of(self, encoder: str) -> str:
        """The preset of an encoder, its own or that of what it is like."""
        return next((e.preset for e in reversed(self.chain(encoder)) if e.preset), "small")

    def settings_of(self, encoder: str) -> Settings:
        """The settings of an encoder on top of those of what it is like."""
        merged: Settings = {}
        for entry in self.chain(encoder):
            merged |= entry.set
        return merged

    def encoders_of(self, task: str) -> list[str]:
        """The study's encoders that a task's arms use, each once, in the order of the arms.

        An arm is an encoder's name, or a word, a colon and an encoder's name.
        """
        used = (spec.rpartition(":")[2] for spec in self.tasks[task].arms.values())
        return list(dict.fromkeys(name for name in used if name in self.encoders))


def _known(where: str, name: str, valid: dict[str, Any]) -> None:
    if name and name not in valid:
        raise ValueError(f"{where}: no '{name}' in this study. {nearest(name, valid)}")


def studies() -> list[str]:
    """The names of the studies that ship with the package."""
    return preset_names(FOLDER)


def load_study(
    study: Path | str, sources: dict[str, str] | None = None, scale: str = ""
) -> StudyConfig:
    """A study from a YAML file, or one that ships with the package by its name.

    Args:
        study: a file, or the name of a shipped study with or without ``.yaml``.
        sources: cohort name to the folder of its scans, instead of what the study says.
        scale: one of the study's own ``scales``, whose settings go on top.

    Raises:
        ConfigError: no such study or scale, an unknown key or cohort, or a value of the wrong kind.
    """
    path = Path(study)
    if path.is_file():
        content = parse_yaml(read_yaml(path), where=path)
    elif path.stem in studies() and path.parent == Path():
        shipped = resources.files("volta3d") / FOLDER / f"{path.stem}.yaml"
        content = parse_yaml(shipped.read_text("utf-8"), where=path.stem)
    else:
        raise ConfigError("No such study", where=study, fix=nearest(path.stem, studies()))
    scales: dict[str, Any] = content.pop(SCALES, None) or {}
    if scale:
        if scale not in scales:
            raise ConfigError("No such scale in the study", where=scale, fix=nearest(scale, scales))
        content = _merged(content, scales[scale])
    cohorts = content.get("cohorts")
    for name, folder in (sources or {}).items():
        if not isinstance(cohorts, dict) or not isinstance(cohorts.get(name), dict):
            known = cohorts if isinstance(cohorts, dict) else {}
            raise ConfigError("No such cohort in the study", where=name, fix=nearest(name, known))
        cohorts[name] = {**cohorts[name], "source": [folder]}
    return build(StudyConfig, content)


def _merged(below: Settings, above: Any) -> Settings:
    """``below`` with the values of ``above`` in it, at any depth."""
    merged = dict(below)
    for key, value in (above if isinstance(above, dict) else {}).items():
        own = merged.get(key)
        if isinstance(own, dict) and isinstance(value, dict):
            value = _merged(own, value)
        merged[key] = value
    return merged
