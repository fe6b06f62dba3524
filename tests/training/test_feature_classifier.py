"""FeatureClassifier against a hand-written loop, an uninterrupted run, and its own images."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from conftest import draw_folder
from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    Head,
    ImageFolderDataModule,
    extract_features,
)
from lightning_transfer.errors import ModuleError

SIZE = 64


def images_of(root, **arguments):
    images = ImageFolderDataModule(str(root), image_size=SIZE, num_workers=0, **arguments)
    images.setup()
    return images


@pytest.fixture(scope="module")
def store(image_folder, weights_file, tmp_path_factory):
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    backbone = Backbone("squeezenet1_1", str(weights_file))
    return extract_features(trainer, backbone, images_of(image_folder), root=tmp_path_factory.mktemp("features"))


@pytest.fixture
def make(weights_file):
    def make(**arguments):
        seed_everything(0, verbose=False)
        defaults = {"backbone": "squeezenet1_1", "weights": str(weights_file), "num_classes": 2, "hidden": 16}
        defaults["image_size"] = SIZE
        return FeatureClassifier(**(defaults | arguments))

    return make


def state(model):
    return {key: value.clone() for key, value in model.network.state_dict().items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def test_training_is_a_hand_written_loop(make, store, quiet_trainer):
    model = make(dropout=0.0, lr=1e-3)
    head = copy.deepcopy(model.head)
    quiet_trainer(max_epochs=3).fit(model, FeatureDataModule(store, batch_size=5, seed=2))

    features = torch.tensor(np.asarray(store.features("train"))).float()
    labels = torch.from_numpy(store.labels("train"))
    matrices = [parameter for parameter in head.parameters() if parameter.ndim > 1]
    biases = [parameter for parameter in head.parameters() if parameter.ndim == 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": biases, "weight_decay": 0.0}], lr=1e-3)
    for epoch in range(3):
        order = torch.from_numpy(np.random.default_rng([2, epoch]).permutation(len(labels)))
        for batch in order.split(5):
            optimizer.zero_grad()
            F.cross_entropy(head(features[batch]), labels[batch]).backward()
            optimizer.step()
    for trained, expected in zip(model.head.parameters(), head.parameters(), strict=True):
        torch.testing.assert_close(trained, expected)


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


# The resumed run goes on in the folder of the one that was halted.
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("stopped_after", [0, 1, 2])
def test_a_resumed_run_is_the_uninterrupted_one(make, store, quiet_trainer, tmp_path, stopped_after):
    def fit(folder, stop=None, ckpt_path=None):
        saving = ModelCheckpoint(tmp_path / folder, filename="last")
        callbacks = [saving] if stop is None else [saving, Stop(stop)]
        trainer = quiet_trainer(max_epochs=4, callbacks=callbacks, enable_checkpointing=True)
        model = make(lr=1e-3)
        trainer.fit(model, FeatureDataModule(store, batch_size=5), ckpt_path=ckpt_path)
        return state(model), trainer.optimizers[0].state_dict(), trainer.callback_metrics

    whole, optimizer, metrics = fit("whole")
    halted, _, _ = fit("halted", stop=stopped_after)
    resumed, resumed_optimizer, resumed_metrics = fit("halted", ckpt_path=tmp_path / "halted" / "last.ckpt")
    assert_same(whole, resumed)
    for moments, resumed_moments in zip(
        optimizer["state"].values(), resumed_optimizer["state"].values(), strict=True
    ):
        assert_same(moments, resumed_moments)
    assert metrics == resumed_metrics
    assert any(not torch.equal(halted[key], whole[key]) for key in whole), "nothing was left to train"


@pytest.mark.parametrize(
    ("backbone", "pool"), [("squeezenet1_1", "flatten"), ("resnet18", "avg"), ("densenet121", "max")]
)
def test_the_head_says_the_same_of_images_as_of_their_features(
    backbone, pool, image_folder, tmp_path, make, quiet_trainer
):
    model = make(backbone=backbone, weights=None, pool=pool).eval()
    images = images_of(image_folder, batch_size=12)
    store = extract_features(quiet_trainer(), model.backbone, images, root=tmp_path)
    with torch.no_grad():
        from_images = model(next(iter(images.test_dataloader()))[0])
        model.input_stage = "head"  # as set-up says of a feature store
        from_features = model(next(iter(FeatureDataModule(store, batch_size=12).test_dataloader()))[0])
    # float16 keeps 11 bits.
    torch.testing.assert_close(from_features, from_images, rtol=2e-3, atol=2e-3 * from_images.abs().max().item())


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small"])
def test_trained_on_images_the_backbone_stays_what_it_was(backbone, image_folder, make, quiet_trainer):
    model = make(backbone=backbone, weights=None, pool="avg")
    before = state(model)
    trainer = quiet_trainer(max_epochs=2)
    trainer.fit(model, images_of(image_folder))
    after = state(model)
    changed = {key.split(".")[0] for key in after if not torch.equal(before[key], after[key])}
    assert changed == {"head"}, "BatchNorm's statistics count, too"


def test_scores_of_every_split_are_logged(make, store, quiet_trainer):
    trainer, data = quiet_trainer(max_epochs=1), FeatureDataModule(store)
    trainer.fit(model := make(), data)
    names = {
        f"{split}/{score}" for split in ("train", "validation") for score in ("loss", "accuracy", "auroc", "f1")
    }
    assert set(trainer.callback_metrics) == names
    (tested,) = trainer.test(model, data, verbose=False)
    assert set(tested) == {"test/loss", "test/accuracy", "test/auroc", "test/f1"}
    predictions = torch.cat(trainer.predict(model, data))
    right = predictions.argmax(dim=1) == torch.from_numpy(store.labels("test"))
    assert tested["test/accuracy"] == pytest.approx(right.float().mean().item())
    torch.testing.assert_close(predictions.sum(dim=1), torch.ones(12))


def test_an_epoch_that_was_broken_off_leaves_nothing(make, store, quiet_trainer):
    class Break(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            raise ConnectionError

    model, other = make(lr=0.0, audit_freezing=False), make(lr=0.0, audit_freezing=False)
    with pytest.raises(ConnectionError):
        quiet_trainer(max_epochs=1, callbacks=[Break()]).fit(model, FeatureDataModule(store))
    scores = []
    for fitted in (model, other):
        trainer = quiet_trainer(max_epochs=1)
        trainer.fit(fitted, FeatureDataModule(store))
        scores.append(trainer.callback_metrics)
    assert scores[0] == scores[1]


def test_a_checkpoint_is_enough(make, store, image_folder, quiet_trainer, tmp_path, monkeypatch, weights_file):
    own = tmp_path / "own.pth"
    own.write_bytes(weights_file.read_bytes())
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(model := make(weights=str(own)), FeatureDataModule(store))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    own.unlink()

    def refuse(*_, **__):
        raise AssertionError("a network or a weights file was asked for")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("lightning_transfer.models.backbone.find_weights", refuse)
    loaded = FeatureClassifier.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert_same(model.state_dict(), loaded.state_dict())
    assert loaded.class_names == ("cats", "dogs")
    images = next(iter(images_of(image_folder).test_dataloader()))[0]
    with torch.no_grad():
        assert torch.equal(model.eval().network(images), loaded.eval()(images))
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    assert checkpoint["pretrained_weights"] == str(own)
    assert checkpoint["hyper_parameters"]["backbone"] == "squeezenet1_1"
    assert checkpoint["hyper_parameters"]["weights"] is None
    assert model.hparams["weights"] == str(own)


def test_data_of_other_classes_are_refused(make, store, quiet_trainer, tmp_path):
    with pytest.raises(ModuleError, match=r"num_classes=2 \(cats, dogs\), the model num_classes=3: pass the same"):
        quiet_trainer(max_epochs=1).fit(make(num_classes=3), FeatureDataModule(store))
    trainer = quiet_trainer(max_epochs=1)
    trainer.fit(make(), FeatureDataModule(store))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    other = images_of(draw_folder(tmp_path / "other", ("cats", "horses")))
    with pytest.raises(ModuleError, match="classes cats, horses, the checkpoint cats, dogs"):
        quiet_trainer().test(make(), other, ckpt_path=tmp_path / "model.ckpt")


def test_a_checkpoint_of_something_else_is_refused(make, tmp_path, quiet_trainer):
    from lightning.pytorch.demos.boring_classes import BoringModel

    trainer = quiet_trainer(fast_dev_run=True)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "boring.ckpt")
    with pytest.raises(ModuleError, match="not made by a lightning-transfer module"):
        FeatureClassifier.load_from_checkpoint(tmp_path / "boring.ckpt", weights=None)


def test_heads_width_follows_the_image(make):
    model = make(pool="flatten")
    assert model.head.hidden[0].in_features == np.prod(model.backbone.out_shape(SIZE))
    assert isinstance(model.head, Head)
