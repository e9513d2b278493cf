"""The house's own rules: one-way imports, no banned calls, no dead settings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from volta3d.cohort.contract import Contract
from volta3d.config import (
    ClassifyConfig,
    Config,
    PrepareConfig,
    PretrainConfig,
    SegmentConfig,
    load_pretrain,
    presets,
)

SOURCE = Path(__file__).resolve().parent.parent / "src" / "volta3d"
ROOMS = [
    "callable_room",
    "errors",
    "planes",
    "files",
    "artefacts",
    "randomness",
    "config",
    "progress",
    "ledger",
    "phantom",
    "cohort",
    "prepare",
    "views",
    "model",
    "objective",
    "statistics",
    "pretrain",
    "doctor",
    "encoder",
    "arms",
    "grid",
    "downstream",
    "inspection",
    "evaluate",
    "export",
    "report",
    "study",
    "demo",
    "api",
    "cli",
    "__main__",
]
# the two halves of the artefact: prepare fills the store that cohort defines
FILES = sorted(SOURCE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_O8_imports_point_upstream(path: Path) -> None:
    room = room_of(path)
    if room == "__init__":
        return
    assert room in ROOMS, f"{room} has no place in the order of rooms"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            if module.startswith("volta3d."):
                other = module.split(".")[1]
                assert ROOMS.index(other) <= ROOMS.index(room), f"{room} imports {other}"


BANNED = re.compile(
    r"\bpickle\b|\btorch\.load\(|allow_pickle=True|\byaml\.load\(|(?<![.\w])eval\(|"
    r"(?<![.\w])exec\(|shell=True|extractall\("
)


UNPICKLES = SOURCE / "encoder" / "unpickle.py"  # the one exception, in a process of its own


def test_S16_the_one_exception_builds_tensors_alone() -> None:
    code = UNPICKLES.read_text(encoding="utf-8")
    calls = [line for line in code.splitlines() if "torch.load(" in line]
    assert len(calls) == 1 and "weights_only=True" in calls[0]
    assert not BANNED.search(code.replace("torch.load(", ""))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_S16_no_call_that_runs_what_a_file_says(path: Path) -> None:
    if path == UNPICKLES:
        return
    code = "\n".join(line.split("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
    strings_out = re.sub(r'"""(?s:.*?)"""', "", code)
    assert not BANNED.search(strings_out)


def leaves(kind: type[Config]) -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config):
            names += leaves(field.annotation)
        else:
            names.append(name)
    return names


@pytest.mark.parametrize(
    "kind", [PrepareConfig, PretrainConfig, ClassifyConfig, SegmentConfig], ids=lambda k: k.__name__
)
def test_O6_every_setting_is_read_somewhere(kind: type[Config]) -> None:
    text = "\n".join(p.read_text(encoding="utf-8") for p in FILES if room_of(p) != "config")
    # what a contract records is read when two preparations are compared, as a whole
    recorded = set(Contract.model_fields)
    unread = [n for n in leaves(kind) if n not in recorded and not re.search(rf"\.{n}\b", text)]
    assert unread == []


@pytest.mark.parametrize("name", presets())
def test_O5_every_preset_loads_and_states_the_paper_s_law(name: str) -> None:
    config = load_pretrain(name)
    assert config.objective.reconstruction == 100.0  # [S] lambda
    assert config.masking.ratio == 0.5  # [S]
    assert config.batch_size * config.accumulate in (4, 8)  # [S] 8; smoke has fewer scans


def test_preset_paper_is_the_paper() -> None:
    config = load_pretrain("paper")
    assert (config.batch_size, config.accumulate) == (1, 8)
    assert (config.model.width, config.model.summariser_heads) == (768, 8)
    assert config.optim.cadence == "micro_step" and config.optim.warmup_epochs == 10
    assert (config.views.global_size, config.views.local_size, config.views.locals) == (96, 48, 8)


def test_every_dependency_floor_is_below_its_pin() -> None:
    root = SOURCE.parent.parent
    pins = dict(
        line.lower().split("==")
        for line in (root / "constraints.txt").read_text().split()
        if "==" in line
    )
    assert pins["torch"] == "2.13.0"
    assert not any(name.startswith(("torchvision", "nvidia", "cuda")) for name in pins)


def test_nothing_that_windows_lacks_is_imported_by_a_module() -> None:
    unix = {"fcntl", "resource", "pwd", "grp", "termios"}
    for path in FILES:
        imported = {
            name.split(".")[0]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & unix, path
