"""``prepare``: raw scans in, a cohort out."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from volta3d.cohort.contract import Contract
from volta3d.cohort.store import CONTRACT, Cohort, read_contract
from volta3d.config import PrepareConfig
from volta3d.errors import CohortError
from volta3d.files import clean_partial, require_writable
from volta3d.prepare.assemble import (
    KEYS,
    Tables,
    assemble,
    publish,
    read_facts,
    read_records,
    unpack,
)
from volta3d.prepare.extras import require_extras
from volta3d.prepare.findings import Finding
from volta3d.prepare.gather import gather, sign
from volta3d.prepare.learn import landmarks_of
from volta3d.prepare.lock import locked
from volta3d.prepare.nyul import learn, read_landmarks
from volta3d.prepare.parallel import outcomes
from volta3d.prepare.piece import Outcome
from volta3d.prepare.privacy import Veil, open_veil, veiled
from volta3d.prepare.repeats import mark_repeats
from volta3d.prepare.rows import findings_table, participants_table, quarantine_table
from volta3d.prepare.scan import Scan

WORK = ".work"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PrepareResult:
    """What ``prepare`` did.

    Args:
        cohort: its folder.
        prepared: scans prepared now.
        skipped: scans that were there already.
        quarantined: scans that could not be prepared; see ``quarantine.tsv``.
        findings: how many scans of the cohort each finding concerns, by its code.
    """

    cohort: Path
    prepared: int
    skipped: int
    quarantined: int
    findings: dict[str, int] = field(default_factory=dict)


def prepare(
    sources: Sequence[Path | str],
    out: Path | str,
    *,
    layout: str | None = None,
    table: Path | None = None,
    workers: int = 1,
    dask: str = "",
    pseudonyms: Path | str | None = None,
    config: PrepareConfig = PrepareConfig(),  # noqa: B008 - frozen
    progress: Progress | None = None,
) -> PrepareResult:
    """Prepare raw scans into a cohort.

    A scan that cannot be prepared goes to ``quarantine.tsv`` and the others go on. Killed at any
    time, no cohort that opens is left; the same call again does only what is missing. Called again
    with more sources, the cohort then holds exactly the scans of the last call.

    Args:
        sources: folders or files.
        out: the cohort's folder, new or of an earlier call.
        layout: of all sources, or None to detect it for each.
        table: what is known about the subjects or files of all sources, see ``layouts``.
        workers: processes.
        dask: address of a Dask scheduler, e.g. ``tcp://host:8786``, whose workers prepare instead;
            they must share the file systems of the sources and of ``out``.
        pseudonyms: a file with a key (made if missing, outside ``out``): names of people, sessions,
            data sets and files then leave only as keyed hashes, see ``privacy``.
        config: how to prepare.
        progress: called with (done, total).

    Raises:
        UsageError: an unknown layout, a key inside ``out``, or something that ``config`` asks for
            is not installed.
        ConfigError: ``landmarks_from`` holds no landmarks, or ``pseudonyms`` no key.
        CohortError: a source is missing or without a T1w scan, nothing could be prepared, or
            ``out`` holds something else.
        VoltaError: ``out`` cannot be written, or the cluster cannot be used.
    """
    if dask:  # its workers stand in other folders
        out, sources = Path(out).absolute(), [Path(source).absolute() for source in sources]
    out = Path(out)
    require_extras(config)
    veil = open_veil(Path(pseudonyms), out, sources) if pseudonyms else None
    hands = Hands(workers, dask, progress)
    with veiled(veil):
        scans, refused = gather(sources, layout, table)
        if veil is not None:
            scans = veil.scans(scans)
        contract = sign(scans, config, _known_landmarks(out, config))
        return _run(scans, refused, contract, out, hands, veil)


def _run(
    scans: Sequence[Scan],
    refused: Sequence[tuple[Path, Finding]],
    contract: Contract,
    out: Path,
    hands: Hands,
    veil: Veil | None,
) -> PrepareResult:
    old = _existing(out, contract)
    require_writable(out)
    with locked(out / WORK):
        clean_partial(out)
        clean_partial(out / WORK)
        try:
            contract = _with_landmarks(scans, contract, out, hands)
            done = _prepare_all(scans, contract, out, old, hands)
            result = _publish(done, refused, contract, out, old, veil)
        except CohortError:
            shutil.rmtree(out / WORK, ignore_errors=True)
            with contextlib.suppress(OSError):  # it stays when it holds an earlier cohort
                out.rmdir()
            raise
        shutil.rmtree(out / WORK, ignore_errors=True)
    return result


@dataclass(frozen=True)
class Hands:
    """Who does the work, and who is told about it."""

    workers: int
    dask: str
    progress: Progress | None

    def tell(self, done: int, total: int) -> None:
        """Report progress."""
        if self.progress is not None:
            self.progress(done, total)


def _known_landmarks(out: Path, config: PrepareConfig) -> tuple[float, ...]:
    """The standard of nyul that is given, or that the cohort there was made with; else empty."""
    if config.scaling != "nyul":
        return ()
    if config.landmarks_from:
        return read_landmarks(Path(config.landmarks_from))
    return read_contract(out).landmarks if (out / CONTRACT).is_file() else ()


def _with_landmarks(scans: Sequence[Scan], contract: Contract, out: Path, hands: Hands) -> Contract:
    """The contract with its standard of nyul, which a first pass over all scans learns."""
    if contract.scaling != "nyul" or contract.landmarks:
        return contract
    folder = out / WORK / "landmarks"
    folder.mkdir(exist_ok=True)
    clean_partial(folder)
    found: dict[int, np.ndarray] = {}
    passed = landmarks_of(scans, contract, folder, workers=hands.workers, dask=hands.dask)
    for done, (index, own) in enumerate(passed, start=1):
        hands.tell(done, 2 * len(scans))
        if own is not None:
            found[index] = own
    # in the order of the scans, whoever finished first: the same sum on any number of workers
    standard = learn(found[index] for index in sorted(found)) if found else ()
    return contract.model_copy(update={"landmarks": standard})


def _prepare_all(
    scans: Sequence[Scan], contract: Contract, out: Path, old: Cohort | None, hands: Hands
) -> list[tuple[Scan, Outcome]]:
    pieces = out / WORK / "pieces"
    pieces.mkdir(exist_ok=True)
    clean_partial(pieces)
    known = frozenset(r["key"] for r in read_records(old)) if old else frozenset()
    before = len(scans) if (out / WORK / "landmarks").is_dir() else 0  # of a first pass
    done: dict[int, Outcome] = {}
    for index, outcome in outcomes(
        scans, contract, pieces, workers=hands.workers, dask=hands.dask, known=known
    ):
        done[index] = outcome
        hands.tell(before + len(done), before + len(scans))
    return [(scan, done[index]) for index, scan in enumerate(scans)]


def _publish(
    done: Sequence[tuple[Scan, Outcome]],
    refused: Sequence[tuple[Path, Finding]],
    contract: Contract,
    out: Path,
    old: Cohort | None,
    veil: Veil | None,
) -> PrepareResult:
    pieces = out / WORK / "pieces"
    refused = [*refused, *((s.source, o.refused) for s, o in done if o.refused)]
    refused = veil.refused(refused) if veil else refused
    kept = mark_repeats([(s, o) for s, o in done if o.refused is None])
    if not kept:
        raise _nothing(out, refused)
    records = read_records(old) if old else []
    facts = {r["key"]: r for r in records}
    facts |= {o.key: read_facts(pieces / o.key) for _, o in kept if o.key not in facts}
    participants, counts = participants_table(kept, facts)
    findings, quarantine = findings_table(kept, facts), quarantine_table(refused)
    if veil is not None:
        participants, findings = veil.participants(participants), veil.findings(findings)
    same = (
        old is not None
        and old.contract == contract
        and old.participants.equals(participants)
        and old.quarantine.equals(quarantine)
    )
    if not same:
        if old is not None:
            unpack(old, records, pieces)
        built = out / WORK / "cohort"
        tables = Tables(participants, quarantine, findings)
        assemble(built, [pieces / o.key for _, o in kept], contract, tables)
        if veil is not None:
            veil.records(built / KEYS)
        publish(built, out, contract, participants)
    if veil is not None:
        veil.save()
    fresh = sum(o.fresh for _, o in kept)
    return PrepareResult(out, fresh, len(kept) - fresh, len(refused), dict(counts))


def _existing(out: Path, contract: Contract) -> Cohort | None:
    """The cohort that is already there; None if there is none or it is damaged.

    Raises:
        CohortError: prepared differently, or something that is not a cohort.
    """
    if not out.exists():
        return None
    if not (out / CONTRACT).is_file():
        if out.is_dir() and (not any(out.iterdir()) or (out / WORK).is_dir()):
            return None
        raise CohortError(
            "The output folder holds something that is not a cohort",
            where=out,
            fix="Name an empty or new folder with --out",
        )
    signed = read_contract(out)
    changes = signed.differences(contract)
    if signed.software != contract.software:
        changes.append(f"software: {signed.software} -> {contract.software}")
    if changes:
        raise CohortError(
            "A cohort is there already, prepared with other settings: " + "; ".join(changes),
            where=out,
            fix="Name another folder with --out, or use the settings of that cohort",
        )
    try:
        return Cohort.open(out)
    except CohortError:
        return None


def _nothing(out: Path, refused: Sequence[tuple[Path, Finding]]) -> CohortError:
    codes = Counter(f.code for _, f in refused)
    path, first = refused[0]
    return CohortError(
        f"None of the {len(refused)} scans could be prepared "
        f"({', '.join(f'{n} {code}' for code, n in codes.most_common())}); "
        f"the first, {path}: {first.what}",
        where=out,
        fix=first.how_to_fix,
    )
