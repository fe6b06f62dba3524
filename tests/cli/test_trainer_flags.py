"""Flags of the Trainer on the real command line, at the default precision."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.plugins import Precision

from lightning_transfer.monitoring.plots import PLOTS

REGIMES = {
    "FeatureClassifier": [],  # on a store
    "FrozenBackboneClassifier": [],
    "FineTuningClassifier": [
        "--trainer.callbacks+=StagedUnfreeze",
        "--trainer.callbacks.schedule={0: [head], 1: [fire9]}",
    ],
}


@pytest.fixture
def norms(monkeypatch):
    """The norm of the gradients after each clipping."""
    seen = []
    clip = Precision.clip_gradients

    def watching(self, optimizer, *arguments, **options):
        clip(self, optimizer, *arguments, **options)
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append(float(torch.nn.utils.get_total_norm(gradients)))

    monkeypatch.setattr(Precision, "clip_gradients", watching)
    return seen


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("regime", REGIMES)
def test_the_clipping_that_an_error_recommends_works_at_once_and_on_resume(
    command, image_folder, weights_file, norms, regime
):
    """The first run does not clip, and its optimizer may be fused; the state of that is in the checkpoint."""
    flags = [
        *(f"--model={regime}", "--model.backbone=squeezenet1_1", f"--model.weights={weights_file}"),
        *("--model.pool=avg", "--model.hidden=8", "--model.lr=1e-3", "--run_name=run"),
        *("--data=ImageFolderDataModule", f"--data.root={image_folder}", "--data.image_size=32"),
        *("--data.num_workers=0", "--data.batch_size=6", "--trainer.accelerator=cpu"),
        *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.logger=false"),
        *(f"--plots.{name}=false" for name in PLOTS),
        *REGIMES[regime],
    ]
    clip = ["--trainer.gradient_clip_val=0.01"]
    assert command("fit", *flags, "--trainer.max_epochs=1") == 0
    assert max(norms) > 0.01  # Lightning asks there, whatever it is to do
    norms.clear()
    last = "--ckpt_path=checkpoints/run/last.ckpt"
    assert command("fit", *flags, *clip, last, "--trainer.max_epochs=2") == 0
    assert command("fit", *flags, *clip, "--trainer.max_epochs=2", "--run_name=other") == 0
    assert len(norms) == 4 + 8
    assert max(norms) < 0.0101
    assert len(Path("checkpoints/other/metrics.csv").read_text().splitlines()) == 3
