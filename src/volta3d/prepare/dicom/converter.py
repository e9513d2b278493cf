"""dcm2niix as a child process: an argument list, an empty environment, limits of time and space."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from volta3d.errors import UsageError
from volta3d.prepare.findings import Refused

SECONDS = 300.0  # a head takes about one
MAX_BYTES = 8 * 2**30  # of memory, and of one file written
NAME = "volume"
OPTIONS = ("-b", "n", "-z", "n", "-l", "o", "-p", "n", "-x", "i", "-g", "i", "-w", "1", "-f", NAME)
FIX = "Look at the series in a viewer; if it opens there, please report this"


def dcm2niix() -> str:
    """The binary that comes with the wheel.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import dcm2niix as wheel
    except ImportError as error:
        raise missing("dcm2niix") from error
    return str(wheel.bin)


def missing(package: str) -> UsageError:
    """The error when the extra isn't installed."""
    return UsageError(
        f"Reading DICOM needs {package}", fix="Install it with: pip install 'volta3d[dicom]'"
    )


def run_converter(
    staged: Path, out: Path, *, command: Sequence[str] = (), seconds: float = SECONDS
) -> list[Path]:
    """Convert the DICOM files of ``staged`` into NIfTI files in ``out``; return them, sorted.

    What the program prints is thrown away: it may quote headers.

    Args:
        staged: a folder of neutral files.
        out: an empty folder.
        command: the program with its first arguments, for tests; dcm2niix if empty.
        seconds: time limit.

    Raises:
        Refused: it failed, took too long, or wrote nothing.
    """
    staged, out = staged.resolve(), out.resolve()  # it runs in another folder
    program = [*(command or [dcm2niix()]), *OPTIONS, "-o", str(out), str(staged)]
    process = subprocess.Popen(
        program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=out,
        env={"HOME": str(out)},
        start_new_session=True,
    )
    try:
        _limit(process.pid)
        code = process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        what = f"The converter took more than {seconds:g} seconds"
        raise Refused("converter-timeout", what, FIX) from error
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    made = sorted(out.glob("*.nii"))
    if code != 0:
        how = f"signal {-code}" if code < 0 else f"code {code}"
        raise Refused("converter-failed", f"The converter ended with {how}", FIX)
    if not made:
        raise Refused("converter-failed", "The converter wrote no volume", FIX)
    return made


def _limit(process: int) -> None:
    """Bound memory and file size where the system can (Linux)."""
    try:
        import resource

        for kind in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE):
            resource.prlimit(process, kind, (MAX_BYTES, MAX_BYTES))
    except (ImportError, AttributeError, OSError, ValueError):
        return
