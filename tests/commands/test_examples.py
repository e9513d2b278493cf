"""The examples in the help run, and what they make is what is promised and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.main import get_command

from volta3d.cli import app
from volta3d.cohort.store import Cohort
from volta3d.config import load_classify, load_pretrain, load_segment, load_study
from volta3d.downstream.classification.fitted import load_fitted
from volta3d.downstream.segmentation.model import load_segment_model
from volta3d.encoder.embed import read_features
from volta3d.encoder.load import load_encoder
from volta3d.errors import VoltaError
from volta3d.evaluate.evaluate import evaluate
from volta3d.inspection.inspect import inspect
from volta3d.phantom import generate
from volta3d.prepare.assemble import read_records
from volta3d.prepare.findings import Refused
from volta3d.prepare.layouts import discover
from volta3d.prepare.nifti import read_nifti
from volta3d.pretrain.checkpoint import available, read
from volta3d.report.runfolder import read_run
from volta3d.report.task_run import read_task

COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]
Done = subprocess.CompletedProcess[str]
Ran = Callable[[str], Done]
IN_ORDER = [
    "prepare", "inspect", "audit", "doctor", "pretrain", "embed", "probe", "classify", "segment",
    "predict", "evaluate", "report", "study", "export", "import", "demo",
]  # fmt: skip


TREE = Path(__file__).with_name("tree.txt")  # count, path: what the examples leave behind
CHANGING = {
    r"[0-9a-f]{12,}": "HASH", r"(zarr/c)/\d+": r"\1/N", r"sub-[A-Za-z0-9]+": "sub-X",
    r"tfevents\.\S+": "tfevents",
}  # fmt: skip


def example_of(command: str) -> list[str]:
    """The example in a command's help."""
    epilog = get_command(app).commands[command].epilog  # type: ignore[attr-defined]
    found = re.fullmatch(r"Example: volta3d (.+)", epilog or "")
    assert found, f"{command} has no example"
    return shlex.split(found[1])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``my-bids``, the raw data of the examples."""
    folder = tmp_path_factory.mktemp("workspace")
    generate(folder / "my-bids", subjects=12, spacing=4.0)
    shutil.copy(Path(__file__).parent.parent / "study" / "tiny.yaml", folder)
    return folder


def test_every_command_is_among_the_examples() -> None:
    assert sorted(IN_ORDER) == COMMANDS


@pytest.fixture(scope="module")
def ran(workspace: Path, child: Callable[..., Done]) -> Ran:
    """Runs the example of a command, once; the ones before it must have run."""
    done: dict[str, Done] = {}

    def run(command: str) -> Done:
        if command not in done:
            done[command] = child(*example_of(command), cwd=workspace)
        return done[command]

    return run


@pytest.mark.slow
@pytest.mark.parametrize("command", IN_ORDER)
def test_O4_the_examples_run(command: str, ran: Ran) -> None:
    """In the order of the pipeline, so that each finds what the one before made."""
    done = ran(command)
    # 3: a run of seconds on twelve scans may ring, which is what alarms are for
    assert done.returncode in ((0, 3) if command in ("pretrain", "study", "demo") else (0,)), (
        done.stderr
    )
    assert "Traceback" not in done.stderr
    if command == "demo":
        assert "sex, AUROC" in done.stdout and "SYNTHETIC" in done.stdout
    if command == "inspect":
        assert json.loads(done.stdout)["sound"] is True


def tree(folder: Path) -> list[str]:
    """Every file below a folder; of a study or a demo only what lies two folders deep."""
    found: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        parts = file.relative_to(folder).parts
        deep = parts[0] in ("study-out", "demo-out") and len(parts) > 3
        name = "/".join(parts[:3]) + "/" if deep else "/".join(parts)
        for pattern, word in CHANGING.items():
            name = re.sub(pattern, word, name)
        found[name] += 1
    return [f"{count} {name}" for name, count in sorted(found.items())]


@pytest.mark.slow
def test_O1_the_examples_leave_exactly_what_is_promised(workspace: Path, ran: Ran) -> None:
    for command in IN_ORDER:
        ran(command)
    found = [line for line in tree(workspace) if " my-bids/" not in line]
    assert found == TREE.read_text(encoding="utf-8").splitlines()


class Trap:
    """Unpickled, it makes a folder: the proof that something of a file was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def payloads(sprung: Path) -> dict[str, bytes]:
    """Files that run code in whoever reads them without care."""
    zipped, arrays = io.BytesIO(), io.BytesIO()
    torch.save({"weight": Trap(sprung)}, zipped)
    np.save(arrays, np.array([Trap(sprung)], object), allow_pickle=True)
    return {
        "pickle": pickle.dumps(Trap(sprung)),
        "torch": zipped.getvalue(),
        "numpy": arrays.getvalue(),
        "yaml": f"!!python/object/apply:os.mkdir ['{sprung}']".encode(),
    }


def careless(kind: str, payload: bytes) -> None:
    """Read a payload as it must not be read."""
    if kind == "pickle":
        pickle.loads(payload)
    elif kind == "torch":
        torch.load(io.BytesIO(payload), weights_only=False)
    elif kind == "numpy":
        np.load(io.BytesIO(payload), allow_pickle=True)
    else:
        yaml.unsafe_load(payload)


def read_cohort(path: Path) -> None:
    cohort = Cohort.open(path)
    for index in range(len(cohort)):
        cohort.volume(index), cohort.label(index), cohort.affine(index)
    read_records(cohort)


def read_checkpoints(run: Path) -> None:
    for path in available(run / "checkpoints"):
        read(path)


def score(run: Path) -> None:
    evaluate([run])


def read_scans(path: Path) -> None:
    for scan in discover(path).scans[:1]:
        read_nifti(scan.source)


READERS: dict[str, list[Callable[[Path], object]]] = {
    "cohort": [read_cohort, inspect],
    "run": [read_run, read_checkpoints, inspect],
    "run/encoder": [load_encoder, inspect],
    "features.parquet": [read_features, inspect],
    "sex": [score, read_task, lambda run: load_fitted(run / "arms/volta/model"), inspect],
    "outlines": [score, read_task, lambda run: load_segment_model(run / "arms/unet/model")],
    "tiny.yaml": [load_study, load_pretrain, load_classify, load_segment],
    "my-bids": [read_scans, inspect],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_S1_S2_nothing_that_lies_in_a_file_is_run(
    name: str, workspace: Path, ran: Ran, tmp_path: Path
) -> None:
    """Each kind of file of each artefact replaced by pickles, pickled objects, and YAML tags."""
    for command in IN_ORDER[: IN_ORDER.index("evaluate")]:
        ran(command)
    copy, sprung = tmp_path / "copy" / Path(name).name, tmp_path / "sprung"
    source = workspace / name
    copy.parent.mkdir()
    (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    files = [copy] if copy.is_file() else sorted(p for p in copy.rglob("*") if p.is_file())
    alike = re.compile(r"\b(linear|vit|volta|volume|unet)\b|[0-9a-f]{12,}|\d+")
    kinds = {alike.sub("N", str(file.relative_to(copy.parent))): file for file in files}
    for kind, payload in payloads(sprung).items():
        careless(kind, payload)
        assert sprung.is_dir(), "the trap is no trap"
        sprung.rmdir()
        for file in kinds.values():
            whole = file.read_bytes()
            file.write_bytes(payload)
            for reader in READERS[name]:
                if reader is score and kind != "pickle":
                    continue  # scoring takes its time; what it reads are texts, one kind is enough
                with contextlib.suppress(VoltaError, Refused):
                    reader(copy)
                assert not sprung.exists(), f"{file.relative_to(copy.parent)} was run by {reader}"
            file.write_bytes(whole)
