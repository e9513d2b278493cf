"""A MONAI bundle of a graph: TorchScript, configurations, and a page that says what it is.

The bundle stands alone: MONAI, nibabel and NumPy run it. Its own ``scripts/preparation.py``
prepares scans as those the network was trained on, and label maps go back to each scan's own grid.
"""

from __future__ import annotations

import warnings
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from volta3d import __version__
from volta3d.export.graphs import Graph, compared
from volta3d.files import write_json, write_text

if TYPE_CHECKING:
    from volta3d.export.monai_class import Own

SCRIPT = "models/model.ts"
STATE = "models/model.pt"
METADATA = "configs/metadata.json"
SCRIPTS = ("__init__.py", "preparation.py")
SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
    "meta_schema_20240725.json"
)


def write_bundle(graph: Graph, folder: Path) -> float:
    """Write the bundle into ``folder``.

    Returns:
        How far the TorchScript network's answers are from ours, relative to the largest.

    Raises:
        VoltaError: it answers differently.
    """
    from volta3d.export.monai_class import monai_network

    for name in ("configs", "models", "docs", "scripts"):
        (folder / name).mkdir()
    for script in SCRIPTS:
        source = resources.files("volta3d.export.bundle_scripts") / script
        write_text(folder / "scripts" / script, source.read_text(encoding="utf-8"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(graph.module, graph.example(), check_trace=False)
        torch.jit.save(traced, str(folder / SCRIPT))
        again = torch.jit.load(str(folder / SCRIPT))
    scan = graph.example(batch=1)
    with torch.no_grad():
        said = again(scan)
    apart = compared(graph, scan, list(said) if isinstance(said, tuple) else [said], "bundle")
    own = monai_network(graph)
    if own is not None:
        torch.save(own.state, folder / STATE)
    write_json(folder / METADATA, _metadata(graph))
    write_json(folder / "configs/inference.json", _inference(graph, own))
    write_text(folder / "docs/README.md", _readme(graph, own))
    return apart


def _metadata(graph: Graph) -> dict[str, Any]:
    labels = list(graph.content.get("labels", []))
    if graph.kind == "segmentation":
        labels = ["background", *(structure["name"] for structure in labels)]
    low, high = graph.contract.value_range or (-10.0, 10.0)
    outputs = {}
    for name, shape in graph.outputs.items():
        outputs["pred" if len(graph.outputs) == 1 else name] = {
            "type": "probabilities" if name == "probabilities" else "array",
            "format": {"segmentation": "segmentation", "classification": "classes"}.get(
                graph.kind, "array"
            ),
            "num_channels": shape[0],
            "spatial_shape": list(shape[1:]),
            "dtype": "float32",
            "value_range": [0, 1] if name == "probabilities" else [],
            "is_patch_data": graph.kind == "segmentation",
            "channel_def": {str(i): label for i, label in enumerate(labels)},
        }
    return {
        "schema": SCHEMA,
        "version": __version__,
        "changelog": {__version__: "Exported by volta3d"},
        "monai_version": _version("monai"),
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": _version("numpy"),
        "required_packages_version": {
            "nibabel": _version("nibabel"),
            "pytorch-ignite": _version("pytorch-ignite"),
            "fire": _version("fire"),
        },
        "task": f"{graph.kind} of T1-weighted brain scans",
        "description": _what(graph),
        "authors": "see docs/README.md",
        "copyright": "of whoever trained it",
        "synthetic": graph.synthetic,
        "data_type": "nifti",
        "image_classes": "single-channel T1-weighted MRI",
        "label_classes": ", ".join(labels),
        "intended_use": "Research. Not a medical device.",
        "weights_sha256": graph.content["weights_sha256"],
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": 1,
                    "spatial_shape": [graph.size] * 3,
                    "dtype": "float32",
                    "value_range": [low, high],
                    "is_patch_data": graph.kind == "segmentation",
                    "channel_def": {"0": "T1-weighted, prepared"},
                }
            },
            "outputs": outputs,
        },
    }


def _value(structure: dict[str, Any]) -> int:
    """The number of a structure in label maps, that of the table it came from."""
    return int(structure["values"][0])


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def _inference(graph: Graph, own: Own | None) -> dict[str, Any]:
    """What ``python -m monai.bundle run`` runs: scans of a folder in, results in another."""
    windows = graph.kind == "segmentation"
    values = [0, *(_value(structure) for structure in graph.content.get("labels", []) if windows)]
    limits = graph.contract.value_range
    background = limits[0] if limits else 0.0
    inferer: dict[str, Any] = {"_target_": "SimpleInferer"}
    if windows:
        inferer = {
            "_target_": "SlidingWindowInferer",
            "roi_size": [graph.size] * 3,
            "sw_batch_size": 4,
            "overlap": float(graph.content["overlap"]),
            "mode": "gaussian",
            "padding_mode": "constant",
            "cval": background,
        }
    prepare = [
        {
            "_target_": "LoadImaged",
            "keys": ["scan", "image"],
            "reader": "NibabelReader",
            "ensure_channel_first": True,
        },
        {
            "_target_": "scripts.preparation.PrepareScand",
            "keys": "image",
            "contract": graph.contract.content(),
        },
    ]
    if windows:  # what lies outside the head is background, unseen
        prepare.append(
            {
                "_target_": "CropForegroundd",
                "keys": "image",
                "source_key": "image",
                "select_fn": f"$lambda image: image > {limits[0] if limits else 'image.min()'}",
                "allow_smaller": True,
            }
        )
    # a network with several outputs gives the first, the one for the whole scan
    first = {"_target_": "Lambdad", "keys": "pred", "func": "$lambda said: said[0]"}
    save: list[dict[str, Any]] = [
        {
            "_target_": "SaveClassificationd",
            "keys": "pred",
            "meta_keys": "image_meta_dict",
            "output_dir": "@output_dir",
            "filename": "predictions.csv",
            "overwrite": True,
        }
    ]
    if windows:
        save = [
            {
                "_target_": "ResampleToMatchd",
                "keys": "pred",
                "key_dst": "scan",
                "mode": "bilinear",
                "padding_mode": "zeros",
            },
            {  # beyond the head there is nothing but background
                "_target_": "Lambdad",
                "keys": "pred",
                "func": "$lambda p: torch.cat((1 - p[1:].sum(0, keepdim=True), p[1:]))",
            },
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {  # the numbers of the table that the network's labels came from
                "_target_": "MapLabelValued",
                "keys": "pred",
                "orig_labels": list(range(len(values))),
                "target_labels": values,
                "dtype": "$numpy.uint16",
            },
            {
                "_target_": "SaveImaged",
                "keys": "pred",
                "output_dir": "@output_dir",
                "output_postfix": "dseg",
                "output_dtype": "$numpy.uint16",
                "separate_folder": False,
                "resample": False,
            },
        ]
    content = {
        "imports": ["$import glob", "$import os", "$import numpy", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/eval'",
        "scans": "$sorted(glob.glob(os.path.join(@dataset_dir, '*.nii*')))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": f"$torch.jit.load(@bundle_root + '/{SCRIPT}', map_location=@device).eval()",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": prepare},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'scan': path, 'image': path} for path in @scans]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "num_workers": 0,
        },
        "inferer": inferer,
        "postprocessing": {
            "_target_": "Compose",
            "transforms": ([first] if len(graph.outputs) > 1 else []) + save,
        },
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "amp": False,
        },
        "initialize": ["$None"],
        "run": ["$@evaluator.run()"],
    }
    if own is not None:
        content["monai_network"] = own.definition
        content["monai_weights"] = f"$@bundle_root + '/{STATE}'"
    return content


def _what(graph: Graph) -> str:
    content = graph.content
    if graph.kind == "encoder":
        return "A pretrained encoder: features of a T1-weighted brain scan."
    if graph.kind == "segmentation":
        return f"Outlines {', '.join(s['name'] for s in content['labels'])}."
    answers = ", ".join(content["labels"]) or "a number"
    return f"Predicts {content['target']} ({answers})."


def _beforehand(graph: Graph) -> str:
    """What has to be done to scans before the bundle sees them."""
    contract = graph.contract
    wanted = []
    if contract.skull_strip != "none":
        wanted.append("strip their skulls (everything outside of the brain 0)")
    if contract.bias != "none":
        wanted.append("correct their bias field with N4")
    return f"; before that, {' and '.join(wanted)} yourself" if wanted else ""


def _readme(graph: Graph, own: Own | None) -> str:
    seen = graph.content.get("trained_on", {})
    lines = [f"# volta3d bundle: {graph.kind}", ""]
    if graph.synthetic:
        lines += ["SYNTHETIC DATA: good for trying the software, nothing else.", ""]
    lines += [_what(graph), ""]
    if seen:
        lines += [f"Fitted on {seen['scans']} scans of {seen['subjects']} subjects.", ""]
    result = "label maps in each scan's own grid" if graph.kind == "segmentation" else "a table"
    lines += [
        "Put NIfTI scans into `scans/` and run, in this folder:",
        "",
        "    pip install monai nibabel fire pytorch-ignite",
        "    python -m monai.bundle run --config_file configs/inference.json --bundle_root .",
        "",
        f"`eval/` then holds {result}. `scripts/preparation.py` prepares scans as those it was "
        f"trained on{_beforehand(graph)}. volta3d isn't needed.",
        "",
        f"`{SCRIPT}` takes prepared scans: [B, 1, {graph.size}, {graph.size}, "
        f"{graph.size}] in, {', '.join(graph.outputs)} out.",
        "",
    ]
    if own is not None:
        lines += [
            f"`{STATE}` holds the same weights for MONAI's own `{own.definition['_target_']}`, "
            "which `monai_network` in `configs/inference.json` builds: to train on. "
            f"{own.differs}",
            "",
        ]
    lines += ["Not a medical device. Not for diagnosis or any decision about a person.", ""]
    return "\n".join(lines)
