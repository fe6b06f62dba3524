"""Every plot of a run on tokens: feature maps, filters, projector and graph, against the layers by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_transfer import FineTuningClassifier, StagedUnfreeze
from lightning_transfer.monitoring import feature_maps
from lightning_transfer.monitoring.plots import Plots
from runs import images_of
from tiny_vit import STAGES, forward_by_hand


@pytest.mark.parametrize("pool", ["native", "class_token+avg", "flatten"])
def test_tokens_are_plotted(pool, image_folder, tmp_path, quiet_trainer, monkeypatch):
    torch.manual_seed(0)
    shown, tiles = [], feature_maps.feature_map_tiles
    monkeypatch.setattr(
        feature_maps, "feature_map_tiles", lambda *given: (shown.append(given[:2]), tiles(*given))[1]
    )
    model = FineTuningClassifier("tiny/vit", weights=None, pool=pool, hidden=8)
    images = images_of(image_folder)
    trainer = quiet_trainer(
        max_epochs=1,
        logger=TensorBoardLogger(tmp_path, default_hp_metric=False),
        callbacks=[*Plots().callbacks(), StagedUnfreeze({0: ["head", "norm", "block2"]})],
        log_every_n_steps=1,
    )
    trainer.fit(model, images)
    events = EventAccumulator(trainer.logger.log_dir).Reload()
    tags = set(events.Tags()["images"])
    assert {"first_layer_filters", *(f"feature_maps/{name}" for name in STAGES)} <= tags
    nodes = {node.name for node in events.Graph().node}
    assert all(any(f"[{name}]" in node for node in nodes) for name in (*STAGES, "head"))

    with torch.no_grad():
        for name, (pictures, maps) in zip(STAGES, shown, strict=True):
            tokens = forward_by_hand(model.backbone, pictures)[name]
            by_place = np.array(
                [[tokens[:, 1 + 4 * row + column].numpy() for column in range(4)] for row in range(4)]
            )
            np.testing.assert_allclose(maps, by_place.transpose(2, 3, 0, 1), atol=1e-4)

        loader = [inputs for inputs, _ in images.val_dataloader()]
        tokens = forward_by_hand(model.backbone, torch.cat(loader))["norm"]
    (place,) = Path(trainer.log_dir).glob("*/features")
    found = np.loadtxt(place / "tensors.tsv", delimiter="\t")
    mean = tokens[:, 1:].mean(dim=1)
    expected = {"native": tokens[:, 0], "class_token+avg": torch.cat([tokens[:, 0], mean], 1), "flatten": mean}
    np.testing.assert_allclose(found, expected[pool], atol=1e-3)
