"""``embed``: scans to a table of features, one row a scan."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import torch

from volta3d import __version__
from volta3d.cohort.store import Cohort
from volta3d.encoder.load import load_encoder
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.matching import reading_of
from volta3d.encoder.reading import Reading
from volta3d.encoder.scale import Mismatch
from volta3d.encoder.source import PreparedScan, Source
from volta3d.errors import UsageError, VoltaError
from volta3d.files import atomic_file, require_writable

FORMAT = 1
METADATA = b"volta3d"
KINDS = ("token", "mean", "regions", "regions216")
Progress = Callable[[int, int], None]


def embed(
    encoder: Path | str | LoadedEncoder,
    data: Path | str | Sequence[Path | str],
    out: Path | str | None = None,
    batch_size: int = 4,
    device: str = "auto",
    *,
    kinds: Sequence[str] = ("token", "mean"),
    precision: Literal["fp32", "bf16"] = "fp32",
    mismatch: Mismatch = "refuse",
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Embed scans at the scale the encoder knows, and write the table atomically.

    Where a head is larger than the views of pretraining it goes through in tiles (``Reading``).

    Args:
        encoder: a folder, or one loaded already.
        data: cohorts prepared with the encoder's contract, or scans (files or folders), which are
            prepared with it on the way; several of them may be mixed. The grid of a cohort may be
            another one, as far as ``mismatch`` says.
        out: a .parquet file; None writes nothing.
        batch_size: scans at once.
        device: auto, cpu or cuda.
        kinds: of features: token, mean, regions and regions216 (means over grids of 3³ and 6³
            regions).
        precision: of the encoder's arithmetic.
        mismatch: what happens to a cohort whose voxels are more than a quarter larger or smaller
            than those of pretraining: ``refuse``, or ``ok`` (each scan is resampled).
        progress: called with (done, total).

    Returns:
        One row per scan: the columns of participants.tsv, then ``token_000``… (the summariser's)
        and ``mean_000``… (of the patch tokens), float32. ``attrs["volta3d"]`` says which encoder
        and data, and at which scale they were read; ``attrs["refused"]`` lists paths without a
        scan and scans that could not be prepared, with the reason.

    Raises:
        EncoderError: the encoder is damaged or contradicts a cohort, or their scales differ.
        CohortError: not one path can be used: each is missing, damaged or holds no scan.
        UsageError: an unknown device, a bad batch size, a wrong file name, or a scan given in two
            cohorts or in a cohort and by itself.
        VoltaError: no scan could be prepared, or the table cannot be written.
    """
    if batch_size < 1:
        raise UsageError("The batch size must be at least 1", where=batch_size, fix="Use 4")
    target = _target(out)
    loaded = encoder if isinstance(encoder, LoadedEncoder) else load_encoder(encoder)
    loaded.to(_device(device))
    readings: dict[Path | None, Reading] = {None: loaded.reading()}

    def check(cohort: Cohort) -> None:
        readings[cohort.path] = reading_of(loaded, cohort, mismatch)

    source = Source.open(data, loaded, check)
    rows: list[pd.DataFrame] = []
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in kinds}
    for scans in _batches(source, batch_size):
        volumes = torch.from_numpy(np.stack([scan.volume for scan in scans]))[:, None]
        mm = torch.tensor([scan.mm for scan in scans]) if loaded.scale is not None else None
        reading = readings[_place(scans[0])]
        features = loaded.features(volumes, mm, reading, precision=precision)
        rows += [scan.row for scan in scans]
        for kind in kinds:
            found[kind].append(features[kind].cpu().numpy())
        if progress is not None:
            progress(len(rows), source.count)
    if not rows:
        raise source.none_left()
    table = _table(rows, {kind: np.concatenate(found[kind]) for kind in kinds})
    table.attrs = {"volta3d": _provenance(loaded, source, readings), "refused": source.refused}
    if target is not None:
        write_features(target, table)
    return table


def features_of(table: pd.DataFrame, kind: str) -> np.ndarray:
    """The features of one kind, ``token``, ``mean`` or ``regions``, as float32 [n, d].

    Raises:
        VoltaError: the table has none.
    """
    columns = [c for c in table.columns if _is_feature(c) and c.startswith(f"{kind}_")]
    if not columns:
        raise VoltaError(f"The table has no columns {kind}_000…", fix="Make it with volta3d embed")
    return table[columns].to_numpy(np.float32)


def write_features(target: Path, table: pd.DataFrame) -> None:
    """Publish a table of features as parquet, ``attrs["volta3d"]`` in the file's metadata.

    Raises:
        VoltaError: it cannot be written.
    """
    bare = table.copy(deep=False)
    bare.attrs = {}
    arrow = pa.Table.from_pandas(bare, preserve_index=False)
    own = {METADATA: json.dumps(table.attrs.get("volta3d", {}), sort_keys=True).encode()}
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **own})
    with atomic_file(target) as temporary:
        pq.write_table(arrow, temporary)


def read_features(path: Path | str) -> pd.DataFrame:
    """Read a table that ``embed`` wrote, its provenance in ``attrs["volta3d"]``.

    Raises:
        VoltaError: missing, damaged, or not such a table.
    """
    path = Path(path)
    try:
        arrow = pq.read_table(path)
        metadata = json.loads((arrow.schema.metadata or {})[METADATA])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise VoltaError(
            f"Not a table that volta3d embed wrote: {type(error).__name__}",
            where=path,
            fix="Make it with: volta3d embed ENCODER COHORT --out features.parquet",
        ) from error
    table: pd.DataFrame = arrow.to_pandas()
    table.attrs = {"volta3d": metadata}
    return table


def _is_feature(column: object) -> bool:
    kind, _, number = str(column).partition("_")
    return kind in KINDS and number.isdigit()


def _table(rows: list[pd.DataFrame], features: dict[str, np.ndarray]) -> pd.DataFrame:
    known = pd.concat(rows, ignore_index=True)
    known = known[[c for c in known.columns if not _is_feature(c)]]
    parts = [known]
    for kind, values in features.items():
        digits = max(3, len(str(values.shape[1] - 1)))
        names = [f"{kind}_{i:0{digits}d}" for i in range(values.shape[1])]
        parts.append(pd.DataFrame(values.astype(np.float32), columns=names))
    return pd.concat(parts, axis=1)


def _place(scan: PreparedScan) -> Path | None:
    return scan.cohort.path if scan.cohort is not None else None


def _batches(source: Source, size: int) -> Iterator[list[PreparedScan]]:
    """Scans of one cohort at a time, at most ``size``."""
    waiting: list[PreparedScan] = []
    for scan in source.cubes():
        if waiting and (len(waiting) == size or _place(scan) != _place(waiting[0])):
            yield waiting
            waiting = []
        waiting.append(scan)
    if waiting:
        yield waiting


def _provenance(
    encoder: LoadedEncoder, source: Source, readings: dict[Path | None, Reading]
) -> dict[str, Any]:
    used = [readings[cohort.path] for cohort in source.cohorts]
    used += [readings[None]] * bool(source.scans)
    return {
        "format": FORMAT,
        "software": f"volta3d {__version__}",
        "encoder_sha256": encoder.config.get("weights_sha256", ""),
        "untrained": bool(encoder.config.get("untrained", False)),
        "contract_hash": encoder.contract.hash(),
        "cohort_hashes": [cohort.hash() for cohort in source.cohorts],
        "synthetic": source.synthetic,
        "scale": [reading.content() for reading in used],
        "scale_text": list(dict.fromkeys(reading.text() for reading in used)),
        "refused": len(source.refused),
    }


def _target(out: Path | str | None) -> Path | None:
    """The output file, checked before any work is done."""
    if out is None:
        return None
    target = Path(out)
    if target.suffix != ".parquet" or target.is_dir():
        raise UsageError(
            "Features are written as one parquet file", where=target, fix="Name it FILE.parquet"
        )
    require_writable(target.parent)
    return target


def _device(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError("Unknown device", where=name, fix="Use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("No CUDA device is available", where=name, fix="Use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
