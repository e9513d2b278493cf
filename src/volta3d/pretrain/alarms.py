"""The alarms of a run: raised after steps and epochs, written to the log, and obeyed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from volta3d.errors import Collapse
from volta3d.pretrain.guard import Alarm, StepAlarms, agreement_alarms, alarms, knn_alarms
from volta3d.pretrain.log import MetricsLog
from volta3d.pretrain.monitor import Monitor
from volta3d.pretrain.trainer import Trainer


class Alarms:
    """Watches one run.

    Args:
        trainer: whose progress keeps how many steps in a row each alarm was hit.
        monitor: whose scans the epoch records describe.
    """

    def __init__(self, trainer: Trainer, monitor: Monitor) -> None:
        self.trainer, self.monitor = trainer, monitor
        self.settings = trainer.config.monitor
        self.steps = StepAlarms(
            trainer.progress.alarms,
            prototypes=trainer.config.model.prototypes,
            scans=len(trainer.scans.trained),
        )

    def after_step(self, record: dict[str, Any], log: MetricsLog | None) -> None:
        """Look at a step record; all processes see the same one and come to the same.

        Raises:
            Collapse: an alarm rang and ``monitor.alarm`` is ``stop``.
        """
        found = self.steps.see(record)
        if record["epoch"] < self.settings.alarm_after_epochs:
            return
        self._write(found, record, log)
        collapse = self._collapse(found, record)
        if collapse:
            raise collapse

    def after_epoch(
        self, record: dict[str, Any], written: Sequence[dict[str, Any]], log: MetricsLog | None
    ) -> None:
        """Look at an epoch record, which the first process alone has; all stop together.

        Args:
            record: empty on the other processes.
            written: all records of the run so far.
            log: where alarms go.

        Raises:
            Collapse: an alarm rang and ``monitor.alarm`` is ``stop``.
        """
        found: list[Alarm] = []
        if record and record["epoch"] >= self.settings.alarm_after_epochs:
            scans = len(self.monitor.indices)
            standardised = self.trainer.distillation.standardised
            untrained = next((r for r in written if r["kind"] == "epoch"), {})
            found = alarms(record, scans=scans, standardised=standardised)
            found += knn_alarms(record, untrained, scans=scans)
            now = self.trainer.schedule.at(max(self.trainer.progress.step - 1, 0))
            found += agreement_alarms(record, now.weights["cls"])
            self._write(found, record, log)
        collapse = self._collapse(found, record)
        if self.trainer.ranks.any(collapse is not None, self.trainer.fabric.device):
            raise collapse or Collapse("The run was stopped for its alarms")

    def _write(self, found: list[Alarm], record: dict[str, Any], log: MetricsLog | None) -> None:
        for alarm in found if log else ():
            assert log is not None
            log.write({**alarm.record(), "step": record["step"], "epoch": record["epoch"]})

    def _collapse(self, found: list[Alarm], record: dict[str, Any]) -> Collapse | None:
        stopping = [alarm for alarm in found if alarm.level == "stop"]
        if not stopping or self.settings.alarm != "stop":
            return None
        first = stopping[0]
        return Collapse(
            f"Collapse at epoch {record['epoch']:g}: {first.what} "
            f"({first.name} {first.value:.3g}, limit {first.limit:.3g})",
            fix="See docs/explanation/collapse.md; preset 'stable' guards against it",
        )
