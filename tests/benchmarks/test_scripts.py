"""Every benchmark runs in its cheap form and says what it must; times are not judged here."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SAYS = {"what", "ours", "reference", "ratio", "wanted", "met"}


@pytest.mark.parametrize(
    "name",
    [
        "views",
        "pretrain_step",
        "finetune",
        pytest.param("memory", marks=pytest.mark.slow),
        pytest.param("growth", marks=pytest.mark.slow),
    ],
)
def test_a_script_prints_its_claims(name: str, tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), "--tiny", "--out", str(out)],
        capture_output=True,
        text=True,
        cwd=FOLDER,
    )
    assert done.returncode == 0, done.stderr
    printed, written = json.loads(done.stdout), json.loads(out.read_text(encoding="utf-8"))
    assert printed == written and written["name"] == name
    assert written["claims"] and all(claim.keys() >= SAYS for claim in written["claims"])
    assert {"processor", "cores", "load"} <= written["machine"].keys()


def test_what_a_gpu_is_asked_runs_on_any_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    cpu = torch.device("cpu")
    step = runpy.run_path(str(FOLDER / "pretrain_step.py"))
    claims, details = step["measure"](True, cpu, gpu=True)
    assert "8 scans, views included" in claims[0]["what"] and details["flops"] > 0
    assert claims[1]["met"] is None
    views = step["drawn"](config := step["settings"](True, 2), step["volumes"](config, 3))
    third = step["alone"](views, 2, 3)
    assert torch.equal(third.global_views, views.global_views[[2, 5]])
    assert torch.equal(third.local_views, views.local_views[[2, 5]])
    runpy.run_path(str(FOLDER / "views.py"))["beside_the_step"](True, cpu, tmp_path / "v.json", 2)
    assert json.loads((tmp_path / "v.json").read_text())["claims"][0]["ratio"] > 0
    assert runpy.run_path(str(FOLDER / "memory.py"))["batch_of_eight"](True, cpu) > 0
    for name in ("claims", "reference_step", "pretrain_step"):
        sys.modules.pop(name, None)


def test_what_failed_leaves_no_older_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runpy.run_path(str(FOLDER / "run.py"))
    (tmp_path / "nothing.json").write_text("{}")
    assert run["run"](["nothing"], tmp_path, True) == ["nothing"]
    assert not (tmp_path / "nothing.json").exists()


def test_the_page_says_what_was_measured_and_that_no_gpu_ran() -> None:
    page = runpy.run_path(str(FOLDER / "run.py"))["page"]
    claim = {"what": "w", "ours": 1.0, "reference": 2.0, "ratio": 0.5, "wanted": "1", "met": False}
    machine = {"processor": "P", "cores": 2, "memory_gb": 8, "load": [1.0, 2.0, 3.0]}
    text = page({"views": {"claims": [claim], "machine": machine, "reason": "Because."}})
    assert "| w | 1 | 2 | 0.5 | 1 | **no** |" in text
    assert "Because." in text and "No GPU has run these" in text
    beside = {"claims": [claim | {"met": None}], "machine": machine | {"gpu": "G", "commit": "c1"}}
    text = page({}, {"views": beside})
    assert "| w | 1 | 2 | 0.5 | 1 | - |" in text and "No GPU" not in text
    assert "## views on a GPU" in text and "--device cuda` on G, beside P" in text and "c1" in text


def test_a_part_of_the_results_replaces_itself_alone(tmp_path: Path) -> None:
    tools = runpy.run_path(str(FOLDER / "results_page.py"))
    page = tmp_path / "RESULTS.md"
    tools["publish_part"]("study", tools["lowered"]("# A\n\n1 # 2\n\n## B"), page)
    tools["publish_part"]("pretraining", "first", page)
    tools["publish_part"]("pretraining", "second\n", page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Results\n") and "first" not in text
    assert text.index("second") < text.index("## A") < text.index("### B")
    assert "\n1 # 2\n" in text and text.count("<!-- part: ") == text.count("<!-- end -->") == 2
    with pytest.raises(ValueError, match="unknown"):
        tools["publish_part"]("unknown", "", page)
