"""``predict``: new scans through a fitted model, prepared the way it wants them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from volta3d.arms.spec import is_arm
from volta3d.artefacts import MODEL
from volta3d.downstream.classification.fitted import read_model_config
from volta3d.errors import UsageError
from volta3d.grid.predicted import PredictResult, Progress


def predict(
    model: Path | str,
    scans: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    device: str = "auto",
    flips: str | None = None,
    largest: bool | None = None,
    progress: Progress | None = None,
) -> PredictResult:
    """Class scores, numbers, or label maps in each scan's own space.

    Args:
        model: a folder that ``classify`` or ``segment`` wrote, RUN/arms/NAME/model; RUN/arms/NAME
            is for label maps the networks of all folds, averaged, and else the same model.
        scans: scans (NIfTI or DICOM, files or folders) or, for class scores and numbers, prepared
            cohorts; several are mixed. A file that is given twice is taken once; scans of like
            names are told apart by the folders they are in (``raw_scans``).
        out: the folder for the results.
        device: auto, cpu or cuda.
        flips: for label maps: none, or left-right: a mirrored pass is averaged in; None: as the
            run did that made the model.
        largest: for label maps: keep only the largest part of each structure; None: as the run did.
        progress: called with (done, total).

    Returns:
        Where the results are. A scan that cannot be prepared is refused with the reason, so is a
        path that is missing or holds no scan, and the others go on.

    Raises:
        EncoderError: the model is damaged or contradicts a cohort.
        CohortError: not one path can be used: each is missing, damaged or holds no scan.
        UsageError: no scan is named, a scan is given in two cohorts or in a cohort and by itself,
            or options of another kind of model.
        VoltaError: not one scan could be used, or the results cannot be written.
    """
    path = Path(model)
    model = path / MODEL if is_arm(path) else path
    kind = read_model_config(model)["kind"]
    given = [Path(scans)] if isinstance(scans, Path | str) else [Path(s) for s in scans]
    if not given:
        raise UsageError("Nothing to predict", fix="Name a scan or a folder of scans")
    if kind == "segmentation":
        from volta3d.downstream.segmentation.predict_labels import Options, predict_labels

        options = Options(flips, largest)
        return predict_labels(
            path, given, Path(out), device=device, progress=progress, options=options
        )
    if flips is not None or largest is not None:
        raise UsageError(
            f"Flips and largest parts are for label maps, this model is for {kind}",
            where=path,
            fix="Leave --flips and --largest out",
        )
    from volta3d.downstream.classification.predict_scores import predict_scores

    return predict_scores(model, given, Path(out), device=device, progress=progress)
