"""Pretrain in a process of its own: python child.py COHORT OUT CONFIG.yaml [SECONDS A STEP].

Not a test: tests start it and kill it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch

from volta3d.config import load_pretrain
from volta3d.errors import VoltaError
from volta3d.pretrain.loop import pretrain


def main(cohort: str, out: str, config: str, seconds: str = "0") -> int:
    torch.set_num_threads(1)
    try:
        pretrain(
            [Path(cohort)],
            Path(out),
            load_pretrain(config),
            notify=lambda step, steps, text: time.sleep(float(seconds)),
        )
    except VoltaError as error:
        print(error.paragraph(), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
