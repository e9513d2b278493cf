"""What a scan costs as cohorts grow, a step as views grow, and an epoch as processes are added.

Run: python benchmarks/growth.py [--out growth.json] [--tiny]

Cohorts of 10 to 10,000 cubes of 32^3; views of one width of network from 27 to 1,000 tokens; one
and two processes with gloo, started by torchrun.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from claims import alternate, claim, one_thread, parser, publish

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import Cohort, write_cohort
from volta3d.config import load_pretrain
from volta3d.pretrain.data import Scans
from volta3d.pretrain.fabric import build_fabric
from volta3d.pretrain.trainer import Trainer

EDGE, BATCH, SAMPLES = 32, 8, 20
SMALL = (
    "views.global_size=16", "views.local_size=8", "views.downsample=1", "model.patch_size=8",
    "model.width=48", "model.heads=4", "model.depth=2", "model.mlp=96", "batch_size=8",
)  # fmt: skip


def cohort_of(folder: Path, count: int) -> Cohort:
    """``count`` different cubes."""
    rng = np.random.default_rng(0)
    cubes = (rng.random((EDGE,) * 3, dtype=np.float32) for _ in range(count))
    people = pd.DataFrame({"scan_id": [f"s{i:05d}" for i in range(count)]})
    return write_cohort(folder, Contract(size=EDGE, spacing=2.0, synthetic=True), cubes, people)


def per_scan(cohorts: dict[str, Scans]) -> dict[str, float]:
    """CPU seconds of reading one scan in random order, the median of a few batches, in turn."""
    rng = np.random.default_rng(0)
    taken: dict[str, list[float]] = {name: [] for name in cohorts}
    for _ in range(SAMPLES):
        for name, scans in cohorts.items():
            chosen = rng.integers(0, len(scans), BATCH)
            started = time.process_time()
            scans.batch(chosen)
            taken[name].append((time.process_time() - started) / BATCH)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def by_tokens(edges: list[int], repeats: int) -> dict[str, dict[str, float]]:
    """CPU seconds of an encoder's forward and backward, and its counted operations."""
    from torch.utils.flop_counter import FlopCounterMode

    from volta3d.model.vit import Encoder

    found = {}
    for edge in edges:
        encoder = Encoder(8 * edge, 8, 192, 4, 6, 768)
        volumes = torch.rand(1, 1, *(8 * edge,) * 3)

        def step(encoder: Encoder = encoder, volumes: torch.Tensor = volumes) -> None:
            with torch.autocast("cpu", torch.bfloat16):
                encoder(volumes).square().mean().backward()

        with FlopCounterMode(display=False) as counter:
            step()
        seconds = alternate({"step": step}, repeats)["step"]["cpu"]
        found[str(edge**3)] = {"cpu": seconds, "flops": counter.get_total_flops()}
    return found


def epoch(cohort: str) -> None:
    """One epoch of a small run in this process, as part of however many there are."""
    torch.set_num_threads(1)
    config = load_pretrain("small", SMALL)
    fabric = build_fabric(config)
    fabric.launch()
    trainer = Trainer(Scans.open([Path(cohort)], config, fabric.device), config, fabric)
    list(trainer.epoch(0, 0))
    trainer.ranks.wait()
    started, cpu = time.perf_counter(), time.process_time()
    records = list(trainer.epoch(1, 0))
    trainer.ranks.wait()
    told = {
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "loss": records[-1]["loss"],
    }
    if trainer.ranks.first:
        print(json.dumps(told))


def by_ranks(cohort: Cohort) -> dict[str, dict[str, float]]:
    """The same epoch on one process and on two."""
    found = {}
    for ranks in (1, 2):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            f"--nproc-per-node={ranks}", __file__, "--epoch", str(cohort.path),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found[str(ranks)] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    given = parser(__doc__)
    given.add_argument("--epoch", help=argparse.SUPPRESS)
    arguments = given.parse_args()
    if arguments.epoch:
        epoch(arguments.epoch)
        return
    one_thread()
    counts = [10, 40] if arguments.tiny else [10, 100, 1000, 10_000]
    with tempfile.TemporaryDirectory() as temporary:
        cohorts = {count: cohort_of(Path(temporary) / str(count), count) for count in counts}
        scans = {
            keep: per_scan({str(n): Scans([c], keep=keep) for n, c in cohorts.items()})
            for keep in ("resident", "stream")
        }
        tokens = by_tokens([1, 2] if arguments.tiny else [3, 6, 8, 10], 1 if arguments.tiny else 5)
        ranks = by_ranks(cohorts[counts[1]])
    claims = []
    for keep, seconds in scans.items():
        first, last = seconds[str(counts[0])], seconds[str(counts[-1])]
        claims.append(
            claim(
                f"CPU seconds to read a scan, {keep}: {counts[-1]} scans against {counts[0]}",
                last, first, last / first, "flat: below 1.5", last < 1.5 * first,
            )
        )  # fmt: skip
    rates = [one["flops"] / one["cpu"] / 1e9 for one in tokens.values()]
    names = list(tokens)
    claims += [
        claim(
            f"GFLOP/s of a step at {names[-1]} tokens against {names[0]}: no cost beyond counting",
            rates[-1], rates[0], rates[-1] / rates[0], "at least .7", rates[-1] >= 0.7 * rates[0],
        ),
        claim(
            "loss after an epoch on two processes against one",
            ranks["2"]["loss"], ranks["1"]["loss"], ranks["2"]["loss"] / ranks["1"]["loss"],
            "1 within 5 %", math.isclose(ranks["2"]["loss"], ranks["1"]["loss"], rel_tol=0.05),
        ),
        claim(
            "CPU seconds of an epoch in one of two processes against one alone",
            ranks["2"]["cpu"], ranks["1"]["cpu"], ranks["2"]["cpu"] / ranks["1"]["cpu"],
            "at most .75", ranks["2"]["cpu"] <= 0.75 * ranks["1"]["cpu"],
        ),
    ]  # fmt: skip
    publish("growth", claims, arguments.out, scans=scans, tokens=tokens, ranks=ranks)


if __name__ == "__main__":
    main()
