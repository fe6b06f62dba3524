"""What a start has read of a folder is recalled by the next, and nothing that has changed is."""

import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from conftest import draw_image
from lightning_transfer import ImageFolderDataModule
from lightning_transfer.data import checks, duplicates, known_files, scan_cache

START = """
import sys
from lightning_transfer import ImageFolderDataModule
data = ImageFolderDataModule(sys.argv[1], left_out_report=None)
data.setup()
print(data.num_samples())
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, which trusts files that were made a moment ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(scan_cache, "SETTLED", 0)
    return tmp_path / "cache" / "lightning-transfer" / "scan"


@pytest.fixture
def folder(tmp_path, cache):
    """Twenty images of equal size, two of which are equal, in one class."""
    root = tmp_path / "images"
    for number in range(20):
        path = root / ("cats" if number % 2 else "dogs") / f"{number:02d}.bmp"
        draw_image(path, (200, 90, 60), seed=number, size=(16, 12))
    shutil.copy(root / "cats" / "01.bmp", root / "cats" / "03.bmp")
    return root


@pytest.fixture
def reads(monkeypatch):
    """The files that are opened to be compared or decoded."""
    opened = []

    def counting(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda path, **kwargs: [opened.append(Path(path)), real(path, **kwargs)][1]
        )

    counting(known_files, "sha256_of")
    counting(checks, "defect_of")
    counting(duplicates, "defect_of")
    real = os.pread
    monkeypatch.setattr(known_files.os, "pread", lambda *args: [opened.append(args), real(*args)][1])
    return opened


def start(root, **arguments):
    data = ImageFolderDataModule(str(root), left_out_report=None, **arguments)
    data.setup()
    return data.index


def swap(path, other):
    """Changes a file in place to another's content; the size stays."""
    content = other.read_bytes()
    assert len(content) == path.stat().st_size
    with path.open("r+b") as file:
        file.write(content)


def paths_of(index):
    return {path for samples in index.splits.values() for path in samples.paths}


@pytest.mark.parametrize("arguments", [{}, {"duplicates": "error"}, {"on_bad_image": "skip"}, {"max_images": 5}])
def test_a_second_start_reads_nothing(folder, reads, arguments):
    arguments = {"split": (0.6, 0.2, 0.2), **arguments}
    if arguments.get("duplicates") == "error":
        (folder / "cats" / "03.bmp").unlink()
    first = start(folder, **arguments)
    assert reads
    reads.clear()
    assert start(folder, **arguments) == first
    assert reads == []
    assert start(folder, use_cache=False, **arguments) == first
    assert reads


def test_without_it_nothing_is_kept(folder, cache):
    start(folder, use_cache=False)
    assert not cache.exists()


def test_other_seeds_and_fewer_images_are_known_too(folder, reads):
    start(folder)
    reads.clear()
    start(folder, split_seed=1, seed=2)
    start(folder, split=(0.5, 0.25, 0.25), max_images=3)
    assert reads == []


@pytest.mark.parametrize("keeps_time", [False, True])
def test_a_file_changed_in_place_is_noticed(folder, keeps_time):
    dog, cat = folder / "dogs" / "00.bmp", folder / "cats" / "05.bmp"
    start(folder)
    before = dog.stat()
    swap(dog, cat)
    if keeps_time:  # as some copying programs do
        os.utime(dog, ns=(before.st_atime_ns, before.st_mtime_ns))
    index = start(folder)
    assert index == start(folder, use_cache=False)
    assert {path for path, _ in index.left_out} == {"dogs/00.bmp", "cats/05.bmp"}


def test_a_file_that_was_bad_and_is_mended_comes_back(folder):
    path = folder / "dogs" / "00.bmp"
    content = path.read_bytes()
    path.write_bytes(b"no image")
    assert "dogs/00.bmp" not in paths_of(start(folder, on_bad_image="skip"))
    assert "dogs/00.bmp" not in paths_of(start(folder, on_bad_image="skip"))
    path.write_bytes(content)
    assert "dogs/00.bmp" in paths_of(start(folder, on_bad_image="skip"))


def test_another_limit_of_pixels_decodes_again(folder, reads):
    start(folder, on_bad_image="skip")
    reads.clear()
    assert start(folder, on_bad_image="skip", max_pixels=16 * 12)
    assert len([path for path in reads if isinstance(path, Path)]) >= 20


def test_files_and_folders_added_removed_and_renamed_are_noticed(folder):
    def changed():
        index = start(folder)
        assert index == start(folder, use_cache=False)
        return paths_of(index)

    names = changed()
    shutil.copy(folder / "cats" / "05.bmp", folder / "dogs" / "copy.bmp")
    assert changed() == names - {"cats/05.bmp"}  # and the copy, as of two labels
    (folder / "dogs" / "copy.bmp").unlink()
    assert changed() == names
    (folder / "cats" / "05.bmp").rename(folder / "cats" / "new.bmp")
    assert changed() == names - {"cats/05.bmp"} | {"cats/new.bmp"}
    # Two files of equal size change names.
    (folder / "cats" / "new.bmp").rename(folder / "cats" / "tmp")
    (folder / "dogs" / "00.bmp").rename(folder / "cats" / "new.bmp")
    (folder / "cats" / "tmp").rename(folder / "dogs" / "00.bmp")
    changed()
    (folder / "cats").rename(folder / "horses")
    assert {path.split("/")[0] for path in changed()} == {"dogs", "horses"}
    shutil.copytree(folder / "dogs", folder / "birds")
    assert {path.split("/")[0] for path in changed()} == {"horses"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"no archive",
        lambda content: content[: len(content) // 2],
        lambda content: content[:200] + bytes(64) + content[264:],
    ],
)
def test_a_damaged_cache_changes_nothing(folder, cache, damage, reads):
    first = start(folder)
    (path,) = cache.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert start(folder) == first
    reads.clear()
    assert start(folder) == first  # it has been made anew
    assert reads == []


def test_a_cache_of_other_arrays_is_refused(folder, cache, reads):
    first = start(folder)
    (path,) = cache.iterdir()
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in ({"digested": arrays["digested"] + 100}, {"tails": arrays["tails"][1:]}):
        np.savez(path, **(arrays | change))
        assert start(folder) == first


@pytest.mark.parametrize("blocked", ["lightning-transfer", "lightning-transfer/scan"])
def test_a_cache_that_cannot_be_written_changes_nothing(folder, tmp_path, cache, blocked):
    first = start(folder, use_cache=False)
    place = tmp_path / "cache" / blocked
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("a file in its place")
    assert start(folder) == first
    assert start(folder) == first


def test_what_was_changed_a_moment_ago_is_not_trusted(folder, monkeypatch, reads):
    monkeypatch.setattr(scan_cache, "SETTLED", 3600 * 10**9)
    start(folder)
    reads.clear()
    start(folder)
    assert reads


def test_what_is_not_used_for_long_is_removed(folder, cache, monkeypatch):
    cache.mkdir(parents=True)
    for name, days in (("old.npz", 91), ("young.npz", 89)):
        (cache / name).write_bytes(b"0" * 1000)
        os.utime(cache / name, (time.time() - days * 24 * 3600,) * 2)
    start(folder)
    assert not (cache / "old.npz").exists()
    assert (cache / "young.npz").exists()
    monkeypatch.setattr(scan_cache, "MAX_BYTES", 1)
    (folder / "cats" / "01.bmp").touch()
    start(folder)
    assert not (cache / "young.npz").exists()


def test_two_processes_at_once(folder, cache):
    command = [sys.executable, "-c", START, str(folder)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len(list(cache.iterdir())) == 1


def test_the_memory_an_image(tmp_path, cache):
    root, count = tmp_path / "many", 5000
    random = np.random.default_rng(0)
    for number, size in enumerate(random.lognormal(np.log(2000), 0.5, count).astype(int)):
        path = root / f"class{number % 10}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(size + 10))
    for _ in range(2):
        tracemalloc.start()
        index = start(root)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (peak - sum(path.__sizeof__() for path in paths_of(index))) / count < 200
