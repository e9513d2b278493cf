"""The scans of one or several cohorts, on the device when they fit, else read one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from torch import Tensor

from volta3d.cohort.exclude import Exclusion, exclusion
from volta3d.cohort.store import Cohort
from volta3d.config import PretrainConfig
from volta3d.errors import CohortError
from volta3d.files import content_hash


class Scans:
    """Prepared scans in a fixed order, read as batches.

    Args:
        cohorts: prepared with the same contract.
        downsample: average-pool each cube by this factor.
        device: where the batches are wanted.
        load: hold all scans on the device when they fit; else each batch is read as asked for.
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
        load: bool = True,
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
        self._resident = self._load() if load and self._fits() else None

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
            excluded=exclusion(cohorts, others) if others else None,
        )
        scans.check_fit(config)
        return scans

    def __len__(self) -> int:
        return len(self._where)

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
        need = config.views.global_size
        if self.edge * 1.0 < need:
            raise CohortError(
                f"The cohort's cubes have {self.edge} voxels an edge"
                + (f" after downsampling by {self.downsample}" if self.downsample > 1 else "")
                + f", but preset '{config.preset}' cuts global views of {need}",
                where=self.cohorts[0].path,
                fix=f"Prepare with --set size={need * self.downsample} or more, choose a smaller "
                f"preset, or lower views.downsample or views.global_size",
            )

    def _fits(self) -> bool:
        needed = 4 * len(self) * self.edge**3
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            return needed < 0.4 * free
        return bool(needed < 0.4 * psutil.virtual_memory().available)

    def _load(self) -> Tensor:
        loaded = []
        for cohort in self.cohorts:
            rows = [i for c, i in self._where if c is cohort]
            loaded.append(cohort.load(rows, downsample=self.downsample).to(self.device))
        volumes = torch.cat(loaded)
        self._refuse_nonfinite(volumes, range(len(self)))
        return volumes

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
        """[B, 1, D, H, W] in fp32 on the device."""
        if self._resident is not None:
            return self._resident[torch.as_tensor(np.asarray(indices), device=self.device)]
        parts = []
        for index in indices:
            cohort, row = self._where[int(index)]
            parts.append(cohort.load([row], downsample=self.downsample))
        volumes = torch.cat(parts)
        self._refuse_nonfinite(volumes, [int(i) for i in indices])
        return volumes.to(self.device)

    def identity(self) -> dict[str, Any]:
        """What a checkpoint remembers of the data, to refuse other data on resume."""
        identity = {
            "hash": content_hash([c.hash() for c in self.cohorts]),
            "scans": len(self),
            "downsample": self.downsample,
        }
        return identity | ({"excluded": self.excluded.identity()} if self.excluded else {})
