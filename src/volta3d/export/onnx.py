"""An ONNX file of a graph, run once and compared before it is published."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from volta3d import __version__
from volta3d.errors import VoltaError
from volta3d.export.graphs import INPUT, TOLERANCE, Graph, compared
from volta3d.files import write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG

FILE = "model.onnx"
INSTALL = "pip install 'volta3d[export]'"


def write_onnx(graph: Graph, folder: Path) -> float:
    """Write ``model.onnx`` with a free batch size, run it, and say beside it what it is.

    Returns:
        How far its answers are from ours, relative to the largest.

    Raises:
        VoltaError: the packages are missing, an operation has no ONNX form, or it answers
            differently.
    """
    _require()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                graph.module,
                (graph.example(),),
                str(folder / FILE),
                input_names=[INPUT],
                output_names=list(graph.outputs),
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                external_data=False,
                dynamo=True,
                verbose=False,
            )
    except OSError:
        raise  # a full disk is no matter of the network
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise VoltaError(
            f"The network has no ONNX form: {type(error).__name__}: {first}",
            where=graph.path,
            fix="Use --format monai-bundle",
        ) from error
    _describe(graph, folder / FILE)
    difference = _checked(graph, folder / FILE)
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


def _describe(graph: Graph, file: Path) -> None:
    """Put what a program must know of the network into the file itself, as ``metadata_props``."""
    import onnx

    model = onnx.load(str(file))
    facts = {
        "kind": graph.kind,
        "contract": json.dumps(graph.contract.content()),
        "labels": json.dumps(graph.content.get("labels", [])),
        "threshold": json.dumps(graph.content.get("threshold")),
        "weights_sha256": str(graph.content["weights_sha256"]),
        "software": f"volta3d {__version__}",
    }
    for key, value in facts.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(model, str(file))


def _require() -> None:
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise VoltaError(f"ONNX needs packages that are missing: {', '.join(missing)}", fix=INSTALL)


def _checked(graph: Graph, file: Path) -> float:
    """Answers of both for a batch of another size than the one that was traced."""
    from onnxruntime import InferenceSession

    session = InferenceSession(str(file), providers=["CPUExecutionProvider"])
    scan = graph.example(batch=1)
    theirs = session.run(list(graph.outputs), {INPUT: scan.numpy()})
    return compared(graph, scan, [torch.from_numpy(np.asarray(t)) for t in theirs], "ONNX file")


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
