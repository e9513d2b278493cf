"""Weights to and from MONAI's ViTAutoEnc, and into the ``vit`` of its UNETR (METHOD section 4).

The two sides compute the same from the same numbers; only names and shapes differ. MONAI's blocks
also hold a LayerNorm ``norm_cross_attn`` that nothing uses: it is written as a fresh one and not
read. Checked against MONAI 1.6.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from volta3d.errors import EncoderError
from volta3d.model.decoder import Decoder
from volta3d.model.vit import Encoder

State = dict[str, Tensor]

EMBED = "patch_embedding.patch_embeddings.weight"
POSITION = "patch_embedding.position_embeddings"
EXPAND = "conv3d_transpose.weight"
REFINE = "conv3d_transpose_1.weight"
BLOCK = {"attention.qkv": "attn.qkv", "attention.out": "attn.out_proj"} | {
    "mlp.up": "mlp.linear1",
    "mlp.down": "mlp.linear2",
}
# a leftover of every MONAI block, never run by these networks; older releases wrote more of it
UNUSED = re.compile(r"blocks\.\d+\.(norm_cross_attn|cross_attn)\.")


def to_vitautoenc(encoder: Encoder, decoder: Decoder, image_size: int | None = None) -> State:
    """The state dict that MONAI's ``ViTAutoEnc`` loads strictly.

    Args:
        encoder: its sizes are those of the ``ViTAutoEnc``.
        decoder: its channels are MONAI's ``deconv_chns``.
        image_size: edge of the cubes that MONAI will see; position embeddings are interpolated
            to it. None: the encoder's own.

    Raises:
        EncoderError: the patch edge is not a perfect square, the two don't belong together, or
            ``image_size`` is not a multiple of the patch size.
    """
    if decoder.first != decoder.second:
        raise EncoderError(
            f"MONAI's ViTAutoEnc needs a patch edge that is a perfect square, "
            f"this one is {decoder.patch_size}",
            where="decoder",
            fix="Use a model with patches of 4, 9 or 16, or export the encoder alone",
        )
    if decoder.patch_size != encoder.patch_size or decoder.expand.shape[1] != encoder.width:
        raise EncoderError(
            f"The decoder (patch {decoder.patch_size}, width {decoder.expand.shape[1]}) does not "
            f"fit the encoder (patch {encoder.patch_size}, width {encoder.width})",
            where="decoder",
            fix="Export the two of one run together",
        )
    a, channels = decoder.first, decoder.channels
    expand = decoder.expand.unflatten(0, (a, a, a, channels)).permute(4, 3, 0, 1, 2)
    refine = decoder.refine.T.unflatten(1, (1, a, a, a))
    added = {
        EXPAND: expand,
        "conv3d_transpose.bias": decoder.expand_bias,
        REFINE: refine,
        "conv3d_transpose_1.bias": decoder.refine_bias,
    }
    return to_vit(encoder, image_size) | {name: _own(value) for name, value in added.items()}


def to_unetr_vit(encoder: Encoder, image_size: int | None = None) -> State:
    """The state dict that the ``vit`` of MONAI's ``UNETR`` loads strictly.

    Args:
        encoder: with patches of 16 and 12 blocks, which UNETR has built in.
        image_size: edge of UNETR's input cube; None: the encoder's own.

    Raises:
        EncoderError: another patch size or depth, or ``image_size`` does not divide.
    """
    if encoder.patch_size != 16 or len(encoder.blocks) != 12:
        raise EncoderError(
            f"UNETR is built on patches of 16 and 12 blocks, this encoder has patches of "
            f"{encoder.patch_size} and {len(encoder.blocks)} blocks",
            where="encoder",
            fix="Pretrain with model.patch_size=16 and model.depth=12",
        )
    return to_vit(encoder, image_size)


def from_vitautoenc(state: Mapping[str, Tensor], *, heads: int) -> tuple[Encoder, Decoder | None]:
    """Encoder and decoder from the state dict of a ``ViTAutoEnc``, or the encoder from a ``ViT``'s.

    Args:
        state: without prefix; convolutional patch embedding, learned positions, a cubic grid, no
            qkv bias. Sizes are read from the shapes.
        heads: attention heads; the shapes don't tell (MONAI's default is 12).

    Returns:
        Both on the CPU in the default dtype; the decoder is None where the state has none.

    Raises:
        EncoderError: keys or shapes that do not make such a network.
    """
    wanted = {name: value for name, value in state.items() if not UNUSED.match(name)}
    for name, value in wanted.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise _not_monai(f"'{name}' is not a tensor of floating-point numbers")
    # first as shapes only, so that nothing is allocated for a state dict that does not fit
    with torch.device("meta"):
        expected = _names(*_build(wanted, heads))
    _compare(expected, wanted)
    encoder, decoder = _build(wanted, heads)
    encoder.load_state_dict(_from_vit(wanted))
    if decoder is not None:
        decoder.load_state_dict(_from_decoder(wanted))
    return encoder, decoder


def to_vit(encoder: Encoder, image_size: int | None = None) -> State:
    """The state dict that MONAI's ``ViT`` (without classification) loads strictly.

    Args:
        encoder: of any patch size and depth.
        image_size: edge of the cubes that MONAI will see; None: the encoder's own.

    Raises:
        EncoderError: ``image_size`` is not a multiple of the patch size.
    """
    p = encoder.patch_size
    edge = (image_size or encoder.image_size) // p
    if image_size is not None and (image_size % p or edge < 1):
        raise EncoderError(
            f"The image size {image_size} is not a multiple of the patch size {p}",
            where="image_size",
            fix=f"Choose a multiple of {p}",
        )
    patches = encoder.patches
    state = {
        POSITION: patches.positions((edge, edge, edge)),
        EMBED: patches.projection.weight.unflatten(1, (1, p, p, p)),
        "patch_embedding.patch_embeddings.bias": patches.projection.bias,
        "norm.weight": encoder.norm.weight,
        "norm.bias": encoder.norm.bias,
    }
    for i, block in enumerate(encoder.blocks):
        for name, value in block.named_parameters():
            layer, _, kind = name.rpartition(".")
            state[f"blocks.{i}.{BLOCK.get(layer, layer)}.{kind}"] = value
        unused = nn.LayerNorm(encoder.width, device=encoder.norm.weight.device)
        for name, value in unused.named_parameters():
            state[f"blocks.{i}.norm_cross_attn.{name}"] = value
    return {name: _own(value) for name, value in state.items()}


def _own(value: Tensor) -> Tensor:
    """A contiguous copy that shares nothing with the model."""
    return value.detach().clone(memory_format=torch.contiguous_format)


def _build(state: Mapping[str, Tensor], heads: int) -> tuple[Encoder, Decoder | None]:
    """Networks of the sizes that the state's shapes imply; their weights are fresh."""
    depth = sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.weight", name)) for name in state)
    width, one, patch, *_ = _shape(state, EMBED, 5)
    edge = round(_shape(state, POSITION, 3)[1] ** (1 / 3))
    mlp, _ = _shape(state, "blocks.0.mlp.linear1.weight", 2)
    if one != 1:
        raise _not_monai(f"It takes {one} input channels, volta3d's encoder takes 1")
    encoder = Encoder(edge * patch, patch, width, depth, heads, mlp)
    if EXPAND not in state:
        return encoder, None
    return encoder, Decoder(patch, width, _shape(state, EXPAND, 5)[1])


def _shape(state: Mapping[str, Tensor], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in state:
        raise _not_monai(f"'{name}' is missing")
    shape = tuple(state[name].shape)
    if len(shape) != dimensions or 0 in shape:
        raise _not_monai(f"'{name}' has the shape {list(shape)}, expected {dimensions} dimensions")
    return shape


def _names(encoder: Encoder, decoder: Decoder | None) -> State:
    """What MONAI would call the parts of these networks."""
    state = to_vit(encoder) if decoder is None else to_vitautoenc(encoder, decoder)
    return {name: value for name, value in state.items() if not UNUSED.match(name)}


def _compare(expected: State, got: Mapping[str, Tensor]) -> None:
    """Raises EncoderError naming the first keys that are missing, unknown or of another shape."""
    wrong = {
        "missing": sorted(expected.keys() - got.keys()),
        "unknown": sorted(got.keys() - expected.keys()),
        "of another shape": sorted(
            k for k in expected.keys() & got.keys() if expected[k].shape != got[k].shape
        ),
    }
    found = [f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in wrong.items() if keys]
    if found:
        raise _not_monai("Of its keys, " + "; ".join(found))


def _not_monai(what: str) -> EncoderError:
    return EncoderError(
        f"The weights are not those of a ViTAutoEnc that volta3d can read: {what}",
        where="state dict",
        fix="Convert one with a single input and output channel, convolutional patch embedding, "
        "learned positions, a cubic image and no qkv bias",
    )


def _from_vit(state: Mapping[str, Tensor]) -> State:
    ours = {theirs: ours for ours, theirs in BLOCK.items()}
    converted = {
        "patches.projection.weight": state[EMBED].flatten(1),
        "patches.projection.bias": state["patch_embedding.patch_embeddings.bias"],
        "patches.position": state[POSITION],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for name, value in state.items():
        if match := re.fullmatch(r"(blocks\.\d+)\.(.+)\.(\w+)", name):
            block, layer, kind = match.groups()
            converted[f"{block}.{ours.get(layer, layer)}.{kind}"] = value
    return converted


def _from_decoder(state: Mapping[str, Tensor]) -> State:
    return {
        "expand": state[EXPAND].permute(2, 3, 4, 1, 0).flatten(0, 3),
        "expand_bias": state["conv3d_transpose.bias"],
        "refine": state[REFINE].flatten(1).T,
        "refine_bias": state["conv3d_transpose_1.bias"],
    }
