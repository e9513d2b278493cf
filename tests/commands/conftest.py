"""The command line as a user would call it: in a child process, or in this one, which is faster."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from volta3d.cli import main

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def child() -> Callable[..., Done]:
    """child("prepare", "scans", cwd=folder) in a process of its own."""

    def run(*arguments: str, cwd: Path) -> Done:
        return subprocess.run(
            [sys.executable, "-m", "volta3d", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    return run


@pytest.fixture
def volta3d(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """volta3d("prepare", "scans", cwd=folder) in this process, which has imported everything."""

    def run(*arguments: str, cwd: Path) -> Done:
        capfd.readouterr()
        code: object = 0
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code or 0
        assert isinstance(code, int), f"exits with {code}"
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(list(arguments), code, out, err)

    return run
