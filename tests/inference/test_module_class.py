"""A checkpoint of somebody's own class is loaded as that class, and runs nothing that is not allowed."""

import re
import sys
from importlib import import_module

import pytest
import torch

from conftest import draw_image
from lightning_transfer import Classifier, FineTuningClassifier, FrozenBackboneClassifier, load_classifier
from lightning_transfer.errors import ModuleError
from lightning_transfer.models import backbone as backbone_module
from runs import images_of

MINE = '''
from pathlib import Path

import torch
from torch import nn

from lightning_transfer import FrozenBackboneClassifier
from lightning_transfer.training.task import Task

Path(__file__).with_suffix(".imported").touch()


class OwnHead(FrozenBackboneClassifier):
    def build_head(self):
        channels, _, _ = self.backbone.out_shape(self.image_size)
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, self.num_classes))


class Adapted(nn.Module):
    def __init__(self, layer, rank):
        super().__init__()
        self.layer = layer
        self.low = nn.Sequential(nn.Conv2d(layer.in_channels, rank, 1), nn.Conv2d(rank, layer.out_channels, 1))

    def forward(self, features):
        return self.layer(features) + self.low(features)


class LowRank(FrozenBackboneClassifier):
    def __init__(self, backbone, *, rank=4, **arguments):
        super().__init__(backbone, **arguments)
        self.backbone.stages["fire9"][0].squeeze = Adapted(self.backbone.stages["fire9"][0].squeeze, rank)
        self.backbone.requires_grad_(False)


class Chain(LowRank):
    """Passes on itself what it does not ask for."""

    def __init__(self, kind="mean", **arguments):
        super().__init__("squeezenet1_1", rank=3, weights=None, pool=dict(mean="avg")[kind], **arguments)


class Fixed(FrozenBackboneClassifier):
    def __init__(self, hidden=7):
        super().__init__("squeezenet1_1", weights="own.pth", pool="avg", hidden=hidden)


class ByPosition(FrozenBackboneClassifier):
    def __init__(self, backbone, width, /, *others, **arguments):
        super().__init__(backbone, *others, hidden=width, **arguments)


class AnyArguments(FrozenBackboneClassifier):
    def __init__(self, *positional, **arguments):
        super().__init__(*positional, **arguments)


class OwnForward(FrozenBackboneClassifier):
    def __init__(self, temperature, **arguments):
        super().__init__(**arguments)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.mix = nn.Linear(2, 2)
        # Neither in the checkpoint nor to be left without numbers.
        self.register_buffer("shift", torch.empty(2).fill_(0.5), persistent=False)

    @property
    def stages(self):
        return {**super().stages, "mix": self.mix}

    def forward(self, inputs):
        return self.mix(super().forward(inputs)) / self.temperature + self.shift


class Outer:
    class Inner(OwnHead):
        pass


class NoModule:
    pass


def function():
    raise AssertionError("called")


def local_class():
    class Local(OwnHead):
        pass

    return Local
'''
COMMON = {"weights": None, "pool": "avg", "hidden": 4}
CASES = {
    "OwnHead": lambda mine: mine.OwnHead("squeezenet1_1", weights=None),
    "LowRank": lambda mine: mine.LowRank("squeezenet1_1", rank=2, **COMMON),
    "Chain": lambda mine: mine.Chain(hidden=5),
    "Fixed": lambda mine: mine.Fixed(hidden=6),
    "ByPosition": lambda mine: mine.ByPosition("squeezenet1_1", 6, weights=None, pool="avg"),
    "AnyArguments": lambda mine: mine.AnyArguments("squeezenet1_1", **COMMON),
    "OwnForward": lambda mine: mine.OwnForward(3, backbone="squeezenet1_1", **COMMON),
    "Outer.Inner": lambda mine: mine.Outer.Inner("squeezenet1_1", weights=None),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Somebody's module `mine`, which leaves a file beside itself when it is imported."""
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path / "mine.imported"
    sys.modules.pop("mine", None)


def forget(package):
    """As in a process that has not imported it."""
    sys.modules.pop("mine", None)
    package.unlink(missing_ok=True)


@pytest.fixture
def fitted(quiet_trainer, image_folder, tmp_path):
    """Fits a module for a step, so that its weights are none that could be made again, and saves it."""

    def fit(model, name="own.ckpt"):
        trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, num_sanity_val_steps=0)
        trainer.fit(model, images_of(image_folder, image_size=33))
        trainer.save_checkpoint(tmp_path / name)
        return tmp_path / name

    return fit


@pytest.fixture
def files(tmp_path):
    for number, colour in enumerate([(200, 90, 60), (60, 120, 200)]):
        draw_image(tmp_path / "files" / f"{number}.png", colour, number)
    return sorted((tmp_path / "files").iterdir())


@pytest.mark.parametrize("name", CASES)
def test_it_predicts_as_the_module_that_was_saved(
    name, package, fitted, files, weights_file, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    own_weights = tmp_path / "own.pth"
    own_weights.write_bytes(weights_file.read_bytes())
    torch.manual_seed(0)
    trained = CASES[name](import_module("mine"))
    path = fitted(trained)
    own_weights.unlink()
    forget(package)
    monkeypatch.setattr(backbone_module, "find_weights", lambda *_: pytest.fail("weights are looked for"))
    before = torch.random.get_rng_state()

    classifier = load_classifier(path, allow_import=["mine"])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (type(classifier.module).__module__, type(classifier.module).__qualname__) == ("mine", name)
    images = torch.stack([classifier.images(files).read(file) for file in files])
    with torch.no_grad():
        expected = trained.eval()(images).softmax(1)
    assert torch.equal(classifier.probabilities(images), expected)
    assert classifier.class_names == ("cats", "dogs")
    state = classifier.module.state_dict()
    assert state.keys() == trained.state_dict().keys()
    assert not [key for key, value in trained.state_dict().items() if not torch.equal(value, state[key])]


def test_the_classes_of_this_library_need_no_permission(checkpoints):
    for name, path in checkpoints.items():
        assert type(load_classifier(path).module).__name__ == name


def test_a_class_from_elsewhere_is_not_imported_unasked(package, fitted):
    path = fitted(CASES["OwnHead"](import_module("mine")))
    forget(package)
    for allowed in ([], ["min"], ["mine.heads"], ["other"], ["*"]):
        with pytest.raises(ModuleError) as refusal:
            load_classifier(path, allow_import=allowed)
        said = str(refusal.value)
        assert "\n" not in said
        for part in ("own.ckpt", "mine.OwnHead", "--allow-import mine", 'allow_import=["mine"]', "module_class="):
            assert part in said
    assert not package.exists()
    assert "mine" not in sys.modules
    assert load_classifier(path, allow_import="mine")
    assert package.exists()


def test_a_class_that_is_passed_needs_no_permission(package, fitted):
    mine = import_module("mine")
    path = fitted(CASES["OwnHead"](mine))
    forget(package)
    assert type(load_classifier(path, mine.OwnHead).module) is mine.OwnHead
    assert not package.exists()


def test_a_class_of_a_notebook_or_a_function_can_be_passed(package, fitted):
    mine = import_module("mine")
    local = mine.local_class()
    path = fitted(local("squeezenet1_1", weights=None), "local.ckpt")
    with pytest.raises(ModuleError, match=r"mine\.local_class\.<locals>\.Local, a class within a function"):
        load_classifier(path, allow_import=["mine"])
    assert type(load_classifier(path, module_class=local).module) is local

    class Main(mine.OwnHead):
        pass

    Main.__module__, Main.__qualname__ = "__main__", "Main"
    path = fitted(Main("squeezenet1_1", weights=None), "main.ckpt")
    with pytest.raises(
        ModuleError, match=r"made by __main__\.Main, a class of a script or notebook.*module_class="
    ):
        load_classifier(path)
    assert type(load_classifier(path, module_class=Main).module) is Main


def renamed(path, module_class):
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["module_class"] = module_class
    torch.save(checkpoint, path.with_name("renamed.ckpt"))
    return path.with_name("renamed.ckpt")


@pytest.mark.parametrize(
    ("module_class", "allowed", "message"),
    [
        ("os:system", [], r"made by os\.system, which is not imported unasked"),
        ("lightning_transfer_evil:Model", [], "which is not imported unasked"),
        ("torch.hub:load", [], r"torch\.hub\.load, which is not imported unasked.*--allow-import torch\.hub "),
        ("torch.hub:load", ["torch.hub"], "there is no such class"),
        ("torch:os.system", [], "there is no such class"),
        ("torch.nn:Linear", [], "which is no subclass of Classifier"),
        ("lightning_transfer.x:os.system", [], r"cannot be imported \(ModuleNotFoundError"),
        ("lightning_transfer.cli.main:sys.exit", [], "there is no such class"),
        ("lightning_transfer.cli.main:main", [], "there is no such class"),
        ("lightning_transfer.training.regimes:Gone", [], "there is no such class"),
        ("lightning_transfer.training.scored_module:LightningModule", [], "no subclass of Classifier"),
        ("mine:function", ["mine"], "there is no such class"),
        ("mine:NoModule", ["mine"], "no subclass of Classifier"),
        ("mine:OwnHead.build_head", ["mine"], "there is no such class"),
        ("mine.deeper:Model", ["mine"], r"cannot be imported.*add the folder that holds it to PYTHONPATH"),
        (
            "not_there:Model",
            ["not_there"],
            r"cannot be imported \(ModuleNotFoundError: No module named 'not_there'",
        ),
        ("os; touch harm:Model", [], "is damaged: it names 'os; touch harm:Model'"),
        ("mine", ["mine"], "is damaged: it names 'mine'"),
        ("", [], "is damaged"),
        (3, [], "is damaged: it names 3"),
        (None, [], "is damaged: it names None"),
        (["mine", "OwnHead"], ["mine"], "is damaged"),
    ],
)
def test_what_else_a_file_may_name_is_refused(checkpoints, tmp_path, package, module_class, allowed, message):
    path = tmp_path / "own.ckpt"
    path.write_bytes(checkpoints["FeatureClassifier"].read_bytes())
    with pytest.raises(ModuleError, match=rf"renamed\.ckpt .*{message}"):
        load_classifier(renamed(path, module_class), allow_import=allowed)
    assert allowed == ["mine"] or not package.exists()


def test_what_is_passed_as_a_class_is_one(checkpoints):
    assert load_classifier(checkpoints["FeatureClassifier"], FrozenBackboneClassifier)
    for wrong in ("FeatureClassifier", torch.nn.Linear):
        with pytest.raises(ModuleError, match=r"module_class=.*: wanted a subclass of Classifier"):
            load_classifier(checkpoints["FeatureClassifier"], wrong)


def test_a_class_that_cannot_be_built_is_no_damage(package, fitted):
    mine = import_module("mine")
    path = fitted(CASES["OwnHead"](mine))

    class Picky(mine.OwnHead):
        def __init__(self, needed, **arguments):
            super().__init__(**arguments)

    class Broken(mine.OwnHead):
        def __init__(self, **arguments):
            raise ZeroDivisionError("by design")

    for module_class, reason in ((Picky, "TypeError: .*needed"), (Broken, "ZeroDivisionError: by design")):
        name = re.escape(f"{module_class.__module__}.{module_class.__qualname__}")
        with pytest.raises(
            ModuleError, match=rf"{name}, which made .*, cannot be built.*backbone.*{reason}"
        ) as said:
            load_classifier(path, module_class)
        assert "damaged" not in str(said.value)


def test_a_class_with_other_layers_is_no_damage(package, fitted):
    mine = import_module("mine")
    path = fitted(CASES["OwnHead"](mine))
    with pytest.raises(ModuleError, match=r"do not fit mine\.LowRank: it has other layers.*low") as said:
        load_classifier(path, mine.LowRank)
    assert "damaged" not in str(said.value)


def test_a_checkpoint_without_the_class_loads_as_before(checkpoints, files, tmp_path):
    checkpoint = torch.load(checkpoints["FineTuningClassifier"], weights_only=True)
    assert checkpoint.pop("module_class") == "lightning_transfer.training.regimes:FineTuningClassifier"
    torch.save(checkpoint, tmp_path / "without.ckpt")
    classifier = load_classifier(tmp_path / "without.ckpt")
    assert type(classifier.module) is Classifier
    assert [prediction.probabilities for prediction in classifier.classify(files)] == [
        prediction.probabilities
        for prediction in load_classifier(checkpoints["FineTuningClassifier"]).classify(files)
    ]


def test_a_newer_version_is_said_where_loading_fails(checkpoints, tmp_path, files):
    checkpoint = torch.load(checkpoints["FineTuningClassifier"], weights_only=True)
    checkpoint["lightning_transfer_version"] = "0.10.0"
    torch.save(checkpoint, tmp_path / "newer.ckpt")
    assert load_classifier(tmp_path / "newer.ckpt").classify(files)
    advice = r"saved by lightning-transfer 0\.10\.0, newer than the .* installed: pip install -U"
    checkpoint["hyper_parameters"]["backbone"] = "network_of_tomorrow"
    torch.save(checkpoint, tmp_path / "newer.ckpt")
    with pytest.raises(ModuleError, match=rf"newer\.ckpt cannot be used.*network_of_tomorrow.*{advice}") as said:
        load_classifier(tmp_path / "newer.ckpt")
    assert "damaged" not in str(said.value)
    checkpoint["module_class"] = "lightning_transfer.training.regimes:Tomorrow"
    torch.save(checkpoint, tmp_path / "newer.ckpt")
    with pytest.raises(ModuleError, match=rf"there is no such class.*{advice}"):
        load_classifier(tmp_path / "newer.ckpt")
    checkpoint["hyper_parameters"]["backbone"] = "squeezenet1_1"
    checkpoint["state_dict"]["network.head.gate"] = torch.zeros(3)
    torch.save(checkpoint, tmp_path / "newer.ckpt")
    with pytest.raises(ModuleError, match=rf"does not fit: .*gate.*{advice}"):
        FineTuningClassifier(
            "squeezenet1_1",
            init_from=str(tmp_path / "newer.ckpt"),
            num_classes=2,
            image_size=64,
            pool="avg",
            hidden=16,
        )
