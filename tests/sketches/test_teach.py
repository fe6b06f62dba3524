"""The offline default shows something true: the bundled backbone helps with animals that it has never seen."""

import pytest
from lightning.pytorch import seed_everything

from lightning_transfer import FeatureClassifier, FeatureDataModule, SketchPetsDataModule, extract_features

pytestmark = pytest.mark.nightly


def test_the_bundled_backbone_beats_random_numbers_by_ten_points(quiet_trainer, tmp_path):
    data = SketchPetsDataModule(
        str(tmp_path / "pets"), {"train": 400, "validation": 50, "test": 300}, batch_size=50
    )
    accuracies = {}
    for weights in ("bundled", None):
        seed_everything(0, verbose=False)
        model = FeatureClassifier("mobilenet_v3_small", weights=weights, pool="avg", lr=1e-3)
        trainer = quiet_trainer(max_epochs=15)
        store = extract_features(trainer, model.backbone, data, root=tmp_path / "features")
        trainer.fit(model, FeatureDataModule(store, batch_size=32))
        (scores,) = trainer.test(model, FeatureDataModule(store, batch_size=100), verbose=False)
        accuracies[weights] = scores["test/accuracy"]
    assert accuracies["bundled"] >= accuracies[None] + 0.1
    assert accuracies["bundled"] < 0.99, "too easy to show a difference between regimes"
