"""An encoder in memory: cubes to features, at the scale it knows.

Shape legend: B batch, D edge of a prepared cube, S edge of a tile, T tokens, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool3d

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.encoder.reading import Reading, plan
from volta3d.encoder.scale import Scale, scale_of, share_of
from volta3d.encoder.tiles import cut, join
from volta3d.encoder.weights import KeyReport
from volta3d.errors import EncoderError
from volta3d.files import content_hash, read_json
from volta3d.model.vit import Encoder

REGIONS = 3  # along each axis
AT_ONCE = 8  # tiles in the network at a time


@dataclass(frozen=True)
class LoadedEncoder:
    """A pretrained encoder, ready to make features.

    Args:
        encoder, summariser: the teacher's, in eval mode; an imported encoder has another network
            and the mean of its tokens in place of a summary.
        config: the content of config.json.
        contract: how scans must be prepared.
        image_size: edge of the cube the encoder takes, in voxels.
        downsample: prepared cubes are average-pooled by this factor first.
        path: its folder.
        report: how the tensors fitted.
    """

    encoder: nn.Module
    summariser: nn.Module
    config: dict[str, Any]
    contract: Contract
    image_size: int
    downsample: int
    path: Path
    report: KeyReport

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.encoder.parameters()).device

    @property
    def width(self) -> int:
        """Numbers in a token."""
        return int(self.encoder.width)  # type: ignore[arg-type]

    @property
    def vit(self) -> Encoder:
        """Its network, where that is a vision transformer as pretraining makes them.

        Raises:
            EncoderError: it is another one.
        """
        if not isinstance(self.encoder, Encoder):
            raise EncoderError(
                f"This encoder's network is a {self.config['network']['kind']}, which cannot be an "
                "arm, be built into a UNETR or be exported",
                where=self.path,
                fix="Read scans with it by volta3d embed or probe, or volta3d.EncoderClassifier",
            )
        return self.encoder

    @property
    def patch_size(self) -> int:
        """Edge of a token, in voxels of the network."""
        return int(self.config.get("patch_size") or self.config["model"]["patch_size"])

    def to(self, device: torch.device | str) -> Self:
        """Move the weights to ``device``."""
        self.encoder.to(device)
        self.summariser.to(device)
        return self

    @property
    def scale(self) -> Scale | None:
        """The millimetres its network saw in pretraining; None where nothing tells.

        Raises:
            EncoderError: config.json holds a damaged one.
        """
        return scale_of(self.config, self.contract, self.image_size, self.patch_size)

    @property
    def prepared_mm(self) -> float | None:
        """Edge in mm of the prepared voxels that it was pretrained on; None where nothing tells."""
        scale, share = self.scale, share_of(self.config).mean
        if scale is None:
            return None
        if self.contract.fit != "resize":
            return self.contract.spacing
        return scale.voxel_mm / self._network_voxel if share is not None else None

    @property
    def _network_voxel(self) -> float:
        """Edge of a voxel of its network, in voxels of the prepared cube."""
        share = share_of(self.config).mean
        return (1.0 if share is None else share) * self.contract.size / self.image_size

    def reading(self, size: int | None = None, mm: float | None = None) -> Reading:
        """How cubes of ``size`` voxels of ``mm`` go in; None: those of the contract."""
        scale = self.scale
        if scale is None:  # in voxels of the prepared cube
            prepared, mm, voxel = 1.0, 1.0, self._network_voxel
        else:
            prepared, voxel = self.prepared_mm or mm or scale.voxel_mm, scale.voxel_mm
        return plan(
            size=self.contract.size if size is None else size,
            mm=prepared if mm is None else mm,
            image_size=self.image_size,
            downsample=self.downsample,
            prepared_mm=prepared,
            voxel_mm=voxel,
            share=share_of(self.config),
            scale=scale,
        )

    def cube(self, volumes: Tensor) -> Tensor:
        """Prepared cubes [B, 1, D, D, D] squeezed whole into one view, [B, 1, S, S, S].

        At the scale of pretraining only where its views covered nearly the whole cube.

        Raises:
            EncoderError: see ``tiles``.
        """
        size = self.contract.size
        squeezed = Reading(size, 1.0, self.image_size, 1, size / self.image_size, self.downsample)
        return self.tiles(volumes, None, squeezed)

    def tiles(self, volumes: Tensor, mm: Tensor | None, reading: Reading) -> Tensor:
        """Prepared cubes [B, 1, D, D, D] to tiles [B·N³, 1, S, S, S] at the encoder's scale.

        Args:
            volumes: of one preparation.
            mm: [B] edge of each scan's voxel; None: all have that of ``reading``.
            reading: how (``Reading.cubes``).

        Raises:
            EncoderError: not cubes of that size, or not finite.
        """
        size = reading.size
        if volumes.ndim != 5 or tuple(volumes.shape[1:]) != (1, size, size, size):
            raise EncoderError(
                f"The encoder takes prepared cubes [batch, 1, {size}, {size}, {size}], "
                f"got {list(volumes.shape)}",
                where=self.path,
                fix="Prepare the scans with the encoder's contract",
            )
        volumes = volumes.to(self.device, torch.float32)
        if not torch.isfinite(volumes).all():
            raise EncoderError(
                "A volume holds NaN or infinity",
                where=self.path,
                fix="Prepare the scans with volta3d prepare, which mends or refuses such voxels",
            )
        return cut(reading.cubes(volumes, mm), self.image_size, reading.tiles)

    @torch.no_grad()
    def features(
        self,
        volumes: Tensor,
        mm: Tensor | None = None,
        reading: Reading | None = None,
        *,
        precision: Literal["fp32", "bf16"] = "fp32",
    ) -> dict[str, Tensor]:
        """Features of prepared cubes [B, 1, D, D, D], at the encoder's scale, whole or in tiles.

        Args:
            volumes, mm, reading: see ``tiles``; without a reading, cubes of its own contract.
            precision: of the arithmetic.

        Returns:
            ``token`` [B, W], the summariser's, the mean over tiles; ``mean`` [B, W] over the patch
            tokens; ``regions`` [B, 27·W] and ``regions216`` [B, 216·W], their means over grids of
            3³ and 6³ regions of the whole head, which keep what is where; ``patches`` [B, T, W] in
            order D, H, W. All in fp32 on the encoder's device.

        Raises:
            EncoderError: see ``tiles``.
        """
        reading = self.reading() if reading is None else reading
        tiles = self.tiles(volumes, mm, reading)
        step = len(tiles) if reading.tiles == 1 else AT_ONCE
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            parts = [self.encoder(tiles[i : i + step]) for i in range(0, len(tiles), step)]
            own = torch.cat(parts)
            first = int(getattr(self.encoder, "prefix", 0))  # a CLS token and registers
            token = own[:, 0] if first else self.summariser(own)
        side = self.image_size // self.patch_size
        patches = join(own[:, first:].float(), side, reading.tiles)
        return {
            "token": token.float().unflatten(0, (len(volumes), -1)).mean(1),
            "mean": patches.mean(1),
            "regions": regions(patches),
            "regions216": regions(patches, 2 * REGIONS),
            "patches": patches,
        }

    def saw(self, cohort: Cohort) -> str:
        """What pretraining saw of a cohort, as far as the encoder's folder and its run tell.

        Seeing test scans without their labels is no leak of labels, but "unseen" would be untrue.
        """
        facts = self.config.get("facts", {})
        if facts.get("data_hash") == content_hash([cohort.hash()]):
            return "all of these scans, without labels"
        described = Path(self.path).parent / "cohort.json"
        if not described.is_file():
            return "unknown"
        known = set(read_json(described).get("scan_ids", []))
        shared = len(known & set(cohort.scan_ids))
        return f"{shared} of these scans, without labels" if shared else "none of these scans"


def regions(patches: Tensor, edge: int = REGIONS) -> Tensor:
    """Means of patch tokens [B, T, W] over ``edge`` regions along each axis, [B, edge³·W].

    Regions share tokens where the grid of tokens is no multiple of ``edge``.
    """
    side = round(patches.shape[1] ** (1 / 3))
    grid = patches.transpose(1, 2).unflatten(2, (side, side, side))
    return adaptive_avg_pool3d(grid, edge).flatten(2).transpose(1, 2).flatten(1)
