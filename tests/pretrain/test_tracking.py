"""Numbers of a run in TensorBoard and MLflow, and without either."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from volta3d.config import PretrainConfig
from volta3d.errors import UsageError
from volta3d.pretrain import tracking
from volta3d.pretrain.log import MetricsLog, read_metrics
from volta3d.pretrain.loop import pretrain
from volta3d.pretrain.tracking import MLFLOW_RUN, TensorBoard, about, open_tracker

MakeConfig = Callable[..., PretrainConfig]


def test_pretraining_goes_without_tensorboard_and_says_how_to_get_it(
    cohort: Path, tiny: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "installed", lambda name: False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    said: list[str] = []
    pretrain([cohort], tmp_path / "run", tiny("epochs=1"), tell=said.append)
    assert any("pip install 'volta3d[tensorboard]'" in line for line in said)
    assert not list((tmp_path / "run").glob("events.*"))
    assert [r for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if r["kind"] == "step"]
    assert about(tiny("tracking=none")) == ""


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_what_is_asked_for_and_missing_is_named(
    name: str, tiny: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "installed", lambda name: False)
    with pytest.raises(UsageError, match=rf"pip install 'volta3d\[{name}\]'"):
        open_tracker(tiny(f"tracking={name}"), tmp_path, 0)
    assert open_tracker(tiny("tracking=none"), tmp_path, 0) is None


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = MetricsLog(tmp_path, step=0, tracker=TensorBoard(tmp_path, 0))
    log.write({"kind": "step", "step": 1, "loss": 2.5, "weighted": {"cls": 1.0}, "cls": None})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["step/loss", "step/weighted/cls"]
    assert [(e.step, e.value) for e in events.Scalars("step/loss")] == [(1, 2.5)]


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_mlflow_gets_what_the_log_gets_and_a_resumed_run_goes_on_in_it(
    cohort: Path, tiny: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    config = tiny("epochs=1", "tracking=mlflow")
    pretrain([cohort], tmp_path / "run", config)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("volta3d")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run" and run.info.status == "FINISHED"
    assert run.data.params["model.width"] == "16"
    losses = client.get_metric_history(run.info.run_id, "step/loss")
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    steps = {r["step"]: r["loss"] for r in records if r["kind"] == "step"}
    assert {m.step: m.value for m in losses} == pytest.approx(steps)

    again = open_tracker(config, tmp_path / "run", 3)
    assert again is not None
    again.write([("step/loss", 9.0)], 4)
    assert len(client.search_runs([experiment.experiment_id])) == 1
    assert client.get_metric_history(run.info.run_id, "step/loss")[-1].value == 9.0


@pytest.mark.filterwarnings("ignore")
def test_an_mlflow_that_is_not_there_is_said_at_once(
    tiny: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UsageError, match=r"MLflow cannot be used.*MLFLOW_TRACKING_URI"):
        open_tracker(tiny("tracking=mlflow"), tmp_path, 0)
    assert not (tmp_path / MLFLOW_RUN).exists()
