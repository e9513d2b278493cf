"""The memory of a pretraining micro-step against the composition the paper describes.

Run: python benchmarks/memory.py [--out memory.json] [--device cuda] [--tiny]

Each side takes one step in a process of its own. Counted is the peak of the process's resident
memory above what it held with everything imported: networks, gradients, activations. On a GPU it
is the device's memory, of eight scans with 2 x 96^3 + 8 x 48^3 in one batch, AdamW included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import torch
from claims import CPU, claim, one_thread, parser, publish, with_device
from pretrain_step import drawn, our_step, settings, volumes
from reference_step import ReferenceStep

from volta3d.doctor.plan import PeakMemory
from volta3d.model.pair import build_pair
from volta3d.views.batch import ViewBatch

SIDES = ("ours", "ours checkpointing", "reference fp32", "reference bf16")


def peak(side: str, tiny: bool) -> int:
    """Bytes at the peak of two steps of one side."""
    one_thread()
    config = settings(tiny)
    views = drawn(config)
    import monai.networks.nets  # noqa: F401  both sides hold it

    memory = PeakMemory(torch.device("cpu"))
    step: Callable[[ViewBatch], None]
    if side.startswith("ours"):
        step = our_step(config.model_copy(update={"checkpointing": "checkpointing" in side}))
    else:
        step = ReferenceStep(config, bf16=side.endswith("bf16"))
    for _ in range(2):
        step(views)
    found = memory.peak()
    if found is None:
        raise SystemExit("this system does not tell the peak of a process's memory")
    return found


def batch_of_eight(tiny: bool, device: torch.device) -> float:
    """Bytes of the device at the peak of two optimiser steps of preset paper, a true batch."""
    from volta3d.objective.schedules import Schedule
    from volta3d.pretrain.optimiser import build_optimizer
    from volta3d.pretrain.step import SelfDistillation

    memory = PeakMemory(device)
    config = settings(tiny, 8)
    held = volumes(config, 8, device)
    pair = build_pair(config.model, config.views.global_size, 0)
    distillation = SelfDistillation(pair, config).to(device)
    optimizer = build_optimizer(distillation, config.optim)
    now = Schedule(config, 100).at(5000)
    for epoch in range(2):
        with torch.autocast(device.type, torch.bfloat16):
            losses, _ = distillation(drawn(config, held, epoch), now)
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(memory.peak() or 0)


def floor(tiny: bool) -> int:
    """Bytes of student, teacher and gradients in fp32."""
    config = settings(tiny)
    pair = build_pair(config.model, config.views.global_size, 0)
    trained = sum(p.numel() for p in pair.parameters() if p.requires_grad)
    return 4 * (2 * trained + sum(p.numel() for p in pair.teacher.parameters()))


def main() -> None:
    """Start the sides one after the other and print."""
    given = with_device(parser(__doc__))
    given.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = given.parse_args()
    if arguments.side:
        print(peak(arguments.side, arguments.tiny))
        return
    if arguments.device != CPU:
        held = batch_of_eight(arguments.tiny, arguments.device) / 1e9
        what = "peak memory of a step of eight scans in one batch, GB"
        claims = [claim(what, held, 40, held / 40, "under 40 GB", held < 40)]
        publish("memory", claims, arguments.out, arguments.device)
        return
    tiny = ["--tiny"] if arguments.tiny else []
    found = {}
    sides = SIDES[::2] if arguments.tiny else SIDES  # tiny shows that it runs
    own = [side for side in sides if side.startswith("ours")]
    references = [side for side in sides if side not in own]
    for side in sides:
        command = [sys.executable, __file__, "--side", side, *tiny]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[side] = int(said.split()[-1])
    claims = []
    for side in own:
        for other in references:
            ratio = found[side] / found[other]
            claims.append(
                claim(
                    f"peak memory of a step, {side}, against {other}, MB",
                    found[side] / 1e6, found[other] / 1e6, ratio, "at most half", ratio <= 0.5,
                )
            )  # fmt: skip
    held = floor(arguments.tiny)
    for reference in references:
        ours, other = found[own[0]] - held, found[reference] - held
        claims.append(
            claim(
                f"of that, above weights and gradients: ours against {reference}, MB",
                ours / 1e6, other / 1e6, ours / other, "at most half", ours <= 0.5 * other,
            )
        )  # fmt: skip
    shares = " and ".join(f"{100 * held / found[r]:.0f} % of the {r}" for r in references)
    rooms = " and ".join(f"{(found[r] / 2 - held) / 1e6:.0f} MB" for r in references)
    copies = held / 6  # two bytes for each four-byte weight of one of three equal parts
    reason = (
        f"Student, teacher and gradients in fp32 are {held / 1e6:.0f} MB, which every side holds: "
        f"{shares}. At batch 1 half of these would leave {rooms} for everything else. Activations, "
        "logits and copies, the part that a composition can change and that grows with the batch, "
        "stand in the last lines; of them the bf16 copies of the student's weights, which autocast "
        f"keeps until the backward pass is done, on both bf16 sides, are {copies / 1e6:.0f} MB."
    )
    publish("memory", claims, arguments.out, bytes=found, floor=held, reason=reason)


if __name__ == "__main__":
    main()
