"""The arrays of a cohort on disk: zarr, one compressed and checksummed chunk per scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs import blosc
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from volta3d.cohort.contract import RANGE_LEVELS, Contract
from volta3d.errors import CohortError

READ = (BytesCodec, BloscCodec, Crc32cCodec)  # others may run what a file says (pickle)
VOLUMES = "volumes.zarr"
LABELS = "labels.zarr"
AFFINES = "affines.zarr"


def create_cubes(path: Path, count: int, size: int, dtype: str) -> Any:
    """A new zarr array [count, size, size, size], one chunk per scan.

    Chunks that hold only zeros are written too, so that a missing chunk always means damage.
    """
    return zarr.create_array(
        store=str(path),
        shape=(count, size, size, size),
        chunks=(1, size, size, size),
        dtype=dtype,
        compressors=[BloscCodec(cname="lz4", clevel=9, shuffle="shuffle"), Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )


def chunk_path(array: Path, index: int) -> Path:
    """The file of the chunk that holds scan ``index``."""
    return array / "c" / str(index) / "0" / "0" / "0"


def write_affines(path: Path, affines: np.ndarray) -> None:
    """Write affines [n, 4, 4] as one checksummed chunk of float64."""
    array = zarr.create_array(
        store=str(path),
        shape=affines.shape,
        chunks=affines.shape,
        dtype="float64",
        compressors=[Crc32cCodec()],
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    array[:] = affines


def open_array(path: Path, shape: tuple[int, ...], dtype: str) -> Any:
    """Open an array of a cohort for reading and check that it is whole.

    Raises:
        CohortError: missing, of another shape or type, packed by codecs that this package does not
            write, or with chunks missing.
    """
    fix = "Prepare the cohort again; finished scans are not repeated"
    try:
        array = zarr.open_array(str(path), mode="r")
    except Exception as error:  # zarr raises many kinds for a damaged header
        raise CohortError("An array of the cohort cannot be opened", where=path, fix=fix) from error
    if array.shape != shape or str(array.dtype) != dtype:
        raise CohortError(
            f"An array of the cohort is {array.dtype} {array.shape}, not {dtype} {shape}",
            where=path,
            fix=fix,
        )
    codecs = getattr(array.metadata, "codecs", None)  # zarr's older format has filters instead
    if codecs is None or any(type(codec) not in READ for codec in codecs):
        raise CohortError(
            "An array of the cohort has codecs that are not read", where=path, fix=fix
        )
    chunks = range(shape[0]) if len(shape) == 4 else ()
    missing = [i for i in chunks if not chunk_path(path, i).is_file()]
    if missing:
        raise CohortError(f"{len(missing)} scans of the cohort are missing", where=path, fix=fix)
    return array


def read_cube(array: Any, index: int, path: Path) -> np.ndarray:
    """Read one scan of an array of cubes; its checksum is verified.

    A chunk that ``create_cubes`` wrote is one Blosc buffer and its CRC-32C, read here in a third of
    the time that zarr takes for it; any other array is left to zarr.

    Raises:
        CohortError: the chunk is damaged.
    """
    if [type(codec) for codec in array.metadata.codecs] != [BytesCodec, BloscCodec, Crc32cCodec]:
        return read_rows(array, index, path)
    try:
        chunk = chunk_path(path, index).read_bytes()
        if int.from_bytes(chunk[-4:], "little") != crc32c(chunk[:-4]):
            raise ValueError("its checksum does not hold")
        cube = np.empty(array.shape[1:], array.dtype)
        if len(chunk) < 20 or int.from_bytes(chunk[4:8], "little") != cube.nbytes:
            raise ValueError("its size is not that of a cube")
        blosc.decompress(chunk[:-4], cube)
    except Exception as error:  # whatever Blosc makes of a damaged chunk
        raise _damaged(error, path, index) from error
    return cube


def read_rows(array: Any, index: int | slice, where: Path) -> np.ndarray:
    """Read one scan or a slice of them; the checksum of every chunk is verified.

    Raises:
        CohortError: a chunk is damaged.
    """
    try:
        return np.asarray(array[index])
    except Exception as error:  # a damaged chunk may fail in the checksum, blosc or the reshape
        raise _damaged(error, where, index) from error


def _damaged(error: Exception, where: Path, index: int | slice) -> CohortError:
    return CohortError(
        f"A scan of the cohort is damaged: {error}",
        where=f"{where}, scan {index}",
        fix="Prepare the cohort again in a new folder",
    )


def encode(volume: np.ndarray, contract: Contract) -> np.ndarray:
    """Intensities as stored: uint16 steps of the range [0, 1], or float16 z-scores.

    Raises:
        CohortError: values that are not finite, or outside the range of the contract.
    """
    if not np.isfinite(volume).all():
        raise CohortError("A volume holds NaN or infinity", fix="Replace them before writing")
    if contract.storage == "float16":
        limit = np.finfo(np.float16).max
        halves: np.ndarray = np.clip(volume, -limit, limit).astype(np.float16)
        return halves
    if volume.min() < 0 or volume.max() > 1:
        raise CohortError(
            f"Values {volume.min():.3g} to {volume.max():.3g} leave the range 0 to 1",
            fix="Scale the volume, or set storage: float16 and value_range: null",
        )
    return np.rint(volume * np.float32(RANGE_LEVELS)).astype(np.uint16)


def decode(stored: np.ndarray, contract: Contract) -> np.ndarray:
    """Stored values as float32 intensities."""
    values: np.ndarray = stored.astype(np.float32)
    if contract.storage == "uint16":
        values /= np.float32(RANGE_LEVELS)
    return values
