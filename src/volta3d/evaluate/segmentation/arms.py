"""Which folder holds which arm's label maps, and of which repetition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volta3d.errors import UsageError, VoltaError

PREDICTIONS = "predictions"
Key = tuple[str, int]  # arm, repetition


def arms_of_run(run: Path, config: Mapping[str, Any]) -> dict[Key, Path]:
    """The folders of label maps of a run of ``segment``, in the order of its arms.

    The run's configuration says which arm and repetition a folder belongs to; a folder that it
    doesn't speak of, as of another tool, is an arm of its own.

    Args:
        run: the run folder.
        config: what its config.yaml holds.

    Raises:
        VoltaError: a folder that two arms wrote to.
    """
    # here: what names the folders imports the networks' libraries
    from volta3d.grid.job import Job

    folders = {p.name: p for p in sorted((run / PREDICTIONS).glob("*")) if p.is_dir()}
    seeds = (config.get("settings") or {}).get("seeds", 1)
    owners: dict[str, Key] = {}
    for arm in map(str, config.get("arms") or {}):
        for seed in range(seeds if isinstance(seeds, int) else 1):
            name = Job(arm, seed, 1.0, 0).predictions
            if name in owners and name in folders:
                raise VoltaError(
                    f"Arms '{owners[name][0]}' and '{arm}' wrote label maps into the same folder",
                    where=folders[name],
                    fix="Rename one of the arms and run volta3d segment again",
                )
            owners[name] = (arm, seed)
    known = {key: folders[name] for name, key in owners.items() if name in folders}
    return known | {(n, 0): p for n, p in folders.items() if n not in owners}


def arm_names(folders: Sequence[Path | str]) -> dict[str, Path]:
    """Names for folders of label maps: each one's last name, or what tells alike ones apart.

    ``a/pred`` and ``b/pred`` become ``a`` and ``b``.

    Raises:
        UsageError: a folder is given twice.
    """
    paths = [Path(f) for f in folders]
    parts = [_parts(p) for p in paths]
    twice = next((p for i, p in enumerate(paths) if parts[i] in parts[:i]), None)
    if twice is not None:
        raise UsageError("The folder is given twice", where=twice, fix="Name it once")
    last = [p[-1] for p in parts]
    names = [
        name if last.count(name) == 1 else _difference(own, [p for p in parts if p[-1] == name])
        for name, own in zip(last, parts, strict=True)
    ]
    return {
        name if name and names.count(name) == 1 else str(Path(*own)): path
        for name, own, path in zip(names, parts, paths, strict=True)
    }


def _parts(path: Path) -> tuple[str, ...]:
    return (path.resolve() if ".." in path.parts else path.absolute()).parts


def _difference(own: tuple[str, ...], group: Sequence[tuple[str, ...]]) -> str:
    """The parts of a path between the first and the last that others of its group don't share."""
    least = min(len(p) for p in group)
    front = next((i for i in range(least) if len({p[i] for p in group}) > 1), least)
    back = next((i for i in range(1, least + 1) if len({p[-i] for p in group}) > 1), least + 1)
    return "/".join(own[front : len(own) - back + 1])
