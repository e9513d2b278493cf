"""A fitted model on disk: what ``predict`` takes. Weights, labels, preparation, and a card.

``config.json`` says all that is needed to build the model again; nothing in it is code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool3d

from volta3d import __version__
from volta3d.arms.classifier import rebuild
from volta3d.arms.networks.classifier import Classifier
from volta3d.cohort.contract import Contract
from volta3d.config import build
from volta3d.encoder.weights import LARGEST, check_sha256, read_tensors
from volta3d.errors import ConfigError, EncoderError, VoltaError
from volta3d.files import atomic_folder, read_json, sha256, write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG, WEIGHTS
from volta3d.pretrain.monitor import whole
from volta3d.statistics.linear_models import LinearModel

FORMAT = 1
KINDS = ("classification", "regression", "segmentation")
FILES = "source_sha256"  # in trained_on: what it was fitted to
HASHED = 16  # hex digits that are kept of a hash
RESTORE = "Restore the model folder, or fit it again with volta3d classify"


@dataclass(frozen=True)
class FittedModel:
    """A fitted classifier or regressor.

    Args:
        config: the content of config.json.
        contract: how scans must be prepared.
        network: the ViT or Swin; for ``linear`` the ViT that makes the features; None for volume.
        line: the linear model of ``linear`` and ``volume``.
        path: its folder.
    """

    config: dict[str, Any]
    contract: Contract
    network: Classifier | None
    line: LinearModel | None
    path: Path

    @property
    def labels(self) -> list[str]:
        """Names of the classes by index; empty for numbers."""
        return list(self.config["labels"])

    @property
    def volume_columns(self) -> list[str]:
        """The measured volumes it goes by; empty for networks."""
        return list(self.config["architecture"].get("columns", []))

    @torch.no_grad()
    def predict(self, cubes: Tensor, volumes: np.ndarray | None = None) -> np.ndarray:
        """Class probabilities [B, C], or numbers [B, 1], of prepared scans.

        Args:
            cubes: [B, 1, D, D, D] of the contract's size.
            volumes: [B, columns] in mm³, for ``volume``.
        """
        classes, architecture = len(self.labels), self.config["architecture"]
        if self.network is None:
            assert self.line is not None and volumes is not None
            return self.line.predict(np.log(volumes), classes)
        device = self.network.head.linear.weight.device
        cubes = cubes.to(device, torch.float32)
        if architecture["downsample"] > 1:
            cubes = avg_pool3d(cubes, architecture["downsample"])
        cubes = whole(cubes, architecture["image_size"])
        if self.line is not None:
            return self.line.predict(self.network.stem(cubes).double().cpu().numpy(), classes)
        logits = self.network(cubes).double()
        if classes:
            return np.asarray(logits.softmax(1).cpu().numpy())
        scaled = logits * architecture["deviation"] + architecture["mean"]
        return np.asarray(scaled.cpu().numpy())


def save_fitted(
    folder: Path, *, content: dict[str, Any], tensors: dict[str, Tensor], contract: Contract
) -> None:
    """Publish a model folder, whole or not at all.

    Args:
        folder: replaced if it exists.
        content: ``kind``, ``target``, ``labels``, ``threshold``, ``architecture``, ``arm``,
            ``trained_on``.
        tensors: all weights.
        contract: how the scans it saw were prepared.
    """
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with atomic_folder(folder) as temporary:
        save_file(plain, temporary / WEIGHTS)
        full = {
            "format": FORMAT,
            "software": f"volta3d {__version__}",
            **content,
            "contract": contract.content(),
            "contract_hash": contract.hash(),
            "weights_sha256": sha256(temporary / WEIGHTS),
            "parameters": sum(v.numel() for v in plain.values()),
        }
        write_json(temporary / CONFIG, full)
        write_text(temporary / CARD, _card(full))


def file_hash(source_sha256: object) -> str:
    """What is kept of the hash of a scan's file; empty where that is not known."""
    return str(source_sha256)[:HASHED]


def remembered(people: Any) -> dict[str, list[str]]:
    """What a model keeps of the scans it is fitted to, so that they are known again: hashes.

    Of files, which nobody has who doesn't have the scan. Of ids there are none: they are short, so
    that whoever has the model could try them all.

    Args:
        people: their rows of a cohort's participants.
    """
    files = {file_hash(digest) for digest in people["source_sha256"]} - {""}
    return {FILES: sorted(files)}


def read_model_config(path: Path) -> dict[str, Any]:
    """The config.json of any fitted model: classification, regression or segmentation.

    Raises:
        EncoderError: no fitted model there, or one of an unknown format or kind.
    """
    if not (path / CONFIG).is_file():
        raise EncoderError(
            "No fitted model there",
            where=path,
            fix="Name a folder such as RUN/arms/NAME/model that volta3d classify or segment wrote",
        )
    try:
        content = read_json(path / CONFIG)
    except VoltaError as error:
        raise EncoderError(f"{CONFIG} cannot be read: {error}", where=path, fix=RESTORE) from error
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in KINDS:
        is_encoder = isinstance(content, dict) and "pretraining" in content
        raise EncoderError(
            "An encoder, not a fitted model" if is_encoder else f"{CONFIG} states no kind of model",
            where=path,
            fix="Fit one with volta3d classify COHORT --target COLUMN --arm NAME=ENCODER --out RUN",
        )
    if content.get("format") != FORMAT:
        raise EncoderError(
            f"Model format {content.get('format')!r} is unknown, this volta3d reads {FORMAT}",
            where=path,
            fix="Install the volta3d that wrote it, or a newer one",
        )
    config: dict[str, Any] = content
    return config


def load_fitted(path: Path | str, device: torch.device | str = "cpu") -> FittedModel:
    """Load a fitted classifier or regressor, checked before it is used.

    Raises:
        EncoderError: missing, damaged, or weights that do not fit.
    """
    path = Path(path)
    content = read_model_config(path)
    try:
        check_sha256(content, path)
        contract = build(Contract, content["contract"])
        architecture = content["architecture"]
        sizes = [v for v in architecture.values() if isinstance(v, int)]
        if not all(0 <= v <= LARGEST for v in [contract.size, *sizes]):
            raise ValueError("impossible sizes")
        tensors = read_tensors(path / WEIGHTS)
        rebuilt = rebuild(architecture, max(1, len(content["labels"])), tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ConfigError) as error:
        raise EncoderError(
            f"The model's {CONFIG} and weights do not fit: {type(error).__name__}: {error}",
            where=path,
            fix=RESTORE,
        ) from error
    if rebuilt.network is not None:
        rebuilt.network.to(device).eval()
    return FittedModel(content, contract, rebuilt.network, rebuilt.line, path)


def _card(content: dict[str, Any]) -> str:
    """What the model is, what it saw, and what it is not for."""
    labels, seen = content["labels"], content["trained_on"]
    what = f"classes {', '.join(labels)}" if labels else "a number"
    threshold = content.get("threshold")
    lines = [
        f"# volta3d model: {content['target']}",
        "",
        "SYNTHETIC DATA: good for trying the software, nothing else.\n"
        if seen["synthetic"]
        else "",
        f"Predicts {content['target']} ({what}) from a T1-weighted brain scan. "
        f"{content['parameters']:,} numbers. Arm: {content['arm']['kind']}, "
        f"tuned: {content['arm']['tune']}.",
        "",
        f"Fitted on {seen['scans']} scans of {seen['subjects']} subjects ({seen['datasets']}). "
        "How well this kind of model does on people it has not seen is measured by the run's "
        "cross-validation (metrics.json); this very model was fitted on everybody and has no test "
        "score of its own.",
        "",
    ]
    if threshold is not None:
        lines += [
            f"Youden threshold {threshold:.3f}, chosen on scans of the training part by scores of "
            "fits that had not seen them. Scores are no probabilities at another prevalence.",
            "",
        ]
    lines += [
        "Scans are prepared by the contract in config.json; `volta3d predict` does that by itself.",
        "",
        "config.json also holds hashes of the files it was fitted to, by which `volta3d predict` "
        "knows them again. Who has a file can tell whether it was among them.",
        "",
        "Not a medical device. Not for diagnosis or any decision about a person.",
        "",
    ]
    return "\n".join(lines)
