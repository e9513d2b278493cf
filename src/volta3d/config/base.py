"""The base of every configuration: frozen, strict about keys, read from YAML and ``--set``."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from volta3d.errors import ConfigError, nearest
from volta3d.files import content_hash

TEXTS = ("classes",)  # settings whose values are names, whatever YAML takes them for
Range = tuple[float, float]
Probability = typing.Annotated[float, Field(ge=0, le=1)]
Positive = typing.Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = typing.Annotated[int, Field(ge=0)]
Share = typing.Annotated[float, Field(gt=0, le=1)]
Some = typing.Annotated[int, Field(ge=1)]


def ordered(pair: tuple[float, float]) -> tuple[float, float]:
    """A pair as it is, for the validation of a range.

    Raises:
        ValueError: the first is larger than the second.
    """
    if pair[0] > pair[1]:
        raise ValueError("the first number is larger than the second")
    return pair


Scale = typing.Annotated[tuple[Share, Share], AfterValidator(ordered)]
"""From, to: each above 0 and at most 1."""


def _fractions(values: tuple[float, ...]) -> tuple[float, ...]:
    if not values or not all(0 < f <= 1 for f in values):
        raise ValueError("fractions lie above 0 and up to 1")
    if len(set(values)) != len(values):
        raise ValueError("a fraction is given twice")
    return values


Fractions = typing.Annotated[tuple[float, ...], AfterValidator(_fractions)]
"""Of the training part: each above 0 and at most 1, none twice."""


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys, hashable by content."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def content(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode="json")

    def hash(self) -> str:
        """A short hash of the resolved content."""
        return content_hash(self.content())

    def to_yaml(self) -> str:
        """The resolved configuration as YAML, keys in the order of the class."""
        return yaml.safe_dump(self.content(), sort_keys=False)


C = TypeVar("C", bound=Config)


def parse_yaml(text: str, *, where: object) -> dict[str, Any]:
    """Parse YAML that must be a mapping; only plain data, never objects.

    Raises:
        ConfigError: not YAML, or not a mapping.
    """
    try:
        content = _loaded(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"Not readable as YAML: {error}", where=where, fix="Fix it") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError("Not a mapping of keys to values", where=where, fix="Write 'key: value'")
    return content


def build(kind: type[C], content: Mapping[str, Any], assignments: Iterable[str] = ()) -> C:
    """Validate ``content`` as ``kind`` after applying dotted ``key=value`` assignments.

    Raises:
        ConfigError: an unknown key (with the nearest valid name), or a wrong value.
    """
    merged = _copy(content)
    for assignment in assignments:
        key, separator, value = assignment.partition("=")
        if not separator:
            raise ConfigError("--set takes key=value", where=assignment, fix="Write key=value")
        _assign(merged, key.strip(), _value(value, key.strip(), assignment))
    _check_keys(kind, merged, prefix="")
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        got = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{message}{got}", where=where, fix=f"Set {where} anew") from error


def load_preset(kind: type[C], folder: str, preset: str, assignments: Iterable[str] = ()) -> C:
    """A preset that ships in ``folder`` of the package, or a YAML file, with assignments on top.

    Raises:
        ConfigError: no such preset, not readable, an unknown key, or a value of the wrong kind.
    """
    names = preset_names(folder)
    shipped = resources.files("volta3d") / folder / f"{preset}.yaml"
    file = Path(preset)
    if preset in names:
        content = {"preset": preset, **parse_yaml(shipped.read_text("utf-8"), where=preset)}
    elif file.suffix in {".yaml", ".yml"} and file.is_file():
        content = {"preset": file.stem, **parse_yaml(read_yaml(file), where=file)}
    else:
        raise ConfigError("No such preset", where=preset, fix=nearest(preset, names))
    return build(kind, content, assignments)


def preset_names(folder: str) -> list[str]:
    """The names of the YAML files that ship in ``folder`` of the package."""
    names = [path.name for path in (resources.files("volta3d") / folder).iterdir()]
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read_yaml(file: Path) -> str:
    """The text of a YAML file of the user's.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Not readable: {error}", where=file, fix="Save it as UTF-8") from error


def _loaded(text: str, key: str = "") -> Any:
    """Plain data of a YAML text, in which names of classes stay as they are written.

    YAML takes ``No`` for false, ``010`` for 8, ``1.0`` for a number and ``null`` for nothing.

    Args:
        text: YAML.
        key: of the setting that the whole text is the value of.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if key.rpartition(".")[2] in TEXTS:
            _keep_text(node)
        else:
            _keep_names(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _keep_names(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value).rpartition(".")[2] in TEXTS:
                _keep_text(value)
            else:
                _keep_names(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_names(item)


def _keep_text(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode):
        node.tag = "tag:yaml.org,2002:str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_text(item)


def _value(text: str, key: str, assignment: str) -> Any:
    try:
        value = _loaded(text, key)
    except yaml.YAMLError as error:
        raise ConfigError("The value is not YAML", where=assignment, fix="Quote it") from error
    if isinstance(value, str) and key.rpartition(".")[2] not in TEXTS:
        try:
            return float(value)  # YAML 1.1 reads 1e-4 as text
        except ValueError:
            return value
    return value


def _copy(content: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, Mapping) else v for k, v in content.items()}


def _assign(content: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise ConfigError("Not a group of settings", where=dotted, fix="Check the dots")
    content[last] = value


def _check_keys(kind: type[Config], content: Mapping[str, Any], prefix: str) -> None:
    for key, value in content.items():
        if key not in kind.model_fields:
            names = _dotted_names(kind, prefix)
            where = f"{prefix}{key}"
            raise ConfigError("Unknown key", where=where, fix=nearest(where, names))
        nested = kind.model_fields[key].annotation
        if _is_config(nested) and isinstance(value, Mapping):
            _check_keys(nested, value, prefix=f"{prefix}{key}.")


def _is_config(kind: object) -> typing.TypeGuard[type[Config]]:
    if not isinstance(kind, type) or isinstance(kind, types.GenericAlias):
        return False
    return issubclass(kind, Config)


def _dotted_names(kind: type[Config], prefix: str = "") -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        if _is_config(field.annotation):
            names += _dotted_names(field.annotation, f"{prefix}{name}.")
        else:
            names.append(f"{prefix}{name}")
    return names
