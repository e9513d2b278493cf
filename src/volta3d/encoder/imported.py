"""``import``: the weights of a published encoder to an encoder folder that volta3d can use."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from volta3d import __version__
from volta3d.cohort.contract import Contract
from volta3d.config import ModelConfig, PrepareConfig, build
from volta3d.encoder.foreign.kinds import KINDS, build_network
from volta3d.encoder.foreign.wrapped import MeanToken, Turned
from volta3d.encoder.keymap import compare, read_map
from volta3d.encoder.loaded import LoadedEncoder
from volta3d.encoder.unpickle import to_safetensors
from volta3d.encoder.weights import FOREIGN, LARGEST, RESTORE, KeyReport, read_shapes, read_tensors
from volta3d.errors import ConfigError, EncoderError, UsageError, VoltaError
from volta3d.files import atomic_folder, require_writable, sha256, write_json, write_text
from volta3d.pretrain.encoder import CARD, CONFIG, FORMAT, WEIGHTS

NETWORK = "network"  # the key of config.json that an imported encoder has
CONTRACTS = "contracts"
IDENTITY = (0, 1, 2)


@dataclass(frozen=True)
class PublishedModel:
    """How a published encoder is called and prepared for: a contract file.

    Args:
        model: its name.
        weights: the kind of checkpoint, a map of ``keymap``; empty: as the caller says.
        image_size: edge of the cube it takes, in voxels; 0: as its positions say, else the
            contract's size.
        contract: how its scans are prepared, as far as volta3d can.
        options: what shapes don't tell: attention heads, strides.
        axes: of our volumes, in the order in which it wants them.
        source, facts, differs: where it is from, what is known of it, and what is done otherwise.
    """

    model: str
    weights: str
    image_size: int
    contract: Contract
    options: Mapping[str, int]
    axes: tuple[int, ...] = IDENTITY
    source: str = ""
    facts: str = ""
    differs: str = ""


def contract_names() -> list[str]:
    """The published encoders whose contract ships with the package."""
    folder = files("volta3d.encoder").joinpath(CONTRACTS)
    return sorted(
        p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml")
    )


def read_published(name: str | Path) -> PublishedModel:
    """A contract by its name in the package, from a file like those, or a cohort's contract.yaml.

    Raises:
        UsageError: neither.
        ConfigError: not such a contract.
    """
    if str(name) in contract_names():
        text = files("volta3d.encoder").joinpath(CONTRACTS, f"{name}.yaml").read_text("utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UsageError(
            "No such contract",
            where=name,
            fix=f"Name a YAML file, or one of {', '.join(contract_names())}",
        )
    try:
        content = yaml.safe_load(text)
        if "contract_hash" in content:  # a cohort's
            own = {k: v for k, v in content.items() if k in PrepareConfig.model_fields}
            content = {"contract": own}
        prepare = build(PrepareConfig, content["contract"])
        axes = tuple(int(a) for a in content.get("axes", IDENTITY))
        if sorted(axes) != list(IDENTITY):
            raise ValueError(f"axes {axes} are not 0, 1 and 2 in some order")
        return PublishedModel(
            str(content.get("model", Path(name).stem)),
            str(content.get("as", "")),
            int(content.get("image_size", 0)),
            Contract.from_config(prepare),
            {str(k): int(v) for k, v in content.get("options", {}).items()},
            axes,
            *(str(content.get(k, "")).strip() for k in ("source", "facts", "differs")),
        )
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"Not a contract: {type(error).__name__}: {error}",
            where=name,
            fix="It needs 'contract' (settings of volta3d prepare) and, where shapes don't tell, "
            "'image_size' and 'options'",
        ) from error


def import_encoder(
    weights: Path | str,
    out: Path | str,
    *,
    contract: str | Path,
    kind: str = "",
    matched: float = 1.0,
    options: Mapping[str, int] | None = None,
) -> KeyReport:
    """Write the encoder folder ``out`` from other people's weights.

    Args:
        weights: safetensors, or what ``torch.save`` wrote, which a child process reads.
        out: replaced if it exists, whole or not at all.
        contract: the name of a shipped contract, or a YAML file.
        kind: of weights (``monai-vit``, ``swinunetr``...); empty: as the contract says.
        matched: the share of the network's tensors that must be found.
        options: what shapes don't tell, over what the contract says: ``heads``, ``stride``.

    Returns:
        What fits: what is missing stays random.

    Raises:
        EncoderError: not readable, not such weights, or less of them fits than ``matched``.
        UsageError, ConfigError: an unknown kind or contract.
    """
    source, published = Path(weights), read_published(contract)
    keys = read_map(kind or published.weights)
    require_writable(Path(out).parent)
    own = keys.convert(_read(source), source)
    shapes = {name: tuple(value.shape) for name, value in own.items()}
    given = {**published.options, **(options or {})}
    sizes = _sizes(keys.network, shapes, given, keys.name, source)
    network = build_network(keys.network, sizes, seed=0)
    wanted = _floating(network)
    report = compare({k: tuple(v.shape) for k, v in wanted.items()}, shapes)
    share = len(report.matched) / len(wanted)
    if share < matched:
        raise EncoderError(
            f"Of the network's {len(wanted)} tensors {share:.1%} are in the file: {report.text()}",
            where=source,
            fix="Name another --as, or accept random weights for what is missing with --matched "
            f"{share:.2f}"[:200],
        )
    wanted |= {name: own[name].float() for name in report.matched}
    stride, edge = _stride(keys.network, sizes, published, source)
    content: dict[str, Any] = {
        "format": FORMAT,
        "software": f"volta3d {__version__}",
        "preset": published.model,
        NETWORK: {"kind": keys.network, "sizes": sizes, "axes": list(published.axes)},
        "patch_size": stride,
        "image_size": edge,
        "downsample": 1,
        "contract": published.contract.content(),
        "contract_hash": published.contract.hash(),
        "parameters": sum(v.numel() for v in wanted.values()),
        "imported": {
            "model": published.model,
            "as": keys.name,
            "source": published.source,
            "facts": published.facts,
            "differs": published.differs,
            "file_sha256": sha256(source),
            "fits": report.text(),
            "random": list(report.missing) + list(report.other_shape),
        },
    }
    if keys.network == "vit":
        content["model"] = _model(sizes).content()
    with atomic_folder(Path(out)) as temporary:
        save_file(
            {f"encoder.{k}": v.detach().contiguous().clone() for k, v in wanted.items()},
            temporary / WEIGHTS,
        )
        content["weights_sha256"] = sha256(temporary / WEIGHTS)
        write_json(temporary / CONFIG, content)
        write_text(temporary / CARD, _card(content))
    return report


def load_imported(content: dict[str, Any], path: Path) -> LoadedEncoder:
    """The encoder of a folder that ``import_encoder`` wrote; its checksum was checked before.

    Raises:
        EncoderError: damaged, or weights that do not fit.
    """
    try:
        described = content[NETWORK]
        kind, sizes = str(described["kind"]), {k: int(v) for k, v in described["sizes"].items()}
        contract = build(Contract, content["contract"])
        numbers = [content["image_size"], content["patch_size"], contract.size]
        if kind not in KINDS or not all(1 <= n <= LARGEST for n in numbers):
            raise ValueError("an unknown network or impossible sizes")
        if not all(0 <= v <= LARGEST for v in sizes.values()):
            raise ValueError("impossible sizes")
        shapes = read_shapes(path / WEIGHTS)
        if sizes.get("depth", 0) > len(shapes):
            raise ValueError("more blocks than tensors")
        network = build_network(kind, sizes)
        wanted = {f"encoder.{k}": tuple(v.shape) for k, v in _floating(network).items()}
        report = compare(wanted, shapes)
        if len(report.matched) != len(wanted) or report.unknown:
            raise ValueError(report.text())
        network = build_network(kind, sizes, seed=0)
        axes = tuple(int(a) for a in described["axes"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ConfigError) as error:
        raise EncoderError(
            f"The weights do not fit the network in {CONFIG}: {type(error).__name__}: {error}",
            where=path,
            fix=RESTORE,
        ) from error
    tensors = read_tensors(path / WEIGHTS)
    own = {k.removeprefix("encoder."): v for k, v in tensors.items()}
    network.load_state_dict(own, strict=False)
    return LoadedEncoder(
        turned(network, axes),
        MeanToken(),
        content,
        contract,
        int(content["image_size"]),
        int(content["downsample"]),
        path,
        report,
    )


def turned(network: nn.Module, axes: tuple[int, ...]) -> nn.Module:
    """The network with its axes turned where it wants them in another order."""
    return network if axes == IDENTITY else Turned(network, axes).eval()


def fresh_network(content: Mapping[str, Any], seed: int) -> nn.Module:
    """The network of an imported encoder without its weights, as a baseline."""
    described = content[NETWORK]
    network = build_network(described["kind"], described["sizes"], seed)
    return turned(network, tuple(described["axes"]))


def _read(source: Path) -> dict[str, Tensor]:
    if not source.is_file():
        raise EncoderError("No such file", where=source, fix="Name a file of weights")
    if source.suffix == ".safetensors":
        return read_tensors(source)
    if source.suffix.lower() not in (*FOREIGN, ".tar"):
        raise UsageError(
            "Not a kind of file that holds weights",
            where=source,
            fix="Name a .safetensors file, or .pt, .pth, .ckpt, .bin or .tar",
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / WEIGHTS
        to_safetensors(source, target)
        return read_tensors(target)


def _sizes(
    network: str,
    shapes: Mapping[str, tuple[int, ...]],
    options: Mapping[str, int],
    name: str,
    source: Path,
) -> dict[str, int]:
    try:
        sizes = KINDS[network].sizes(shapes, options)
        if not all(0 <= v <= LARGEST for v in sizes.values()):
            raise ValueError("impossible sizes")
        build_network(network, sizes)  # as shapes only: nothing is allocated for what can't be
        return sizes
    except (KeyError, IndexError, ValueError, RuntimeError, VoltaError) as error:
        raise EncoderError(
            f"Not the weights of {name}: {type(error).__name__}: {error}",
            where=source,
            fix="Name another --as, or give 'options' in the contract",
        ) from error


def _floating(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if v.is_floating_point()}


def _stride(
    network: str, sizes: Mapping[str, int], published: PublishedModel, source: Path
) -> tuple[int, int]:
    """Edge of a token and of the cube that the network takes, in voxels."""
    stride = KINDS[network].stride(sizes)
    fixed = sizes.get("image_size") or sizes.get("edge", 0) * stride
    edge = published.image_size or fixed or published.contract.size
    if edge % stride or (fixed and fixed != edge):
        raise EncoderError(
            f"The network doesn't take cubes of {edge} voxels, its tokens are {stride} wide"
            + (f" and its positions are for {fixed}" if fixed else ""),
            where=source,
            fix=f"Set 'image_size' in the contract to {fixed or 'a multiple of ' + str(stride)}",
        )
    return stride, edge


def _model(sizes: Mapping[str, int]) -> ModelConfig:
    """The sizes of a ViT as presets state them; what belongs to pretraining alone is left as is."""
    own = {k: v for k, v in sizes.items() if k != "image_size"}
    return build(ModelConfig, {**own, "summariser_heads": sizes["heads"]})


def _card(content: Mapping[str, Any]) -> str:
    about = content["imported"]
    lines = [
        f"# {about['model']}, imported\n",
        f"Weights of other people ({about['source'] or 'source unknown'}), read as {about['as']}: "
        f"{about['fits']}. Their licence and limits are their makers'.\n",
        f"{about['facts']}\n" if about["facts"] else "",
        f"What is done otherwise here: {about['differs']}\n" if about["differs"] else "",
        "Not a medical device. Not for diagnosis, treatment or any decision about a person.\n",
    ]
    return "\n".join(line for line in lines if line)
