"""What a batch may be, with a training loop around it, and what is said of the others at the first batch."""

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_transfer import FrozenBackboneClassifier
from lightning_transfer.errors import ModuleError
from runs import differing


def make(**arguments):
    torch.manual_seed(0)
    defaults = {"weights": None, "num_classes": 2, "image_size": 32, "pool": "avg", "hidden": 4, "lr": 1e-2}
    return FrozenBackboneClassifier("squeezenet1_1", **(defaults | arguments))


def images(samples=6, size=32):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (samples, 3, size, size), dtype=torch.uint8, generator=generator)


HARD = torch.tensor([0, 1, 0, 1, 1, 0])
SOFT = torch.nn.functional.one_hot(HARD).float()


def loader(inputs, labels, as_dict=False):
    pairs = list(zip(inputs, labels, strict=True))
    return DataLoader([{"image": x, "label": y} for x, y in pairs] if as_dict else pairs, batch_size=3)


def fitted(trainer, data, **arguments):
    model = make(**arguments)
    trainer.fit(model, data, data)
    return model.head.state_dict(), dict(trainer.callback_metrics)


UNDERSTOOD = {
    "dict": loader(images(), HARD, as_dict=True),
    "int32": loader(images(), HARD.int()),
    "uint8": loader(images(), HARD.to(torch.uint8)),
    "numbers": loader(images(), HARD.tolist()),
    "one-hot": loader(images(), SOFT),
    "one-hot, whole": loader(images(), SOFT.long()),
    "floating images": loader(images() / 255, HARD),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_what_can_be_understood_trains_as_images_and_indices_do(quiet_trainer, case):
    expected = fitted(quiet_trainer(max_epochs=1), loader(images(), HARD))
    seen = fitted(quiet_trainer(max_epochs=1), UNDERSTOOD[case])
    for ours, theirs in zip(seen, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_soft_labels_train_as_a_hand_written_loss(quiet_trainer):
    soft = 0.7 * SOFT + 0.15
    model = make(dropout=0.0)
    model.eval()
    with torch.no_grad():
        expected = -(soft[:3] * model(images()[:3]).log_softmax(dim=1)).sum(dim=1).mean()
    trainer = quiet_trainer(max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    trainer.fit(model, loader(images(), soft), loader(images(), soft))
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(float(expected), rel=1e-4)


REFUSED = {
    "from 1 to K": (images(), HARD + 1, r"label 2: wanted .*from 0 to 1.*counted from 1\? Subtract 1"),
    "-100": (images(), HARD - 100, r"label -100: wanted .*Leave images without a label out"),
    "K": (images(), HARD * 5, r"label 5: wanted \(B,\) whole numbers from 0 to 1"),
    "float": (images(), HARD.float(), r"torch.float32, \(3,\): wanted \(B,\) whole numbers"),
    "too wide": (images(), torch.eye(3).repeat(2, 1), r"torch.float32, \(3, 3\): wanted"),
    "several": (images(), torch.ones(6, 2), r"sum to 2: wanted .*multi_label"),
    "not shares": (images(), SOFT * 2 - 0.5, r"labels go from -0.5 to 1.5"),
    "nan": (images(), SOFT * float("nan"), r"labels go from nan"),
    "up to 255": (images().float(), HARD, r"from 0 to 255, wanted \[0, 1\]; .*divide by 255"),
    "normalised": ((images() / 255 - 0.45) / 0.225, HARD, r"normalised already: leave Normalize out"),
    "int64 images": (images().long(), HARD, r"images are torch.int64: wanted torch.uint8"),
    "gray": (images()[:, :1], HARD, r"shape \(3, 1, 32, 32\): wanted \(B, 3, H, W\)"),
    "another size": (images(size=40), HARD, r"40 × 40 pixels, and the module image_size=32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_is_refused_at_the_first_batch(quiet_trainer, case):
    inputs, labels, message = REFUSED[case]
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = loader(inputs, labels)
    for sanity_steps in (0, 2):
        with pytest.raises(ModuleError, match=message):
            quiet_trainer(max_epochs=1, num_sanity_val_steps=sanity_steps).fit(model, data, data)
    assert differing(before, model.state_dict()) == []
    with pytest.raises(ModuleError, match=message):
        quiet_trainer().validate(model, data, verbose=False)


def test_batches_of_another_form_are_refused(quiet_trainer):
    cases = {
        "dict of x, y": [{"x": image, "y": label} for image, label in zip(images(), HARD, strict=True)],
        "images alone": list(images()),
    }
    for message, data in cases.items():
        with pytest.raises(ModuleError, match=message):
            quiet_trainer(max_epochs=1).fit(make(), DataLoader(data, batch_size=3), loader(images(), HARD))


def test_images_alone_are_predicted(quiet_trainer):
    model = make().eval()
    with torch.no_grad():
        expected = model(images()).softmax(dim=1)
    for data in (list(images()), list(zip(images(), HARD, strict=True))):
        found = torch.cat(quiet_trainer().predict(model, DataLoader(data, batch_size=3)))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_several_labels_may_be_whole_numbers(quiet_trainer):
    labels = torch.tensor([[1, 1], [0, 0], [0, 1]] * 2)
    seen = [
        fitted(quiet_trainer(max_epochs=1), loader(images(), kind), task="multi_label")[1]
        for kind in (labels, labels.float())
    ]
    assert seen[0].keys() == seen[1].keys()
    for name, value in seen[0].items():
        assert torch.equal(value, seen[1][name])
    with pytest.raises(ModuleError, match=r"wanted \(B, 2\) zeros and ones"):
        fitted(quiet_trainer(max_epochs=1), loader(images(), HARD), task="multi_label")
