"""An encoder for the shelf: half precision, with its card and the licence of its weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from volta3d.encoder.load import load_encoder
from volta3d.encoder.weights import read_config, read_tensors
from volta3d.errors import EncoderError
from volta3d.files import atomic_folder, sha256, write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG, WEIGHTS

LICENCE = "LICENSE-WEIGHTS"
MEGABYTES = 20  # what a package should carry at most

LICENCE_TEXT = """\
The weights in this folder (model.safetensors) are licensed under the Creative Commons
Attribution-ShareAlike 4.0 International licence, CC BY-SA 4.0:
https://creativecommons.org/licenses/by-sa/4.0/legalcode

They were made with volta3d from the scans that MODEL_CARD.md names. Where IXI is among them: the
IXI data set, https://brain-development.org/ixi-dataset/, is shared under CC BY-SA 3.0
(https://creativecommons.org/licenses/by-sa/3.0/legalcode), whose terms allow works made from it to
carry a later version of the same licence. Name IXI when you share these weights or what you make of
them, say what you changed, and share under the same licence.

The software of volta3d itself is under Apache-2.0.
"""


def write_shelf(encoder: Path | str, out: Path | str) -> float:
    """Write an encoder folder in half precision, whole or not at all.

    Args:
        encoder: what ``load_encoder`` takes.
        out: replaced if it exists; its name is what it is called on the shelf.

    Returns:
        The size of the weights in megabytes.

    Raises:
        EncoderError: damaged, or weights that half precision cannot hold.
    """
    source = load_encoder(encoder).path
    content = read_config(source)
    halves = {name: value.half() for name, value in read_tensors(source / WEIGHTS).items()}
    beyond = next((n for n, v in halves.items() if not bool(torch.isfinite(v).all())), None)
    if beyond is not None:
        raise EncoderError(
            f"Weights too large for half precision: {beyond}",
            where=source,
            fix="Share the encoder as it is",
        )
    with atomic_folder(Path(out)) as temporary:
        save_file(halves, temporary / WEIGHTS)
        content["weights_sha256"] = sha256(temporary / WEIGHTS)
        content["halved_from_sha256"] = read_config(source)["weights_sha256"]
        write_json(temporary / CONFIG, content)
        write_text(temporary / LICENCE, LICENCE_TEXT)
        if (source / CARD).is_file():
            shutil.copyfile(source / CARD, temporary / CARD)
        return (temporary / WEIGHTS).stat().st_size / 1e6
