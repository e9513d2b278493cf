"""The commands as functions, with the commands' arguments.

``volta3d.pretrain("cohort", "run", preset="small")`` does what ``volta3d pretrain cohort --out run
--preset small`` does, and returns what the stage returns. Settings are a mapping of dotted keys,
``{"views.locals": 2, "lr": 3e-4}``, or texts as ``--set`` takes them. Errors are
:class:`volta3d.errors.VoltaError` and its kinds: what, where, and the way out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from volta3d.downstream.classification.classify import ClassifyResult
    from volta3d.downstream.segmentation.segment import SegmentResult
    from volta3d.encoder.loaded import LoadedEncoder
    from volta3d.encoder.weights import KeyReport
    from volta3d.export.export import Exported
    from volta3d.grid.predicted import PredictResult
    from volta3d.prepare.finish import PrepareResult
    from volta3d.pretrain.loop import PretrainResult
    from volta3d.study.run import StudyResult

PathLike = Path | str
Paths = PathLike | Sequence[PathLike]
Settings = Mapping[str, Any] | Iterable[str]
Arms = Mapping[str, PathLike] | Sequence[str]

__all__ = [
    "classify",
    "embed",
    "evaluate",
    "export",
    "import_encoder",
    "load_encoder",
    "predict",
    "prepare",
    "pretrain",
    "probe",
    "report",
    "segment",
    "study",
]


def assignments(settings: Settings | None) -> list[str]:
    """Settings as ``key=value`` texts.

    Args:
        settings: dotted keys to plain values, or such texts.
    """
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    return list(settings)


def paths(given: Paths) -> list[Path]:
    """One path or several as a list."""
    many = [given] if isinstance(given, (str, Path)) else given
    return [Path(path) for path in many]


def arm_texts(arms: Arms) -> list[str]:
    """Arms as ``NAME=SPEC`` texts."""
    if isinstance(arms, Mapping):
        return [f"{name}={spec}" for name, spec in arms.items()]
    return list(arms)


def prepare(
    sources: Paths,
    out: PathLike,
    *,
    layout: str | None = None,
    table: PathLike | None = None,
    workers: int = 1,
    dask: str = "",
    pseudonyms: PathLike | None = None,
    settings: Settings | None = None,
) -> PrepareResult:
    """Make a cohort from raw scans; see ``volta3d prepare --help``.

    Raises:
        ConfigError: an unknown setting, or a value that can't work.
        VoltaError: no scans, or an output that can't be written.
    """
    from volta3d.config import PrepareConfig, build
    from volta3d.prepare.run import prepare as run

    return run(
        paths(sources),
        Path(out),
        layout=layout,
        table=None if table is None else Path(table),
        workers=workers,
        dask=dask,
        pseudonyms=pseudonyms,
        config=build(PrepareConfig, {}, assignments(settings)),
    )


def pretrain(
    cohorts: Paths,
    out: PathLike,
    *,
    preset: str | None = None,
    settings: Settings | None = None,
    exclude: Paths = (),
    resume: bool = False,
) -> PretrainResult:
    """Train an encoder on prepared cohorts; see ``volta3d pretrain --help``.

    Raises:
        ConfigError, CohortError, CheckpointError, Diverged, Collapse, OutOfMemory: see their texts.
    """
    from volta3d.config import load_own, load_pretrain
    from volta3d.pretrain.loop import pretrain as run

    changed = assignments(settings)
    config = load_own(Path(out), preset, changed) if resume else load_pretrain(preset, changed)
    return run(paths(cohorts), Path(out), config, exclude=paths(exclude), resume=resume)


def load_encoder(encoder: PathLike, device: str = "cpu") -> LoadedEncoder:
    """A pretrained encoder, ready to be called on prepared cubes.

    Raises:
        EncoderError: it is missing, damaged, or of an unknown format.
    """
    from volta3d.encoder.load import load_encoder as run

    return run(encoder, device)


def import_encoder(
    weights: PathLike,
    out: PathLike,
    contract: PathLike,
    *,
    kind: str = "",
    matched: float = 1.0,
    options: Mapping[str, int] | None = None,
) -> KeyReport:
    """Other people's weights as an encoder folder; see ``volta3d import --help``.

    Raises:
        EncoderError: not readable, not such weights, or less of them fits than ``matched``.
        UsageError, ConfigError: an unknown kind or contract.
    """
    from volta3d.encoder.imported import import_encoder as run

    return run(weights, out, contract=contract, kind=kind, matched=matched, options=options)


def embed(
    encoder: PathLike,
    data: Paths,
    out: PathLike | None = None,
    *,
    batch_size: int = 4,
    device: str = "auto",
    features: Sequence[str] | None = None,
    scale_mismatch: Literal["refuse", "ok"] = "refuse",
) -> pd.DataFrame:
    """A table of features, one row a scan; see ``volta3d embed --help``.

    Raises:
        EncoderError, CohortError: they are damaged, or don't fit together.
    """
    from volta3d.encoder.embed import embed as run

    return run(
        encoder,
        paths(data),
        out,
        batch_size,
        device,
        kinds=features or ("token", "mean"),
        mismatch=scale_mismatch,
    )


def probe(
    encoder: PathLike,
    cohort: PathLike,
    target: str | Sequence[str] | None = None,
    out: PathLike | None = None,
    *,
    scale_mismatch: Literal["refuse", "ok"] = "refuse",
) -> pd.DataFrame:
    """What linear models and neighbours read from the features; see ``volta3d probe --help``.

    Raises:
        EncoderError, CohortError: they are damaged, or don't fit together.
        UsageError: no such column.
    """
    from volta3d.evaluate.probes import probe as run

    targets = [target] if isinstance(target, str) else target
    return run(encoder, cohort, targets, out, mismatch=scale_mismatch)


def classify(
    cohort: PathLike,
    target: str,
    arms: Arms,
    out: PathLike,
    *,
    folds: int | None = None,
    fractions: Sequence[float] | None = None,
    seeds: int | None = None,
    preset: str = "paper",
    labels: PathLike | None = None,
    settings: Settings | None = None,
    resume: bool = False,
) -> ClassifyResult:
    """Compare arms on a column by cross-validation; see ``volta3d classify --help``.

    Raises:
        UsageError: arms, column or settings that can't work.
        EncoderError, CohortError, CheckpointError: see their texts.
    """
    from volta3d.config import load_classify
    from volta3d.downstream.classification.classify import classify as run

    stated = assignments(settings)
    stated += [] if folds is None else [f"folds={folds}"]
    stated += _repetitions(fractions, seeds)
    config = load_classify(preset, stated)
    return run(cohort, target, arm_texts(arms), out, config, labels=labels, resume=resume)


def segment(
    cohort: PathLike,
    arms: Arms,
    out: PathLike,
    *,
    folds: int | None = None,
    holdout: float | None = None,
    fractions: Sequence[float] | None = None,
    seeds: int | None = None,
    preset: str = "paper",
    settings: Settings | None = None,
    resume: bool = False,
) -> SegmentResult:
    """Compare arms on structures of a cohort; see ``volta3d segment --help``.

    Raises:
        UsageError: arms, labels or settings that can't work.
        EncoderError, CohortError, CheckpointError, Diverged: see their texts.
    """
    from volta3d.config import load_segment
    from volta3d.downstream.segmentation.segment import segment as run

    config = load_segment(preset, [*assignments(settings), *_repetitions(fractions, seeds)])
    return run(cohort, arm_texts(arms), out, config, folds=folds, holdout=holdout, resume=resume)


def _repetitions(fractions: Sequence[float] | None, seeds: int | None) -> list[str]:
    stated = [] if fractions is None else [f"fractions={list(fractions)}"]
    if seeds is not None or fractions is not None:
        stated.append(f"seeds={seeds or 3}")
    return stated


def predict(
    model: PathLike,
    scans: Paths,
    out: PathLike,
    *,
    device: str = "auto",
    flips: str | None = None,
    largest: bool | None = None,
) -> PredictResult:
    """Put new scans through a fitted model; see ``volta3d predict --help``.

    Raises:
        EncoderError: no model there, or a damaged one.
        VoltaError: an output that can't be written.
    """
    from volta3d.downstream.predict import predict as run

    return run(model, paths(scans), out, device=device, flips=flips, largest=largest)


def evaluate(
    runs: Paths,
    *,
    reference: PathLike | None = None,
    out: PathLike | None = None,
    labels: Any = None,
    target: str = "",
    people: PathLike | None = None,
) -> list[Any]:
    """Metrics from predictions alone; see ``volta3d evaluate --help``.

    Raises:
        UsageError, VoltaError: see their texts.
    """
    from volta3d.evaluate.evaluate import evaluate as run

    return list(
        run(paths(runs), reference=reference, out=out, labels=labels, target=target, people=people)
    )


def report(
    runs: Paths,
    out: PathLike,
    *,
    embeddings: PathLike | None = None,
    probes: PathLike | None = None,
    cohort: Paths = (),
) -> Path:
    """Write a report that opens offline; the path of its page. See ``volta3d report --help``.

    Raises:
        VoltaError: a run that can't be read, or an output that can't be written.
    """
    from volta3d.report.page import report as run

    return run(
        paths(runs),
        Path(out),
        embeddings=None if embeddings is None else Path(embeddings),
        probes=None if probes is None else Path(probes),
        cohort=paths(cohort) or None,
    )


def study(
    study: PathLike,
    out: PathLike,
    *,
    sources: Mapping[str, PathLike] | None = None,
    scale: str = "",
) -> StudyResult:
    """Run or continue a study; see ``volta3d study --help``.

    Raises:
        ConfigError: no such study, or one that can't work.
    """
    from volta3d.study.run import study as run

    given = {name: str(folder) for name, folder in (sources or {}).items()}
    return run(study, Path(out), sources=given, scale=scale)


def export(model: PathLike, out: PathLike, *, format: str = "onnx") -> Exported:
    """Write a network for other programs; see ``volta3d export --help``.

    Raises:
        EncoderError, UsageError, VoltaError: see their texts.
    """
    from volta3d.export.export import export as run

    return run(model, out, format=format)
