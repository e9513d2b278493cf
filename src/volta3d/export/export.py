"""``export``: an encoder or a fitted model as an ONNX file or a MONAI bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from volta3d import __version__
from volta3d.errors import UsageError, VoltaError
from volta3d.export.bundle import METADATA, write_bundle
from volta3d.export.graphs import INPUT, Graph, load_graph
from volta3d.export.onnx import FILE, TOLERANCE, write_onnx
from volta3d.files import atomic_folder, read_json, write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG


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
        "onnx": _onnx,
        "monai-bundle": write_bundle,
    }
    if format not in writers:
        raise UsageError(
            f"Unknown format '{format}'", where="--format", fix=f"Use {' or '.join(writers)}"
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


def _onnx(graph: Graph, folder: Path) -> float:
    difference = write_onnx(graph, folder)
    content = {
        "software": f"volta3d {__version__}",
        "export": "onnx",
        "kind_of_model": graph.kind,
        "input": {INPUT: ["batch", 1, *(graph.size,) * 3]},
        "outputs": {name: ["batch", *shape] for name, shape in graph.outputs.items()},
        "labels": graph.content.get("labels", []),
        "threshold": graph.content.get("threshold"),
        "synthetic": graph.synthetic,
        "contract": graph.contract.content(),
        "weights_sha256": graph.content["weights_sha256"],
        "largest_relative_difference": difference,
    }
    write_json(folder / CONFIG, content)
    write_text(folder / CARD, _card(graph))
    return difference


def _card(graph: Graph) -> str:
    shapes = "; ".join(
        f"`{name}` [batch, {', '.join(map(str, shape))}]" for name, shape in graph.outputs.items()
    )
    what = (
        f"windows of {graph.size} voxels an edge, slid over a prepared scan and blended"
        if graph.kind == "segmentation"
        else "prepared scans"
    )
    lines = [
        f"# volta3d {graph.kind} as ONNX",
        "",
        "SYNTHETIC DATA: good for trying the software, nothing else.\n" if graph.synthetic else "",
        f"`{FILE}` takes `{INPUT}` [batch, 1, {graph.size}, {graph.size}, {graph.size}], float32: "
        f"{what}. It answers with {shapes}.",
        "",
        f"`{CONFIG}` holds the preparation contract. `volta3d prepare` prepares scans that way; "
        "an answer to scans prepared otherwise means nothing.",
        "",
        f"Run with onnxruntime when it was written, its answers were those of the network to "
        f"{TOLERANCE:g} of the largest.",
        "",
        "Not a medical device. Not for diagnosis or any decision about a person.",
        "",
    ]
    return "\n".join(lines)
