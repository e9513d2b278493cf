"""A pretraining micro-step against the composition the paper describes, and against the processor.

Run: python benchmarks/pretrain_step.py [--out pretrain_step.json] [--device cuda] [--tiny]

ViT-B, three losses, backward and EMA, all in this process, in turn. Operations are counted by torch
from the shapes. On a CPU one scan of 2 x 96^3 + 4 x 48^3, views made beforehand on both sides, one
thread. On a GPU eight scans of 2 x 96^3 + 8 x 48^3, views included on our side, held volumes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from claims import CPU, alternate, claim, clock, one_thread, parser, publish, said, with_device
from reference_step import ReferenceStep
from torch.utils.flop_counter import FlopCounterMode

from volta3d.config import PretrainConfig, load_pretrain
from volta3d.model.pair import build_pair
from volta3d.objective.schedules import Schedule
from volta3d.pretrain.step import SelfDistillation
from volta3d.views.batch import ViewBatch, make_views

TINY = (
    "views.global_size=32", "views.local_size=16", "model.width=32", "model.depth=2",
    "model.heads=2", "model.mlp=64", "model.head_hidden=32", "model.bottleneck=16",
    "model.prototypes=64", "model.summariser_heads=2",
)  # fmt: skip


def settings(tiny: bool, locals_: int = 4) -> PretrainConfig:
    """Preset paper with some locals, or the same at sizes that only show that it runs."""
    return load_pretrain("paper", [f"views.locals={locals_}", *(TINY if tiny else ())])


def volumes(config: PretrainConfig, scans: int = 1, device: torch.device = CPU) -> torch.Tensor:
    """Random scans, larger than a global view by a third."""
    edge = config.views.global_size * 4 // 3
    drawn = torch.rand(scans, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    return drawn.to(device)


def drawn(config: PretrainConfig, held: torch.Tensor | None = None, epoch: int = 0) -> ViewBatch:
    """The views of random scans."""
    given = volumes(config) if held is None else held
    names = [f"scan {i}" for i in range(len(given))]
    return make_views(given, names, epoch=epoch, seed=0, views=config.views, masking=config.masking)


def alone(views: ViewBatch, scan: int, scans: int) -> ViewBatch:
    """The views of one of several scans."""
    local = views.local_views
    return ViewBatch(
        global_views=views.global_views[scan::scans],
        corrupted=views.corrupted[scan::scans],
        masks=views.masks[scan::scans],
        local_views=None if local is None else local[scan::scans],
    )


def our_step(
    config: PretrainConfig, bf16: bool = True, device: torch.device = CPU
) -> Callable[[ViewBatch], None]:
    """The same work through volta3d."""
    pair = build_pair(config.model, config.views.global_size, 0)
    distillation = SelfDistillation(pair, config).to(device)
    now = Schedule(config, 100).at(5000)

    def step(views: ViewBatch) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            losses, moments = distillation(views, now)
        losses.total.backward()
        distillation.update_statistics(moments)
        distillation.pair.update_teacher(0.996)
        distillation.zero_grad(set_to_none=True)

    return step


def measure(
    tiny: bool, device: torch.device, *, gpu: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The claims, and what they come from; ``gpu`` asks as a GPU is asked, on any device."""
    scans = 8 if gpu else 1
    config = settings(tiny, 8 if gpu else 4)
    held = volumes(config, scans, device)
    views = drawn(config, held)
    apart = [alone(views, scan, scans) for scan in range(scans)]
    ours = our_step(config, device=device)
    fp32, bf16 = (ReferenceStep(config, bf16=half, device=device) for half in (False, True))
    with FlopCounterMode(display=False) as counter:
        ours(views)
    flops = counter.get_total_flops()
    edge = 64 if tiny else 8192 if gpu else 2048
    a, b = (torch.randn(edge, edge, device=device).bfloat16() for _ in range(2))
    epochs = iter(range(10**6))
    times = alternate(
        {
            # a GPU is asked to make the views as well
            "ours": lambda: ours(drawn(config, held, next(epochs)) if gpu else views),
            "reference fp32": lambda: [fp32(one) for one in apart],
            "reference bf16": lambda: [bf16(one) for one in apart],
            "product": lambda: torch.mm(a, b),
        },
        1 if tiny else 3,
        device,
    )
    seconds = {name: value[clock(device)] for name, value in times.items()}
    rate, limit = flops / seconds["ours"], 2 * edge**3 / seconds["product"]
    slow, half = (seconds[f"reference {p}"] / seconds["ours"] for p in ("fp32", "bf16"))
    what = f"micro-step of {scans} scans, views included" if gpu else "micro-step"
    least, share = (8.0, 0.4) if gpu else (4.0, 0.7)
    claims = [
        claim(
            f"{what} against MONAI's parts view by view in fp32, {said(device)}",
            seconds["ours"], seconds["reference fp32"], slow,
            f"at least {least:g} times", slow >= least,
        ),
        claim(
            f"{what} against the same under bf16 autocast, {said(device)}",
            seconds["ours"], seconds["reference bf16"], half,
            "beside" if gpu else "at least 1.8 times", None if gpu else half >= 1.8,
        ),
        claim(
            "counted operations per second against this processor's bf16 matrix products, TFLOP/s",
            rate / 1e12, limit / 1e12, rate / limit,
            f"at least {100 * share:.0f} %", rate >= share * limit,
        ),
    ]  # fmt: skip
    return claims, {"seconds": times, "flops": flops}


def main() -> None:
    """Measure and print."""
    arguments = with_device(parser(__doc__)).parse_args()
    one_thread()
    device = arguments.device
    claims, details = measure(arguments.tiny, device, gpu=device.type == "cuda")
    publish("pretrain_step", claims, arguments.out, device, **details)


if __name__ == "__main__":
    main()
