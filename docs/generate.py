"""The reference pages that are made from the code: commands, settings, presets, tables, Python."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import volta3d
import volta3d.config
from volta3d.cli import app
from volta3d.cohort.contract import Contract
from volta3d.cohort.participants import COLUMNS, QUARANTINE_COLUMNS
from volta3d.config import Config, load_pretrain, presets
from volta3d.report.tables import flatten

SOURCE = Path(volta3d.__file__).parent
LEFT_OUT = {"help", "install_completion", "show_completion"}
KINDS = {"Path": "PATH", "int": "NUMBER", "float": "NUMBER"}  # of an option's value
ORDER = ("paper", "stable", "small", "demo", "smoke")


def write(folder: Path) -> None:
    """Write every generated page into a folder that git ignores."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "commands": commands(),
        "configuration": configuration(),
        "presets": preset_table(),
        "tables": tables(),
        "python": functions(),
    }
    pages |= {f"api-{room}": api(room, modules) for room, modules in rooms().items()}
    for stale in set(folder.glob("*.md")) - {folder / f"{name}.md" for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def grid(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(c) for c in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def commands() -> str:
    """Every command with its arguments, options and example."""
    from typer.main import get_command

    group: Any = get_command(app)
    parts = ["# Commands\n", _exits()]
    for name in group.list_commands(None):
        command = group.commands[name]
        parts.append(f"## `volta3d {name}`\n\n{inspect.cleandoc(command.help or '')}\n")
        rows = [_parameter(p) for p in command.params if p.name not in LEFT_OUT]
        parts.append(grid(("argument or option", "default", "what it is"), rows))
        example = (command.epilog or "").removeprefix("Example: ")
        if example:
            parts.append(f"```console\n$ {example}\n```\n")
    return "\n".join(parts)


def _exits() -> str:
    return (
        "Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 finished with something quarantined or "
        "found. `--debug` after any command shows the traceback of a failure.\n"
    )


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        shown = (parameter.metavar or parameter.name.upper()).strip("[]")
        return _code(shown), "required" if parameter.required else "", _plain(parameter.help)
    names = ", ".join(_code(o) for o in parameter.opts)
    if not parameter.is_flag:
        kind = str(parameter.type_descriptor.annotation)
        value = next((word for part, word in KINDS.items() if part in kind), "TEXT")
        names = f"{names[:-1]} {parameter.metavar or value}`"
    default = "required" if parameter.required else _default(parameter.default)
    return names, default, _plain(parameter.help)


def _plain(text: str | None) -> str:
    return (text or "").strip()


def _default(value: Any) -> str:
    return "" if value is None or value is False or value == [] else _code(str(value))


def configuration() -> str:
    """Every setting with its type, its default, its tag and what it means."""
    parts = ["# Settings\n", _tags()]
    for module in _modules(volta3d.config):
        kinds = [
            k
            for k in vars(module).values()
            if isinstance(k, type) and issubclass(k, Config) and k.__module__ == module.__name__
        ]
        if not kinds or module.__name__.endswith(".base"):
            continue
        for kind in reversed(kinds):  # the whole before its parts
            rows = list(_fields(kind))
            if rows:
                parts.append(f"## `{kind.__name__}`\n\n{_first(kind.__doc__)}\n")
                parts.append(grid(("setting", "type", "default", "tag", "meaning"), rows))
    return "\n".join(parts)


def _tags() -> str:
    return (
        "Change any of them with `--set key=value`; a group's settings are written with a dot, as "
        "in `--set views.locals=4`. An unknown key is an error that names the nearest valid one. "
        "Tags: **S** stated in the paper, **I** inferred from close work, **C** our choice where "
        "nothing says. Defaults are those of preset `paper`; the others are in "
        "[the table of presets](presets.md).\n"
    )


def _fields(kind: type[Config]) -> Iterator[tuple[str, ...]]:
    source = inspect.getsource(kind)
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        comment = lines[(node.end_lineno or node.lineno) - 1].partition("  # ")[2].strip()
        tag, meaning = "", comment
        if comment[:1] == "[" and comment[2:3] == "]":
            tag, meaning = comment[1], comment[3:].strip()
        value = "" if node.value is None else _value(node.value)
        yield (
            _code(node.target.id), _code(ast.unparse(node.annotation)), value, tag, meaning,
        )  # fmt: skip


def _value(node: ast.expr) -> str:
    """A default as a person writes it; ``Field(default=..., ge=0)`` with its limits."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if node.func.id != "Field":
            return "see there"
        limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
        told = {k.arg: ast.unparse(k.value) for k in node.keywords if k.arg}
        words = [f"{limits[k]} {v}" for k, v in told.items() if k in limits]
        return _code(told.get("default", "")) + (f" ({', '.join(words)})" if words else "")
    return _code(ast.unparse(node))


def preset_table() -> str:
    """What the shipped presets of ``pretrain`` say, side by side."""
    names = sorted(presets(), key=lambda n: ORDER.index(n) if n in ORDER else len(ORDER))
    content = {n: flatten(load_pretrain(n).content()) for n in names}
    keys = [k for k in content[names[0]] if k != "preset"]
    differing = [k for k in keys if len({content[n][k] for n in names}) > 1]
    rows = [(_code(k), *(content[n][k] for n in names)) for k in differing]
    same = [(_code(k), content[names[0]][k]) for k in keys if k not in differing]
    return (
        "# Presets of `pretrain`\n\nWhat differs between them; the files themselves "
        "(`src/volta3d/presets/`) give every value's source.\n\n"
        + grid(("setting", *names), rows)
        + "\nThe same in all of them:\n\n"
        + grid(("setting", "value"), same)
    )


def tables() -> str:
    """The columns of a cohort's tables and the fields of its contract."""
    rows = [(_code(n), "quarantine.tsv") for n in QUARANTINE_COLUMNS]
    contract = [(_code(n), _code(str(v))) for n, v in Contract().content().items()]
    return (
        "# Columns and fields\n\nOf `participants.tsv`, in this order: "
        + ", ".join(_code(c) for c in COLUMNS)
        + ".\n\nOf `quarantine.tsv`: "
        + ", ".join(name for name, _ in rows)
        + ".\n\nFields of `contract.yaml`, with the values of a cohort prepared with the "
        "defaults:\n\n" + grid(("field", "default"), contract)
    )


def functions() -> str:
    """Each command's Python function of the same name."""
    rows = []
    for file in sorted((SOURCE / "cli").glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                rows += [
                    (_code(f"volta3d {node.name}"), f"{{py:func}}`{i.module}.{a.name}`")
                    for i in ast.walk(node)
                    if isinstance(i, ast.ImportFrom)
                    for a in i.names
                    if a.asname == "run"
                ]
    pages = "\n".join(f"api-{room}" for room in rooms())
    return (
        "# Python\n\nEach command is one function with the same name and arguments:\n\n"
        + grid(("command", "function"), rows)
        + "\nRoom by room, in the order of the data:\n\n"
        + f"```{{toctree}}\n:maxdepth: 1\n\n{pages}\n```\n"
    )


def rooms() -> dict[str, list[str]]:
    """The public modules of each folder and top-level file of the package."""
    found: dict[str, list[str]] = {}
    for module in pkgutil.walk_packages([str(SOURCE)], "volta3d."):
        parts = module.name.split(".")[1:]
        if any(p.startswith("_") for p in parts) or parts[0] == "cli":
            continue
        found.setdefault(parts[0], []).append(module.name)
    return found


def api(room: str, modules: list[str]) -> str:
    """The documented parts of a room's modules."""
    text = f"# {room}\n\n{_first(importlib.import_module(modules[0]).__doc__)}\n"
    for name in modules:
        if hasattr(importlib.import_module(name), "__path__"):
            continue  # a package only passes on what its modules hold
        text += f"\n## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n```\n"
    return text


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for info in pkgutil.iter_modules(package.__path__):
        yield importlib.import_module(f"{package.__name__}.{info.name}")


def _first(doc: str | None) -> str:
    return inspect.cleandoc(doc or "").split("\n\n")[0].replace("``", "`").replace("\n", " ")
