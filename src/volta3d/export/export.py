"""``export``: an encoder or a fitted model as an ONNX file or a MONAI bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volta3d.errors import UsageError, VoltaError
from volta3d.export.bundle import METADATA, write_bundle
from volta3d.export.graphs import Graph, load_graph
from volta3d.export.onnx import write_onnx
from volta3d.files import atomic_folder, read_json
from volta3d.pretrain.encoder import CONFIG


@dataclass(frozen=True)
class Exported:
    """What ``export`` wrote.

    Attributes:
        path: the folder.
        kind: encoder, classification, regression or segmentation.
        input: the shape of one scan.
        outputs: name and shape of each answer for one scan.
        difference: of its answers from the network's, relative to the largest.
    """

    path: Path
    kind: str
    input: tuple[int, ...]
    outputs: dict[str, tuple[int, ...]]
    difference: float


def export(model: Path | str, out: Path | str, *, format: str = "onnx") -> Exported:
    """Write a network so that other programs can run it, and compare its answers first.

    Args:
        model: an encoder folder, or one that ``classify`` or ``segment`` wrote.
        out: the folder to write; one that ``export`` wrote before is replaced.
        format: ``onnx`` or ``monai-bundle``.

    Raises:
        EncoderError: no model there, a damaged one, or one without a network.
        UsageError: an unknown format, or a folder that something else wrote.
        VoltaError: packages are missing, or the exported network answers differently.
    """
    writers: dict[str, Callable[[Graph, Path], float]] = {
        "onnx": write_onnx,
        "monai-bundle": write_bundle,
    }
    if format not in writers:
        raise UsageError(
            f"Unknown format '{format}'",
            where="--format",
            fix=f"Use {', '.join(writers)}, or for an encoder shelf",
        )
    out = Path(out)
    if out.exists() and not _ours(out):
        raise UsageError("Something else is there", where=out, fix="Name another folder")
    graph = load_graph(model)
    with atomic_folder(out) as temporary:
        difference = writers[format](graph, temporary)
    return Exported(out, graph.kind, (1, *(graph.size,) * 3), graph.outputs, difference)


def _ours(folder: Path) -> bool:
    """Whether a folder holds what ``export`` wrote, or nothing."""
    if not folder.is_dir():
        return False
    if (folder / METADATA).is_file() or not any(folder.iterdir()):
        return True
    try:
        content = read_json(folder / CONFIG)
    except (VoltaError, OSError):
        return False
    return isinstance(content, dict) and content.get("export") == "onnx"
