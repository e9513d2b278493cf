"""Where an encoder is: a folder, a name on the shelf, or a repository of the Hugging Face hub.

Nothing is fetched: a repository counts as far as it is in the hub's local cache.
"""

from __future__ import annotations

import importlib.util
from importlib.resources import files
from pathlib import Path
from typing import Any

from volta3d.errors import EncoderError, UsageError
from volta3d.pretrain.encoder import CONFIG

HUB = "hf-hub:"
SHELF = "shelf"  # the folder in this package
PACKAGE = "volta3d_weights"  # one that is installed beside it


def find_encoder(name: Path | str) -> Path:
    """The folder that a name leads to; a path that leads nowhere comes back as it is.

    Args:
        name: a folder; ``hf-hub:owner/name``, with ``@revision`` behind it if need be; or a name on
            the shelf, such as ``volta3d-small``.

    Raises:
        EncoderError: a repository that isn't in the hub's cache.
        UsageError: a repository whose name isn't one, or huggingface-hub isn't installed.
    """
    text = str(name)
    if text.startswith(HUB):
        return _from_hub(text)
    if Path(name).exists():
        return Path(name)
    return shelf().get(text, Path(name))


def is_known(name: Path | str) -> bool:
    """Whether a name leads to an encoder that is no path: one of the hub or of the shelf."""
    return str(name).startswith(HUB) or str(name) in shelf()


def shelf() -> dict[str, Path]:
    """The encoders that came with this package or with ``volta3d_weights``, by their names."""
    roots = [Path(str(files("volta3d.encoder").joinpath(SHELF)))]
    spec = importlib.util.find_spec(PACKAGE)
    if spec is not None:
        roots += [Path(place) for place in spec.submodule_search_locations or ()]
    found: dict[str, Path] = {}
    for root in roots:
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if (folder / CONFIG).is_file():
                found.setdefault(folder.name, folder)
    return found


def _from_hub(text: str) -> Path:
    repository, _, revision = text.removeprefix(HUB).partition("@")
    if repository.count("/") != 1 or not all(repository.split("/")):
        raise UsageError("Not a repository", where=text, fix=f"Write {HUB}owner/name")
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(
            "Encoders of the Hugging Face hub need the package huggingface-hub",
            where=text,
            fix="Install it with: pip install 'volta3d[hub]'",
        ) from error
    snapshot: Any = huggingface_hub.snapshot_download
    try:
        return Path(snapshot(repository, revision=revision or None, local_files_only=True))
    except Exception as error:  # the library has a family of errors for what isn't there
        wanted = f" --revision {revision}" if revision else ""
        raise EncoderError(
            "This repository isn't in the local cache, and volta3d asks no network",
            where=text,
            fix=f"Fetch it once, where there is a network: hf download {repository}{wanted}",
        ) from error
