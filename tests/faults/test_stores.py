"""Feature stores under faults: complete or absent, what was made or refused."""

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
import torchvision
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st
from killing import run_and_kill

from lightning_transfer import (
    Backbone,
    FeatureClassifier,
    FeatureDataModule,
    FeatureStore,
    ImageFolderDataModule,
    extract_features,
)
from lightning_transfer.errors import StoreError
from lightning_transfer.features import builder as building
from lightning_transfer.features import extract as extraction
from lightning_transfer.features import integrity
from lightning_transfer.features.builder import StoreBuilder
from lightning_transfer.features.manifest import MANIFEST, OWN_DIGEST, Manifest, SplitManifest, _digest

SHAPE = (4, 3, 2)
COUNTS = {"train": 8, "validation": 4}


def manifest(shape=SHAPE):
    splits = {
        name: SplitManifest(tuple(f"{name}/{i}.jpg" for i in range(n)), tuple(i % 2 for i in range(n)))
        for name, n in COUNTS.items()
    }
    return Manifest("f" * 64, {"backbone": "none", "rate": 0.1}, ("cats", "dogs"), shape, "float16", splits)


def values(split):
    generator = np.random.default_rng(COUNTS[split])
    return generator.normal(size=(COUNTS[split], *SHAPE)).astype(np.float16)


def build(path, lock=None):
    """Makes a store, row by row; False where it is there already."""
    builder = StoreBuilder(path, manifest())
    if lock is not None:
        builder._lock = FileLock(lock)
    if not builder.begin():
        return False
    for split, count in COUNTS.items():
        for row in range(count):
            builder.write(split, [row], values(split)[row : row + 1])
    builder.publish()
    return True


def assert_whole(path):
    store = FeatureStore(path)
    store.verify()
    assert store.manifest == manifest()
    for split in COUNTS:
        np.testing.assert_array_equal(store.features(split), values(split))


def left(root):
    return {path.name for path in root.iterdir() if path.suffix != ".lock"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A sound store; who damages it mends it."""
    path = tmp_path_factory.mktemp("stores") / "one"
    assert build(path)
    return path


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte; root alone can have one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


# Kills.


@pytest.mark.parametrize(
    ("owner", "name", "call", "after"),
    [
        (building, "_reserve", 1, False),
        (building, "_reserve", 2, False),
        (os, "pwrite", 1, False),
        (os, "pwrite", 6, False),
        (os, "pwrite", 12, True),
        (building, "sync", 2, True),
        (integrity, "sha256_of", 2, False),
        (building, "with_sha256", 1, True),
        (building, "sync", 3, False),
        (building, "sync", 4, True),
        (Path, "rename", 1, False),
        (Path, "rename", 1, True),
        (StoreBuilder, "discard", 1, False),
    ],
    ids=[
        "staging made",
        "half reserved",
        "nothing written",
        "half written",
        "all written",
        "flushed",
        "half read",
        "no manifest",
        "manifest not flushed",
        "manifest flushed",
        "not renamed",
        "renamed",
        "lock held",
    ],
)
def test_a_build_killed_at_any_step_leaves_no_store_or_a_whole_one(tmp_path, owner, name, call, after):
    assert build(tmp_path / "old")
    assert run_and_kill(lambda: build(tmp_path / "one"), owner, name, call, after) == -9
    assert_whole(tmp_path / "old")
    published = (name, after) in (("rename", True), ("discard", False))
    if not published:
        assert any(entry.startswith(".one.staging") for entry in left(tmp_path)), "it did not die in the middle"
        with pytest.raises(StoreError, match="no complete feature store"):
            FeatureStore(tmp_path / "one")
    assert build(tmp_path / "one") is not published
    assert_whole(tmp_path / "one")
    assert left(tmp_path) == {"old", "one"}


def test_an_extraction_killed_halfway_is_made_again(image_folder, weights_file, tmp_path, quiet_trainer):
    def extract(root):
        images = ImageFolderDataModule(str(image_folder), image_size=64, batch_size=6, num_workers=0)
        return extract_features(quiet_trainer(), Backbone("squeezenet1_1", str(weights_file)), images, root=root)

    assert run_and_kill(lambda: extract(tmp_path / "f"), os, "pwrite", 20) == -9
    (entry,) = left(tmp_path / "f")
    assert ".staging-" in entry
    again, undisturbed = extract(tmp_path / "f"), extract(tmp_path / "undisturbed")
    assert left(tmp_path / "f") == {again.path.name} == {undisturbed.path.name}
    for split in again.splits:
        np.testing.assert_array_equal(again.features(split), undisturbed.features(split))


# Races.


def at_once(works):
    """Runs each in a process of its own, all from one moment on; gives what they returned, small numbers."""
    waiting, starting = os.pipe()
    processes = []
    for work in works:
        process = os.fork()
        if process == 0:
            try:
                os.close(starting)
                os.read(waiting, 1)  # until the last one's starting end is closed
                os._exit(work())
            finally:
                os._exit(99)
        processes.append(process)
    os.close(starting)
    os.close(waiting)
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]


BUILT, FOUND, BEATEN = range(3)


def race(path, lock=None):
    try:
        built = build(path, lock)
    except StoreError as error:
        return BEATEN if "has gone" in str(error) else 9
    assert_whole(path)
    return BUILT if built else FOUND


def test_of_six_builders_one_builds_and_all_see_the_same(tmp_path):
    for number in range(3):
        path = tmp_path / str(number) / "one"
        assert sorted(at_once([lambda path=path: race(path)] * 6)) == [BUILT, *[FOUND] * 5]
        assert left(path.parent) == {"one"}


def test_where_locks_do_not_reach_builders_are_right_or_say_that_they_were_beaten(tmp_path):
    seen = set()
    for number in range(10):
        path = tmp_path / str(number) / "one"
        locks = [tmp_path / f"{machine}.lock" for machine in range(3)]
        ends = at_once([lambda path=path, lock=lock: race(path, lock) for lock in locks])
        assert set(ends) <= {BUILT, FOUND, BEATEN}
        assert BUILT in ends
        assert_whole(path)
        assert left(path.parent) == {"one"}
        seen |= set(ends)
    assert BEATEN in seen, "they never met"


# Damaged arrays.


@pytest.fixture
def damaged(store):
    """Changes one array, expects an error that names it, and restores it.

    At the opening, or by `verify` only.
    """

    def check(split, change, message="", by_verify=False):
        file = store / f"{split}.npy"
        whole = file.read_bytes()
        change(file)
        try:
            opened = FeatureStore(store) if by_verify else None
            with pytest.raises(StoreError, match=rf"damaged: .*{split}\.npy .*{message}.* Remove .*one; the"):
                opened.verify() if by_verify else FeatureStore(store)
        finally:
            if file.is_dir():
                file.rmdir()
            file.write_bytes(whole)
        assert_whole(store)

    return check


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.nightly)])
def test_any_flipped_bit_is_found_by_verify(store, damaged, examples):
    sizes = {split: (store / f"{split}.npy").stat().st_size for split in COUNTS}
    places = st.sampled_from(sorted(sizes)).flatmap(
        lambda split: st.tuples(st.just(split), st.integers(0, 8 * sizes[split] - 1))
    )

    @settings(max_examples=examples, deadline=None, database=None)
    @given(places)
    def flip(place):
        split, bit = place

        def change(file):
            content = bytearray(file.read_bytes())
            content[bit // 8] ^= 1 << bit % 8
            file.write_bytes(content)

        damaged(split, change, by_verify=bit // 8 >= len(manifest().header(split)))

    flip()


def header(shape, dtype="float16"):
    return Manifest("", {}, (), shape[1:], dtype, {"x": SplitManifest(("",) * shape[0], ())}).header("x")


def with_header(file, begin):
    file.write_bytes(begin + file.read_bytes()[len(begin) :])


def emptied(file):
    """As a file looks of which a full disk, or a killed copy, has kept the size alone."""
    size = file.stat().st_size
    os.truncate(file, len(header((8, *SHAPE))))
    os.truncate(file, size)


def test_an_array_of_zeros_is_found_by_verify(damaged):
    damaged("train", emptied, "has changed since it was made", by_verify=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: os.truncate(file, file.stat().st_size - 1), "bytes, wanted"),
        (lambda file: os.truncate(file, 0), "has 0 bytes, wanted"),
        (lambda file: file.write_bytes(file.read_bytes() + b"\0"), "bytes, wanted"),
        (lambda file: with_header(file, header((8, 4, 2, 3))), r"does not begin as \(8, 4, 3, 2\) float16"),
        (lambda file: with_header(file, header((8, 2, 3, 2), "float32")), "does not begin as"),
        (lambda file: with_header(file, b"PK\x03\x04"), "does not begin as"),
        (lambda file: (file.unlink(), file.mkdir()), "is missing"),
    ],
    ids=["truncated", "empty", "longer", "other shape", "other type", "no array", "a folder"],
)
def test_a_damaged_array_is_named(damaged, change, message):
    damaged("train", change, message)


def test_an_array_truncated_after_the_store_was_opened_is_not_mapped(store, tmp_path):
    opened = FeatureStore(shutil.copytree(store, tmp_path / "one"))
    os.truncate(opened.path / "train.npy", 200)
    with pytest.raises(StoreError, match=r"train\.npy has 200 bytes, wanted"):
        opened.features("train")


def test_another_stores_manifest_is_found_by_verify(store, tmp_path):
    other = StoreBuilder(tmp_path / "other", manifest())
    assert other.begin()
    other.publish()
    mixed = shutil.copytree(store, tmp_path / "mixed")
    shutil.copy(other.path / MANIFEST, mixed / MANIFEST)
    with pytest.raises(StoreError, match=r"train\.npy has changed"):
        FeatureStore(mixed).verify()


# Damaged manifests.


def same_or_refused(path, text):
    """Whether a store is refused with this manifest; else it must be what it was."""
    sound = (path / MANIFEST).read_bytes()
    (path / MANIFEST).write_bytes(text)
    try:
        opened = FeatureStore(path)
    except StoreError as error:
        assert MANIFEST in str(error)  # noqa: PT017  # both ends are right
        return True
    finally:
        (path / MANIFEST).write_bytes(sound)
    assert opened.manifest == manifest()
    assert opened.manifest.sha256 == FeatureStore(path).manifest.sha256
    return False


def damages(text):
    """Texts that a fault could leave in place of this one."""
    places = st.integers(0, len(text) - 1)
    pairs = st.tuples(places, places).map(sorted)
    return st.one_of(
        st.tuples(places, st.integers(0, 7)).map(
            lambda p: text[: p[0]] + bytes([text[p[0]] ^ 1 << p[1]]) + text[p[0] + 1 :]
        ),
        places.map(lambda end: text[:end]),
        pairs.map(lambda p: text[: p[0]] + text[p[1] :]),
        pairs.map(lambda p: text[: p[1]] + text[p[0] :]),
        st.tuples(places, st.binary(max_size=8)).map(lambda p: text[: p[0]] + p[1] + text[p[0] :]),
        pairs.map(lambda p: text[: p[0]] + bytes(p[1] - p[0]) + text[p[1] :]),
        st.binary(max_size=64),
    )


@pytest.mark.parametrize("examples", [60, pytest.param(1000, marks=pytest.mark.nightly)])
def test_a_damaged_manifest_is_refused_or_says_the_same(store, examples):
    text = (store / MANIFEST).read_bytes()

    @settings(max_examples=examples, deadline=None, database=None)
    @given(damages(text))
    def damage(changed):
        same_or_refused(store, changed)

    damage()


def test_a_flipped_bit_in_any_byte_of_a_manifest(store):
    """Of each, since a label is one character."""
    text = (store / MANIFEST).read_bytes()
    try:
        for place in range(len(text)):
            flipped = bytearray(text)
            flipped[place] ^= 1
            (store / MANIFEST).write_bytes(flipped)
            with pytest.raises(StoreError, match=MANIFEST):
                FeatureStore(store)
    finally:
        (store / MANIFEST).write_bytes(text)


def test_another_layout_of_a_manifest_is_the_same(store):
    text = (store / MANIFEST).read_text()
    assert not same_or_refused(store, json.dumps(json.loads(text)).encode())


@pytest.mark.parametrize("text", [b"[" * 100_000, b"1" * 5000, b'{"format": 3, "format": 1e999}', b"\xff\xfe{"])
def test_strange_json_is_refused(store, text):
    assert same_or_refused(store, text)


def places_in(value, path=()):
    """The paths to all values in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


def replaced(value, path, other):
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], other)
    return copy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("examples", [50, pytest.param(1000, marks=pytest.mark.nightly)])
def test_a_manifest_of_anybodys_with_the_right_sha256_opens_nothing_wrong(store, examples):
    sound = (store / MANIFEST).read_bytes()
    fields = json.loads(sound)
    places = sorted(places_in(fields), key=str)
    huge = st.sampled_from([10**4000, -1, 0, "../train", "object", "float64"])

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.sampled_from(places), JSON | huge)
    def forge(place, value):
        forged = replaced(fields, place, value)
        if isinstance(forged, dict):
            forged.pop(OWN_DIGEST, None)
            forged[OWN_DIGEST] = _digest(forged)
        (store / MANIFEST).write_text(json.dumps(forged))
        try:
            opened = FeatureStore(store)
            for split in opened.splits:
                shape = (len(opened.paths(split)), *SHAPE)
                assert opened.features(split).shape == shape
                assert set(opened.labels(split).tolist()) <= set(range(len(opened.class_names)))
            assert repr(opened)
        except StoreError as error:
            assert str(store) in str(error)  # noqa: PT017  # both ends are right
        finally:
            (store / MANIFEST).write_bytes(sound)

    forge()


def test_names_that_are_not_unicode_are_kept(tmp_path):
    split = SplitManifest((os.fsdecode(b"train/caf\xe9.jpg"), "train/café.jpg"), (0, 1))
    builder = StoreBuilder(tmp_path / "one", Manifest("f", {}, ("a", "b"), SHAPE, "float16", {"train": split}))
    assert builder.begin()
    builder.publish()
    assert FeatureStore(builder.path).paths("train") == split.paths


def test_a_store_of_an_older_format_is_refused_and_extracted_again(
    image_folder, tmp_path, quiet_trainer, monkeypatch
):
    images = ImageFolderDataModule(str(image_folder), image_size=32, max_images=2, num_workers=0)
    backbone = Backbone("squeezenet1_1", weights=None)
    with monkeypatch.context() as older:
        older.setattr("lightning_transfer.features.manifest.FORMAT", 1)
        older.setattr("lightning_transfer.features.extract.FORMAT", 1)
        old = extract_features(quiet_trainer(), backbone, images, root=tmp_path).path
    with pytest.raises(StoreError, match=r"format 1, this version reads 3.* Remove .*extracted again"):
        FeatureStore(old)
    assert extract_features(quiet_trainer(), backbone, images, root=tmp_path).path != old


# Disks.


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_too_full_a_disk_is_said_before_anything_is_written(disk):
    builder = StoreBuilder(disk / "f" / "one", manifest((2048, 9, 9)))
    with pytest.raises(StoreError, match=r"3,981,\d+ bytes cannot .*one: No space left.*features\.root"):
        builder.begin()
    assert left(disk / "f") == set()
    assert build(disk / "f" / "one")


def test_a_disk_that_fills_up_later_finds_the_room_taken(disk):
    builder = StoreBuilder(disk / "one", manifest((512, 9, 9)))
    assert builder.begin()
    free = os.statvfs(disk)
    (disk / "others").write_bytes(bytes(free.f_bavail * free.f_bsize))
    for split, count in COUNTS.items():
        builder.write(split, range(count), np.ones((count, 512, 9, 9)))
    with pytest.raises(StoreError, match=r"cannot be made at .*one: No space left"):
        builder.publish()  # the manifest alone has no room
    assert left(disk) == {"others"}
    (disk / "others").unlink()
    assert build(disk / "one")


def test_a_limit_on_files_is_said(tmp_path):
    """In a process of its own, since the limit cannot be lifted again."""

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        with pytest.raises(StoreError, match=r"bytes cannot be made at .*one: File too large"):
            build(tmp_path / "f" / "one")

    assert run_and_kill(limited) == 0
    assert left(tmp_path / "f") == set()


def test_a_full_disk_in_an_extraction_leaves_nothing(
    image_folder, weights_file, tmp_path, quiet_trainer, monkeypatch
):
    calls, pwrite = [], os.pwrite

    def fills_up(*arguments):
        calls.append(arguments)
        return full() if len(calls) > 15 else pwrite(*arguments)

    monkeypatch.setattr(os, "pwrite", fills_up)
    images = ImageFolderDataModule(str(image_folder), image_size=64, batch_size=6, num_workers=0)
    with pytest.raises(StoreError, match=r"cannot be made at .*-fire9-64-\w+: No space left on device"):
        extract_features(
            quiet_trainer(), Backbone("squeezenet1_1", str(weights_file)), images, root=tmp_path / "f"
        )
    assert left(tmp_path / "f") == set()


def test_short_writes_are_finished(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: pwrite(file, data[:7], offset))
    assert build(tmp_path / "one")
    assert_whole(tmp_path / "one")


def test_a_complete_store_opens_and_trains_on_a_disk_that_cannot_be_written(
    image_folder, weights_file, disk, quiet_trainer, passes
):
    images = ImageFolderDataModule(str(image_folder), image_size=64, batch_size=6, num_workers=0)

    def extract(root):
        return extract_features(quiet_trainer(), Backbone("squeezenet1_1", str(weights_file)), images, root=root)

    path = extract(disk / "f").path
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OSError, match="Read-only"):
        (path / "new").touch()
    passed = len(passes)
    store = extract(disk / "f")
    assert (store.path, len(passes)) == (path, passed)
    torch.manual_seed(0)
    model = FeatureClassifier(
        "squeezenet1_1", weights=str(weights_file), num_classes=2, image_size=64, pool="avg", hidden=8, lr=1e-2
    )
    before = [weight.clone() for weight in model.head.parameters()]
    quiet_trainer(max_epochs=1).fit(model, FeatureDataModule(store))
    assert not all(map(torch.equal, before, model.head.parameters()))
    with pytest.raises(StoreError, match=r"cannot be made at .*other.*: Read-only file system.*another place"):
        extract(disk / "other")


# Other inputs.


def test_what_is_left_of_a_store_is_not_built_over(tmp_path):
    path = tmp_path / "one"
    assert build(path)
    (path / MANIFEST).unlink()
    with pytest.raises(StoreError, match=r"one is there, without a manifest\.json: remove it"):
        build(path)
    shutil.rmtree(path)
    assert build(path)


def test_a_store_under_anothers_name_is_refused(image_folder, tmp_path, quiet_trainer):
    backbone = Backbone("squeezenet1_1", weights=None)

    def extract(size):
        images = ImageFolderDataModule(str(image_folder), image_size=size, max_images=2, num_workers=0)
        return extract_features(quiet_trainer(), backbone, images, root=tmp_path)

    small, large = extract(32).path, extract(40).path
    shutil.rmtree(large)
    small.rename(large)
    with pytest.raises(StoreError, match="holds features of other inputs than its name says"):
        extract(40)


def test_versions_and_formats_make_other_stores(image_folder, monkeypatch):
    images = ImageFolderDataModule(str(image_folder), image_size=32, num_workers=0)
    images.setup()
    datasets = {split: images.dataset(split) for split in images.splits}
    backbone = Backbone("squeezenet1_1", weights=None)

    def fingerprint():
        return extraction._manifest(backbone, images, datasets, "float16", "32-true", 1).fingerprint

    found = [fingerprint(), fingerprint()]
    for module in (torch, torchvision, PIL):
        with monkeypatch.context() as other:
            other.setattr(module, "__version__", "9.9.9")
            found.append(fingerprint())
    monkeypatch.setattr(extraction, "FORMAT", 99)
    found.append(fingerprint())
    assert found[0] == found[1]
    assert len(set(found)) == len(found) - 1
