"""Tables of who is in a cohort and who was left out."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from volta3d.report.evidence import CohortFacts
from volta3d.report.style import UNKNOWN, number
from volta3d.report.tables import Table


def quarantine_tables(cohort: CohortFacts) -> list[Table]:
    """Refused scans: first how many for which reason, then each with what to do."""
    table = cohort.quarantine
    if table.empty:
        return []
    counts = Counter(str(code) for code in table["code"])
    cells = table[["source", "code", "what", "how_to_fix"]].astype(str)
    each = [tuple(str(c) for c in row) for row in cells.itertuples(index=False)]
    reasons = Table(
        f"Quarantined in {cohort.name}, by reason.",
        ("Reason", "Scans"),
        [(code, str(n)) for code, n in counts.most_common()],
        numeric=frozenset({1}),
    )
    listing = Table(
        f"Every quarantined scan of {cohort.name}.",
        ("Source", "Reason", "What", "How to fix"),
        each,
        folded=len(each) > 10,
    )
    return [reasons, listing] if len(each) > 10 else [listing]


def cohort_tables(cohort: CohortFacts) -> list[Table]:
    """Who is in a cohort, and what was noticed while preparing it."""
    people = cohort.participants
    rows = []
    for name, part in people.groupby("dataset", sort=True):
        ages = part["age"].dropna()
        age = (
            f"{ages.mean():.1f} ± {ages.std(ddof=0):.1f} "
            f"({ages.min():.0f}\N{EN DASH}{ages.max():.0f})"
            if len(ages)
            else UNKNOWN
        )
        rows.append(
            (
                str(name) or UNKNOWN,
                number(len(part)),
                number(int(part["participant_id"].nunique())),
                _counts(part["sex"]),
                age,
                _counts(part["site"]),
                _counts(part["diagnosis"]),
            )
        )
    head = (
        "Data set",
        "Scans",
        "Participants",
        "Sex",
        "Age, mean ± sd (range)",
        "Sites",
        "Diagnoses",
    )
    tables = [
        Table(f"Participants in {cohort.name}, by data set.", head, rows, numeric=frozenset({1, 2}))
    ]
    codes = Counter(
        code for text in people["findings"].astype(str) for code in text.split(";") if code
    )
    if codes:
        found = [(code, number(count)) for code, count in codes.most_common()]
        caption = "Findings while preparing, by code and number of scans."
        tables.append(Table(caption, ("Finding", "Scans"), found, frozenset({1})))
    return tables


def _counts(values: pd.Series) -> str:
    known = values.astype(str).replace({"": "unknown", "nan": "unknown"})
    counts = known.value_counts()
    if list(counts.index) == ["unknown"]:
        return UNKNOWN
    shown = [f"{name} {count}" for name, count in counts.items()][:6]
    return ", ".join(shown) + (f" and {len(counts) - 6} more" if len(counts) > 6 else "")
