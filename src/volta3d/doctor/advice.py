"""What to change when a run would not fit in memory, and what each change costs."""

from __future__ import annotations

from dataclasses import dataclass

from volta3d.config import PretrainConfig
from volta3d.objective.terms import Term, active

FULL = 0.9  # of the free memory: a run that takes more is said not to fit


@dataclass(frozen=True)
class Change:
    """Settings that take less memory, or make use of more.

    Args:
        settings: as ``--set`` takes them.
        effect: what else they change.
        resumes: whether a run that has begun may go on with them.
    """

    settings: tuple[str, ...]
    effect: str
    resumes: bool = False

    def text(self) -> str:
        """The change as one line."""
        given = " ".join(f"--set {setting}" for setting in self.settings)
        return f"{given}: {self.effect}" + ("; also with --resume" if self.resumes else "")


def advice(memory: int | None, free: int, config: PretrainConfig, held: int = 0) -> str:
    """What to change for the memory there is; empty when there is nothing to say.

    Args:
        memory: bytes the run takes at its peak without the scans; None when unknown.
        free: bytes there are.
        config: the run that is planned.
        held: bytes of scans held in the same memory.

    Returns:
        Lines: a sentence, then one change a line, those that change no result first.
    """
    if memory is None:
        return ""
    if memory + held < FULL * free:
        more = larger(memory, free, config, held)
        return f"Room for larger products:\n{more.text()}" if more else ""
    lines = [change.text() for change in smaller(config, held > 0)]
    lines.append("a smaller model, or fewer and smaller views: another experiment")
    return "\n".join(["Does not fit. What would help, in this order:", *lines])


def smaller(config: PretrainConfig, resident: bool) -> list[Change]:
    """Changes that take less memory and that ``config`` accepts, those without effect first."""
    found = []
    if not config.checkpointing:
        found.append(Change(("checkpointing=true",), "the same result, a third more time", True))
    if resident:
        found.append(Change(("data=stream",), "the same result, scans read as needed", True))
    part = _part(config)
    return [*found, _batch(part, config)] if part else found


def larger(memory: int, free: int, config: PretrainConfig, held: int = 0) -> Change | None:
    """A larger batch in the same window, within half of what is free; None where there is none.

    None also where the objective depends on the batch: KoLeo, or a teacher that follows it.
    """
    if _comparing(config) or config.optim.cadence == "micro_step":
        return None
    window, batch = config.batch_size * config.accumulate, config.batch_size
    while window % (2 * batch) == 0:
        if 2 * batch // config.batch_size * memory + held > free / 2:
            break
        batch *= 2
    return None if batch == config.batch_size else _batch(batch, config)


def _comparing(config: PretrainConfig) -> list[Term]:
    """The loss terms that are on and compare the scans of a batch."""
    return [term for term in active(config.objective) if term.compares_scans]


def _part(config: PretrainConfig) -> int:
    """The largest proper divisor of the batch that the objective accepts, 0 where there is none."""
    least = 2 if _comparing(config) else 1
    parts = range(config.batch_size // 2, least - 1, -1)
    return next((part for part in parts if config.batch_size % part == 0), 0)


def _batch(batch: int, config: PretrainConfig) -> Change:
    """The same window in batches of another size, and what that changes."""
    before, objective = config.batch_size, config.objective
    accumulate = before * config.accumulate // batch
    effects = []
    for term in _comparing(config):
        effects.append(f"{term.title} compares {batch} scans instead of {before}")
    if config.optim.cadence == "micro_step":
        effects.append(f"teacher and centres move after {batch} scans instead of {before}")
    if objective.reconstruction or objective.patch_tokens == "masked":
        effects.append("masked means are taken batch by batch, which moves gradients slightly")
    return Change(
        (f"batch_size={batch}", f"accumulate={accumulate}"),
        "; ".join(["a new run with the same window and schedule", *effects]),
    )
