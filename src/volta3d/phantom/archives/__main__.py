"""``python -m volta3d.phantom.archives OUT``: write the archives, and say how to study them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from volta3d.errors import VoltaError
from volta3d.phantom.archives.write import ARCHIVES, write_archives


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m volta3d.phantom.archives", description=__doc__)
    parser.add_argument("out", type=Path, help="the folder to create")
    parser.add_argument("--size", type=int, default=1, help="1 holds 52 people")
    parser.add_argument("--spacing", type=float, default=3.0, help="voxel size in mm")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        out = write_archives(given.out, size=given.size, spacing=given.spacing, seed=given.seed)
    except VoltaError as error:
        print(error.paragraph(), file=sys.stderr)
        return error.exit_code
    sources = " ".join(f"--source {name}={out / folder}" for name, folder in ARCHIVES.items())
    print(
        f"SYNTHETIC archives in {out}. Try:\nvolta3d study paper --scale tiny --out study {sources}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
