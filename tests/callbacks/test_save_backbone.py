"""The backbone of a fit is kept as a file that makes it again."""

import json

import pytest
import torch
from safetensors import safe_open

from lightning_transfer import Backbone, SaveBackbone, StagedUnfreeze
from runs import Stranger, fine_tuning, images_of, noise


def test_the_file_makes_the_trained_backbone_again(quiet_trainer, image_folder, tmp_path):
    path = tmp_path / "new" / "backbone.safetensors"
    callbacks = [StagedUnfreeze({0: ["head", "last_conv"]}), SaveBackbone(str(path), "the tests' images")]
    model = fine_tuning(lr=1e-2)
    trainer = quiet_trainer(max_epochs=2, callbacks=callbacks)
    trainer.fit(model, images_of(image_folder))
    again = Backbone("mobilenet_v3_small", weights=str(path))
    for key, value in model.backbone.state_dict().items():
        if "num_batches" not in key:
            torch.testing.assert_close(again.state_dict()[key], value, rtol=1e-3, atol=1e-6)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["origin"] == "the tests' images"
    assert metadata["epochs"] == "2"
    assert json.loads(metadata["hyperparameters"])["lr"] == 1e-2
    accuracy = float(trainer.callback_metrics["validation/accuracy"])
    assert float(metadata["validation/accuracy"]) == pytest.approx(accuracy, abs=1e-4)


def test_a_module_with_another_backbone_is_named(quiet_trainer, tmp_path):
    class Based(Stranger):
        @property
        def backbone(self):
            return self.body

    trainer = quiet_trainer(
        max_epochs=1, callbacks=[SaveBackbone(str(tmp_path / "backbone.safetensors"), "noise")]
    )
    with pytest.raises(TypeError, match="wanted a module whose backbone is a Backbone, got Sequential"):
        trainer.fit(Based(), noise())
