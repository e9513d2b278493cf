"""The encoder folder as a run leaves it: weights, what they need to be used, and a model card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from volta3d import __version__
from volta3d.cohort.contract import Contract
from volta3d.config import PretrainConfig
from volta3d.files import atomic_folder, sha256, write_json, write_text
from volta3d.model.pair import Network
from volta3d.pretrain.card import model_card
from volta3d.pretrain.scale import Scale

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "MODEL_CARD.md"
PARTS = ("encoder.", "summariser.")  # the heads serve pretraining only


def save_encoder(
    folder: Path,
    *,
    network: Network,
    config: PretrainConfig,
    contract: Contract,
    card_facts: dict[str, Any],
    scale: Scale | None = None,
) -> None:
    """Publish ``folder`` with model.safetensors, config.json and MODEL_CARD.md, whole or not.

    Args:
        folder: replaced if it exists.
        network: the teacher; its encoder and summariser are kept, in fp32.
        config: of the run.
        contract: how the scans it saw were prepared.
        card_facts: ``scans``, ``participants``, ``datasets``, ``synthetic``, ``steps``,
            ``monitors``, ``alarms``, ``data_hash``; what is missing the card calls unknown.
        scale: the millimetres it saw; left out where nobody measured them.

    Raises:
        VoltaError: the folder cannot be written.
    """
    tensors = {
        name: value.detach().float().cpu().contiguous().clone()
        for name, value in network.state_dict().items()
        if name.startswith(PARTS)
    }
    facts = _plain(card_facts)
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / WEIGHTS)
        content = {
            "format": FORMAT,
            "software": f"volta3d {__version__}",
            "preset": config.preset,
            "model": config.model.content(),
            "image_size": config.views.global_size,
            "downsample": config.views.downsample,
            **({"scale": scale.content()} if scale else {}),
            "contract": contract.content(),
            "contract_hash": contract.hash(),
            "weights_sha256": sha256(temporary / WEIGHTS),
            "parameters": sum(value.numel() for value in tensors.values()),
            "pretraining": config.science(),
            "facts": facts,
        }
        write_json(temporary / CONFIG, content)
        write_text(temporary / CARD, model_card(content))


def _plain(value: Any) -> Any:
    """JSON types only; NaN and infinity, which JSON lacks, become null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)
