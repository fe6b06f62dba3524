"""Losses, scores and class weights against torch and scikit-learn."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from lightning_transfer import StagedUnfreeze
from lightning_transfer.callbacks.history import History
from lightning_transfer.errors import ModuleError, TrainingError
from lightning_transfer.training.task import EpochScores, MultiLabelTask, Task
from runs import fine_tuning, finished, images_of


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(12, 3, generator=generator), torch.randint(3, (12,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_it_is_torchs_cross_entropy(batch, smoothing):
    expected = F.cross_entropy(*batch, label_smoothing=smoothing)
    torch.testing.assert_close(Task(3, smoothing).training_loss(*batch), expected)


def test_weights_multiply_each_samples_loss(batch):
    logits, labels = batch
    weights = [0.5, 1.0, 3.0]
    each = [weights[y] * F.cross_entropy(x[None], y[None]) for x, y in zip(logits, labels, strict=True)]
    loss = Task(3, class_weights=weights).training_loss(logits, labels)
    torch.testing.assert_close(loss, torch.stack(each).mean())


def test_parts_of_a_batch_make_up_the_whole(batch):
    logits, labels = batch
    loss = Task(3, 0.1, [0.5, 1.0, 3.0]).training_loss
    parts = torch.stack([loss(x, y) for x, y in zip(logits.split(4), labels.split(4), strict=True)])
    torch.testing.assert_close(parts.mean(), loss(logits, labels))


def test_balanced_is_scikit_learns():
    labels = [0] * 30 + [1] * 10 + [2] * 5
    task = Task(3, class_weights="balanced")
    task.balance([30, 10, 5], 45)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    torch.testing.assert_close(task.weight, torch.tensor(expected).float())


def test_it_is_float32_at_least(batch):
    logits, labels = batch
    for task in (Task(3), Task(3, class_weights=[1, 2, 3])):
        assert task.training_loss(logits.bfloat16(), labels).dtype == torch.float32
        assert task.training_loss(logits.double(), labels).dtype == torch.float64
    assert Task(3, class_weights=[1, 2, 3]).state_dict() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing=1.0: wanted a share"),
        ({"class_weights": "even"}, "class_weights='even': wanted \"balanced\""),
        ({"class_weights": [1.0, 2.0]}, r"class_weights=\[1.0, 2.0\]: wanted 3 numbers"),
        ({"class_weights": [1.0, 2.0, -1.0]}, "none negative"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    with pytest.raises(ModuleError, match=message):
        Task(3, **arguments)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_scores_are_scikit_learns(num_classes):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) % num_classes
    logits = torch.randn(60, num_classes, generator=generator) + F.one_hot(labels, num_classes)
    scores = EpochScores("validation", task := Task(num_classes), task.loss)
    for batch in torch.arange(60).split(17):
        scores.add(logits[batch], labels[batch])
    got = {name: value.item() for name, value in scores.compute().items()}
    probabilities = logits.double().softmax(dim=1)
    ranked = probabilities[:, 1] if num_classes == 2 else probabilities
    assert got == pytest.approx(
        {
            "validation/loss": log_loss(labels, probabilities),
            "validation/accuracy": accuracy_score(labels, logits.argmax(dim=1)),
            "validation/auroc": roc_auc_score(labels, ranked, multi_class="ovr"),
            "validation/f1": f1_score(labels, logits.argmax(dim=1), average="macro"),
        },
        abs=2e-3,  # AUROC counts at 200 thresholds
    )


def test_each_epoch_starts_from_nothing():
    scores = EpochScores("train", task := Task(2), task.loss)
    results = []
    for _ in range(2):
        scores.add(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
        results.append(scores.compute()["train/loss"])
    assert results[0] == results[1]
    scores.add(torch.tensor([[0.0, 2.0]]), torch.tensor([0]))
    scores.reset()
    scores.add(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1]))
    assert scores.compute()["train/accuracy"] == 1


def test_chunks_make_up_the_epoch(monkeypatch):
    """Updating the metrics several times an epoch gives the scores of all samples."""
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(500, 3, generator=generator), torch.randint(3, (500,), generator=generator)
    results = []
    for chunk in (64, 10_000):
        monkeypatch.setattr("lightning_transfer.training.task.CHUNK", chunk)
        task = Task(3)
        scores = EpochScores("test", task, task.loss)
        for batch in torch.arange(500).split(32):
            scores.add(logits[batch], labels[batch])
            assert sum(len(waiting) for _, waiting in scores._waiting) < chunk
        results.append(scores.compute())
    for name, value in results[0].items():
        torch.testing.assert_close(value, results[1][name])


def test_multi_label_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (80, 3), generator=generator).float()
    logits = torch.randn(80, 3, generator=generator) + labels
    task = MultiLabelTask(3)
    scores = EpochScores("validation", task, task.loss)
    for batch in torch.arange(80).split(17):
        scores.add(logits[batch], labels[batch])
    hard = logits > 0
    assert {name: value.item() for name, value in scores.compute().items()} == pytest.approx(
        {
            "validation/loss": F.binary_cross_entropy(logits.sigmoid(), labels).item(),
            "validation/accuracy": (hard == labels.bool()).float().mean().item(),
            "validation/auroc": roc_auc_score(labels, logits.sigmoid()),
            "validation/f1": f1_score(labels, hard, average="macro"),
        },
        abs=2e-3,
    )
    torch.testing.assert_close(task.probabilities(logits), logits.sigmoid())


def test_soft_labels_are_torchs(batch):
    logits, _ = batch
    soft = torch.softmax(torch.randn(12, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    expected = F.cross_entropy(logits, soft, label_smoothing=0.1)
    torch.testing.assert_close(Task(3, 0.1).training_loss(logits, soft), expected)
    assert torch.equal(Task(3).hard_labels(soft), soft.argmax(dim=1))


def test_weights_of_several_labels_multiply_the_positives(batch):
    logits, labels = batch
    hot = F.one_hot(labels, 3).float()
    expected = F.binary_cross_entropy_with_logits(logits, hot, pos_weight=torch.tensor([1.0, 2.0, 3.0]))
    loss = MultiLabelTask(3, class_weights=[1.0, 2.0, 3.0]).training_loss(logits, hot)
    torch.testing.assert_close(loss, expected)


def scores_of(task, logits, labels):
    scores = EpochScores("validation", task, task.loss)
    scores.add(logits, labels)
    return {name.partition("/")[2]: value.item() for name, value in scores.compute().items()}


@pytest.mark.parametrize("present", [(0, 1), (0, 2, 3), (1, 2, 3, 4)])
def test_auroc_is_a_mean_over_the_classes_that_are_there(present):
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(present)[torch.randint(len(present), (900,), generator=generator)]
    logits = torch.randn(900, 5, generator=generator) + F.one_hot(labels, 5)
    probabilities = logits.softmax(dim=1)
    expected = np.mean([roc_auc_score(labels == label, probabilities[:, label]) for label in present])
    assert scores_of(Task(5), logits, labels)["auroc"] == pytest.approx(expected, abs=2e-3)


def test_auroc_of_several_labels_is_a_mean_over_those_that_some_have_and_others_have_not():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (60, 4), generator=generator).float()
    labels[:, 1], labels[:, 3] = 0, 1
    logits = torch.randn(60, 4, generator=generator) + labels
    expected = roc_auc_score(labels[:, [0, 2]], logits.sigmoid()[:, [0, 2]])
    assert scores_of(MultiLabelTask(4), logits, labels)["auroc"] == pytest.approx(expected, abs=2e-3)


def test_auroc_that_is_not_defined_is_no_score():
    logits = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    assert scores_of(Task(2), logits, torch.zeros(9, dtype=torch.long)).keys() == {"loss", "accuracy", "f1"}
    labels = torch.tensor([0.0, 1.0]).expand(9, 2)
    assert scores_of(MultiLabelTask(2), logits, labels).keys() == {"loss", "accuracy", "f1"}


@pytest.mark.parametrize("sureness", [5.0, 30.0])
def test_auroc_of_a_network_that_is_certain_and_right_is_one(sureness):
    """Its probabilities lie beyond all thresholds."""
    labels = torch.arange(6) % 3
    logits = sureness * F.one_hot(labels, 3)
    assert scores_of(Task(3), logits, labels)["auroc"] == 1
    hot = F.one_hot(labels, 3).float()
    assert scores_of(MultiLabelTask(3), 2 * sureness * hot - sureness, hot)["auroc"] == 1
    logits[0] = sureness * torch.tensor([0, 1, 0])  # certain, and wrong
    expected = roc_auc_score(labels, logits.double().softmax(dim=1).round(decimals=9), multi_class="ovr")
    assert scores_of(Task(3), logits, labels)["auroc"] == pytest.approx(expected, abs=2e-3)


def test_f1_leaves_out_classes_that_nothing_is_and_nothing_is_taken_for():
    labels, taken = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 1, 3])
    logits = 9.0 * F.one_hot(taken, 5)
    assert scores_of(Task(5), logits, labels)["f1"] == pytest.approx(f1_score(labels, taken, average="macro"))
    hot, taken = torch.tensor([[1, 0, 0], [1, 1, 0]]), torch.tensor([[1, 0, 0], [0, 1, 0]])
    expected = f1_score(hot, taken, average="macro", zero_division=0)
    assert scores_of(MultiLabelTask(3), 18.0 * taken - 9, hot.float())["f1"] == pytest.approx(expected)


DDP = """
import sys, torch
import torch.distributed as dist
import torch.multiprocessing as mp
from lightning_transfer.training.task import EpochScores, Task

def work(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    logits, labels, alone = torch.load(f"{folder}/batch.pt")
    found = []
    for mine in (labels == rank, (labels == 0) & (torch.arange(len(labels)) // 2 % 2 == rank)):
        scores = EpochScores("validation", task := Task(3), task.loss)
        scores.add(logits[mine], labels[mine])
        found.append(scores.compute())
    torch.save(found, f"{folder}/{rank}.pt")

if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), nprocs=2)
"""


@pytest.mark.slow
def test_two_processes_of_one_class_each_score_as_one(tmp_path):
    labels = torch.arange(30) % 2
    logits = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) + F.one_hot(labels, 3)
    torch.save((logits, labels, None), tmp_path / "batch.pt")
    (tmp_path / "ddp.py").write_text(DDP)
    done = finished(tmp_path / "ddp.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    joint = scores_of(Task(3), logits, labels)
    for rank in (0, 1):
        found, of_one_class = torch.load(tmp_path / f"{rank}.pt")
        assert {name.partition("/")[2]: value.item() for name, value in found.items()} == pytest.approx(joint)
        assert of_one_class.keys() == {"validation/loss", "validation/accuracy", "validation/f1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "plateau"}, r"scheduler_monitor=validation/auroc is not defined .*limit_val_batches"),
        ({}, ""),
    ],
)
def test_a_plateau_of_what_is_not_defined_says_so(image_folder, quiet_trainer, options, message):
    """Of one validation image; what watches nothing goes on, and nothing is logged."""
    images = images_of(image_folder, batch_size=1, augmentation=None)
    model = fine_tuning(backbone="squeezenet1_1", scheduler_monitor="validation/auroc", **options)
    trainer = quiet_trainer(
        max_epochs=1, limit_val_batches=1, limit_train_batches=2, callbacks=[StagedUnfreeze({0: ["head"]})]
    )
    if message:
        with pytest.raises(TrainingError, match=message):
            trainer.fit(model, images)
        return
    trainer.fit(model, images)
    assert "validation/accuracy" in trainer.callback_metrics
    assert "validation/auroc" not in trainer.callback_metrics


def test_a_score_that_is_not_defined_any_more_is_not_that_of_an_epoch_before(image_folder, quiet_trainer):
    """A batch of both classes, then one of one class."""
    images = images_of(image_folder, batch_size=2, augmentation=None)
    labels = np.array(images.dataset("train").samples.labels)

    def classes(seed, epoch):
        return len(set(labels[np.random.default_rng([seed, epoch]).permutation(24)[:2]]))

    images.seed = next(seed for seed in range(99) if (classes(seed, 0), classes(seed, 1)) == (2, 1))
    callbacks = [history := History(), StagedUnfreeze({0: ["head"]})]
    trainer = quiet_trainer(max_epochs=2, limit_train_batches=1, callbacks=callbacks)
    trainer.fit(fine_tuning(backbone="squeezenet1_1"), images)
    assert ["train/auroc" in epoch for epoch in history.epochs] == [True, False]
    assert all("validation/auroc" in epoch for epoch in history.epochs)
