"""A child process that turns what ``torch.save`` wrote into safetensors, tensors alone.

The one place where such a file is opened: with ``weights_only``, which builds tensors and plain
containers and runs nothing that the file says, and in a process that ends right afterwards.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from volta3d.errors import EncoderError

TIMEOUT = 600  # seconds
DEEPEST = 8  # mappings inside mappings


def to_safetensors(source: Path, target: Path) -> None:
    """Write the tensors of a file of ``torch.save`` to ``target``, names joined by dots.

    Raises:
        EncoderError: it holds more than tensors, is damaged, or takes too long.
    """
    command = [sys.executable, "-m", "volta3d.encoder.unpickle", str(source), str(target)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise EncoderError(
            f"Reading took longer than {TIMEOUT} seconds",
            where=source,
            fix="Save its tensors as safetensors where you trust the file",
        ) from error
    if done.returncode or not target.is_file():
        lines = done.stderr.strip().splitlines()
        raise EncoderError(
            f"Not a file of tensors alone: {lines[-1][:300] if lines else 'the reader died'}",
            where=source,
            fix="Save the state dict's tensors as safetensors where you trust the file, and import "
            "that",
        )


def tensors(content: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The floating-point tensors of nested mappings, names joined by dots; all else is left out."""
    if isinstance(content, Tensor):
        if content.is_floating_point() and prefix:
            yield prefix, content.detach()
        return
    if isinstance(content, dict) and depth < DEEPEST:
        for name, value in content.items():
            if isinstance(name, str):
                yield from tensors(value, f"{prefix}.{name}" if prefix else name, depth + 1)


def main(source: str, target: str) -> None:
    """Read and write; any failure ends the process with its reason on standard error."""
    import torch
    from safetensors.torch import save_file

    content = torch.load(source, map_location="cpu", weights_only=True)
    found = {name: value.contiguous().clone() for name, value in tensors(content)}
    if not found:
        raise SystemExit("it holds no tensors")
    save_file(found, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
