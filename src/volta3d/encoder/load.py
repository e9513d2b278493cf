"""Load an encoder folder, checked before anything is allocated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from volta3d.config import ModelConfig, build
from volta3d.encoder.imported import NETWORK, fresh_network, load_imported
from volta3d.encoder.keymap import compare
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.places import find_encoder
from volta3d.encoder.weights import (
    RESTORE,
    KeyReport,
    check_sha256,
    read_architecture,
    read_config,
    read_shapes,
    read_tensors,
)
from volta3d.errors import EncoderError
from volta3d.model.summariser import Summariser
from volta3d.model.vit import Encoder
from volta3d.pretrain.encoder import CONFIG, WEIGHTS
from volta3d.randomness import derived_seed


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Load an encoder.

    Args:
        path: its folder, a name on the shelf, or ``hf-hub:owner/name`` (``find_encoder``).
        device: where its weights go.

    Raises:
        EncoderError: missing, damaged, of an unknown format, or weights that do not fit.
    """
    path = find_encoder(path)
    content = read_config(path)
    if NETWORK in content:
        check_sha256(content, path)
        return load_imported(content, path).to(device)
    model, contract, image_size, downsample = read_architecture(content, path)
    check_sha256(content, path)
    shapes = read_shapes(path / WEIGHTS)
    encoder, summariser = _empty(model, image_size, len(shapes), path)
    report = _compare(encoder, summariser, shapes)
    if report.missing or report.unknown or report.other_shape:
        raise EncoderError(
            f"The weights do not fit the architecture in {CONFIG}: {report.text()}",
            where=path,
            fix=RESTORE,
        )
    tensors = read_tensors(path / WEIGHTS)
    for prefix, part in (("encoder.", encoder), ("summariser.", summariser)):
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        part.load_state_dict(own, strict=True, assign=True)
        part.eval()
    loaded = LoadedEncoder(
        encoder, summariser, content, contract, image_size, downsample, path, report
    )
    return loaded.to(device)


def random_encoder(like: LoadedEncoder, seed: int | None = None) -> LoadedEncoder:
    """The same architecture without training, as a baseline.

    Args:
        like: gives architecture, contract and device.
        seed: of the weights; None is the seed of the run, which gives the very weights it
            started from.
    """
    chosen = int(like.config.get("pretraining", {}).get("seed", 0)) if seed is None else seed
    config = {**like.config, "untrained": True, "weights_sha256": ""}
    if NETWORK in like.config:
        network = fresh_network(like.config, chosen)
        return replace(like, encoder=network, config=config).to(like.device)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        # the same keys as in build_pair, without its heads and decoder
        torch.default_generator.manual_seed(derived_seed(chosen, "model", "encoder"))
        model = build(ModelConfig, like.config["model"])
        encoder = _encoder(model, like.image_size)
        torch.default_generator.manual_seed(derived_seed(chosen, "model", "summariser"))
        summariser = Summariser(model.width, model.summariser_heads)
    fresh = replace(like, encoder=encoder.eval(), summariser=summariser.eval(), config=config)
    return fresh.to(like.device)


def _encoder(model: ModelConfig, image_size: int) -> Encoder:
    m = model
    return Encoder(image_size, m.patch_size, m.width, m.depth, m.heads, m.mlp)


def _empty(
    model: ModelConfig, image_size: int, tensors: int, path: Path
) -> tuple[Encoder, Summariser]:
    """Both parts without memory for their weights, so that shapes are compared first."""
    if model.depth > tensors:
        raise EncoderError(
            f"{CONFIG} wants {model.depth} blocks, the file has {tensors} tensors",
            where=path,
            fix=RESTORE,
        )
    try:
        with torch.device("meta"):
            return _encoder(model, image_size), Summariser(model.width, model.summariser_heads)
    except RuntimeError as error:  # sizes whose product overflows
        raise EncoderError(f"{CONFIG} holds impossible sizes", where=path, fix=RESTORE) from error


def _compare(
    encoder: nn.Module, summariser: nn.Module, found: dict[str, tuple[int, ...]]
) -> KeyReport:
    wanted = {f"encoder.{k}": tuple(v.shape) for k, v in encoder.state_dict().items()}
    wanted |= {f"summariser.{k}": tuple(v.shape) for k, v in summariser.state_dict().items()}
    return compare(wanted, found)
