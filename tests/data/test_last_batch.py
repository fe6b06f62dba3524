"""A last training batch of one image is left out where BatchNorm layers train, and nowhere else."""

from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from lightning_transfer import (
    AdaptiveUnfreeze,
    FeatureClassifier,
    FeatureDataModule,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    StagedUnfreeze,
    extract_features,
)
from lightning_transfer.data.last_batch import drops_last
from runs import Stranger, images_of

HEAD = {0: ["head"]}
LAST = {0: ["head", "last_conv"]}


class Sizes(Callback):
    """Notes the sizes of the training batches."""

    def __init__(self):
        self.sizes = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.sizes.append(len(batch[1]))


class Normed(FeatureClassifier):
    """Features, and a head with BatchNorm, which refuses a batch of one."""

    def build_head(self):
        return nn.Sequential(nn.Flatten(), nn.LazyBatchNorm1d(), nn.LazyLinear(self.num_classes))


def module(regime, backbone="mobilenet_v3_small"):
    torch.manual_seed(0)
    made = regime(backbone, weights=None, num_classes=2, image_size=32, pool="avg", hidden=8)
    if isinstance(made, Normed):
        made.head(torch.zeros(2, *made.backbone.out_shape(32)))
    return made


def sizes(trainer_of, model, data, callbacks=(), **arguments):
    seen = Sizes()
    trainer_of(max_epochs=1, callbacks=[seen, *callbacks], **arguments).fit(model, data)
    return seen.sizes


@pytest.mark.parametrize("augmentation", [True, False])
def test_stages_with_batch_norm_that_unfreeze(image_folder, quiet_trainer, caplog, augmentation):
    """24 images in batches of 23: the 24th alone fails in mobilenet's last stage, whose map is 1 × 1."""
    options = {} if augmentation else {"augmentation": None}
    with caplog.at_level("INFO"):
        found = sizes(
            quiet_trainer,
            module(FineTuningClassifier),
            images_of(image_folder, batch_size=23, **options),
            [StagedUnfreeze(LAST)],
            reload_dataloaders_every_n_epochs=1,
        )
    assert found == [23]
    said = [record.message for record in caplog.records if "is left out" in record.message]
    assert said == [
        "The last batch of each training epoch is left out: it would be 1 image (of 24, with batch_size=23), and "
        "BatchNorm layers that train need two or more."
    ]


def frozen_norm():
    schedule = StagedUnfreeze(LAST)
    schedule.train_norm = False
    return schedule


@pytest.mark.parametrize(
    ("regime", "backbone", "callbacks"),
    [
        (FrozenBackboneClassifier, "mobilenet_v3_small", []),
        (FeatureClassifier, "mobilenet_v3_small", []),
        (FineTuningClassifier, "mobilenet_v3_small", [StagedUnfreeze(HEAD)]),
        (FineTuningClassifier, "squeezenet1_1", [StagedUnfreeze({0: ["head", "fire9"]})]),
    ],
)
def test_where_none_trains_nothing_is_left_out(image_folder, quiet_trainer, regime, backbone, callbacks):
    found = sizes(quiet_trainer, module(regime, backbone), images_of(image_folder, batch_size=23), callbacks)
    assert found == [23, 1]


def test_a_schedule_says_which_stages_train(quiet_trainer):
    for callbacks, trains in (
        ([StagedUnfreeze(HEAD)], False),
        ([StagedUnfreeze({0: ["head"], 7: ["last_conv"]})], True),
        ([AdaptiveUnfreeze(["head", "last_conv"])], True),
        ([frozen_norm()], False),
    ):
        model = module(FineTuningClassifier)
        model.trainer = quiet_trainer(callbacks=callbacks)
        assert model.trains_batch_norm is trains


def test_a_head_with_batch_norm_on_images_and_on_features(image_folder, quiet_trainer, tmp_path):
    model = module(Normed)
    images = images_of(image_folder, batch_size=23)
    assert sizes(quiet_trainer, model, images) == [23]
    store = extract_features(quiet_trainer(), model.backbone, images, root=tmp_path)
    for batch_size, expected in ((23, [23]), (22, [22, 2]), (24, [24])):
        assert sizes(quiet_trainer, model, FeatureDataModule(store, batch_size=batch_size)) == expected
    plain = module(FeatureClassifier)
    assert sizes(quiet_trainer, plain, FeatureDataModule(store, batch_size=23)) == [23, 1]


def test_modules_of_others(image_folder, quiet_trainer):
    class Scaled(Stranger):
        def forward(self, images):
            return super().forward(images / 255)

    images = images_of(image_folder, batch_size=23)
    assert sizes(quiet_trainer, Scaled(), images, limit_val_batches=0) == [23]
    plain = Scaled()
    plain.body[1], plain.neck[1] = nn.GroupNorm(1, 4), nn.GroupNorm(1, 4)
    assert sizes(quiet_trainer, plain, images, limit_val_batches=0) == [23, 1]


def test_the_other_splits_are_whole(image_folder, quiet_trainer):
    model = module(FineTuningClassifier)
    images = images_of(image_folder, batch_size=11)
    quiet_trainer(max_epochs=1, callbacks=[StagedUnfreeze(LAST)]).fit(model, images)
    assert [len(labels) for _, labels in images.val_dataloader()] == [11, 1]


@pytest.mark.parametrize(
    ("samples", "batch_size", "processes", "dropped"),
    [
        (21, 20, 1, True),
        (41, 20, 1, True),
        (40, 20, 1, False),
        (22, 20, 1, False),
        (1, 20, 1, False),  # it is all there is
        (5, 1, 1, False),  # every batch is one image
        (42, 20, 2, True),  # 21 each
        (41, 20, 2, True),  # made equal: 21 each
        (21, 20, 2, False),
        (43, 21, 2, True),
    ],
)
def test_sizes_are_those_of_each_process(samples, batch_size, processes, dropped):
    class Trainer(SimpleNamespace):
        __hash__ = object.__hash__

    trainer = Trainer(lightning_module=nn.BatchNorm2d(2), world_size=processes)
    assert drops_last(trainer, samples, batch_size) is dropped
    assert not drops_last(None, samples, batch_size)
