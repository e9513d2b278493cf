"""A pretraining micro-step against the composition the paper describes, and against the processor.

Run: python benchmarks/pretrain_step.py [--out pretrain_step.json] [--tiny]

ViT-B, one scan, 2 x 96^3 + 4 x 48^3, three losses, backward and EMA, views made beforehand on both
sides. All in this process, in turn, on one thread. Operations are counted by torch from the shapes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from claims import alternate, claim, one_thread, parser, publish
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


def settings(tiny: bool) -> PretrainConfig:
    """Preset paper with four locals, or the same at sizes that only show that it runs."""
    return load_pretrain("paper", ["views.locals=4", *(TINY if tiny else ())])


def drawn(config: PretrainConfig) -> ViewBatch:
    """The views of one random scan."""
    edge = config.views.global_size * 4 // 3
    volume = torch.rand(1, 1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    return make_views(volume, ["a"], epoch=0, seed=0, views=config.views, masking=config.masking)


def our_step(config: PretrainConfig, bf16: bool = True) -> Callable[[ViewBatch], None]:
    """The same work through volta3d."""
    distillation = SelfDistillation(build_pair(config.model, config.views.global_size, 0), config)
    now = Schedule(config, 100).at(5000)

    def step(views: ViewBatch) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            losses, moments = distillation(views, now)
        losses.total.backward()
        distillation.update_statistics(moments)
        distillation.pair.update_teacher(0.996)
        distillation.zero_grad(set_to_none=True)

    return step


def main() -> None:
    """Measure and print."""
    arguments = parser(__doc__).parse_args()
    one_thread()
    config = settings(arguments.tiny)
    views = drawn(config)
    ours, fp32, bf16 = our_step(config), None, None
    fp32, bf16 = ReferenceStep(config, bf16=False), ReferenceStep(config, bf16=True)
    with FlopCounterMode(display=False) as counter:
        ours(views)
    flops = counter.get_total_flops()
    edge = 64 if arguments.tiny else 2048
    a, b = (torch.randn(edge, edge).bfloat16() for _ in range(2))
    times = alternate(
        {
            "ours": lambda: ours(views),
            "reference fp32": lambda: fp32(views),
            "reference bf16": lambda: bf16(views),
            "product": lambda: torch.mm(a, b),
        },
        1 if arguments.tiny else 3,
    )
    seconds = {name: value["cpu"] for name, value in times.items()}
    rate, limit = flops / seconds["ours"], 2 * edge**3 / seconds["product"]
    slow, half = (seconds[f"reference {p}"] / seconds["ours"] for p in ("fp32", "bf16"))
    claims = [
        claim(
            "micro-step against MONAI's parts view by view in fp32, CPU seconds",
            seconds["ours"], seconds["reference fp32"], slow, "at least 4 times", slow >= 4,
        ),
        claim(
            "micro-step against the same under bf16 autocast, CPU seconds",
            seconds["ours"], seconds["reference bf16"], half, "at least 1.8 times", half >= 1.8,
        ),
        claim(
            "counted operations per second against this processor's bf16 matrix products, TFLOP/s",
            rate / 1e12, limit / 1e12, rate / limit, "at least 70 %", rate >= 0.7 * limit,
        ),
    ]  # fmt: skip
    publish("pretrain_step", claims, arguments.out, seconds=times, flops=flops)


if __name__ == "__main__":
    main()
