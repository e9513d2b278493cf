"""The doctor's findings for a person."""

from __future__ import annotations

import math
from typing import Any

from volta3d.pretrain.scale import Scale
from volta3d.progress import duration


def render(found: dict[str, Any]) -> str:
    """The result of ``doctor`` as plain lines."""
    parts = [_machine(found["machine"]), _plan(found["plan"], found["cohort"] is not None)]
    if found["cohort"] and found["cohort"]["problem"]:
        parts.insert(0, "Does not fit this cohort: " + found["cohort"]["problem"])
    if found["cohort"] and "scale" in found["cohort"]:
        parts.append("Scale: " + Scale(**found["cohort"]["scale"]).text())
    if found["views"]:
        parts.append(_views(found["views"]))
    return "\n\n".join(parts)


def _machine(m: dict[str, Any]) -> str:
    lines = [
        f"Machine: {m['processor']}, {m['threads']} threads, "
        f"{size(m['memory_available'])} of {size(m['memory'])} memory free, "
        f"{size(m['disk_free'])} disk free"
    ]
    if m["device_memory"]:
        lines.append(f"  device        {m['device']}, {size(m['device_memory'])}")
    lines += [
        f"  precision     {m['precision']}, matrix products at "
        f"{m['flops_per_second'] / 1e12:.2f} TFLOP/s",
        f"  software      volta3d {m['volta3d']}, torch {m['torch']}, python {m['python']}",
    ]
    return "\n".join(lines)


def _plan(p: dict[str, Any], known: bool) -> str:
    of = f"{p['scans']} scans" + ("" if known else " (no cohort given: for every hundred scans)")
    memory = "unknown" if p["memory"] is None else size(p["memory"])
    held = "held in memory" if p["resident"] else "read from the store as needed"
    share = f"{100 * p['seconds_views'] / p['seconds_per_step']:.0f} % for the views"
    if p["seconds_reading"]:
        share += f", {100 * p['seconds_reading'] / p['seconds_per_step']:.0f} % of it to read scans"
    lines = [
        f"Plan: preset {p['preset']} on {of}, {p['epochs']} epochs",
        f"  time          {duration(3600 * p['hours'])}: {p['steps']} steps of "
        f"{p['batch']} scans, {p['seconds_per_step']:.3g} s each ({share})",
        *(f"  {'':<14}{line}" for line in _parts(p)),
        f"  operations    {p['flops']:.2e} FLOP at {p['efficiency'] / 1e12:.2f} TFLOP/s",
        f"  memory        {memory} for model, optimiser and activations, and {size(p['data'])} of "
        f"scans, {held}; {size(p['memory_free'])} free",
        f"  disk          {size(p['disk'])} for checkpoints, encoder and pictures",
        f"  parameters    {p['parameters'] / 1e6:.1f} M trained",
    ]
    if p["advice"]:
        lines.append("  ! " + p["advice"].replace("\n", "\n    - "))
    return "\n".join(lines)


def _parts(p: dict[str, Any]) -> list[str]:
    """What the hours are made of, and what they leave out."""
    names = {"training": "steps", "start": "first look at the data"}
    counted = [
        f"{names.get(name, name)} {duration(3600 * hours)}"
        for name, hours in p["parts"].items()
        if hours is not None
    ]
    out = ["the probe of a column"]
    out += ["checkpoints"] if p["parts"]["checkpoints"] is None else []
    out += ["reading the scans"] if p["seconds_reading"] is None else []
    out += ["loading the scans"] if p["resident"] else []
    return ["included: " + ", ".join(counted), "left out: " + ", ".join(out)]


def _views(v: dict[str, Any]) -> str:
    lines = [
        f"View budget of the untrained encoder on {v['scans']} scans: the CLS token can only learn "
        "where the gain exceeds 1",
        f"  {'':<46}{'ICC':>6}{'95 %':>15}{'gain':>7}",
    ]
    for row in v["rows"]:
        name = ("> " if row["planned"] else "  ") + row["views"]
        interval = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"  {name:<46}{row['icc']:>6.2f}{interval:>15}{row['gain']:>7.2f}")
    planned = [row["gain"] for row in v["rows"] if row["planned"]]
    lines.append(f"  > what this preset feeds to the CLS loss; gain = {v['ratio']:.3g} x ICC")
    if not all(gain > 1 for gain in planned):
        lines.append(
            "  ! A gain of 1 or less: let reconstruction and patches come first "
            "(objective.cls_start_epoch)\n    or make the views milder; "
            "see docs/explanation/collapse.md"
        )
    return "\n".join(lines)


def size(count: float) -> str:
    """Bytes as a person says them: 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or math.isinf(count):
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
