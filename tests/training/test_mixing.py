"""Training on mixtures: loss and run against hand-written ones, and a resumed run against the whole one."""

import copy

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lightning_transfer import Augmentation, FrozenBackboneClassifier, ImageTableDataModule, StagedUnfreeze
from lightning_transfer.training.task import MultiLabelTask, Task
from runs import Watch, differing, every_epoch, fine_tuning, images_of, saved

EVERYTHING = Augmentation(mixup=0.4, cutmix=1.0, erase=0.5, trivial=True)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    return logits, torch.randn(12, 3, generator=generator, dtype=torch.float64).softmax(dim=1)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_soft_labels_by_hand(batch, smoothing, weights):
    logits, soft = batch
    each = []
    for row, label in zip(logits.exp(), soft, strict=True):
        loss = 0.0
        for k in range(3):
            wanted = (1 - smoothing) * label[k] + smoothing / 3
            loss -= (1 if weights is None else weights[k]) * wanted * torch.log(row[k] / row.sum())
        each.append(loss)
    found = Task(3, smoothing, weights).training_loss(logits, soft.float())
    torch.testing.assert_close(found, sum(each) / 12, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
def test_the_loss_of_soft_labels_of_several_classes_by_hand(batch, weights):
    logits, soft = batch
    chances = 1 / (1 + (-logits).exp())
    factors = torch.tensor([1.0, 1.0, 1.0] if weights is None else weights)
    wanted = 0.9 * soft + 0.05
    expected = -(factors * wanted * chances.log() + (1 - wanted) * (1 - chances).log()).mean()
    found = MultiLabelTask(3, 0.1, weights).training_loss(logits, soft.float())
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_training_is_a_hand_written_loop(quiet_trainer, image_folder):
    def images():
        return images_of(image_folder, seed=3, augmentation=EVERYTHING)

    torch.manual_seed(0)
    arguments = {"num_classes": 2, "image_size": 32, "pool": "avg", "hidden": 8, "dropout": 0.0, "lr": 1e-3}
    weights = [0.5, 2.0]
    model = FrozenBackboneClassifier(
        "squeezenet1_1", weights=None, label_smoothing=0.1, class_weights=weights, optimizer="SGD", **arguments
    )
    expected = copy.deepcopy(model).double()
    watch = Watch()
    quiet_trainer(max_epochs=2, precision="64-true", callbacks=[watch]).fit(model, images())
    expected.backbone.eval()
    dataset = images().train_dataloader().dataset
    decayed = [parameter for parameter in expected.head.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in expected.head.parameters() if parameter.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 1e-2}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1e-3)
    for epoch in range(2):
        order = np.random.default_rng([3, epoch]).permutation(len(dataset))
        right = 0
        for places in np.split(order, range(5, len(order), 5)):
            inputs, labels = map(torch.stack, zip(*(dataset[epoch, int(i)] for i in places), strict=True))
            with torch.no_grad():
                features = expected.backbone(inputs)
            optimizer.zero_grad()
            logits = expected.head(features)
            smooth = 0.9 * labels.double() + 0.05
            (-(smooth * torch.tensor(weights) * logits.log_softmax(dim=1)).sum(dim=1).mean()).backward()
            optimizer.step()
            right += int((logits.argmax(dim=1) == labels.argmax(dim=1)).sum())
        assert watch.scores[epoch]["train/accuracy"].item() == pytest.approx(right / 24)
    for key, value in expected.network.state_dict().items():
        torch.testing.assert_close(
            model.network.state_dict()[key],
            value,
            rtol=1e-6,
            atol=1e-8,
            msg=lambda text, key=key: f"{key}: {text}",
        )


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_resumed_run_is_the_whole_one(quiet_trainer, image_folder, tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        callbacks = [StagedUnfreeze({0: ["head"], 1: ["last_conv"]}), every_epoch(tmp_path / folder)]
        trainer = quiet_trainer(max_epochs=epochs, callbacks=callbacks, enable_checkpointing=True)
        images = images_of(image_folder, augmentation=EVERYTHING)
        trainer.fit(fine_tuning(), images, ckpt_path=ckpt_path, weights_only=True)

    fit("whole", 3)
    fit("stopped", 1)
    fit("resumed", 3, tmp_path / "stopped" / "0.ckpt")
    assert differing(saved(tmp_path / "whole" / "2.ckpt"), saved(tmp_path / "resumed" / "2.ckpt")) == []


class Labels(Callback):
    """Notes the labels of the training batches."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.seen.append(batch[1])


@pytest.mark.parametrize("class_weights", [None, "balanced"])
def test_several_labels_an_image_train_too(quiet_trainer, image_folder, tmp_path, class_weights):
    rows = ["path,label,split"]
    for split in ("train", "validation", "test"):
        rows += [f"{split}/cats/cats.{i}.jpg,{'cat|odd' if i % 2 else 'cat'},{split}" for i in range(6)]
        rows += [f"{split}/dogs/dogs.{i}.jpg,{'dog|odd' if i % 2 else 'dog'},{split}" for i in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    images = ImageTableDataModule(
        tmp_path / "labels.csv",
        image_folder,
        separator="|",
        image_size=32,
        num_workers=0,
        augmentation=EVERYTHING,
    )
    torch.manual_seed(0)
    arguments = {"pool": "avg", "hidden": 8, "class_weights": class_weights}
    model = FrozenBackboneClassifier("squeezenet1_1", weights=None, **arguments)
    labels = Labels()
    trainer = quiet_trainer(max_epochs=1, callbacks=[labels])
    trainer.fit(model, images)
    (seen,) = labels.seen
    assert seen.shape == (12, 3)
    assert bool(((seen > 0) & (seen < 1)).any())
    assert {f"train/{score}" for score in ("loss", "accuracy", "auroc", "f1")} <= trainer.callback_metrics.keys()
