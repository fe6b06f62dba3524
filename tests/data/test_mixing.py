"""Mixup and cutmix: torchvision's own, and a function of (seed, epoch, sample) alone."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms import v2

from lightning_transfer import Augmentation, ImageFolderDataModule, ImageTableDataModule
from lightning_transfer.data import sampler
from lightning_transfer.data.dataset import AugmentedDataset
from lightning_transfer.data.mixing import mixed, partner

PLAIN = {"flip": False, "rotation": 0, "shift": 0, "shear": 0, "zoom": 0}
MIXUP, CUTMIX, BOTH = ({"mixup": 0.4}, {"cutmix": 1.0}, {"mixup": 0.4, "cutmix": 1.0})


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 20, 24), generator=generator, dtype=torch.uint8)
    return images, F.one_hot(torch.tensor([2, 0]), 3).float()


@pytest.mark.parametrize(("flags", "kind"), [(MIXUP, v2.MixUp), (CUTMIX, v2.CutMix)])
def test_it_is_torchvisions_on_the_same_pair(pair, flags, kind):
    images, _ = pair
    for epoch in range(20):
        image, label = mixed(Augmentation(**flags), *pair, [7, epoch, 1])
        state = np.random.SeedSequence([7, epoch, 1, 2]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(state))
        expected, shares = kind(alpha=next(iter(flags.values())), num_classes=3)(
            images / 255, torch.tensor([2, 0])
        )
        assert (image.dtype, image.shape, label.dtype, label.shape) == (
            torch.uint8,
            (3, 20, 24),
            torch.float32,
            (3,),
        )
        torch.testing.assert_close(image.float(), (255 * expected[0]), atol=0.51, rtol=0)
        torch.testing.assert_close(label, shares[0])


def test_image_and_label_have_the_same_shares(pair):
    first, second = pair[0].double()
    for epoch in range(20):
        image, label = mixed(Augmentation(**MIXUP), *pair, [0, epoch, 0])
        expected = label[2].double() * first + label[0].double() * second
        assert (image - expected).abs().max() <= 0.51
        image, label = mixed(Augmentation(**CUTMIX), *pair, [0, epoch, 0])
        of_the_other = (image == pair[0][1]).all(dim=0) & (image != pair[0][0]).any(dim=0)
        assert label[0].item() == pytest.approx(of_the_other.double().mean().item(), abs=1e-6)
        assert bool(((image == pair[0][0]) | of_the_other).all())


def test_the_shares_are_of_the_beta_distribution(pair):
    """Its variance is 1 / (4 (2 alpha + 1))."""
    shares = torch.stack([mixed(Augmentation(mixup=0.4), *pair, [0, 0, i])[1][2] for i in range(1500)])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert shares.var().item() == pytest.approx(1 / (4 * 1.8), abs=0.015)
    assert mixed(Augmentation(mixup=1e-9), *pair, [0, 0, 0])[1].isfinite().all()


def test_with_both_one_of_the_two_is_drawn(pair):
    """A mixture of two colours has a third one; a rectangle has not."""
    flat = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 20, 24)
    found = [mixed(Augmentation(**BOTH), flat, pair[1], [0, epoch, 3])[0] for epoch in range(200)]
    mixtures = sum(bool(((image > 0) & (image < 255)).all()) for image in found)
    rectangles = sum(set(image.unique().tolist()) <= {0, 255} for image in found)
    assert 50 < mixtures < 130  # some have so small a share that it is rounded away
    assert 70 < rectangles < 150


def test_partners_are_any_other_image_with_equal_chances():
    drawn = Counter(partner(6, [0, epoch, 2]) for epoch in range(3000))
    assert drawn.keys() == {0, 1, 3, 4, 5}
    assert max(abs(count - 600) for count in drawn.values()) < 5 * math.sqrt(3000 * 0.2 * 0.8)
    assert partner(6, [0, 1, 2]) == partner(6, [0, 1, 2])
    assert len({partner(1000, [seed, epoch, 2]) for seed in range(5) for epoch in range(5)}) > 20


def data(image_folder, flags=BOTH, **arguments):
    defaults = {"image_size": 16, "batch_size": 5, "num_workers": 0, "augmentation": Augmentation(**flags)}
    module = ImageFolderDataModule(str(image_folder), **(defaults | arguments))
    module.setup()
    return module


def epoch_of(loader, epoch):
    loader.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("flags", [MIXUP, CUTMIX, BOTH])
def test_an_item_is_the_image_mixed_with_its_partner_as_it_is_in_that_epoch(image_folder, flags):
    module = data(image_folder, flags, seed=3)
    plain, augmentation = module.dataset("train"), Augmentation(**flags)
    items = AugmentedDataset(plain, augmentation, 3)
    for epoch, index in ((0, 0), (0, 23), (4, 9)):
        chosen = [index, partner(24, [3, epoch, index])]
        images = [np.array(augmentation(plain.image(i), [3, epoch, i])) for i in chosen]
        labels = F.one_hot(torch.tensor([plain.target(i) for i in chosen]), 2).float()
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        expected = mixed(augmentation, stacked, labels, [3, epoch, index])
        found = items[epoch, index]
        assert all(map(torch.equal, found, expected))
    assert all(map(torch.equal, items[7], items[0, 7]))
    assert not torch.equal(items[0, 7][0], items[1, 7][0])


def test_batches_workers_and_what_others_draw_do_not_enter(image_folder):
    module = data(image_folder, seed=4)
    expected = [epoch_of(module.train_dataloader(), epoch) for epoch in (0, 1)]
    assert (expected[0][0].dtype, expected[0][1].dtype) == (torch.uint8, torch.float32)
    assert expected[0][1].shape == (24, 2)
    torch.testing.assert_close(expected[0][1].sum(dim=1), torch.ones(24))
    assert 0 < ((expected[0][1] > 0) & (expected[0][1] < 1)).sum() < 48
    torch.manual_seed(5)
    for arguments in ({"num_workers": 1}, {"num_workers": 2}, {"batch_size": 7}):
        loader = data(image_folder, seed=4, **arguments).train_dataloader()
        for epoch in (1, 0):
            assert all(map(torch.equal, epoch_of(loader, epoch), expected[epoch]))
    other = epoch_of(data(image_folder, seed=5).train_dataloader(), 0)
    assert not torch.equal(other[0], expected[0][0])
    torch.manual_seed(0)
    drawn = torch.rand(3)
    torch.manual_seed(0)
    _ = module.train_dataloader().dataset[0, 1]
    assert torch.equal(torch.rand(3), drawn)


def test_two_processes_see_what_one_sees(image_folder, monkeypatch):
    module = data(image_folder)
    alone = epoch_of(module.train_dataloader(), 1)
    monkeypatch.setattr(sampler.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(sampler.dist, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(sampler.dist, "get_rank", lambda rank=rank: rank)
        images, labels = epoch_of(module.train_dataloader(), 1)
        assert torch.equal(images, alone[0][rank::2])
        assert torch.equal(labels, alone[1][rank::2])


def test_validation_and_test_images_stay_as_they_are(image_folder):
    module = data(image_folder)
    for loader in (module.val_dataloader(), module.test_dataloader(), module.predict_dataloader()):
        _, labels = next(iter(loader))
        assert labels.dtype == torch.int64


def test_several_labels_an_image(image_folder, tmp_path):
    rows = ["path,label,split"]
    for split in ("train", "validation", "test"):
        for i in range(6):
            rows.append(f"{split}/cats/cats.{i}.jpg,{'cat|warm' if i % 2 else 'cat'},{split}")
            rows.append(f"{split}/dogs/dogs.{i}.jpg,{'dog|warm' if i % 2 else ''},{split}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    module = ImageTableDataModule(
        tmp_path / "labels.csv",
        image_folder,
        separator="|",
        image_size=16,
        num_workers=0,
        augmentation=Augmentation(**PLAIN, mixup=0.4),
    )
    module.setup()
    plain = module.dataset("train")
    items = AugmentedDataset(plain, module.augmentation, 0)
    for index in range(len(plain)):
        image, label = items[2, index]
        other = partner(len(plain), [0, 2, index])
        own, theirs = plain.target(index), plain.target(other)
        assert label.shape == (3,)
        assert bool((torch.minimum(own, theirs) <= label).all() and (label <= torch.maximum(own, theirs)).all())
        if (own != theirs).any():
            k = int((own != theirs).nonzero()[0, 0])
            share = label[k] if own[k] else 1 - label[k]
            pixels = share * plain[index][0].float() + (1 - share) * plain[other][0].float()
            assert (image - pixels).abs().max() <= 0.51
