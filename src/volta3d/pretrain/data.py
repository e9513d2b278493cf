"""The scans of one or several cohorts, on the device when they fit, else read one by one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from volta3d.cohort.contract import RANGE_LEVELS
from volta3d.cohort.exclude import Exclusion, exclusion
from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import CohortError, VoltaError
from volta3d.files import content_hash
from volta3d.pretrain.ahead import within
from volta3d.pretrain.distributed import launched
from volta3d.pretrain.holdout import held_out
from volta3d.pretrain.scale import check_scale
from volta3d.views.batch import ViewBatch, make_views
from volta3d.views.head import Head, cube_edge_mm, foreground_box

SHIFT = 2**15
HELD = 0.4  # of the free memory: scans that take less are held in it
PATIENCE = 300.0  # seconds for one scan; a network share may need a few of them
Read = TypeVar("Read")
Keep = Literal["auto", "resident", "stream"]


class Scans:
    """Prepared scans in a fixed order, read as batches.

    Args:
        cohorts: prepared with the same contract.
        downsample: average-pool each cube by this factor.
        device: where the batches are wanted.
        keep: ``resident`` holds all scans on the device, ``stream`` reads each batch as it is
            asked for, ``auto`` holds them when they fit.
        excluded: scans to leave out, see ``cohort.exclude``.

    Raises:
        CohortError: no scans, none left, contracts that contradict each other, or a scan id that
            two share.
    """

    def __init__(
        self,
        cohorts: Sequence[Cohort],
        *,
        downsample: int = 1,
        device: torch.device | str = "cpu",
        keep: Keep = "auto",
        excluded: Exclusion | None = None,
    ) -> None:
        self.cohorts = list(cohorts)
        if not self.cohorts:
            raise CohortError("No cohort was given", fix="Name at least one prepared cohort")
        self.downsample = downsample
        self.device = torch.device(device)
        self.contract = self.cohorts[0].contract
        self.excluded = excluded
        self._where = [(c, i) for c in self.cohorts for i in range(len(c))]
        self.participants = pd.concat([c.participants for c in self.cohorts], ignore_index=True)
        self._check()
        self._leave_out(excluded.scan_ids if excluded else frozenset())
        self.scan_ids = [str(s) for s in self.participants["scan_id"]]
        size = self.contract.size
        self.edges_mm = [cube_edge_mm(c.affine(row), size) for c, row in self._where]
        self._heads: dict[int, Head] = {}
        self.hold_out(0.0, 0)
        held = keep == "resident" or (keep == "auto" and self._fits())
        self._resident = self._load() if held else None

    @classmethod
    def open(
        cls,
        paths: Sequence[Path],
        config: PretrainConfig,
        device: torch.device,
        exclude: Sequence[Path] = (),
    ) -> Scans:
        """Open cohorts for a configuration and make sure its views can be cut from them.

        Everybody who is also in a cohort of ``exclude`` is left out.
        """
        cohorts = [Cohort.open(Path(p)) for p in paths]
        others = [Cohort.open(Path(p)) for p in exclude]
        scans = cls(
            cohorts,
            downsample=config.views.downsample,
            device=device,
            keep=config.data,
            excluded=exclusion(cohorts, others) if others else None,
        )
        scans.check_fit(config)
        scans.hold_out(config.monitor.holdout, config.seed)
        return scans

    def __len__(self) -> int:
        return len(self._where)

    def hold_out(self, holdout: float, seed: int) -> None:
        """Set people aside: ``held`` are the places of their scans, ``trained`` all others.

        Raises:
            ConfigError: nobody would be left to train on.
        """
        self.held = held_out(self.participants, holdout, seed) if holdout else np.arange(0)
        self.trained = np.setdiff1d(np.arange(len(self)), self.held)

    def _check(self) -> None:
        if not self._where:
            raise CohortError("The cohort holds no scans", fix="Prepare some scans first")
        for cohort in self.cohorts[1:]:
            ours, theirs = self.contract.preparation(), cohort.contract.preparation()
            if ours != theirs:
                keys = sorted(k for k in ours if ours[k] != theirs[k])
                raise CohortError(
                    f"Two cohorts were prepared differently: {', '.join(keys)}",
                    where=cohort.path,
                    fix="Prepare both with the same settings",
                )
        twice = self.participants["scan_id"][self.participants["scan_id"].duplicated()]
        if len(twice):
            raise CohortError(
                f"The same scan id occurs twice: {twice.iloc[0]}",
                fix="Give each cohort once, and prepare different data sets under different names",
            )

    def _leave_out(self, scan_ids: Collection[str]) -> None:
        stays = ~self.participants["scan_id"].astype(str).isin(scan_ids)
        if not stays.any():
            raise CohortError(
                "Nobody is left to train on: the cohorts to exclude hold everybody",
                where=self.cohorts[0].path,
                fix="Exclude the cohort that is tested on, not the one that is trained on",
            )
        self._where = [w for w, stay in zip(self._where, stays, strict=True) if stay]
        self.participants = self.participants[stays].reset_index(drop=True)

    @property
    def edge(self) -> int:
        """Edge of the cubes after downsampling, in voxels."""
        return self.contract.size // self.downsample

    def check_fit(self, config: PretrainConfig) -> None:
        """Refuse a cube that is smaller than what the views are cut to.

        Raises:
            CohortError: with the settings that would fit.
        """
        where = self.cohorts[0].path
        check_scale(config, self.edges_mm, self.edge, where)
        need = config.views.global_size
        if config.views.spacing_mm is None and self.edge * 1.0 < need:
            raise CohortError(
                f"The cohort's cubes have {self.edge} voxels an edge"
                + (f" after downsampling by {self.downsample}" if self.downsample > 1 else "")
                + f", but preset '{config.preset}' cuts global views of {need}",
                where=where,
                fix=f"Prepare with --set size={need * self.downsample} or more, choose a smaller "
                f"preset, or lower views.downsample or views.global_size",
            )

    @property
    def bytes(self) -> int:
        """What all scans take when they are held: 16 bits a voxel, 32 once averaged."""
        return (2 if self.downsample == 1 else 4) * len(self) * self.edge**3

    def _fits(self) -> bool:
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return self.bytes < HELD * free
        # the processes of one machine share its memory
        return bool(self.bytes < HELD * psutil.virtual_memory().available / launched().here)

    def _load(self) -> Tensor:
        """All scans [n, 1, D, H, W] as they are stored, or in fp32 when averaged."""
        whole = self.downsample == 1
        dtype = torch.float32
        if whole:
            dtype = torch.int16 if self.contract.storage == "uint16" else torch.float16
        shape = (len(self), 1, self.edge, self.edge, self.edge)
        volumes = torch.empty(shape, dtype=dtype, device=self.device)
        for place, (cohort, row) in enumerate(self._where):
            if whole:
                stored = self._read(place, partial(cohort.stored, row))
                volumes[place, 0] = torch.from_numpy(_signed(stored))
            else:
                volumes[place] = self._cube(place)[0]
        self._refuse_nonfinite(volumes, range(len(self)))
        return volumes

    def about(self) -> str:
        """One line for the log: how the scans are held."""
        size = f"{self.bytes / 1e9:.3g} GB"
        aside = f", {len(self.held)} of them kept out of training" if len(self.held) else ""
        if self.resident:
            return f"{len(self)} scans held on {self.device}: {size}{aside}"
        return f"{len(self)} scans read from the store as needed ({size} would hold them){aside}"

    def _refuse_nonfinite(self, volumes: Tensor, indices: Iterable[int]) -> None:
        """Raise CohortError for NaN or infinity, which only 16-bit floats can hold."""
        if self.contract.storage != "float16":
            return
        pairs = zip(volumes, indices, strict=True)
        bad = [self.scan_ids[int(i)] for volume, i in pairs if not bool(volume.isfinite().all())]
        if bad:
            raise CohortError(
                f"Scans hold NaN or infinity: {', '.join(bad[:8])}",
                fix="Prepare them again, or leave them out",
            )

    @property
    def resident(self) -> bool:
        """Whether all scans are held on the device."""
        return self._resident is not None

    def batch(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        """[B, 1, D, H, W] in fp32 on the device.

        Raises:
            CohortError: a scan that can't be read, or not in time.
        """
        if self._resident is not None:
            chosen = self._resident[torch.as_tensor(np.asarray(indices), device=self.device)]
            return _decoded(chosen)
        volumes = torch.cat([self._cube(int(index)) for index in indices])
        self._refuse_nonfinite(volumes, [int(i) for i in indices])
        if self.device.type == "cuda":  # from pinned memory, so that compute goes on meanwhile
            return volumes.pin_memory().to(self.device, non_blocking=True)
        return volumes.to(self.device)

    def heads(self, indices: Sequence[int] | np.ndarray, volumes: Tensor) -> list[Head]:
        """Where the heads of some scans lie, looked up once in each.

        Args:
            indices: of the scans.
            volumes: what :meth:`batch` gave for them.
        """
        places = [int(index) for index in indices]
        for place, volume in zip(places, volumes, strict=True):
            if place not in self._heads:
                self._heads[place] = Head(self.edges_mm[place], *foreground_box(volume[0]))
        return [self._heads[place] for place in places]

    def views(
        self,
        indices: Sequence[int] | np.ndarray,
        config: PretrainConfig,
        epoch: int,
        volumes: Tensor | None = None,
    ) -> ViewBatch:
        """The views of some scans in one epoch.

        Args:
            volumes: what :meth:`batch` gave for them, where it was called already.
        """
        given = self.batch(indices) if volumes is None else volumes
        return make_views(
            given,
            [self.scan_ids[int(i)] for i in indices],
            epoch=epoch,
            seed=config.seed,
            views=config.views,
            masking=config.masking,
            value_range=self.contract.value_range,
            heads=self.heads(indices, given) if config.views.spacing_mm else None,
        )

    def _cube(self, place: int) -> Tensor:
        cohort, row = self._where[place]
        return self._read(place, lambda: cohort.load([row], downsample=self.downsample))

    def _read(self, place: int, work: Callable[[], Read]) -> Read:
        """Read one scan; whatever goes wrong, its name is told.

        Raises:
            CohortError: it can't be read, or not in time.
        """
        cohort, _ = self._where[place]
        try:
            return within(PATIENCE, work)
        except (VoltaError, MemoryError):
            raise
        except Exception as error:  # whatever zarr, Blosc or the disk make of it
            what = f"cannot be read: {type(error).__name__}: {error}"
            if isinstance(error, TimeoutError):
                what = f"was not read within {PATIENCE:.0f} seconds"
            raise CohortError(
                f"Scan {self.scan_ids[place]} {what}",
                where=cohort.path,
                fix="See whether its disk or network share answers, then go on with --resume",
            ) from error

    def identity(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data, to refuse other data on resume."""
        identity = {
            "hash": content_hash([c.hash() for c in self.cohorts]),
            "scans": len(self),
            "downsample": self.downsample,
        }
        if len(self.held):
            identity["held_out"] = content_hash([self.scan_ids[place] for place in self.held])
        return identity | ({"excluded": self.excluded.identity()} if self.excluded else {})


def _signed(stored: np.ndarray) -> np.ndarray:
    """uint16 shifted into int16, with which torch can do everything; float16 as it is."""
    if stored.dtype == np.uint16:
        return (stored ^ np.uint16(SHIFT)).view(np.int16)
    return stored


def _decoded(held: Tensor) -> Tensor:
    """Held values in fp32, bit by bit what ``cohort.arrays.decode`` gives."""
    if held.dtype == torch.int16:
        # by a tensor: CUDA multiplies by the reciprocal of a number, which is another rounding
        levels = torch.full((), float(RANGE_LEVELS), device=held.device)
        return held.float().add_(float(SHIFT)).div_(levels)
    return held.float()
