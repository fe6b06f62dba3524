"""The size that a checkpoint records is the one that was trained on, from Python as from the command line."""

import pytest
import torch
from lightning.pytorch import Callback

from lightning_transfer import (
    FeatureClassifier,
    FeatureDataModule,
    FrozenBackboneClassifier,
    extract_features,
    load_classifier,
)
from lightning_transfer.errors import ModuleError
from runs import images_of

ARGUMENTS = {"weights": None, "hidden": 4}


class Sizes(Callback):
    """Notes the sizes of the images that train."""

    def __init__(self):
        self.seen = set()

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.add(tuple(batch[0].shape[1:]))


@pytest.mark.parametrize("pool", ["avg", "flatten"])
def test_left_out_they_are_the_datas(quiet_trainer, image_folder, tmp_path, pool):
    sizes = Sizes()
    trainer = quiet_trainer(max_epochs=1, callbacks=[sizes])
    data = images_of(image_folder, image_size=48)
    model = FrozenBackboneClassifier("squeezenet1_1", pool=pool, **ARGUMENTS)
    trainer.fit(model, data)
    (scores,) = trainer.test(model, data, verbose=False)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    assert sizes.seen == {(3, 48, 48)}
    classifier = load_classifier(tmp_path / "run.ckpt")
    assert (classifier.image_size, classifier.class_names) == (48, ("cats", "dogs"))
    samples = data.dataset("test").samples
    found = classifier.classify([data.dataset("test").root / path for path in samples.paths])
    right = [each.label == data.class_names[label] for each, label in zip(found, samples.labels, strict=True)]
    assert sum(right) / len(right) == pytest.approx(scores["test/accuracy"])


@pytest.mark.parametrize("pool", ["avg", "flatten"])
def test_given_to_both_they_must_agree(quiet_trainer, image_folder, tmp_path, pool):
    images = images_of(image_folder, image_size=48)
    model = FrozenBackboneClassifier("squeezenet1_1", image_size=32, num_classes=2, pool=pool, **ARGUMENTS)
    for data in (
        images,
        FeatureDataModule(extract_features(quiet_trainer(), model.backbone, images, root=tmp_path)),
    ):
        with pytest.raises(ModuleError, match="data have image_size=48, the model image_size=32: pass the same"):
            quiet_trainer(max_epochs=1).fit(model, data)


def test_a_store_says_its_images_size(quiet_trainer, image_folder, tmp_path):
    images = images_of(image_folder, image_size=48)
    model = FeatureClassifier("squeezenet1_1", **ARGUMENTS)
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, FeatureDataModule(extract_features(trainer, model.backbone, images, root=tmp_path)))
    assert (model.image_size, model.num_classes) == (48, 2)
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 48, 48)).shape == (1, 2)
