"""The second regime against a hand-written loop, and the head that it takes from the first."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_transfer import (
    FeatureClassifier,
    FeatureDataModule,
    FreezeAudit,
    FrozenBackboneClassifier,
    extract_features,
)
from lightning_transfer.errors import ModuleError
from runs import Watch, images_of

BASES = ["resnet18", "mobilenet_v3_small", "squeezenet1_1"]


def make(cls=FrozenBackboneClassifier, **arguments):
    torch.manual_seed(0)
    defaults = {"backbone": "mobilenet_v3_small", "weights": None, "num_classes": 2, "image_size": 32, "hidden": 8}
    return cls(**(defaults | arguments))


@pytest.mark.parametrize("backbone", BASES)
def test_training_is_a_hand_written_loop(backbone, quiet_trainer, image_folder):
    model = make(backbone=backbone, dropout=0.0, lr=1e-3, weight_decay=0.1)
    before = copy.deepcopy(model)
    quiet_trainer(max_epochs=2, precision="64-true").fit(model, images_of(image_folder, seed=3))

    expected = before.double()
    expected.backbone.eval()
    dataset = images_of(image_folder, seed=3).train_dataloader().dataset
    matrices = [parameter for parameter in expected.head.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in expected.head.parameters() if parameter.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": biases, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for epoch in range(2):
        order = np.random.default_rng([3, epoch]).permutation(len(dataset))
        for places in np.split(order, range(5, len(order), 5)):
            images, labels = zip(*(dataset[epoch, int(place)] for place in places), strict=True)
            with torch.no_grad():
                features = expected.backbone(torch.stack(images))
            optimizer.zero_grad()
            F.cross_entropy(expected.head(features), torch.tensor(labels)).backward()
            optimizer.step()
    for key, value in expected.network.state_dict().items():
        torch.testing.assert_close(
            model.network.state_dict()[key],
            value,
            rtol=1e-7,
            atol=1e-8,
            msg=lambda text, key=key: f"{key}: {text}",
        )


@pytest.mark.parametrize("backbone", BASES)
def test_the_backbone_is_a_constant_without_a_graph(backbone, quiet_trainer, image_folder):
    model = make(backbone=backbone)
    before = copy.deepcopy(model.backbone.state_dict())
    seen = []
    model.backbone.register_forward_hook(
        lambda module, inputs, features: seen.append(
            (
                module.stages.training,
                features.requires_grad,
                features.is_contiguous(memory_format=torch.channels_last),
            )
        )
    )
    trainer = quiet_trainer(max_epochs=2, callbacks=[watch := Watch()])
    trainer.fit(model, images_of(image_folder))
    assert {(graph, layout) for _, graph, layout in seen} == {(False, True)}
    assert all(not module.training for stage in model.backbone.stages.values() for module in stage.modules())
    assert watch.trained == {0: {"head"}, 1: {"head"}}
    for key, value in before.items():
        assert torch.equal(value, model.backbone.state_dict()[key]), key
    assert any(isinstance(callback, FreezeAudit) for callback in trainer.callbacks)


@pytest.fixture
def extracted(quiet_trainer, image_folder, tmp_path):
    """A feature-extraction run's checkpoint, and its module."""
    model = make(FeatureClassifier)
    trainer = quiet_trainer(max_epochs=2)
    store = extract_features(trainer, model.backbone, images_of(image_folder), root=tmp_path / "features")
    trainer.fit(model, FeatureDataModule(store))
    trainer.save_checkpoint(tmp_path / "extracted.ckpt")
    torch.save(model.backbone.stages.state_dict(), tmp_path / "stages.pth")
    return tmp_path / "extracted.ckpt", model


def test_head_from_starts_with_the_trained_head(extracted, quiet_trainer, image_folder):
    path, trained = extracted
    model = make(head_from=str(path))
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(model.eval()(images), trained.eval()(images))
    assert model.class_names == ("cats", "dogs")
    quiet_trainer(max_epochs=1).fit(model, images_of(image_folder))


def test_head_from_another_backbone_is_refused(extracted, image_folder):
    path, _ = extracted
    torch.manual_seed(1)
    with pytest.raises(
        ModuleError, match=r"was trained on a backbone with other weights \(weights=None\): .*init_from="
    ):
        FrozenBackboneClassifier("mobilenet_v3_small", weights=None, hidden=8, head_from=str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"backbone": "squeezenet1_1"},
            "was trained with backbone='mobilenet_v3_small', this run has backbone='squeezenet1_1'",
        ),
        ({"last_stage": "block4"}, "trained with last_stage=None, this run has last_stage='block4'"),
        ({"num_classes": 3}, "trained with num_classes=2, this run has num_classes=3"),
        ({"pool": "avg"}, "trained with pool='flatten', this run has pool='avg'"),
        ({"hidden": 9}, "trained with hidden=8, this run has hidden=9"),
        ({"image_size": 96}, "The head in .* does not fit: "),
        ({"init_from": "other.ckpt"}, "head_from and init_from are both given"),
        ({"head_from": "nowhere.ckpt"}, "There is no checkpoint nowhere.ckpt"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(extracted, arguments, message):
    with pytest.raises(ModuleError, match=message):
        make(**({"head_from": str(extracted[0])} | arguments))


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ModuleError, match=r"other\.ckpt was not made by a lightning-transfer module"):
        make(head_from=str(tmp_path / "other.ckpt"))


def test_balanced_classes_need_somebody_who_counts(quiet_trainer, image_folder):
    model = make(class_weights="balanced")
    quiet_trainer(max_epochs=1).fit(model, images_of(image_folder))
    assert model.task.weight.tolist() == [1.0, 1.0]
    loader = images_of(image_folder).train_dataloader()
    with pytest.raises(ModuleError, match=r"needs a data module with class_counts\(split\)"):
        quiet_trainer(max_epochs=1).fit(make(class_weights="balanced"), loader, loader)


def test_balanced_classes_weigh_the_rarer_one_more(quiet_trainer, image_folder):
    data = images_of(image_folder)
    model = make(class_weights="balanced")
    data.class_counts = lambda split: {"train": (18, 6)}[split]
    quiet_trainer(max_epochs=1).fit(model, data)
    torch.testing.assert_close(model.task.weight, torch.tensor([24 / 36, 2.0]))
