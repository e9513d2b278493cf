"""An ONNX file of a graph, run once and compared before it is published."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from volta3d.errors import VoltaError
from volta3d.export.graphs import INPUT, Graph

FILE = "model.onnx"
INSTALL = "pip install 'volta3d[export]'"
TOLERANCE = 1e-3  # of the largest answer; fp32 sums in another order


def write_onnx(graph: Graph, folder: Path) -> float:
    """Write ``folder/model.onnx`` with a free batch size, and run it.

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
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise VoltaError(
            f"The network has no ONNX form: {type(error).__name__}: {first}",
            where=graph.path,
            fix="Use --format monai-bundle",
        ) from error
    return _checked(graph, folder / FILE)


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


def compared(graph: Graph, scan: Tensor, theirs: list[Tensor], what: str) -> float:
    """The largest difference of answers, relative to the largest answer.

    Raises:
        VoltaError: above the tolerance, or of another shape.
    """
    worst = 0.0
    for (name, shape), ours, found in zip(
        graph.outputs.items(), graph.answers(scan), theirs, strict=True
    ):
        apart = float("inf")
        if found.shape == ours.shape == (len(scan), *shape):
            apart = float((found - ours).abs().max() / ours.abs().max().clamp_min(1e-12))
        if not apart <= TOLERANCE:
            raise VoltaError(
                f"The {what} answers differently from the network: '{name}' by {apart:.2g}",
                where=graph.path,
                fix="Report this with the versions of torch and onnxruntime",
            )
        worst = max(worst, apart)
    return worst
