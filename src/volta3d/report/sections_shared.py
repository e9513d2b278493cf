"""The sections that stand once in a report: failures, features, probes, data, methods, origins."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volta3d.report.blocks import Exhibit, Section
from volta3d.report.evidence import Absent, CohortFacts, Embeddings, Probe
from volta3d.report.figures_curves import Limit, Line, curve
from volta3d.report.figures_embedding import colourings, draw_map, project, unknown, unvaried
from volta3d.report.figures_probes import forest
from volta3d.report.methods import methods
from volta3d.report.methods_tasks import task_methods
from volta3d.report.references import number_citations
from volta3d.report.runfolder import Run
from volta3d.report.style import number
from volta3d.report.tables import (
    alarm_table,
    config_tables,
    environment_table,
    hash_table,
    runs_table,
)
from volta3d.report.tables_cohort import cohort_tables, quarantine_tables
from volta3d.report.tables_probes import gain_table, probe_table
from volta3d.report.tables_tasks import origin_table, refused_table
from volta3d.report.task_run import TaskRun
from volta3d.report.verdict import limits_of
from volta3d.report.weak import weak_arms, weak_features


def failures(
    runs: Sequence[Run],
    cohort: CohortFacts | Absent,
    tasks: Sequence[TaskRun],
    scores: Sequence[Probe] | Absent,
) -> Section:
    """What went wrong, before what went well."""
    refused_maps = [refused_table(task) for task in tasks]
    tables = [table for table in refused_maps if table is not None]
    sentences = [f"{task.name}: {note}" for task in tasks for note in task.notes]
    sentences += weak_arms(tasks)
    sentences += [] if isinstance(scores, Absent) else weak_features(scores)
    several = len(runs) + len(tasks) > 1
    for run in runs:
        name = f"Run {run.name}: " if several else ""
        table = alarm_table(run)
        if table:
            tables.append(table)
        elif run.epochs:
            sentences.append(f"{name}no alarm rang." if several else "No alarm rang.")
        sentences += [f"{name}{note}" for note in run.notes]
        refused = sum(
            c["quarantined"] for c in run.cohorts if isinstance(c.get("quarantined"), int)
        )
        if isinstance(cohort, Absent) and refused:
            sentences.append(
                f"{name}{number(refused)} scan(s) of its cohorts were quarantined; "
                "name the cohort with --cohort to see why."
            )
    if isinstance(cohort, Absent):
        sentences.append(cohort.sentence)
    else:
        refused_tables = quarantine_tables(cohort)
        tables += refused_tables
        if not refused_tables:
            sentences.append(f"No scan of {cohort.name} was quarantined.")
    return Section(
        "failures", "What went wrong", sentences=list(dict.fromkeys(sentences)), tables=tables
    )


def comparison(runs: Sequence[Run]) -> Section | None:
    """Several runs in one table and on the same axes; None for one run."""
    if len(runs) < 2:
        return None
    end = max(run.last_step for run in runs)
    wanted = (
        ("information", "Information over scans, nat", True),
        ("effective_rank", "Effective rank", True),
        ("icc", "ICC", False),
    )
    charts = []
    for name, title, log in wanted:
        lines = [Line(run.name[:24], run.epoch_series(name)) for run in runs[:6]]
        limits = [Limit(value, words, alarm=True) for value, words in limits_of(name)]
        svg = curve(lines, alt=title, limits=limits, log=log, floor=5e-3, end=end)
        if svg is not None:
            charts.append(Exhibit(title, svg=svg))
    losses = [Line(run.name[:24], run.step_series("cls")) for run in runs[:6]]
    smooth = [Line(line.label, line.points, raw=True) for line in losses]
    svg = curve(smooth, alt="CLS loss", end=end)
    if svg is not None:
        charts.append(Exhibit("CLS loss, nat", svg=svg))
    return Section("runs", "Runs side by side", tables=[runs_table(runs)], charts=charts)


def embedding_map(embeddings: Embeddings | Absent) -> Section:
    """Scans in feature space, coloured by what is known of them."""
    section_id, title = "embeddings", "Embedding map"
    if isinstance(embeddings, Absent):
        return Section(section_id, title, sentences=[embeddings.sentence])
    place = project(embeddings.features)
    columns = colourings(embeddings.table)
    kind = "summariser's token" if embeddings.kind == "token" else "mean of patch tokens"
    sentences = unvaried(embeddings.table)
    if embeddings.left_out:
        sentences.append(f"{embeddings.left_out} scan(s) without finite features are left out.")
    charts = [
        Exhibit(
            f"Coloured by {column}",
            f"Grey: {missing} scan(s) of unknown {column}." if missing else "",
            draw_map(embeddings, place, column),
        )
        for column in columns
        for missing in [unknown(embeddings.table, column)]
    ]
    return Section(
        section_id,
        title,
        lead=f"{number(len(embeddings.features))} scans on the first two principal components of "
        f"the {kind}. Clusters by site or data set mean that the scanner was learnt; what two "
        "components do not show may still be there, see the probes.",
        sentences=sentences,
        charts=charts,
    )


def probes(rows: list[Probe] | Absent) -> Section:
    """Every probe score, drawn and in a table."""
    section_id, title = "probes", "Probes"
    if isinstance(rows, Absent):
        return Section(section_id, title, sentences=[rows.sentence])
    groups: dict[str, list[Probe]] = {}
    for row in rows:
        groups.setdefault(row.column, []).append(row)
    charts = [
        Exhibit(
            f"{column}: every probe",
            "A confound: features that know it better are worse." if part[0].confound else "",
            forest(part),
        )
        for column, part in groups.items()
    ]
    return Section(
        section_id,
        title,
        lead="Simple models on frozen features. What matters is the distance to the untrained "
        "encoder, which already sees size and shape, and to head and brain volume alone.",
        charts=charts,
        tables=[gain_table(rows), probe_table(rows)],
    )


def data(cohort: CohortFacts | Absent) -> Section | None:
    """Who is in the cohort; None when it was not given."""
    if isinstance(cohort, Absent):
        return None
    return Section("data", "Data", tables=cohort_tables(cohort))


def configuration(runs: Sequence[Run]) -> Section:
    """Settings, what differs from the paper first."""
    tables, sentences = [], []
    for run in runs:
        found = config_tables(run)
        tables += found
        if not found:
            sentences.append(f"The configuration of {run.name} is not readable.")
    return Section(
        "configuration", "Configuration", sentences=sentences, tables=tables, folded=True
    )


def methods_section(
    runs: Sequence[Run],
    cohort: CohortFacts | Absent,
    tasks: Sequence[TaskRun] = (),
    *,
    probed: bool,
) -> Section:
    """Methods paragraphs with their references; ``probed`` when there is a probe table."""
    texts: list[str] = []
    sentences = []
    for run in runs:
        written = methods(run, _contract(run, cohort), probed=probed)
        if len(runs) > 1 and written:
            written[0] = f"Run {run.name}. {written[0]}"
        if not written:
            sentences.append(f"No methods text for {run.name}: its configuration is not readable.")
        texts += written
    texts += [paragraph for task in tasks for paragraph in task_methods(task)]
    paragraphs, references = number_citations(texts)
    return Section(
        "methods",
        "Methods",
        lead="Written from the resolved configuration; edit before use." if texts else "",
        sentences=sentences,
        paragraphs=paragraphs,
        references=references,
    )


def _contract(run: Run, cohort: CohortFacts | Absent) -> dict[str, Any] | None:
    """How the run's scans were prepared: its encoder says, else the cohort if it is the run's."""
    try:
        content = json.loads((run.path / "encoder" / "config.json").read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("contract"), dict):
            return dict(content["contract"])
    except (OSError, ValueError, RecursionError):
        pass
    if isinstance(cohort, CohortFacts) and cohort.hash in [c.get("hash") for c in run.cohorts]:
        return cohort.contract
    return None


def origins(
    runs: Sequence[Run],
    cohort: CohortFacts | Absent,
    given: Mapping[str, Path | None],
    tasks: Sequence[TaskRun] = (),
) -> Section:
    """Software, machine and the hashes that the numbers trace to."""
    tables, sentences = [], []
    facts = cohort if isinstance(cohort, CohortFacts) else None
    for i, run in enumerate(runs):
        environment = environment_table(run)
        if environment:
            tables.append(environment)
        else:
            sentences.append(f"The environment of {run.name} is unknown.")
        files: dict[str, Path | None] = {
            "metrics.jsonl": run.path / "metrics.jsonl",
            "encoder/model.safetensors": run.path / "encoder" / "model.safetensors",
        }
        if i == 0:
            files |= dict(given)
        hashes = hash_table(run, files, facts)
        if hashes:
            tables.append(hashes)
    tables += [origin_table(task) for task in tasks]
    return Section("origins", "Environment", sentences=sentences, tables=tables, folded=True)
