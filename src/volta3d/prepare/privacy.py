"""Pseudonyms: names of people, sessions, data sets and files leave only as keyed hashes.

HMAC-SHA256 with a key that stays outside the cohort: whoever has the key and the names can repeat
the hashes, nobody can go back from them. The same key gives a person the same pseudonym everywhere.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from volta3d.errors import ConfigError, UsageError, VoltaError
from volta3d.files import TEMPORARY, read_json, write_error, write_json
from volta3d.prepare.findings import Finding
from volta3d.prepare.scan import Scan

KEY_BYTES = 32
SHORTEST = 3  # letters a name needs to be hidden where it stands inside a sentence
HIDDEN = "(hidden)"
PATHS = ("source", "label_file")
# what else of a cohort's table says nothing about who or where
KEPT = (
    "scan_id", "participant_id", "session", "dataset", "site", "sex", "age", "diagnosis",
    "label_sha256", "source_sha256", "foreground_mm3", "brain_mm3", "findings",
)  # fmt: skip


class Pseudonymiser:
    """Turns names into pseudonyms, in ids, tables, texts and errors.

    Args:
        key: the secret.
        keyfile: where it came from; the table of names is written beside it.
        sources: the folders and files whose names are hidden.
    """

    def __init__(self, key: bytes, keyfile: Path, sources: Sequence[Path | str]) -> None:
        self._key, self._keyfile = key, keyfile
        self._sources = [Path(s).absolute() for s in sources]
        self._known: dict[str, str] = {}
        self._names: list[str] | None = None
        self._texts: dict[str, str] = {}

    def name(self, kind: str, text: str, length: int = 12) -> str:
        """The pseudonym ``kind-hash`` of a name; empty stays empty."""
        if not text:
            return ""
        message = f"{kind}\0{text}".encode("utf-8", "surrogateescape")
        pseudonym = f"{kind}-{hmac.digest(self._key, message, 'sha256').hex()[:length]}"
        self._known[pseudonym] = text
        return pseudonym

    def path(self, path: str) -> str:
        """The pseudonym of a file."""
        return self.name("file", path)

    def scans(self, scans: Iterable[Scan]) -> list[Scan]:
        """Scans under pseudonyms, in the order of these, which is nobody's alphabet."""
        hidden = []
        for scan in scans:
            dataset = self.name("data", scan.dataset, 6)
            person = self.name("sub", scan.participant_id)
            session = self.name("ses", scan.session, 8)
            parts = [dataset, person, session, self.name("scan", scan.scan_id, 8)]
            hidden.append(
                replace(
                    scan,
                    scan_id="_".join(p for p in parts if p),
                    participant_id=person,
                    session=session,
                    dataset=dataset,
                )
            )
        return sorted(hidden, key=lambda s: s.scan_id)

    def refused(self, refused: Iterable[tuple[Path, Finding]]) -> list[tuple[Path, Finding]]:
        """What could not be prepared, under pseudonyms."""
        return [
            (
                Path(self.path(str(path))),
                replace(f, what=self.text(f.what), how_to_fix=self.text(f.how_to_fix)),
            )
            for path, f in refused
        ]

    def participants(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with paths as pseudonyms and nothing but the columns that may leave."""
        table = table.copy()
        for column in table.columns:
            if column in PATHS:
                table[column] = [self.path(text) for text in table[column]]
            elif column not in KEPT:
                table[column] = ""
        return table

    def findings(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table of findings with the names in its sentences hidden."""
        table = table.copy()
        for column in ("what", "how_to_fix"):
            table[column] = [self.text(text) for text in table[column]]
        return table

    def records(self, path: Path) -> None:
        """Hide the names in the sentences of a JSON file."""
        write_json(path, self._content(read_json(path)))

    def text(self, text: str) -> str:
        """A sentence without names of the sources, and without what it quotes."""
        if text not in self._texts:
            hidden = re.sub(r"'[^']*'|\"[^\"]*\"", HIDDEN, text)
            if text.startswith(("Unforeseen", "Cannot be read")):
                hidden = hidden.partition(":")[0]  # the rest is a library's, not ours
            for name in self._all_names():
                if name in hidden:
                    hidden = re.sub(
                        rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", HIDDEN, hidden
                    )
            self._texts[text] = hidden
        return self._texts[text]

    def error(self, error: VoltaError) -> VoltaError:
        """The same error without names."""
        what, where, fix = (self.text(t) for t in (error.what, error.where, error.fix))
        return type(error)(what, where=where, fix=fix)

    def save(self) -> None:
        """Write which pseudonym stands for what beside the key, for whoever may know."""
        path = names_file(self._keyfile)
        known = dict(self._known)
        if path.is_file():
            for line in path.read_text("utf-8", "surrogateescape").splitlines()[1:]:
                pseudonym, _, text = line.partition("\t")
                known.setdefault(pseudonym, text)
        lines = [f"{p}\t{' '.join(text.split())}" for p, text in sorted(known.items())]
        content = "\n".join(["pseudonym\tname", *lines]) + "\n"
        _publish_private(path, content.encode("utf-8", "surrogateescape"))

    def _content(self, content: Any) -> Any:
        if isinstance(content, dict):
            return {
                k: self.text(v) if k in ("what", "how_to_fix") else self._content(v)
                for k, v in content.items()
            }
        return [self._content(v) for v in content] if isinstance(content, list) else content

    def _all_names(self) -> list[str]:
        """Longest first, so that a path goes before its parts."""
        if self._names is None:
            found: set[str] = set()
            for source in self._sources:
                found |= {str(source), *source.parts[-1:]}
                found |= _names_below(source)
            spelt = {n for name in found for n in _spellings(name) if len(n) >= SHORTEST}
            self._names = sorted(spelt, key=len, reverse=True)
        return self._names


@contextmanager
def without_names(pseudonymiser: Pseudonymiser | None) -> Iterator[None]:
    """Errors leave without names, and without the errors they came from."""
    try:
        yield
    except VoltaError as error:
        if pseudonymiser is None:
            raise
        pseudonymiser.save()
        raise pseudonymiser.error(error) from None
    except Exception as error:
        if pseudonymiser is None:
            raise
        raise VoltaError(
            f"Something unforeseen went wrong ({type(error).__name__})",
            fix="Prepare a copy with harmless names without --pseudonyms to see where",
        ) from None


def open_pseudonymiser(keyfile: Path, out: Path, sources: Sequence[Path | str]) -> Pseudonymiser:
    """The pseudonymiser of a key file, which is made if it is missing (readable by its owner only).

    Raises:
        UsageError: the key lies inside the output or inside a source.
        ConfigError: it cannot be read or holds no key.
        VoltaError: it cannot be written.
    """
    where = keyfile.resolve()
    for folder, what in [(out, "output"), *((Path(s), "source") for s in sources)]:
        if where.is_relative_to(folder.resolve()):
            raise UsageError(
                f"The key for pseudonyms would lie inside the {what} folder",
                fix="Keep it elsewhere: whoever gets the cohort must not get the key",
            )
    if not keyfile.exists():
        _publish_private(keyfile, (secrets.token_hex(KEY_BYTES) + "\n").encode())
    try:
        text = keyfile.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("The key for pseudonyms cannot be read", where=keyfile) from error
    if not re.fullmatch(rf"[0-9a-f]{{{2 * KEY_BYTES},}}", text):
        raise ConfigError(
            "The file holds no key for pseudonyms",
            where=keyfile,
            fix=f"Name a new file to have one made, or one with {2 * KEY_BYTES} hex digits",
        )
    return Pseudonymiser(bytes.fromhex(text[: len(text) // 2 * 2]), keyfile, sources)


def names_file(keyfile: Path) -> Path:
    """The table of names that belongs to a key."""
    return keyfile.with_name(keyfile.name + ".names.tsv")


def _publish_private(target: Path, content: bytes) -> None:
    """Publish a file whole that nobody but its owner can read, at no moment.

    Raises:
        VoltaError: it cannot be written.
    """
    temporary = target.with_name(f"{TEMPORARY}{target.name}-{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _names_below(source: Path) -> set[str]:
    """Names of all files and folders of a source, the entries of archives included."""
    names: set[str] = set()
    archives = [source] if source.is_file() else []
    for _, folders, files in os.walk(source):
        names.update(folders)
        names.update(files)
    for archive in archives:
        with contextlib.suppress(OSError, zipfile.BadZipFile), zipfile.ZipFile(archive) as opened:
            names.update(part for name in opened.namelist() for part in name.split("/"))
    return names


def _spellings(name: str) -> Iterator[str]:
    """A name, without its endings, and the parts that our ids are made of."""
    yield name
    yield name.split(".")[0]
    if "/" not in name:
        yield from (part for part in re.split(r"[_\-. ]+", name) if len(part) > SHORTEST)
