"""The package from Python: what is there, what importing costs, the commands' arguments."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import volta3d
from volta3d import api
from volta3d.cli import app
from volta3d.errors import ConfigError, UsageError

COMMANDS = [
    "prepare", "pretrain", "embed", "probe", "classify", "segment", "predict", "evaluate",
    "report", "study", "export",
]  # fmt: skip
RENAMED = {"arm": "arms", "source": "sources", "assignments": "settings"}


def test_importing_the_package_imports_neither_torch_nor_pandas() -> None:
    code = "import sys, volta3d; print(sorted({'torch', 'pandas', 'monai'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", [*COMMANDS, "load_encoder"])
def test_every_command_is_a_function_of_the_package(name: str) -> None:
    function = getattr(volta3d, name)
    assert callable(function)
    assert inspect.signature(function) == inspect.signature(getattr(api, name))
    assert name in dir(volta3d)


def test_a_room_is_still_a_package_after_its_inside_was_imported() -> None:
    import volta3d.prepare.run

    assert callable(volta3d.prepare)
    assert volta3d.prepare.run.__name__ == "volta3d.prepare.run"


@pytest.mark.parametrize("name", COMMANDS)
def test_arguments_are_the_command_s(name: str) -> None:
    (command,) = [c for c in app.registered_commands if _name(c.callback) == name]
    assert command.callback is not None
    wanted = {RENAMED.get(p, p) for p in inspect.signature(command.callback).parameters}
    given = set(inspect.signature(getattr(api, name)).parameters)
    assert wanted <= given


def _name(callback: Callable[..., object] | None) -> str:
    return getattr(callback, "__name__", "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        _ = volta3d.clasify


def test_settings_are_mappings_or_texts() -> None:
    assert api.assignments({"views.locals": 2, "precision": "fp32", "a": [1, 2]}) == [
        "views.locals=2",
        'precision="fp32"',
        "a=[1, 2]",
    ]
    assert api.assignments(["lr=1e-3"]) == ["lr=1e-3"]
    assert api.assignments(None) == []


def test_bad_settings_are_the_commands_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wiews"):
        volta3d.pretrain(tmp_path, tmp_path / "run", settings={"wiews.locals": 2})
    with pytest.raises(ConfigError, match="wlds"):
        volta3d.classify(tmp_path, "sex", {"a": "volume"}, tmp_path / "run", settings={"wlds": 1})
    with pytest.raises(UsageError, match="Unknown format 'caffe'"):
        volta3d.export(tmp_path, tmp_path / "run", format="caffe")
    assert not (tmp_path / "run").exists()
