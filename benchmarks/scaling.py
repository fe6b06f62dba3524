"""One and two processes on one machine, one thread each: frozen backbone and fine-tuning under DDP.

Lightning starts the second process by running this module again; the first one answers.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from typing import Any

from benchmarks.environments import run_here
from benchmarks.results import Candidate, Measurement, times_as_fast
from benchmarks.settings import Settings


def run(
    data: str, weights: str, processes: int, regime: str, images: int, batch_size: int
) -> dict[str, Any] | None:
    """Return images per second in training; None in every process but the first."""
    import torch
    from lightning.pytorch import Trainer

    from benchmarks.steps import StepTimer
    from benchmarks.timing import quiet_trainer
    from lightning_transfer import (
        FineTuningClassifier,
        FrozenBackboneClassifier,
        ImageFolderDataModule,
        StagedUnfreeze,
    )
    from lightning_transfer.utils.machine import default_precision

    quiet_trainer("32-true")  # for the quiet it leaves
    torch.manual_seed(0)
    folder = ImageFolderDataModule(data, batch_size=batch_size // processes, max_images=images, num_workers=0)
    kind = FineTuningClassifier if regime == "fine-tuning" else FrozenBackboneClassifier
    model = kind("squeezenet1_1", weights=weights, pool="avg")
    timer = StepTimer()
    unfreeze = [StagedUnfreeze({0: ["head", *model.backbone.stage_names]})] if regime == "fine-tuning" else []
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        precision=default_precision(),
        max_epochs=1,
        limit_val_batches=0,
        callbacks=[timer, *unfreeze],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with contextlib.redirect_stdout(io.StringIO()):  # the tables of the schedule
        trainer.fit(model, folder)
    steps = trainer.num_training_batches - 1
    return {"speed": steps * batch_size / timer.seconds} if trainer.is_global_zero else None


def measure(settings: Settings) -> list[Measurement]:
    """Measure for `python -m benchmarks`."""
    found = []
    kinds = {"1 process, 1 thread": (1, 1), "2 processes, 1 thread each": (2, 1), "1 process, 2 threads": (1, 2)}
    for regime in ("frozen backbone", "fine-tuning"):
        speeds: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(settings.rounds):
            for name, (processes, threads) in kinds.items():
                asked = {
                    "data": str(settings.images),
                    "weights": str(settings.weights),
                    "processes": processes,
                    "regime": regime,
                    "images": max(200, settings.some(1000)),
                    "batch_size": 32,
                }
                said = run_here("benchmarks.scaling", asked, OMP_NUM_THREADS=str(threads))
                speeds[name].append(said["speed"])
                print(f"{regime}, {name}: {said['speed']:.1f} images/s", file=sys.stderr, flush=True)
        one, two, threaded = (Candidate(name, tuple(values)) for name, values in speeds.items())
        rows = (times_as_fast(two, one, "images/s"), times_as_fast(two, threaded, "images/s"))
        title = f"SqueezeNet 1.1, {regime} in several processes"
        remark = (
            "Batches of 32 in total. Each process decodes its own images, without workers. Lightning does not "
            "wait for the second process that it starts, so its work may be counted as that of others."
        )
        name = f"scaling/{regime.replace(' ', '-')}"
        command = settings.command("scaling")
        found.append(Measurement(name, title, "images/s", (one, two, threaded), rows, command, (remark,)))
    return found


if __name__ == "__main__":
    answer = run(**json.loads(sys.argv[1]))
    if answer is not None:
        print(json.dumps(answer))
