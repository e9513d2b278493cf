"""Label maps for new scans, each in the scan's own space, with volumes and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volta3d.arms.spec import is_arm
from volta3d.artefacts import REFUSED
from volta3d.cohort.arrays import decode, encode
from volta3d.cohort.store import CONTRACT
from volta3d.downstream.segmentation.ensemble import load_ensemble
from volta3d.downstream.segmentation.labelmap_files import (
    VOLUMES,
    bids_names,
    volumes_of,
    write_labelmap,
)
from volta3d.downstream.segmentation.model import FLIPS, SegmentModel, load_segment_model
from volta3d.downstream.segmentation.native import Grid, largest_components, to_native
from volta3d.downstream.segmentation.predictions import PredictedMaps
from volta3d.encoder.embed import _device
from volta3d.encoder.raw_scans import NO_SOURCE, find_scans, nothing_found
from volta3d.errors import UsageError, VoltaError
from volta3d.files import atomic_file, require_writable
from volta3d.grid.predicted import PredictResult, Progress
from volta3d.prepare.findings import Finding, Refused
from volta3d.prepare.image import read_image
from volta3d.prepare.qc import mosaic, write_png
from volta3d.prepare.scan import Scan, plain_path
from volta3d.prepare.source import as_nifti
from volta3d.prepare.volume import prepare_scan
from volta3d.pretrain.precision import uses_bf16


@dataclass(frozen=True)
class Options:
    """What is done besides one plain pass; what is None is done as the model's run did it.

    Args:
        flips: none, or left-right: a mirrored pass is averaged in.
        largest: keep only the largest part of each structure.
    """

    flips: str | None = None
    largest: bool | None = None

    def checked(self) -> Options:
        """Itself.

        Raises:
            UsageError: an unknown kind of flips.
        """
        if self.flips not in (None, *FLIPS):
            raise UsageError("Unknown flips", where=self.flips, fix=f"Use {', '.join(FLIPS)}")
        return self


@dataclass(frozen=True)
class Way:
    """How all scans of a call are outlined.

    Args:
        flips: none, or left-right.
        largest: keep only the largest part of each structure.
        bf16: run the network in bfloat16.
    """

    flips: str
    largest: bool
    bf16: bool

    @classmethod
    def of(cls, fitted: SegmentModel, options: Options) -> Way:
        """As its run did it, but for what the caller chose and what the device is slow at."""
        device = next(fitted.network.parameters()).device
        return cls(
            fitted.test_flips if options.flips is None else options.flips,
            fitted.largest_component if options.largest is None else options.largest,
            fitted.bf16 and uses_bf16("auto", device),
        )

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        precision = "bf16" if self.bf16 else "fp32"
        flips, largest = self.flips, self.largest
        return {"test_flips": flips, "largest_component": largest, "precision": precision}


def predict_labels(
    model: Path,
    scans: Sequence[Path],
    out: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    options: Options = Options(),
) -> PredictResult:
    """Write a BIDS derivative of label maps, volumes.tsv, pictures and refused.tsv.

    The scans are prepared by the model's own contract. What cannot be read is refused with the
    reason, as are paths without a scan, and the others go on. A folder with earlier results keeps
    them: the tables hold all label maps of the folder, of a file made twice the later one.

    Args:
        model: a model that ``segment`` wrote, or the folder of its arm: the networks of all folds,
            averaged (``ensemble``).
        scans: NIfTI files, DICOM folders, or folders of scans.
        out: the derivative's folder.
        device: auto, cpu or cuda.
        progress: called with (done, total).
        options: flips and clean-up, recorded in ``predictions.json``; by default and in precision
            as the model's run did it.

    Raises:
        EncoderError: the model is damaged.
        CohortError: not one path can be used: each is missing or holds no scan.
        UsageError: a prepared cohort instead of scans, unknown flips, or a folder with results
            of another model.
        VoltaError: not one scan could be used, or the results cannot be written.
    """
    options.checked()
    load = load_ensemble if is_arm(model) else load_segment_model
    fitted = load(model, _device(device))
    found, refused = _discover(scans)
    require_writable(out)
    folder = PredictedMaps.open(out, fitted)
    way = Way.of(fitted, options)
    names = bids_names([(s.participant_id, s.session) for s in found])
    rows: list[dict[str, Any]] = []
    for number, (scan, name) in enumerate(zip(found, names, strict=True)):
        try:
            rows.append(_one(fitted, scan, out, name, way))
        except Refused as error:
            refused.append(_refusal(scan.source, error.finding))
        except VoltaError:
            raise
        except Exception as error:  # whatever a broken file provokes, the others go on
            what = f"Cannot be read: {type(error).__name__}: {error}"
            finding = Finding("error", "unreadable", what, "Fetch or restore the file")
            refused.append(_refusal(scan.source, finding))
        if progress is not None:
            progress(number + 1, len(found))
    if not rows:
        first = refused[0]
        raise VoltaError(
            f"None of the {len(refused)} scans could be outlined; the first: {first['what']}",
            where=first["source"],
            fix=first["how_to_fix"],
        )
    folder.publish(rows, refused, way.content(), synthetic=any(s.synthetic for s in found))
    return PredictResult(out / VOLUMES, len(rows), tuple(refused), out / REFUSED)


def _discover(paths: Sequence[Path]) -> tuple[list[Scan], list[dict[str, str]]]:
    for path in paths:
        if _is_cohort(path):
            raise UsageError(
                "A prepared cohort has no scans of its own to give label maps to",
                where=path,
                fix="Name the scans it was prepared from",
            )
    found, refused = find_scans(paths)
    if not found and all(finding.code == NO_SOURCE for _, finding in refused):
        raise nothing_found(refused)
    return found, [_refusal(path, finding) for path, finding in refused]


def _is_cohort(path: Path) -> bool:
    try:
        return (path / CONTRACT).is_file()
    except OSError:  # a folder that may not be looked into
        return False


def _one(fitted: SegmentModel, scan: Scan, out: Path, name: str, way: Way) -> dict[str, Any]:
    """Prepare, outline and bring back one scan; its row of the tables."""
    contract = fitted.contract
    with as_nifti(scan) as (nifti, noticed):
        prepared = prepare_scan(nifti, contract)
        native = _grid(nifti)
    # through the storage's rounding, as the scans it was trained on
    volume = decode(encode(prepared.volume, contract), contract)
    found = fitted.predict(volume, flips=way.flips, bf16=way.bf16)
    classes = to_native(found, prepared.affine, native)
    if way.largest:
        classes = largest_components(classes)
    write_labelmap(out / name, classes, native, fitted.structures)
    picture = out / name.replace("_dseg.nii.gz", "_preview.png")
    shown = found.argmax(0).to("cpu").numpy().astype(np.uint16)
    with atomic_file(picture) as temporary:
        write_png(temporary, mosaic(volume, shown, contract))
    volumes = volumes_of(classes, native, fitted.structures)
    missing = [s for s, mm3 in volumes.items() if mm3 == 0]
    codes = [f.code for f in (*scan.findings, *noticed, *prepared.findings)]
    codes += ["structure-not-found"] if missing else []
    return {
        "scan_id": scan.scan_id,
        "participant_id": scan.participant_id,
        "session": scan.session,
        "file": name,
        "source": plain_path(scan.source),
        "findings": ";".join(dict.fromkeys(codes)),
        "model_sha256": fitted.config["weights_sha256"],
        "volumes": volumes,
    }


def _grid(nifti: Path) -> Grid:
    image = read_image(nifti, narrow=True)
    shape = (image.data.shape[0], image.data.shape[1], image.data.shape[2])
    return Grid(shape, image.affine)


def _refusal(path: Path, finding: Finding) -> dict[str, str]:
    return {
        "source": plain_path(path),
        "code": finding.code,
        "what": finding.what,
        "how_to_fix": finding.how_to_fix,
    }
