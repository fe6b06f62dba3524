"""Arguments of other types and out of range are named at construction; what can be understood becomes plain."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_transfer import FrozenBackboneClassifier
from lightning_transfer.errors import ModuleError
from runs import images_of

REFUSED = [
    ({"lr": "1e-4"}, "lr='1e-4': wanted a number from 0"),
    ({"lr": -1}, "lr=-1: wanted a number from 0"),
    ({"lr": float("nan")}, "lr=nan: wanted a number"),
    ({"weight_decay": -1}, "weight_decay=-1"),
    ({"layer_decay": 0.0}, "layer_decay=0.0: wanted a number above 0, up to 1"),
    ({"layer_decay": 1.5}, "layer_decay=1.5"),
    ({"image_size": (64, 64)}, r"image_size=\(64, 64\): wanted a whole number, 1 or more"),
    ({"image_size": "64"}, "image_size='64'"),
    ({"image_size": 0}, "image_size=0"),
    ({"num_classes": 2.5}, "num_classes=2.5"),
    ({"hidden": -1}, "hidden=-1"),
    ({"dropout": 1.0}, "dropout=1.0"),
    ({"dropout": None}, "dropout=None"),
    ({"pool": "mean"}, "pool='mean': wanted one of flatten, avg, max"),
    ({"optimizer": torch.optim.SGD}, "optimizer=<class .*: wanted a name"),
    ({"optimizer_options": "momentum"}, "optimizer_options='momentum': wanted a dict"),
    ({"scheduler_monitor": "loss"}, "scheduler_monitor='loss': wanted one of validation/loss, validation/acc"),
    ({"class_weights": "even"}, "class_weights='even': wanted one of balanced"),
    ({"class_weights": 2}, 'class_weights=2: wanted "balanced", or a number for each class'),
    ({"seed": -1}, "seed=-1"),
    ({"warmup_steps": 1.5}, "warmup_steps=1.5"),
    ({"task": "regression"}, "task='regression': wanted one of single_label, multi_label"),
    ({"weights": 3}, "weights=3: wanted a path"),
    ({"backbone": Path("vgg16")}, "backbone=.*: wanted a name"),
    ({"audit_freezing": "no"}, "audit_freezing='no': wanted True or False"),
    ({"head_from": "a.ckpt", "init_from": "b.ckpt"}, "both given: init_from brings the head along"),
]


def make(**arguments):
    defaults = {"backbone": "squeezenet1_1", "weights": None, "pool": "avg", "hidden": 4}
    return FrozenBackboneClassifier(**(defaults | arguments))


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_is_no_value_is_named(arguments, message):
    with pytest.raises(ModuleError, match=message) as raised:
        make(**arguments)
    assert "\n" not in str(raised.value)


def test_paths_and_numbers_become_plain_and_travel_in_checkpoints(
    weights_file, quiet_trainer, image_folder, tmp_path
):
    model = make(weights=Path(weights_file), lr=np.float64(1e-3), hidden=np.int64(4), class_weights=(1, 2))
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model, images_of(image_folder))
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    recorded = torch.load(tmp_path / "plain.ckpt", weights_only=True)["hyper_parameters"]
    assert (recorded["lr"], recorded["hidden"], recorded["class_weights"]) == (1e-3, 4, [1.0, 2.0])
    again = make(init_from=tmp_path / "plain.ckpt", image_size=32, num_classes=2)
    assert torch.equal(again.head.logits.weight, model.head.logits.weight)
