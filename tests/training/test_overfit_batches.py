"""`overfit_batches`: the same few batches in each epoch, of all classes, without a word from Lightning."""

import pytest
import torch
from lightning.pytorch import Callback

from lightning_transfer import (
    Augmentation,
    FeatureClassifier,
    FeatureDataModule,
    FrozenBackboneClassifier,
    StagedUnfreeze,
    extract_features,
)
from runs import fine_tuning, finished, images_of


class Seen(Callback):
    """Notes inputs and labels of each batch, by epoch."""

    def __init__(self):
        self.training, self.validation = {}, {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.training.setdefault(trainer.current_epoch, []).append([part.clone() for part in batch])

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking:
            self.validation.setdefault(trainer.current_epoch, []).append([part.clone() for part in batch])


def small(regime, **arguments):
    torch.manual_seed(0)
    return regime("squeezenet1_1", weights=None, image_size=32, pool="avg", hidden=8, **arguments)


def check(seen, batches):
    for epochs in (seen.training, seen.validation):
        assert sorted(epochs) == [0, 1, 2]
        for epoch in epochs.values():
            assert len(epoch) == batches
            for one, first in zip(epoch, epochs[0], strict=True):
                assert all(map(torch.equal, one, first))
        assert set(torch.cat([labels for _, labels in epochs[0]]).tolist()) == {0, 1}


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
@pytest.mark.parametrize("workers", [0, 1])
def test_images(image_folder, quiet_trainer, augmentation, workers):
    """Warnings are errors: Lightning has nothing to replace."""
    seen = Seen()
    images = images_of(image_folder, augmentation=augmentation, num_workers=workers)
    quiet_trainer(max_epochs=3, overfit_batches=2, callbacks=[seen]).fit(small(FrozenBackboneClassifier), images)
    check(seen, 2)
    plain = images.dataset("train")
    for inputs, labels in seen.training[0]:
        assert inputs.dtype == torch.uint8
        for image, label in zip(inputs, labels, strict=True):
            known = [i for i in range(24) if plain.target(i) == label and torch.equal(plain[i][0], image)]
            assert bool(known) is (augmentation is None), "augmented as in epoch 0"


def test_a_share_of_all_batches(image_folder, quiet_trainer):
    seen = Seen()
    trainer = quiet_trainer(max_epochs=3, overfit_batches=0.5, callbacks=[seen, StagedUnfreeze({0: ["head"]})])
    trainer.fit(fine_tuning(), images_of(image_folder, batch_size=4))
    assert (len(seen.training[0]), len(seen.validation[0])) == (3, 1)


@pytest.mark.parametrize("views", [1, 2])
def test_stored_features(image_folder, quiet_trainer, tmp_path, views):
    seen = Seen()
    model = small(FeatureClassifier)
    store = extract_features(quiet_trainer(), model.backbone, images_of(image_folder), root=tmp_path, views=views)
    trainer = quiet_trainer(max_epochs=3, overfit_batches=2, callbacks=[seen])
    trainer.fit(model, FeatureDataModule(store, batch_size=5))
    check(seen, 2)
    plain = torch.from_numpy(store.features("train").copy())
    for features, _ in seen.training[0]:
        assert all((plain == row).flatten(1).all(dim=1).any() for row in features), "the first view, as in epoch 0"


def test_it_overfits(image_folder, quiet_trainer):
    """What the flag is for: the loss of the few batches falls."""
    model = small(FrozenBackboneClassifier, lr=1e-2, dropout=0.0)
    trainer = quiet_trainer(max_epochs=30, overfit_batches=1)
    trainer.fit(model, images_of(image_folder))
    assert trainer.callback_metrics["train/loss"] < 0.3


DDP = """
import sys, warnings, torch
from lightning.pytorch import Callback, Trainer
from lightning_transfer import FrozenBackboneClassifier, ImageFolderDataModule
warnings.filterwarnings("ignore")
images, out = sys.argv[1:]

class Seen(Callback):
    def __init__(self):
        self.training, self.validation = [], []
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.training.append(batch[0].clone())
    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.validation.append(batch[0].clone())

for share in (1.0, 1):
    torch.manual_seed(0)
    model = FrozenBackboneClassifier("squeezenet1_1", weights=None, image_size=32, pool="avg", hidden=8)
    data = ImageFolderDataModule(images, image_size=32, batch_size=4, num_workers=0, max_images=11)
    seen = Seen()
    Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, overfit_batches=share, logger=False,
        num_sanity_val_steps=0, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[seen]).fit(model, data)
    torch.save((seen.training, seen.validation), f"{out}/{share}.{model.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_share_the_batches(image_folder, tmp_path):
    """Eleven images, which do not come out even: training repeats one, validation none."""
    (tmp_path / "ddp.py").write_text(DDP)
    done = finished(tmp_path / "ddp.py", image_folder, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = {share: [torch.load(tmp_path / f"{share}.{rank}.pt") for rank in (0, 1)] for share in ("1.0", "1")}

    def together(share, part):
        return [image.numpy().tobytes() for rank in seen[share] for batch in rank[part] for image in batch]

    everything = images_of(image_folder, max_images=11).dataset("validation")
    assert sorted(together("1.0", 1)) == sorted(everything[i][0].numpy().tobytes() for i in range(11))
    assert (len(together("1.0", 0)), len(set(together("1.0", 0)))) == (12, 11)
    for part in (0, 1):
        assert len(set(together("1", part))) == 8
