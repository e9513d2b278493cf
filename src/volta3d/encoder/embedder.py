"""A scikit-learn transformer: scans in, features out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self

import nibabel as nib
import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from volta3d.encoder.embed import _device
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.samples import is_missing, samples
from volta3d.encoder.source import Source
from volta3d.errors import CohortError, EncoderError, UsageError, VoltaError

KINDS = ("token", "mean", "concat", "regions")
# codes of DICOM series that are refused because they are something else, not because of a fault
OTHER_PICTURES = {
    "localiser", "not-t1", "not-magnitude", "derived", "secondary-capture", "rgb", "not-mr",
    "burned-in",
}  # fmt: skip


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Scans to features with a pretrained encoder, as a step of a scikit-learn Pipeline.

    There is nothing to fit: the encoder stays as it is, so that cross-validation around it cannot
    leak. In ``cross_val_score`` each scan is embedded once per fold; embedding first, with
    ``Embedder(...).fit_transform(scans)``, is faster and gives the same scores.

    Args:
        encoder: an encoder folder.
        features: ``token`` (the summariser's), ``mean`` (of the patch tokens), ``concat`` (both)
            or ``regions`` (means over a grid of 3³ regions).
        batch_size: scans at once.
        device: auto, cpu or cuda.
        refused: what happens to a sample without a scan that can be used: ``raise``, or ``nan``
            for a row of NaN. These are a missing value; a path that is missing or holds no scan, a
            scan that cannot be prepared, or several that it may be; a cube that is not finite.
    """

    def __init__(
        self,
        encoder: Path | str,
        features: Literal["token", "mean", "concat", "regions"] = "token",
        batch_size: int = 4,
        device: str = "auto",
        refused: Literal["raise", "nan"] = "raise",
    ) -> None:
        self.encoder = encoder
        self.features = features
        self.batch_size = batch_size
        self.device = device
        self.refused = refused

    def __sklearn_tags__(self) -> Tags:
        """Scans come as paths, images or cubes, and fitting loads the encoder alone."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True  # a missing path, with refused='nan'
        tags.no_validation = True
        tags.transformer_tags.preserves_dtype = []  # always float32
        return tags

    def fit(self, X: Iterable[Any], y: Any = None) -> Self:
        """Load the encoder; ``X`` and ``y`` are not looked at.

        Raises:
            EncoderError: the encoder is missing or damaged.
            UsageError: an unknown option.
        """
        if self.features not in KINDS or self.refused not in ("raise", "nan"):
            raise UsageError(
                "Unknown option of Embedder",
                where=f"features={self.features!r}, refused={self.refused!r}",
                fix=f"features is one of {', '.join(KINDS)}; refused is raise or nan",
            )
        if self.batch_size < 1:
            raise UsageError("The batch size must be at least 1", where=self.batch_size)
        self.loaded_: LoadedEncoder = load_encoder(self.encoder, _device(self.device))
        return self

    def transform(self, X: Iterable[Any]) -> np.ndarray:
        """Features [n, d], float32.

        Args:
            X: paths of scans, images of nibabel or nilearn, or prepared cubes [D, D, D] of the
                contract's size (an array [n, D, D, D] holds n of them); any mixture. Paths or
                images may also be the one column of a DataFrame or of an array [n, 1]. A path is a
                NIfTI file, or a folder or zip with one NIfTI scan or one T1-weighted DICOM series;
                DICOM series that show something else may lie beside it.

        Raises:
            VoltaError: a sample has no scan that can be used, and ``refused`` is ``raise``.
            EncoderError: a cohort of another preparation.
            UsageError: several columns, several scans in one place, or an array that is no cube.
        """
        check_is_fitted(self)
        done: list[np.ndarray] = []
        waiting: list[tuple[np.ndarray, float]] = []
        places: list[int] = []
        count = 0
        for cube in self._cubes(X):
            if cube is not None:
                waiting.append(cube)
                places.append(count)
            count += 1
            if len(waiting) == self.batch_size:
                done.append(self._embed(waiting))
                waiting = []
        if waiting:
            done.append(self._embed(waiting))
        if not count:
            raise VoltaError("There is no scan to embed", fix="Give at least one that can be read")
        features = np.full((count, len(self.get_feature_names_out())), np.nan, np.float32)
        if done:
            features[places] = np.concatenate(done)
        return features

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns, ``token_000`` and on, as ``volta3d embed`` calls them."""
        check_is_fitted(self)
        width = self.loaded_.width
        sizes = {"token": width, "mean": width, "regions": 27 * width}
        kinds = ("token", "mean") if self.features == "concat" else (self.features,)
        names = [
            f"{kind}_{i:0{max(3, len(str(sizes[kind] - 1)))}d}"
            for kind in kinds
            for i in range(sizes[kind])
        ]
        return np.array(names, object)

    def _embed(self, cubes: list[tuple[np.ndarray, float]]) -> np.ndarray:
        volumes = torch.from_numpy(np.stack([cube for cube, _ in cubes]))[:, None]
        known = self.loaded_.scale is not None
        mm = torch.tensor([mm for _, mm in cubes]) if known else None
        features = self.loaded_.features(volumes, mm)
        if self.features == "concat":
            joined = torch.cat([features["token"], features["mean"]], 1)
            return np.asarray(joined.cpu().numpy())
        return np.asarray(features[self.features].cpu().numpy())

    def _cubes(self, scans: Iterable[Any]) -> Iterator[tuple[np.ndarray, float] | None]:
        """One prepared cube and its voxel in mm per scan, None for one refused."""
        for number, scan in enumerate(samples(scans)):
            cube = self._sample(scan, number)
            if isinstance(cube, tuple):
                yield cube
            elif self.refused == "nan":
                yield None
            else:
                raise cube

    def _sample(self, scan: Any, number: int) -> tuple[np.ndarray, float] | VoltaError:
        """A prepared cube and its voxel in mm, or why there is none."""
        if is_missing(scan):
            fix = "Leave the sample out, or use refused='nan'"
            return VoltaError("A missing value instead of a scan", where=f"scan {number}", fix=fix)
        if isinstance(scan, str | Path):
            return self._prepared(Path(scan), str(scan))
        if hasattr(scan, "get_fdata"):  # an image of nibabel or nilearn
            return self._image(scan, f"image {number}")
        cube = self._cube(scan, f"scan {number}")
        return cube if isinstance(cube, VoltaError) else (cube, self.loaded_.reading().mm)

    def _image(self, image: Any, name: str) -> tuple[np.ndarray, float] | VoltaError:
        """The cube of an image in memory, checked as a file is: it becomes one for a moment."""
        with ExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
                nib.save(image, file := Path(folder) / "scan.nii")
            except OSError as error:
                raise VoltaError(
                    f"An image in memory could not be written to a temporary file: {error}",
                    where=name,
                    fix="Set TMPDIR to a folder with room for it, or give paths instead of images",
                ) from error
            return self._prepared(file, name)

    def _cube(self, scan: Any, name: str) -> np.ndarray | VoltaError:
        size = self.loaded_.contract.size
        try:
            cube = np.asarray(scan, np.float32)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"Neither a path, an image nor a prepared cube: {type(scan).__name__}",
                where=name,
                fix="Give paths, images of nibabel, or cubes of numbers",
            ) from error
        if cube.shape == (1, size, size, size):
            cube = cube[0]
        if cube.shape != (size, size, size):
            raise UsageError(
                f"An array is taken for a prepared cube of {size}³ voxels, not {cube.shape}",
                where=name,
                fix="Give paths or images instead: they are prepared with the encoder's contract",
            )
        if not np.isfinite(cube).all():
            fix = "Prepare the scan again"
            return EncoderError("A prepared cube holds NaN or infinity", where=name, fix=fix)
        return cube

    def _prepared(self, path: Path, name: str) -> tuple[np.ndarray, float] | VoltaError:
        """The cube of the one scan that a path leads to.

        A file or series that cannot be read may be the scan that is meant, so that nothing beside
        it is taken instead; a localiser or another contrast is not.
        """
        try:
            source = Source.open(path, self.loaded_)
            doubtful = [r for r in source.refused if r["code"] not in OTHER_PICTURES]
            several = source.count + len(doubtful)
            if source.count and several > 1:
                what = f"{several} scans in one place, any of which may be meant"
                return UsageError(what, where=name, fix="Name the file or the folder of each scan")
            for scan in source.cubes():
                return scan.volume, scan.mm
        except CohortError as error:
            return error
        refusal = source.refused[-1] if source.count else (doubtful or source.refused)[0]
        return VoltaError(refusal["what"], where=name, fix=refusal["how_to_fix"])
