"""Tables of what the features know."""

from __future__ import annotations

from collections.abc import Sequence

from volta3d.report.evidence import Probe
from volta3d.report.figures_probes import ORDER, gain_text, interval_text
from volta3d.report.style import UNKNOWN, number
from volta3d.report.tables import Table
from volta3d.report.verdict import clearly_better


def gain_table(probes: Sequence[Probe]) -> Table:
    """Trained beside untrained beside volumes alone, one row per pooling, probe and metric."""
    trained = [p for p in probes if p.role == "trained"]

    def beside(of: Probe, role: str, pooling: str | None) -> str:
        fits = (
            p
            for p in probes
            if (p.column, p.probe, p.metric, p.role) == (of.column, of.probe, of.metric, role)
            and pooling in (None, p.pooling)
        )
        found = next(fits, None)
        return interval_text(found) if found else UNKNOWN

    rows = [
        (
            p.column,
            p.probe_name,
            p.metric_name + (" (less is better)" if p.lower_is_better else ""),
            p.pooling or p.features,
            interval_text(p),
            beside(p, "random", p.pooling),
            gain_text(p),
            beside(p, "volume", None),
            number(p.n) if p.n else UNKNOWN,
        )
        for p in trained
    ]
    head = ("Column", "Probe", "Metric", "Features", "Trained", "Untrained", "Gain", "Volume only")
    return Table(
        "Cross-validated by participant, 95 % intervals over participants in brackets. Gain: "
        "trained minus untrained on the same participants; rows in bold where that is better and "
        "its interval leaves out 0.",
        (*head, "Scans"),
        rows,
        numeric=frozenset({4, 5, 6, 7, 8}),
        strong=frozenset(i for i, p in enumerate(trained) if clearly_better(p)),
    )


def probe_table(probes: Sequence[Probe]) -> Table:
    """All probe scores, the trained encoder's first within each column, probe and metric."""
    columns = list(dict.fromkeys(p.column for p in probes))
    kinds = list(dict.fromkeys((p.probe, p.metric) for p in probes))
    ordered = sorted(
        probes,
        key=lambda p: (
            columns.index(p.column),
            kinds.index((p.probe, p.metric)),
            ORDER.index(p.role),
        ),
    )
    rows = [
        (
            p.column,
            p.probe_name,
            p.metric_name,
            p.features,
            interval_text(p),
            number(p.n) if p.n else UNKNOWN,
        )
        for p in ordered
    ]
    return Table(
        "Every score.",
        ("Column", "Probe", "Metric", "Features", "Score [95 % interval]", "Scans"),
        rows,
        numeric=frozenset({4, 5}),
        strong=frozenset(i for i, p in enumerate(ordered) if p.role == "trained"),
        folded=True,
    )
