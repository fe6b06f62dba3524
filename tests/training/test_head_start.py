"""A run on other classes begins with the old network's rows of the classes that both have."""

import copy

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from conftest import draw_folder
from lightning_transfer import (
    FeatureClassifier,
    FeatureDataModule,
    FineTuningClassifier,
    FrozenBackboneClassifier,
    ImageDataModule,
    ImageIndex,
    StagedUnfreeze,
    extract_features,
    load_classifier,
)
from lightning_transfer.data.index import Samples
from lightning_transfer.errors import ModuleError
from runs import EXISTING, differing, every_epoch, images_of, saved

THREE = ("cats", "dogs", "horses")
ARGUMENTS = {"weights": None, "pool": "avg", "hidden": 8, "lr": 1e-2}
IMAGES = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Noted(FrozenBackboneClassifier):
    """Keeps the head as it was made."""

    def build_head(self):
        head = super().build_head()
        self.made = copy.deepcopy(head.state_dict())
        return head


class OwnHead(Noted):
    def build_head(self):
        channels, _, _ = self.backbone.out_shape(self.image_size)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(channels))
        head.append(nn.Linear(channels, self.num_classes))
        self.made = copy.deepcopy(head.state_dict())
        return head


class Convolutional(Noted):
    """No linear layer: which of its numbers belong to which class cannot be told."""

    def build_head(self):
        channels, _, _ = self.backbone.out_shape(self.image_size)
        head = nn.Sequential(nn.Conv2d(channels, self.num_classes, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.made = copy.deepcopy(head.state_dict())
        return head


def trainer_of(epochs=1, **arguments):
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    defaults |= {"enable_model_summary": False, "accelerator": "cpu", "num_sanity_val_steps": 0}
    return Trainer(**(defaults | arguments), max_epochs=epochs)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder of three classes, of which a network may know two."""
    return draw_folder(tmp_path_factory.mktemp("three"), THREE, (6, 3, 3))


@pytest.fixture(scope="module")
def old_networks(image_folder, three, tmp_path_factory):
    """Trained modules and their files: of two classes, of three, and with other heads."""
    folder = tmp_path_factory.mktemp("old")
    made = {}
    for name, cls, root, arguments in [
        ("two", FrozenBackboneClassifier, image_folder, {}),
        ("three", FrozenBackboneClassifier, three, {}),
        ("linear", FrozenBackboneClassifier, image_folder, {"hidden": 0}),
        ("own", OwnHead, image_folder, {}),
        ("convolutional", Convolutional, image_folder, {}),
    ]:
        torch.manual_seed(0)
        model, trainer = cls("mobilenet_v3_small", **(ARGUMENTS | arguments)), trainer_of()
        trainer.fit(model, images_of(root))
        trainer.save_checkpoint(folder / f"{name}.ckpt")
        made[name] = (model.eval(), str(folder / f"{name}.ckpt"))
    return made


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr("lightning_transfer.training.head_start.rank_zero_info", lines.append)
    return lines


def begun(path, data, cls=Noted, **arguments):
    """A module that starts from a checkpoint, as it is before the first step."""
    torch.manual_seed(1)
    model = cls("mobilenet_v3_small", init_from=path, **(ARGUMENTS | arguments))
    trainer_of(0).fit(model, data)
    return model.eval()


def named(image_folder, *names):
    """The two classes' images, under other names or in another order."""
    files = sorted(path.relative_to(image_folder).as_posix() for path in image_folder.rglob("*.jpg"))
    splits = {}
    for split in ("train", "validation", "test"):
        paths = [path for path in files if path.startswith(split)]
        splits[split] = Samples(tuple(paths), tuple(number % len(names) for number in range(len(paths))))
    index = ImageIndex(root=image_folder, class_names=names, splits=splits)
    return ImageDataModule(index=index, image_size=32, num_workers=0)


def logits(model):
    with torch.no_grad():
        return model.eval()(IMAGES)


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("name", ["two", "linear", "own"])
def test_shared_classes_have_the_old_networks_logits(old_networks, three, said, name, num_classes):
    old, path = old_networks[name]
    arguments = {"two": {}, "linear": {"hidden": 0}, "own": {}}[name]
    cls = OwnHead if name == "own" else Noted
    model = begun(path, images_of(three), cls, num_classes=num_classes, image_size=32, **arguments)
    assert model.class_names == THREE
    assert torch.equal(logits(model)[:, :2], logits(old))
    last = [key for key in model.head.state_dict() if key.startswith(("logits.", "3."))]
    assert len(last) == 2
    for key in last:
        assert torch.equal(model.head.state_dict()[key][2], model.made[key][2]), "as it was made"
    assert said == [f"head: rows of cats, dogs from {path}; horses is new"]


def test_classes_that_are_gone_are_said(old_networks, image_folder, said):
    old, path = old_networks["three"]
    model = begun(path, images_of(image_folder))
    assert torch.equal(logits(model), logits(old)[:, :2])
    assert said == [f"head: rows of cats, dogs from {path}; horses is left out"]


@pytest.mark.parametrize("num_classes", [None, 2])
@pytest.mark.parametrize("name", ["two", "own"])
def test_another_order_permutes_the_rows(old_networks, image_folder, said, name, num_classes):
    old, path = old_networks[name]
    cls = OwnHead if name == "own" else Noted
    data = named(image_folder, "dogs", "cats")
    model = begun(path, data, cls, num_classes=num_classes, image_size=32)
    assert model.class_names == ("dogs", "cats")
    assert torch.equal(logits(model), logits(old).flip(1))
    assert said == [f"head: rows of dogs, cats from {path}, in the data's order"]


@pytest.mark.parametrize("num_classes", [None, 2])
def test_without_a_class_in_common_the_rows_are_new(old_networks, image_folder, said, num_classes):
    old, path = old_networks["two"]
    model = begun(path, named(image_folder, "cows", "pigs"), num_classes=num_classes, image_size=32)
    state = model.head.state_dict()
    for key, value in old.head.state_dict().items():
        assert torch.equal(state[key], model.made[key] if key.startswith("logits") else value), key
    assert model.class_names == ("cows", "pigs")
    assert said == [f"head: layers from {path}, but all rows are new, since its classes are cats, dogs"]


def test_the_same_classes_start_as_before_and_nothing_is_said(old_networks, image_folder, said):
    for name, cls in (("two", Noted), ("own", OwnHead), ("convolutional", Convolutional)):
        old, path = old_networks[name]
        model = begun(path, images_of(image_folder), cls)
        assert differing(model.head.state_dict(), old.head.state_dict()) == []
    assert said == []


@pytest.mark.parametrize("classes", [THREE, ("dogs", "cats")])
def test_where_the_rows_cannot_be_told_the_head_is_new(old_networks, image_folder, said, classes):
    old, path = old_networks["convolutional"]
    data = named(image_folder, *classes)
    model = begun(path, data, Convolutional, num_classes=len(classes), image_size=32)
    assert differing(model.head.state_dict(), model.made) == []
    assert differing(model.backbone.state_dict(), old.backbone.state_dict()) == []
    assert model.class_names == classes
    assert said == [f"head: new as a whole, since it cannot be told which rows in {path} belong to which class"]


def test_data_without_names(old_networks, three, image_folder, said):
    """As from somebody's own loaders: as many classes are taken to be the same ones."""
    old, path = old_networks["two"]
    for root, number in ((image_folder, 2), (three, 3)):
        torch.manual_seed(1)
        model = Noted("mobilenet_v3_small", init_from=path, num_classes=number, image_size=32, **ARGUMENTS)
        loader = images_of(root).train_dataloader()
        trainer_of(0).fit(model, loader, loader)
        if number == 2:
            assert torch.equal(logits(model), logits(old))
            assert (model.class_names, said) == (("cats", "dogs"), [])
    assert torch.equal(model.head.logits.weight, model.made["logits.weight"])
    assert torch.equal(model.head.hidden[0].weight, old.head.hidden[0].weight)
    assert model.class_names is None
    assert said == [f"head: layers from {path}, but all rows are new, since the data do not name the classes"]


def test_a_checkpoint_without_names(old_networks, three, image_folder, said, tmp_path):
    old, path = old_networks["two"]
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["class_names"] = None
    bare = str(tmp_path / "bare.ckpt")
    torch.save(checkpoint, bare)
    assert torch.equal(logits(begun(bare, images_of(image_folder))), logits(old))
    assert said == []
    model = begun(bare, images_of(three))
    assert torch.equal(model.head.logits.weight, model.made["logits.weight"])
    assert model.class_names == THREE
    assert said == [
        f"head: layers from {bare}, but all rows are new, since the checkpoint does not name the classes"
    ]


def test_another_task_is_said(old_networks, image_folder, three, said, tmp_path):
    old, path = old_networks["two"]
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"]["task"] = "multi_label"
    several = str(tmp_path / "several.ckpt")
    torch.save(checkpoint, several)
    model = begun(several, images_of(three), class_weights="balanced")
    assert model.hparams["task"] == "single_label"
    assert model.task.weight.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(logits(model)[:, :2], logits(old))
    begun(several, images_of(image_folder))
    other = "(there multi_label, here single_label)"
    assert said == [
        f"head: rows of cats, dogs from {several}; horses is new {other}",
        f"head: all rows from {several} {other}",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 9}, "was trained with hidden=8, this run has hidden=9"),
        ({"pool": "max"}, "was trained with pool='avg', this run has pool='max'"),
        ({"last_stage": "block4"}, "was trained with last_stage=None, this run has last_stage='block4'"),
    ],
)
def test_another_network_is_refused_still(old_networks, three, arguments, message):
    with pytest.raises(ModuleError, match=message):
        begun(old_networks["two"][1], images_of(three), **arguments)


@pytest.mark.parametrize("hidden", [0, 4])
def test_another_size_is_refused_where_the_head_depends_on_it(image_folder, three, tmp_path, hidden):
    arguments = {"pool": "flatten", "hidden": hidden}
    model, trainer = FrozenBackboneClassifier("mobilenet_v3_small", **(ARGUMENTS | arguments)), trainer_of(0)
    trainer.fit(model, images_of(image_folder))
    trainer.save_checkpoint(tmp_path / "flat.ckpt")
    with pytest.raises(ModuleError, match=r"The head in .*flat\.ckpt does not fit: .*(576|shape)"):
        begun(str(tmp_path / "flat.ckpt"), images_of(three, image_size=64), **arguments)


def test_a_head_that_has_trained_meanwhile_is_not_begun_once_more(old_networks, image_folder, said):
    """As after a spawned run, whose weights come back to a module that was never set up."""
    _, path = old_networks["two"]
    model = Noted("mobilenet_v3_small", init_from=path, num_classes=2, image_size=32, **ARGUMENTS)
    with torch.no_grad():
        model.head.logits.weight += 1
    trained = copy.deepcopy(model.head.state_dict())
    trainer_of().test(model, named(image_folder, "dogs", "cats"), verbose=False)
    assert differing(model.head.state_dict(), trained) == []
    assert said == []


@EXISTING
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")  # callbacks that a test does not need
def test_what_is_saved_then_is_a_checkpoint_of_the_new_classes(old_networks, three, tmp_path):
    """Tested, resumed to the last bit and loaded alone, with and without `init_from` typed again."""
    _, path = old_networks["two"]
    schedule = {0: ["head"], 1: ["last_conv"]}

    def fit(folder, epochs, ckpt_path=None, **arguments):
        torch.manual_seed(1)
        model = FineTuningClassifier("mobilenet_v3_small", **(ARGUMENTS | arguments))
        callbacks = [StagedUnfreeze(schedule), every_epoch(tmp_path / folder)]
        trainer_of(epochs, callbacks=callbacks, enable_checkpointing=True).fit(
            model, images_of(three), ckpt_path=ckpt_path
        )
        return model

    fit("whole", 2, init_from=path)
    whole = saved(tmp_path / "whole" / "1.ckpt")
    assert whole["class_names"] == THREE
    assert whole["hyper_parameters"]["num_classes"] == 3
    for arguments in ({}, {"init_from": path}):
        fit("whole", 2, ckpt_path=tmp_path / "whole" / "0.ckpt", **arguments)
        assert differing(saved(tmp_path / "whole" / "1.ckpt"), whole) == []
    classifier = load_classifier(tmp_path / "whole" / "1.ckpt")
    assert classifier.class_names == THREE
    model = FineTuningClassifier("mobilenet_v3_small", **ARGUMENTS)
    trainer_of().test(model, images_of(three), ckpt_path=tmp_path / "whole" / "1.ckpt", verbose=False)
    assert torch.equal(logits(model), logits(classifier.module))


def test_stored_features_of_other_classes(old_networks, three, tmp_path, said):
    old, path = old_networks["two"]
    model = FeatureClassifier("mobilenet_v3_small", init_from=path, **ARGUMENTS)
    store = extract_features(trainer_of(), model.backbone, images_of(three), root=tmp_path)
    trainer_of(0).fit(model, FeatureDataModule(store))
    assert torch.equal(logits(model)[:, :2], logits(old))
    assert said == [f"head: rows of cats, dogs from {path}; horses is new"]


def test_head_from_stays_strict(old_networks, three):
    _, path = old_networks["two"]
    torch.manual_seed(0)
    model = FrozenBackboneClassifier("mobilenet_v3_small", head_from=path, **ARGUMENTS)
    with pytest.raises(ModuleError, match="num_classes=2, this run has num_classes=3"):
        trainer_of(0).fit(model, images_of(three))
