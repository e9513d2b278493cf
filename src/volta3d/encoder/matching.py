"""Whether scans were prepared as an encoder wants them, and how they go into it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort
from volta3d.config import PrepareConfig
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.reading import Reading
from volta3d.encoder.scale import MISMATCH, Mismatch, cohort_mm
from volta3d.errors import EncoderError

GRID = ("spacing", "size", "fit", "margin")  # of a contract: what resampling puts right


class HasContract(Protocol):
    """What says how its scans must be prepared: an encoder, or a model fitted on top of one."""

    @property
    def contract(self) -> Contract:
        """The contract."""
        ...


def check_contract(encoder: HasContract, cohort: Cohort, ignore: Collection[str] = ()) -> None:
    """Refuse a cohort that was prepared in another way than the encoder's scans.

    Args:
        encoder: an encoder, or a model on top of one.
        cohort: the scans.
        ignore: keys that may differ.

    Raises:
        EncoderError: with the keys that differ.
    """
    wanted, found = encoder.contract, cohort.contract
    differences = [d for d in wanted.differences(found) if d.split(":")[0] not in ignore]
    if differences:
        sets = [
            f"--set {key}={_inline(getattr(wanted, key))}"
            for key in PrepareConfig.model_fields
            if key in Contract.model_fields and getattr(wanted, key) != getattr(found, key)
        ]
        raise EncoderError(
            "The cohort was prepared differently from the scans the encoder was trained on "
            f"(encoder -> cohort): {'; '.join(differences)}",
            where=cohort.path,
            fix=f"Prepare the scans again with {' '.join(sets)}" if sets else "Prepare them again",
        )


def reading_of(encoder: LoadedEncoder, cohort: Cohort, mismatch: Mismatch = "refuse") -> Reading:
    """How the scans of a cohort go into an encoder, by their measured millimetres.

    Grids may differ where both scales are known, because each scan is brought to the encoder's
    voxel; grey values must have been prepared alike.

    Args:
        encoder: what reads them.
        cohort: the scans.
        mismatch: what happens to voxels that differ by more than a quarter: ``refuse``, or ``ok``.

    Raises:
        EncoderError: prepared in another way, or at another scale.
    """
    known = encoder.scale is not None
    check_contract(encoder, cohort, GRID if known else ())
    if not known:
        return encoder.reading()
    found, wanted = cohort_mm(cohort), encoder.prepared_mm
    reading = encoder.reading(cohort.contract.size, found)
    if mismatch == "ok" or wanted is None:
        return reading
    if not 1 / MISMATCH <= found / wanted <= MISMATCH:
        assert encoder.scale is not None
        token = encoder.scale.token_mm
        raise EncoderError(
            f"The scans have voxels of {found:.2f} mm, those the encoder was trained on "
            f"{wanted:.2f} mm: as they are, its tokens would be {token * found / wanted:.1f} mm "
            f"instead of {token:.1f} mm",
            where=cohort.path,
            fix=f"Prepare the scans again with --set spacing={wanted:.3g} --set "
            f"size={encoder.contract.size} --set fit={encoder.contract.fit}, or have each scan "
            "resampled with --scale-mismatch ok",
        )
    return reading


def _inline(value: object) -> str:
    """A value as ``--set`` takes it, without spaces."""
    text = str(list(value) if isinstance(value, tuple) else value)
    return text.replace(" ", "")
