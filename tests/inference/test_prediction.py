"""A checkpoint alone says of files what the network that was saved says of their pixels."""

import pytest
import torch
from PIL import Image, ImageOps
from torchvision import models
from torchvision.transforms.functional import pil_to_tensor

import lightning_transfer
from conftest import draw_image
from lightning_transfer import FrozenBackboneClassifier, load_classifier
from lightning_transfer.data.decoding import UnreadableImageError
from lightning_transfer.errors import ModuleError
from lightning_transfer.models import backbone as backbone_module
from runs import images_of

REGIMES = ["FeatureClassifier", "FineTuningClassifier", "FrozenBackboneClassifier"]


@pytest.fixture
def files(tmp_path):
    """Of other shapes and sizes than in training; two are of the same class."""
    colours = [(200, 90, 60), (60, 120, 200), (60, 200, 200)]
    sizes = [(48, 40), (100, 64), (30, 90)]
    for number, (colour, size) in enumerate(zip(colours, sizes, strict=True)):
        draw_image(tmp_path / f"{number}.png", colour, number, size)
    return sorted(tmp_path.glob("*.png"))


@pytest.mark.parametrize("regime", REGIMES)
def test_it_is_torchvisions_network_and_the_head_on_the_images_pixels(checkpoints, files, regime):
    state = torch.load(checkpoints[regime], weights_only=True)["state_dict"]
    network = models.squeezenet1_1(weights=None).eval()
    values = [value for key, value in state.items() if key.startswith("network.backbone.stages.")]
    for parameter, value in zip(network.features.parameters(), values, strict=True):
        parameter.data = value
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    image_folder = [
        pil_to_tensor(ImageOps.fit(Image.open(file), (64, 64), Image.Resampling.BILINEAR)) for file in files
    ]
    with torch.no_grad():
        features = network.features((torch.stack(image_folder) / 255 - mean) / std).mean((2, 3))
        hidden = (features @ state["network.head.hidden.0.weight"].T + state["network.head.hidden.0.bias"]).relu()
        expected = (hidden @ state["network.head.logits.weight"].T + state["network.head.logits.bias"]).softmax(1)
    assert len(set(expected[:, 0].tolist())) == 3

    found = load_classifier(checkpoints[regime]).classify(files)
    for prediction, file, row in zip(found, files, expected.tolist(), strict=True):
        assert prediction.path == file
        assert prediction.probabilities == pytest.approx({"cats": row[0], "dogs": row[1]}, abs=1e-5)
        assert prediction.label == ("cats" if row[0] > row[1] else "dogs")
        assert prediction.probability == max(prediction.probabilities.values())


def test_nothing_but_the_file_is_needed(checkpoints, files, monkeypatch):
    def refuse(*_):
        raise AssertionError("weights are looked for")

    monkeypatch.setattr(backbone_module, "find_weights", refuse)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    classifier = lightning_transfer.load_classifier(str(checkpoints["FeatureClassifier"]))
    assert classifier.class_names == ("cats", "dogs")
    assert (classifier.image_size, classifier.resize) == (64, "crop")
    assert not classifier.module.training
    assert classifier.classify([]) == []


def test_the_batch_size_changes_nothing(checkpoints, files):
    classifier = load_classifier(checkpoints["FrozenBackboneClassifier"])
    one, all_at_once = (classifier.classify(files, batch_size) for batch_size in (1, 32))
    for a, b in zip(one, all_at_once, strict=True):
        assert a.probabilities == pytest.approx(b.probabilities, abs=1e-6)


def test_an_unreadable_image_is_named(checkpoints, files, tmp_path):
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(UnreadableImageError, match=r"page\.jpg cannot be read.*: replace or remove it\.$"):
        load_classifier(checkpoints["FeatureClassifier"]).classify([*files, tmp_path / "page.jpg"])


def test_classes_without_names_are_numbers(quiet_trainer, tmp_path, files, image_folder):
    model = FrozenBackboneClassifier(
        "squeezenet1_1", weights=None, num_classes=2, image_size=33, hidden=4, pool="avg", audit_freezing=False
    )
    trainer = quiet_trainer(max_epochs=1)
    images = images_of(image_folder, image_size=33)
    trainer.fit(model, images.loader("train"), images.loader("validation"))
    trainer.save_checkpoint(tmp_path / "bare.ckpt")
    classifier = load_classifier(tmp_path / "bare.ckpt")
    assert (classifier.class_names, classifier.resize) == (("0", "1"), "squash")
    assert classifier.classify(files[:1])[0].label in ("0", "1")


def test_a_checkpoint_in_half_precision_predicts_in_float32(checkpoints, files, tmp_path):
    checkpoint = torch.load(checkpoints["FrozenBackboneClassifier"], weights_only=True)
    whole = load_classifier(checkpoints["FrozenBackboneClassifier"]).classify(files)
    checkpoint["state_dict"] = {key: value.half() for key, value in checkpoint["state_dict"].items()}
    torch.save(checkpoint, tmp_path / "half.ckpt")
    classifier = load_classifier(tmp_path / "half.ckpt")
    assert {parameter.dtype for parameter in classifier.module.parameters()} == {torch.float32}
    for one, other in zip(classifier.classify(files), whole, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-2)


class Harm:
    """Makes a file when it is unpickled, if anybody lets it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


@pytest.mark.parametrize("guard_off", [False, True])
@pytest.mark.parametrize("place", ["class_names", "hyper_parameters", "state_dict", "extra"])
def test_code_in_a_checkpoint_does_not_run(checkpoints, tmp_path, monkeypatch, guard_off, place):
    checkpoint = torch.load(checkpoints["FeatureClassifier"], weights_only=True)
    checkpoint[place] = Harm(tmp_path / "harm")
    torch.save(checkpoint, tmp_path / "harmful.ckpt")
    if guard_off:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with pytest.raises(ModuleError, match=r"harmful\.ckpt cannot be read as a checkpoint"):
        load_classifier(tmp_path / "harmful.ckpt")
    assert not (tmp_path / "harm").exists()


def test_a_constructor_that_a_checkpoint_names_is_not_called(checkpoints, tmp_path, files):
    """Lightning's load_from_checkpoint imports and calls what stands under these keys."""
    checkpoint = torch.load(checkpoints["FeatureClassifier"], weights_only=True)
    checkpoint["hyper_parameters"] |= {"_instantiator": "os.system", "_class_path": "os.system", "weights": "harm"}
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert load_classifier(tmp_path / "other.ckpt").classify(files[:1])


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_named(checkpoints, tmp_path, share):
    whole = checkpoints["FeatureClassifier"].read_bytes()
    (tmp_path / "short.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModuleError, match=r"short\.ckpt cannot be read as a checkpoint"):
        load_classifier(tmp_path / "short.ckpt")


@pytest.mark.parametrize(
    "path", ["https://example.org/model.ckpt", "s3://bucket/model.ckpt", "file:///model.ckpt"]
)
def test_a_remote_path_is_refused(path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModuleError, match="is not a local file"):
        load_classifier(path)


def changed(key, value):
    def change(checkpoint):
        checkpoint["hyper_parameters"] = {**checkpoint["hyper_parameters"], key: value}

    return change


def without(*keys):
    def change(checkpoint):
        for key in keys:
            del checkpoint[key]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("class_names"), "was not made by a lightning-transfer module"),
        (without("state_dict"), "is no checkpoint but something else"),
        (without("hyper_parameters"), r"is damaged \(it has no 'hyper_parameters'\)\.$"),
        (without("resize"), "does not say how images are resized"),
        (changed("backbone", "vgg61"), "is damaged.*vgg61"),
        (changed("backbone", "resnet18"), "is damaged.*backbone"),
        (changed("backbone", 3), "is damaged"),
        (changed("last_stage", "fire99"), "is damaged.*fire99"),
        (changed("hidden", 7), "is damaged.*head"),
        (changed("hidden", 10**30), "is damaged"),
        (changed("dropout", "much"), "is damaged"),
        (changed("num_classes", None), "is damaged"),
        (changed("image_size", -4), "is damaged"),
        (lambda c: c.update(class_names=("cats", "dogs", "cows")), "wanted 2 names"),
        (lambda c: c.update(class_names=(1, 2)), "wanted 2 names"),
        (
            lambda c: c["state_dict"].pop("network.head.logits.bias"),
            "is damaged.*logits.bias",
        ),
        (lambda c: c.update(state_dict=[1, 2]), "is damaged"),
    ],
)
def test_a_checkpoint_of_something_else_is_named(checkpoints, tmp_path, change, message):
    checkpoint = torch.load(checkpoints["FeatureClassifier"], weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, tmp_path / "odd.ckpt")
    with pytest.raises(ModuleError, match=rf"odd\.ckpt.*{message}"):
        load_classifier(tmp_path / "odd.ckpt")


def test_a_file_of_weights_alone_is_no_checkpoint(weights_file):
    with pytest.raises(ModuleError, match="is no checkpoint but something else"):
        load_classifier(weights_file)


OLD = {"backbone": "base", "last_stage": "until", "layer_decay": "lr_decay", "init_from": "start_from"}


@pytest.fixture
def of_version_0_1(checkpoints, tmp_path):
    """A fine-tuned network, as 0.1 wrote it: its own names, no version, and no argument that came later."""
    checkpoint = torch.load(checkpoints["FineTuningClassifier"], weights_only=True)
    del checkpoint["lightning_transfer_version"]
    arguments = checkpoint["hyper_parameters"]
    for name in ("task", "optimizer", "optimizer_options"):
        del arguments[name]
    arguments["audit"] = arguments.pop("audit_freezing")
    checkpoint["hyper_parameters"] = {OLD.get(name, name): value for name, value in arguments.items()}
    checkpoint["state_dict"] = {
        key.removeprefix("network.").replace("backbone.", "base.", 1): value
        for key, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, tmp_path / "old.ckpt")
    return tmp_path / "old.ckpt"


def test_a_checkpoint_of_version_0_1_is_read(checkpoints, of_version_0_1, files):
    old = load_classifier(of_version_0_1).classify(files)
    assert old == load_classifier(checkpoints["FineTuningClassifier"]).classify(files)


def test_a_checkpoint_of_version_0_1_starts_a_run(of_version_0_1):
    arguments = {"image_size": 64, "num_classes": 2, "pool": "avg", "hidden": 16}
    model = FrozenBackboneClassifier("squeezenet1_1", init_from=str(of_version_0_1), **arguments)
    assert model.class_names == ("cats", "dogs")


@pytest.mark.filterwarnings(
    "ignore:Be aware that when using `ckpt_path`"
)  # the callbacks of the regime that made it
def test_a_run_of_version_0_1_is_tested_but_not_resumed(of_version_0_1, quiet_trainer, image_folder):
    images = images_of(image_folder, image_size=64)
    arguments = {"weights": None, "pool": "avg", "hidden": 16}
    model = FrozenBackboneClassifier("squeezenet1_1", **arguments)
    quiet_trainer().test(model, images, ckpt_path=of_version_0_1, weights_only=True, verbose=False)
    with pytest.raises(ModuleError, match=r"was saved by lightning-transfer 0\.1.*init_from="):
        quiet_trainer(max_epochs=2).fit(
            FrozenBackboneClassifier("squeezenet1_1", **arguments), images, ckpt_path=of_version_0_1
        )
