"""The run folder: one process at a time, described, checkpointed, and left on request."""

from __future__ import annotations

import contextlib
import platform
import signal
import types
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout

from volta3d import __version__
from volta3d.config import PretrainConfig
from volta3d.errors import CheckpointError, UsageError, VoltaError
from volta3d.files import clean_partial, require_writable, write_json, write_text
from volta3d.pretrain import checkpoint
from volta3d.pretrain.log import read_metrics

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from volta3d.pretrain.data import Scans
    from volta3d.pretrain.distributed import Ranks
    from volta3d.pretrain.loop import PretrainResult
    from volta3d.pretrain.trainer import Trainer


SAVED = "saved.json"  # says that a checkpoint was once written, and when the last one


class StopRequest:
    """SIGTERM, SIGUSR1 or a first Ctrl-C asks the loop to save and leave; a second Ctrl-C quits."""

    def __init__(self) -> None:
        self.asked = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        numbers = [signal.SIGTERM, signal.SIGINT]
        numbers += [signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []  # Windows has none
        for number in numbers:
            with contextlib.suppress(ValueError):  # only the main thread may set handlers
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: types.FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number).name

    def agree(self, ranks: Ranks, device: torch.device) -> None:
        """One process asked to stop is all of them asked to stop, after the same step."""
        if ranks.any(bool(self.asked), device) and not self.asked:
            self.asked = "another process"

    def leave_if_asked(self, run: Path, step: int) -> None:
        """Raise once a stop was asked for; the caller has just saved."""
        if self.asked:
            raise VoltaError(
                f"Stopped by {self.asked} after step {step}, everything is saved",
                where=run,
                fix="Run the same command with --resume to go on",
            )


class RunFolder:
    """A pretraining run on disk.

    Args:
        path: the folder; nothing is made before it is ``locked``.
        resume: whether an existing run may go on.

    Raises:
        UsageError: a run is there already and ``resume`` is off.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self.path = path
        self.identity: dict[str, Any] = {}
        if path.exists() and not path.is_dir():
            raise UsageError("The output is a file, not a folder", where=path, fix="Rename --out")
        started = (path / "config.yaml").exists()
        if resume and not started:
            warnings.warn(f"There is no run to resume in {path}; a new one starts", stacklevel=2)
        if started and not resume:
            raise UsageError(
                "A run is there already", where=path, fix="Add --resume, or choose another --out"
            )

    @contextlib.contextmanager
    def locked(self, first: bool = True) -> Iterator[None]:
        """Make the folder if it is missing and hold it for this process.

        Of a run of several processes the ``first`` one holds it for all.

        Raises:
            VoltaError: it cannot be written, or another process holds it.
        """
        if not first:
            yield
            return
        require_writable(self.path)
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise VoltaError(
                "Another process is working in this run folder",
                where=self.path,
                fix="Wait for it, stop it, or choose another --out",
            ) from error
        try:
            for folder in (self.path, self.path / "checkpoints", self.path / "pictures"):
                clean_partial(folder)
            yield
        finally:
            lock.release()

    def identify(self, config: PretrainConfig, scans: Scans, fabric: Fabric) -> None:
        """Note what a resumed run must share with its checkpoints."""
        self.identity = {
            "config": config.science(),
            "data": scans.identity(),
            "precision": str(fabric._precision.precision),  # what ``auto`` came to
        }

    def describe(self, config: PretrainConfig, scans: Scans, fabric: Fabric) -> None:
        """Write config.yaml, environment.json and cohort.json; a resumed run keeps the first."""
        if not checkpoint.available(self.path / "checkpoints"):
            write_text(self.path / "config.yaml", config.to_yaml())
            held = {"data": scans.about()}
            write_json(self.path / "environment.json", environment(fabric) | held)
        described = [
            {
                "path": cohort.path.name,
                "hash": cohort.hash(),
                "scans": len(cohort),
                "datasets": sorted(set(cohort.participants["dataset"].astype(str))),
                "synthetic": cohort.contract.synthetic,
                "quarantined": len(cohort.quarantine),
            }
            for cohort in scans.cohorts
        ]
        trained = [scans.scan_ids[place] for place in scans.trained]
        content: dict[str, Any] = {"cohorts": described, "scan_ids": trained}
        if len(scans.held):
            content["held_out"] = [scans.scan_ids[place] for place in scans.held]
        if scans.excluded:
            content["excluded"] = scans.excluded.content()
        write_json(self.path / "cohort.json", content)

    def save(self, trainer: Trainer) -> None:
        """Publish a checkpoint; all processes ask, the first one writes, the others wait for it.

        A launcher ends all processes when the first of them leaves, so none may before it is there.
        """
        if trainer.ranks.first:
            checkpoint.save(
                self.path / "checkpoints",
                distillation=trainer.distillation,
                optimizer=trainer.optimizer,
                progress=trainer.progress,
                identity=self.identity,
                keep=trainer.config.keep_checkpoints,
            )
            write_json(self.path / SAVED, {"step": trainer.progress.step})
        trainer.ranks.wait()

    def restore(self, trainer: Trainer) -> checkpoint.Progress | None:
        """The newest whole checkpoint put back, or None for a fresh start.

        Raises:
            CheckpointError: checkpoints are there but none is whole or fits.
        """
        if not trainer.ranks.first:
            trainer.ranks.wait()  # the first one has cleaned up and found one that is whole
        restored = self._restore(trainer)
        if trainer.ranks.first:
            trainer.ranks.wait()
        return restored

    def _restore(self, trainer: Trainer) -> checkpoint.Progress | None:
        restored = checkpoint.load_newest(
            self.path / "checkpoints",
            distillation=trainer.distillation,
            optimizer=trainer.optimizer,
            identity=self.identity,
        )
        records = read_metrics(self.path / "metrics.jsonl")
        reached = max((r.get("step", 0) for r in records), default=0)
        if restored is None and (self.path / SAVED).exists():
            raise CheckpointError(
                "The run had checkpoints, and they are gone",
                where=self.path / "checkpoints",
                fix="Restore the checkpoints folder, or start a new run folder",
            )
        if restored is None and reached:
            warnings.warn(
                f"The run stopped at step {reached} before its first checkpoint; it starts again "
                "from the beginning",
                stacklevel=2,
            )
        return restored

    def finish(self, trainer: Trainer) -> PretrainResult:
        """Write the encoder folder and sum the run up, the part before a resume included."""
        from volta3d.pretrain.encoder import save_encoder
        from volta3d.pretrain.loop import PretrainResult
        from volta3d.pretrain.scale import measured

        rank = trainer.ranks.rank
        if rank:
            step = trainer.progress.step
            return PretrainResult(self.path, self.path / "encoder", step, [], None, None, rank)
        records = read_metrics(self.path / "metrics.jsonl")
        epochs = [r for r in records if r["kind"] == "epoch"]
        alarms = [r["name"] for r in records if r["kind"] == "alarm"]
        last = epochs[-1] if epochs else None
        save_encoder(
            self.path / "encoder",
            network=trainer.distillation.pair.teacher,
            config=trainer.config,
            contract=trainer.scans.contract,
            scale=measured(trainer.config, trainer.scans.edges_mm),
            card_facts={
                "scans": len(trainer.scans.trained),
                "participants": trainer.scans.participants["participant_id"][
                    trainer.scans.trained
                ].nunique(),
                "datasets": sorted(set(trainer.scans.participants["dataset"].astype(str))),
                "synthetic": any(c.contract.synthetic for c in trainer.scans.cohorts),
                "steps": trainer.progress.step,
                "monitors": last or {},
                "alarms": sorted(set(alarms)),
                "data_hash": trainer.scans.identity()["hash"],
            }
            | left_out(trainer.scans),
        )
        return PretrainResult(
            run=self.path,
            encoder=self.path / "encoder",
            step=trainer.progress.step,
            alarms=alarms,
            first=epochs[0] if epochs else None,
            last=last,
            data=trainer.scans.about(),
        )


def left_out(scans: Scans) -> dict[str, Any]:
    """For the model card: against which cohorts people were left out, and how many scans."""
    if scans.excluded is None:
        return {}
    against = [f"{a['path']} ({a['hash']})" for a in scans.excluded.against]
    return {"excluded": {"scans": len(scans.excluded.scans), "against": against}}


def environment(fabric: Fabric) -> dict[str, Any]:
    """Versions and hardware, without anything that names a person or a path."""
    versions = {}
    for name in ("torch", "monai", "numpy", "lightning-fabric", "zarr", "nibabel"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    device = fabric.device
    return {
        "volta3d": __version__,
        "python": platform.python_version(),
        "packages": versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "processor": str(torch.cpu.get_capabilities().get("cpu_name", platform.machine())),
        "precision": str(fabric._precision.precision),
        "world_size": fabric.world_size,
    }
