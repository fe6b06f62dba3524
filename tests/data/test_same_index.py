"""Two processes of a run: the first finds the images, the second gets them, and both get the first one's error."""

import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import os, sys
import torch.distributed as dist
from lightning_transfer import ImageFolderDataModule
from lightning_transfer.errors import TransferError

rank, root, what = int(sys.argv[1]), sys.argv[2], sys.argv[4]
dist.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
if what == "apart":
    os.chdir(root + "_of_another" * rank)
    root = "."
data = ImageFolderDataModule(root, left_out_report=None)
scans = []
load = data.load_index
data.load_index = lambda: [scans.append(rank), load(), 1 / (what != "bug")][1]
try:
    data.setup()
    data.setup("test")
    print(len(scans), data.num_samples(), data.class_names)
except (TransferError, ZeroDivisionError) as error:
    print(type(error).__name__, error)
"""


def run(root, tmp_path, what=""):
    lines = [[sys.executable, "-c", SCRIPT, str(rank), str(root), str(tmp_path / "meet"), what] for rank in (0, 1)]
    own = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(line, env=own, **pipes) for line in lines]
    try:
        said = [process.communicate(timeout=120) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    return [output.strip() for output, _ in said]


@pytest.mark.nightly
def test_the_first_process_looks_and_the_other_gets_the_same(image_folder, tmp_path):
    assert run(image_folder, tmp_path) == ["1 24 ('cats', 'dogs')", "0 24 ('cats', 'dogs')"]


def test_an_error_of_the_first_is_raised_in_both(tmp_path):
    first, second = run(tmp_path / "nowhere", tmp_path)
    assert first == second
    assert first.startswith("DataError The folder of images")


def test_any_other_error_of_the_first_ends_the_second(image_folder, tmp_path):
    first, second = run(image_folder, tmp_path, "bug")
    assert first == "ZeroDivisionError division by zero"
    assert second.startswith("DataError Process 0 could not read the images (ZeroDivisionError: division by zero)")


ELSEWHERE = pytest.param("test/dogs", marks=pytest.mark.nightly)


@pytest.mark.parametrize("missing", ["train/cats/cats.3.jpg", ELSEWHERE])
def test_a_process_that_does_not_see_the_images_is_named_in_both(image_folder, tmp_path, missing):
    shutil.copytree(image_folder, tmp_path / "images")
    shutil.copytree(image_folder, tmp_path / "images_of_another")
    path = tmp_path / "images_of_another" / missing
    path.unlink() if path.is_file() else shutil.rmtree(path)
    first, second = run(tmp_path / "images", tmp_path, "apart")
    assert first == second
    assert first.startswith(
        "DataError Not all processes find the same images in .: process 1 and process 0 differ"
    )
    assert missing in first
