"""volta3d's preparation as a MONAI transform: for pipelines, and for bundles of before 0.2."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import MapTransform

from volta3d.cohort.arrays import decode, encode
from volta3d.cohort.contract import Contract
from volta3d.config import build
from volta3d.prepare.volume import prepare_scan


class PrepareScand(MapTransform):
    """Paths of NIfTI files to prepared cubes [1, D, D, D] that know where they lie.

    Args:
        keys: entries that hold paths.
        contract: the content of a model's preparation contract.
        source: the entry whose path is kept in the metadata; None: the key itself.
        allow_missing_keys: as in MONAI.

    Raises:
        ConfigError: not a contract.
        Refused: when called, on a scan that cannot be prepared, with the reason.
    """

    def __init__(
        self,
        keys: KeysCollection,
        contract: Mapping[str, Any],
        source: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.contract = build(Contract, dict(contract))
        self.source = source

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The same entries with the named ones prepared, and ``KEY_meta_dict`` beside each."""
        found = dict(data)
        for key in self.key_iterator(found):
            path = Path(found[key])
            prepared = prepare_scan(path, self.contract)
            # through the storage's rounding, as the scans the network was trained on
            volume = decode(encode(prepared.volume, self.contract), self.contract)
            meta = {"filename_or_obj": str(path)}
            found[key] = MetaTensor(
                torch.from_numpy(np.ascontiguousarray(volume, np.float32))[None],
                affine=torch.from_numpy(prepared.affine),
                meta=meta,
            )
            found[f"{key}_meta_dict"] = meta
        return found
