"""The page that shows what became of every scan: quarantine, findings, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import jinja2
import pandas as pd

from volta3d.cohort.contract import Contract
from volta3d.planes import sentence

LEVELS = ("error", "warning", "info")  # worst first
FACES = {
    "none": "Faces are visible unless the scans came without: nothing was stripped here. "
    "Share with care.",
    "deepbet": "Stripped of skull and face by deepbet; look for remains before sharing.",
    "mask": "Stripped of skull and face by the brain masks that were given; look for remains "
    "before sharing.",
}
FITS = {
    "resize": "heads shrunk to the cube where they are larger",
    "pad": "cut or padded to the cube",
    "none": "padded to the cube, nothing cut",
}
SCALINGS = {
    "range": "percentiles {0:g} and {1:g} to 0 and 1",
    "zscore": "z-scores over the head, clipped at percentiles {0:g} and {1:g}",
    "nyul": "histograms moved onto one standard between percentiles {0:g} and {1:g}",
}


def page(
    contract: Contract,
    participants: pd.DataFrame,
    quarantine: pd.DataFrame,
    findings: pd.DataFrame,
) -> str:
    """The page as HTML that opens from disk, without network, and also without scripts.

    Args:
        contract: how the scans were prepared.
        participants: rows of the cohort; ``<scan_id>.png`` lies beside the page.
        quarantine: what could not be prepared.
        findings: ``scan_id, level, code, what, how_to_fix``.
    """
    noticed = _records(findings)
    by_scan: dict[str, list[Mapping[str, Any]]] = {}
    for row in noticed:
        by_scan.setdefault(str(row["scan_id"]), []).append(row)
    scans = [_scan(row, by_scan) for row in _records(participants)]
    scans.sort(key=lambda scan: [*LEVELS, "none"].index(scan["level"]))  # what to look at first
    rows = sorted(noticed, key=lambda r: (LEVELS.index(r["level"]), r["code"], r["scan_id"]))
    return _template().render(
        contract=contract,
        how=_how(contract),
        sides=sentence(),
        faces=FACES[contract.skull_strip],
        scans=scans,
        suspicious=sum(scan["level"] == "warning" for scan in scans),
        quarantine=_records(quarantine),
        reasons=_reasons(quarantine),
        findings=rows,
        ranks={level: rank for rank, level in enumerate(LEVELS)},
    )


def _how(contract: Contract) -> str:
    """One line on the preparation."""
    parts = [
        f"{contract.size}³ voxels of {contract.spacing:g} mm",
        FITS[contract.fit],
        SCALINGS[contract.scaling].format(*contract.percentiles),
    ]
    if contract.bias == "n4":
        parts.append("bias field removed by N4")
    return "; ".join(parts) + "."


def _scan(row: Mapping[str, Any], by_scan: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, Any]:
    """What the page shows of one scan."""
    found = by_scan.get(str(row["scan_id"]), [])
    age = "" if row["age"] != row["age"] else f"{row['age']:.0f} y"
    levels = [f["level"] for f in found]
    return {
        "id": row["scan_id"],
        "about": [str(v) for v in (row["sex"], age, row["site"], row["diagnosis"]) if v],
        "findings": found,
        "level": next((level for level in LEVELS if level in levels), "none"),
    }


def _reasons(quarantine: pd.DataFrame) -> list[tuple[str, int]]:
    """Reason codes with their counts, most frequent first."""
    counts = quarantine["code"].value_counts()
    return [(str(code), int(count)) for code, count in counts.items()]


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    return rows


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("volta3d.prepare")
    return jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    ).get_template("qc.html")
