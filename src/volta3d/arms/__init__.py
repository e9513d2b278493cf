"""What is compared with what: one file for each kind of arm, found through these two tables.

To add a kind: write ``arms/NAME.py`` with ``resolve`` and ``load`` (classification) or ``resolve``,
``network`` and ``smallest_grid`` (segmentation), and give it a line here. ``--help``, parsing and
loading read these tables. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

ENCODER, SCRATCH = "encoder", "scratch"


@dataclass(frozen=True)
class Kind:
    """A kind of arm, as the command line knows it.

    Args:
        module: the file of this folder that makes such arms.
        help: how its SPEC is written, and what it is.
        word: whether its name alone is a SPEC.
        of_encoder: whether its name may stand before an encoder folder or ``scratch``.
        of_preset: whether its name may stand before a preset.
        tuned: whether ``frozen:``, ``last:`` and the like may stand before its SPEC.
    """

    module: str
    help: str
    word: bool = True
    of_encoder: bool = False
    of_preset: bool = False
    tuned: bool = False


CLASSIFIERS: Mapping[str, Kind] = {
    ENCODER: Kind("vit", "an encoder folder (a ViT that starts from it)", word=False, tuned=True),
    SCRATCH: Kind(
        "vit",
        "scratch (the same ViT untrained) or scratch:PRESET",
        of_preset=True,
        tuned=True,
    ),
    "linear": Kind(
        "linear",
        "linear:ENCODER or linear:scratch (a linear model on features)",
        word=False,
        of_encoder=True,
    ),
    "swin": Kind("swin", "swin (a Swin transformer)"),
    "resnet": Kind("resnet", "resnet (a 3D ResNet-18)"),
    "volume": Kind("volume", "volume (head and brain volume alone)"),
}
SEGMENTERS: Mapping[str, Kind] = {
    ENCODER: Kind("unetr", "an encoder folder (a UNETR around it)", word=False, tuned=True),
    SCRATCH: Kind(
        "unetr",
        "scratch (the same UNETR untrained) or scratch:PRESET",
        of_preset=True,
        tuned=True,
    ),
    "unet": Kind("unet", "unet (a 3D U-Net)"),
}
CLASSIFIER_TUNES = ("frozen", "last", "full")
SEGMENTER_TUNES = ("full", "last", "staged", "frozen")


def spec_help(kinds: Mapping[str, Kind], tunes: tuple[str, ...]) -> str:
    """What ``--help`` says of ``--arm``."""
    listed = "; ".join(kind.help for kind in kinds.values())
    words = ", ".join(f"{tune}:" for tune in tunes[:-1])
    return (
        f"Repeatable. SPEC: {listed}. {words} or {tunes[-1]}: before an encoder or scratch sets "
        "how much of it is trained."
    )
