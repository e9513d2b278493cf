"""The report as a whole: what it shows, what it refuses, and what it never does."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest

from volta3d.errors import UsageError, VoltaError
from volta3d.report import report


class Page(HTMLParser):
    """Collects tags, attributes and the text a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.ids: list[str] = []
        self.text = ""
        self._silent = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        self._silent = tag in ("script", "style")
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def values(self, attribute: str) -> list[str]:
        """Every value of an attribute."""
        return [attrs[attribute] for _, attrs in self.tags if attribute in attrs]


def read(index: Path) -> Page:
    """The parsed page."""
    return Page(index.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(made: dict[str, Path]) -> Page:
    """The full report."""
    return read(made["index"])


def test_every_section_is_there_in_order(page: Page) -> None:
    wanted = ["learnt", "failures", "run1-monitors", "run1-losses", "run1-reconstructions"]
    wanted += ["run1-tokens", "run1-schedules", "embeddings", "probes", "data", "configuration"]
    wanted += ["methods", "origins"]
    assert [i for i in page.ids if i in wanted] == wanted


def test_every_figure_and_table_is_there(page: Page) -> None:
    charts = [a["aria-label"] for tag, a in page.tags if tag == "svg"]
    pictures = [a["alt"] for tag, a in page.tags if tag == "img"]
    wanted = [
        "Reconstruction, masked MSE",
        "CLS loss",
        "Patch loss",
        "KoLeo",
        "Information",
        "Entropy",
    ]
    wanted += ["Effective rank", "Share of feature variance", "Quick probe on age", "Schedules"]
    wanted += ["coloured by sex", "coloured by age", "coloured by site"]
    for words in wanted:
        assert any(words in label for label in charts), words
    for plane in ("sagittal", "coronal", "axial"):
        assert any(plane in words and "corrupted" in words for words in pictures)
        assert any(plane in words and "patch tokens" in words for words in pictures)
    for words in ("Quarantined", "Every quarantined scan", "What differs from preset paper"):
        assert words in page.text or words == "Quarantined"
    assert "The compressed data fail their checksum" in page.text
    assert "Copy the file again" in page.text
    assert "Radiological convention" in page.text


def test_the_quick_probe_stands_beside_untrained_and_volume(page: Page) -> None:
    [label] = [a["aria-label"] for t, a in page.tags if t == "svg" and "Quick probe" in str(a)]
    assert "untrained token" in label
    assert "untrained mean" in label
    assert "line at 0.3: volume only" in label


def test_the_answer_names_untrained_and_volume(page: Page) -> None:
    answers = re.split(r"(?=\b(?:Age|Sex): do features know more after training\?)", page.text)
    age, sex = (next(a for a in answers if a.startswith(f"{name}: ")) for name in ("Age", "Sex"))
    assert "training? Yes" in age
    assert "The summariser's token: better than the untrained encoder, +0.30" in age
    assert "better than head and brain volume alone" in age
    assert "training? Not clear" in sex
    assert "no clear difference from the untrained encoder, +0.05" in sex


def test_synthetic_is_said_before_anything_else(page: Page) -> None:
    before = page.text.split("volta3d: pretraining report")[0]
    assert "Synthetic data: these brains were made by a program." in before


def test_real_data_wears_no_banner(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_run(tmp_path / "run", synthetic=False, pictures=False)
    assert "Synthetic" not in read(report([run], tmp_path / "out")).text


def test_partly_synthetic_data_is_said(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_run(tmp_path / "run", pictures=False)
    cohort = fabricate.write_small_cohort(tmp_path / "people", synthetic=False)
    text = read(report([run], tmp_path / "out", cohort=cohort)).text
    assert "Part of the data is synthetic" in text


def test_S13_O3_nothing_is_fetched_from_outside_the_folder(
    page: Page, made: dict[str, Path]
) -> None:
    folder = made["index"].parent
    for value in page.values("src") + page.values("href") + page.values("srcset"):
        if value.startswith("#"):
            assert value[1:] in page.ids, value
        elif not value.startswith("data:"):  # inside the page
            assert (folder / value).is_file(), value
            assert (folder / value).resolve().is_relative_to(folder.resolve())
    html = made["index"].read_text(encoding="utf-8")
    for sign in ("@import", "url(http", "url(//", "fetch(", "XMLHttpRequest", "WebSocket"):
        assert sign not in html
    assert "http:" not in html
    assert "https:" not in html
    assert "file://" not in html
    [policy] = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    used = {Path(a["src"]).name for tag, a in page.tags if tag == "img"}
    assert used == {file.name for file in (folder / "images").iterdir()}  # and nothing unused


def test_nothing_of_this_machine_is_told(made: dict[str, Path]) -> None:
    assert str(made["run"].parent) not in made["index"].read_text(encoding="utf-8")


def test_L12_the_inputs_are_named_by_their_hashes(page: Page, made: dict[str, Path]) -> None:
    from volta3d.files import sha256

    for path in (made["run"] / "metrics.jsonl", made["probes"], made["embeddings"]):
        assert sha256(path) in page.text


def test_same_inputs_give_the_same_bytes(made: dict[str, Path], tmp_path: Path) -> None:
    given = {name: made[name] for name in ("embeddings", "probes", "cohort")}
    again = report([made["run"]], tmp_path / "out", **given).parent
    first = made["index"].parent
    names = sorted(str(p.relative_to(first)) for p in first.rglob("*") if p.is_file())
    assert names == sorted(str(p.relative_to(again)) for p in again.rglob("*") if p.is_file())
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_a_run_in_progress_is_reported(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_run(tmp_path / "run", pictures=False)
    shutil.rmtree(run / "encoder")
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines()
    metrics.write_text("\n".join(lines[:40]) + "\n" + lines[40][: len(lines[40]) // 2])
    text = read(report([run], tmp_path / "out")).text
    assert "still running, or stopped · 38 of 640 optimiser steps" in text
    assert "One line of metrics.jsonl could not be read and is left out." in text
    assert "its weight is still 0: measured, not trained" in text


def test_a_run_that_has_only_begun_is_reported(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    text = read(report([tmp_path / "run"], tmp_path / "out")).text
    for name in ("config.yaml", "metrics.jsonl", "environment.json", "cohort.json"):
        assert f"{name} is missing." in text
    assert "No step record has been written yet" in text
    assert "The run holds no reconstructions yet." in text
    assert "No probe table was given" in text
    assert "No embedding table was given" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("config.yaml", "config.yaml is not readable as YAML."),
        ("environment.json", "environment.json is not readable as JSON."),
        ("cohort.json", "cohort.json is not readable as JSON."),
        ("metrics.jsonl", "of metrics.jsonl could not be read"),
        ("pictures/patch-tokens.safetensors", "patch-tokens.safetensors is damaged"),
        ("pictures/reconstruction-epoch-40.safetensors", "epoch-40.safetensors is damaged"),
    ],
)
def test_a_damaged_piece_becomes_a_sentence(
    fabricate: ModuleType, tmp_path: Path, name: str, sentence: str
) -> None:
    run = fabricate.write_run(tmp_path / "run", pictures=name.startswith("pictures"))
    (run / name).write_bytes(b"\xff{[\x00not this: : -\n")
    assert sentence in read(report([run], tmp_path / "out")).text


def test_damaged_tables_become_sentences(fabricate: ModuleType, tmp_path: Path) -> None:
    run = fabricate.write_run(tmp_path / "run", pictures=False)
    (tmp_path / "probes.json").write_text("{[")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "cohort").mkdir()
    given = {"probes": tmp_path / "probes.json", "embeddings": tmp_path / "x.parquet"}
    text = read(report([run], tmp_path / "out", **given, cohort=tmp_path / "cohort")).text
    assert "The probe table probes.json is not readable as JSON." in text
    assert "The embedding table x.parquet is not readable" in text
    assert "The cohort cohort cannot be shown" in text


def test_a_picture_of_another_scan_never_joins_the_film(
    fabricate: ModuleType, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    run = fabricate.write_run(tmp_path / "run")
    file = run / "pictures" / "reconstruction-epoch-10.safetensors"
    save_file({**load_file(file), "input": load_file(file)["input"] * 0.5}, file)
    alts = read(report([run], tmp_path / "out")).values("alt")
    assert any("after epochs 0, 20, 40." in alt for alt in alts)


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&$x_1$"


def test_S11_html_in_names_is_escaped(fabricate: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "<b onclick=alert(3)>run"
    run = fabricate.write_run(folder, pictures=False)
    people = fabricate.people()
    people.loc[::3, ["site", "sex", "diagnosis"]] = HOSTILE
    embeddings = fabricate.write_embeddings(tmp_path / "x.parquet", people)
    rows = fabricate.probe_rows()
    rows += [{**row, "column": HOSTILE, "features": f"{row['features']}{HOSTILE}"} for row in rows]
    (tmp_path / "probes.json").write_text(json.dumps(rows))
    cohort = fabricate.write_small_cohort(tmp_path / "cohort", text=HOSTILE)
    alarm = {"kind": "alarm", "name": HOSTILE, "what": HOSTILE, "value": 1, "limit": 2, "epoch": 4}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(alarm) + "\n")
    (run / "environment.json").write_text(json.dumps({HOSTILE: HOSTILE}))
    content = json.loads((run / "cohort.json").read_text())
    content["cohorts"][0] |= {"path": HOSTILE, "datasets": [HOSTILE], "hash": HOSTILE}
    (run / "cohort.json").write_text(json.dumps(content))

    given = {"probes": tmp_path / "probes.json", "embeddings": embeddings, "cohort": cohort}
    page = read(report([run], tmp_path / "out", **given))

    assert [tag for tag, _ in page.tags].count("script") == 1  # ours
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on")], (tag, attrs)
    assert "x" not in page.values("src")
    assert HOSTILE in page.text  # shown as text, whole
    assert "b" not in [tag for tag, _ in page.tags]


def test_an_earlier_report_is_replaced(made: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    out = shutil.copytree(made["index"].parent, tmp_path / "out")
    assert list((out / "images").iterdir())
    report([tmp_path / "run"], out)
    assert (
        not (out / "images").exists() and "config.yaml is missing." in read(out / "index.html").text
    )


def test_a_folder_that_is_no_report_is_refused_and_kept(
    made: dict[str, Path], tmp_path: Path
) -> None:
    thesis = tmp_path / "out" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    with pytest.raises(UsageError, match="not a report"):
        report([made["run"]], thesis.parent)
    (thesis.parent / "index.html").write_text("<html>somebody's home page</html>")
    with pytest.raises(UsageError, match="not a report"):
        report([made["run"]], thesis.parent)
    assert thesis.read_text() == "years of work"


def test_what_is_not_there_is_refused(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No run was named"):
        report([], tmp_path / "out")
    with pytest.raises(VoltaError, match="No run folder there"):
        report([tmp_path / "nothing"], tmp_path / "out")
    with pytest.raises(VoltaError, match="Nothing there for --probes"):
        report([made["run"]], tmp_path / "out", probes=tmp_path / "nothing.json")
    assert not (tmp_path / "out").exists()


def test_several_runs_stand_side_by_side(fabricate: ModuleType, tmp_path: Path) -> None:
    runs = [
        fabricate.write_run(tmp_path / "alive", pictures=False),
        fabricate.write_run(tmp_path / "dead", pictures=False, collapsed=True),
    ]
    page = read(report(runs, tmp_path / "out"))
    assert "runs" in page.ids
    assert {"run1-losses", "run2-losses"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "Runs side by side" in page.text


def test_pictures_and_charts_say_what_they_show(page: Page) -> None:
    assert all(page.values("alt"))
    assert all(a.get("aria-label") for tag, a in page.tags if tag == "svg")
    assert len(page.ids) == len(set(page.ids))


def test_charts_follow_the_colour_scheme(made: dict[str, Path]) -> None:
    html = made["index"].read_text(encoding="utf-8")
    charts = "".join(re.findall(r'<svg class="chart".*?</svg>', html, flags=re.DOTALL))
    fixed = set(re.findall(r"(?:fill|stroke): ?(#[0-9a-fA-F]{6})", charts))
    assert not {c for c in fixed if c.startswith(("#0a0a", "#0101", "#0202", "#0303", "#0404"))}
    assert "var(--series-1)" in charts
    assert "var(--ink)" in charts
