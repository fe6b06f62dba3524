"""A store is complete or absent."""

import errno
import json
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from lightning_transfer import FeatureDataModule, FeatureStore
from lightning_transfer.errors import StoreError
from lightning_transfer.features.builder import StoreBuilder
from lightning_transfer.features.manifest import MANIFEST, Manifest, SplitManifest

SHAPE = (5, 3, 2)


def manifest(dtype="float16", **counts):
    splits = {
        name: SplitManifest(tuple(f"{name}/{i}.jpg" for i in range(n)), tuple(i % 2 for i in range(n)))
        for name, n in (counts or {"train": 6, "validation": 3}).items()
    }
    return Manifest("f" * 64, {"backbone": "none"}, ("cats", "dogs"), SHAPE, dtype, splits)


def values(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


@pytest.fixture
def builder(tmp_path):
    return StoreBuilder(tmp_path / "stores" / "one", manifest())


@pytest.fixture
def store(builder):
    assert builder.begin()
    builder.write("train", range(6), values(6))
    builder.write("validation", range(3), values(3, seed=1))
    builder.publish()
    return FeatureStore(builder.path)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_what_was_written_is_read(tmp_path, dtype):
    builder = StoreBuilder(tmp_path / "one", manifest(dtype))
    builder.begin()
    builder.write("train", [4, 1, 0], values(6)[[4, 1, 0]])
    builder.write("train", [5, 2, 3], values(6)[[5, 2, 3]])
    builder.write("validation", range(3), values(3, seed=1))
    builder.publish()
    store = FeatureStore(str(tmp_path / "one"))
    np.testing.assert_array_equal(store.features("train"), values(6).astype(dtype))
    np.testing.assert_array_equal(store.features("validation"), values(3, seed=1).astype(dtype))
    assert isinstance(store.features("train"), np.memmap)
    assert store.labels("train").tolist() == [0, 1, 0, 1, 0, 1]
    assert store.paths("validation")[0] == "validation/0.jpg"
    assert (store.class_names, store.feature_shape, store.splits) == (
        ("cats", "dogs"),
        SHAPE,
        ("train", "validation"),
    )
    # The arrays are plain .npy files, for whoever wants them without this library.
    np.testing.assert_array_equal(np.load(tmp_path / "one" / "train.npy"), values(6).astype(dtype))


def test_until_it_is_published_there_is_none(builder):
    assert builder.begin()
    builder.write("train", range(6), values(6))
    assert not builder.exists()
    with pytest.raises(StoreError, match="no complete feature store"):
        FeatureStore(builder.path)
    builder.discard()
    assert [p.name for p in builder.path.parent.iterdir() if not p.name.endswith(".lock")] == []


def test_what_is_left_of_a_killed_build_is_replaced(builder):
    builder.begin()
    builder.write("train", range(6), values(6) + 7)
    builder._lock.release()  # as the system does for a killed process
    again = StoreBuilder(builder.path, builder.manifest)
    assert again.begin()
    assert not np.load(again.staging / "train.npy").any()
    assert [path for path in builder.path.parent.iterdir() if path.is_dir()] == [again.staging]


def test_who_joins_writes_into_what_was_begun(builder):
    builder.begin()
    other = StoreBuilder(builder.path, builder.manifest)
    assert other.join(builder.staging.name)
    builder.write("train", [0, 2, 4], values(6)[::2])
    other.write("train", [1, 3, 5], values(6)[1::2])
    other.discard()  # is not its own
    builder.publish()
    assert other.join(None)
    np.testing.assert_array_equal(FeatureStore(builder.path).features("train"), values(6).astype(np.float16))


def test_who_cannot_see_what_was_begun_says_so(builder, tmp_path, monkeypatch):
    """On a disk of its own, where a killed build has left something."""
    monkeypatch.setattr("lightning_transfer.features.builder.PATIENCE", 0.2)
    builder.begin()
    left = StoreBuilder(tmp_path / "own disk" / "one", manifest())
    left.begin()
    assert not StoreBuilder(left.path, manifest()).join(builder.staging.name)
    assert not StoreBuilder(left.path, manifest()).join(None)


def test_where_locks_do_not_reach_the_later_build_wins_and_the_earlier_says_so(builder, monkeypatch):
    monkeypatch.setattr("lightning_transfer.features.builder.acquire", lambda lock: None)
    later = StoreBuilder(builder.path, builder.manifest)
    builder.begin()
    builder.write("train", range(6), values(6))
    later.begin()
    with pytest.raises(StoreError, match=r"staging-\w+ has gone.*another job makes the same store"):
        builder.write("validation", range(3), values(3, seed=1))
    builder.discard()
    later.write("train", range(6), values(6))
    later.write("validation", range(3), values(3, seed=1))
    later.publish()
    np.testing.assert_array_equal(FeatureStore(builder.path).features("train"), values(6).astype(np.float16))


def test_a_folder_that_shows_late_is_waited_for(builder, tmp_path):
    builder.begin()
    other = StoreBuilder(tmp_path / "late" / "one", manifest())
    timer = threading.Timer(0.3, lambda: builder.path.parent.rename(other.path.parent))
    timer.start()
    assert other.join(builder.staging.name)


def test_who_only_waits_leaves_the_others_work_alone(builder, monkeypatch):
    builder.begin()
    builder.write("train", range(6), values(6))
    waiting = StoreBuilder(builder.path, builder.manifest)

    def interrupted(lock):
        raise KeyboardInterrupt

    monkeypatch.setattr("lightning_transfer.features.builder.acquire", interrupted)
    with pytest.raises(KeyboardInterrupt):
        waiting.begin()
    waiting.discard()
    builder.write("validation", range(3), values(3, seed=1))
    builder.publish()
    np.testing.assert_array_equal(FeatureStore(builder.path).features("train"), values(6).astype(np.float16))


def test_a_complete_store_is_not_begun_again(store):
    assert not StoreBuilder(store.path, store.manifest).begin()


def test_where_another_machine_was_first_its_store_stays(builder, tmp_path):
    builder.begin()
    elsewhere = StoreBuilder(tmp_path / "elsewhere", manifest())
    elsewhere.begin()
    elsewhere.publish()
    elsewhere.path.rename(builder.path)
    builder.write("train", range(6), values(6))
    builder.publish()
    assert not FeatureStore(builder.path).features("train").any()
    assert not builder.staging.exists()


def test_a_store_opens_from_a_folder_that_cannot_be_written(store):
    store.path.chmod(0o555)
    store.path.parent.chmod(0o555)
    try:
        assert FeatureStore(store.path).features("train").shape == (6, *SHAPE)
        assert not StoreBuilder(store.path, store.manifest).begin()
    finally:
        store.path.parent.chmod(0o755)
        store.path.chmod(0o755)


def test_a_full_disk_is_said_and_leaves_nothing(builder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StoreError, match=r"796 bytes cannot be made at .*one: No space left.*features\.root"):
        builder.begin()
    assert not builder.staging.exists()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_features_that_are_not_finite_name_their_image(builder, bad):
    builder.begin()
    features = values(3)
    features[1, 2, 1, 1] = bad
    with pytest.raises(StoreError, match=r"train image train/4\.jpg are not finite in float16.*float32"):
        builder.write("train", [3, 4, 5], features)


@pytest.mark.parametrize("change", ["truncate", "lengthen", "remove"])
def test_a_damaged_array_is_named(store, change):
    file = store.path / "train.npy"
    if change == "remove":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size + (1 if change == "lengthen" else -1))
    with pytest.raises(StoreError, match=r"damaged: .*train\.npy (is missing|has [\d,]+ bytes), wanted 488 bytes"):
        FeatureStore(store.path)


def test_an_array_of_another_shape_is_named(store):
    np.save(store.path / "train.npy", np.zeros((6, 3, 5, 2), np.float16))
    with pytest.raises(StoreError, match=r"train\.npy does not begin as \(6, 5, 3, 2\) float16 does"):
        FeatureStore(store.path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        (json.dumps({"format": 99}), "format 99, this version reads 3"),
        (json.dumps({"format": 1}), r"format 1, .* Remove .*one; the features are then extracted again"),
        (json.dumps({"format": 3}), "'manifest_sha256'"),
    ],
)
def test_a_damaged_manifest_is_named(store, text, message):
    (store.path / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=message):
        FeatureStore(store.path)


def test_an_unknown_split_lists_those_there_are(store):
    with pytest.raises(StoreError, match="no split 'test'; it has train, validation"):
        store.features("test")


def test_a_store_says_what_it_is(store):
    assert "train 6, validation 3; (5, 3, 2) float16" in repr(store)


@pytest.mark.parametrize("bad", [(0, 2), 1, (0.5,)])
def test_labels_of_a_multi_label_store_are_rows_of_zeros_and_ones(tmp_path, bad):
    split = SplitManifest(("a.jpg", "b.jpg", "c.jpg"), ((0,), (), (0, 1)))
    builder = StoreBuilder(
        tmp_path / "one", Manifest("f", {}, ("cats", "dogs"), SHAPE, "float16", {"train": split}, True)
    )
    assert builder.begin()
    builder.publish()
    store = FeatureStore(builder.path)
    assert store.multi_label
    assert store.labels("train").dtype == np.float32
    assert store.labels("train").tolist() == [[1, 0], [0, 0], [1, 1]]
    data = FeatureDataModule(builder.path, batch_size=3)
    data.setup()
    assert (data.multi_label, data.class_counts("train")) == (True, (2, 1))
    _, labels = next(iter(data.loader("train")))
    assert (labels.shape, str(labels.dtype)) == ((3, 2), "torch.float32")
    # A label out of range, or of the other kind, is refused.
    forged = replace(store.manifest, splits={"train": replace(split, labels=((0,), (), bad))})
    (builder.path / MANIFEST).write_text(forged.to_json())
    with pytest.raises(StoreError, match="split 'train' is not what it should be"):
        FeatureStore(builder.path)
