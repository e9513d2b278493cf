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
from sklearn.utils.validation import check_is_fitted

from volta3d.downstream.embed import _device
from volta3d.downstream.encoder import LoadedEncoder, load_encoder
from volta3d.downstream.source import Source
from volta3d.errors import UsageError, VoltaError

KINDS = ("token", "mean", "concat", "regions")


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
        refused: what happens to a scan that cannot be prepared: ``raise``, or ``nan`` for a row
            of NaN.
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
                contract's size (an array [n, D, D, D] holds n of them); any mixture.

        Raises:
            VoltaError: a scan cannot be prepared and ``refused`` is ``raise``.
            EncoderError: an array that is no prepared cube.
        """
        check_is_fitted(self)
        done: list[np.ndarray] = []
        waiting: list[np.ndarray] = []
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
        if not done:
            raise VoltaError("There is no scan to embed", fix="Give at least one that can be read")
        told = np.concatenate(done)
        features = np.full((count, told.shape[1]), np.nan, np.float32)
        features[places] = told
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

    def _embed(self, cubes: list[np.ndarray]) -> np.ndarray:
        features = self.loaded_.features(torch.from_numpy(np.stack(cubes))[:, None])
        if self.features == "concat":
            joined = torch.cat([features["token"], features["mean"]], 1)
            return np.asarray(joined.cpu().numpy())
        return np.asarray(features[self.features].cpu().numpy())

    def _cubes(self, scans: Iterable[Any]) -> Iterator[np.ndarray | None]:
        """One prepared cube per scan, None for one refused."""
        if isinstance(scans, str | Path) or hasattr(scans, "get_fdata"):
            raise UsageError("Embedder takes a list of scans", fix="Write [scan]")
        for number, scan in enumerate(scans):
            if isinstance(scan, str | Path):
                yield self._prepared(Path(scan), str(scan))
            elif hasattr(scan, "get_fdata"):  # an image of nibabel or nilearn
                yield self._image(scan, f"image {number}")
            else:
                yield self._cube(scan, number)

    def _image(self, image: Any, name: str) -> np.ndarray | None:
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

    def _cube(self, scan: Any, number: int) -> np.ndarray:
        cube = np.asarray(scan, np.float32)
        size = self.loaded_.contract.size
        if cube.shape == (1, size, size, size):
            cube = cube[0]
        if cube.shape != (size, size, size):
            raise UsageError(
                f"An array is taken for a prepared cube of {size}³ voxels, not {cube.shape}",
                where=f"scan {number}",
                fix="Give paths or images instead: they are prepared with the encoder's contract",
            )
        return cube

    def _prepared(self, path: Path, name: str) -> np.ndarray | None:
        """The cube of one scan: a NIfTI file, or a folder with one NIfTI or DICOM scan."""
        refusal = {"what": "No such file", "how_to_fix": "Check the path"}
        if path.exists():
            source = Source.open(path, self.loaded_)
            cubes = [volume for _, volume in source.cubes()]
            if len(cubes) > 1:
                raise UsageError(
                    f"{len(cubes)} scans in one place", where=name, fix="Name each scan by itself"
                )
            if cubes:
                return cubes[0]
            refusal = source.refused[0]
        if self.refused == "nan":
            return None
        raise VoltaError(refusal["what"], where=name, fix=refusal["how_to_fix"])
