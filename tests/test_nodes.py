"""Two nodes, simulated on one machine over gloo and a shared folder, train as two processes of one node do.

The default run launches two nodes once; torchrun, SLURM and the comparison with one node run under `make nightly`.
"""

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_transfer import Backbone, FeatureStore, ImageFolderDataModule, extract_features
from node_runs import SAMPLES, SIZE
from runs import differing

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parent / "node_runs.py"
REGIMES = ("features", "frozen", "tuned")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def by_srun(node):
    """The variables that SLURM's srun sets for the only process of one of two nodes."""
    of_the_job = {"JOB_ID": "7", "JOB_NAME": "fit", "NNODES": "2", "NTASKS": "2", "NTASKS_PER_NODE": "1"}
    of_the_process = {"PROCID": str(node), "NODEID": str(node), "LOCALID": "0"}
    return {f"SLURM_{name}": value for name, value in (of_the_job | of_the_process).items()}


def run(folder, *lines, slurm=False):
    """Runs processes side by side in a folder, each a node, and returns their output."""
    folder.mkdir()
    own = {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            list(map(str, line)),
            cwd=folder,
            env={**os.environ, **own, **(by_srun(node) if slurm else {"NODE_RANK": str(node)})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for node, line in enumerate(lines)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(lines), "\n".join(said)[-5000:]
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("nodes")


@pytest.fixture(scope="module")
def two_nodes(folder, image_folder, weights_file):
    """Two launches with Lightning's own variables."""
    line = (sys.executable, SCRIPT, "regimes", image_folder, weights_file, 2, 1)
    run(folder / "two_nodes", line, line)
    return folder / "two_nodes"


@pytest.fixture(scope="module")
def under_torchrun(folder, image_folder, weights_file):
    """The same by torchrun."""
    port = free_port()
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1")
    place = ("--master_addr=127.0.0.1", f"--master_port={port}")
    script = (SCRIPT, "regimes", image_folder, weights_file, 2, 1)
    lines = [(*launcher, *place, f"--node_rank={node}", *script) for node in (0, 1)]
    run(folder / "torchrun", *lines)
    return folder / "torchrun"


@pytest.fixture(scope="module")
def one_node(folder, image_folder, weights_file):
    """Two processes of one node."""
    run(folder / "one_node", (sys.executable, SCRIPT, "regimes", image_folder, weights_file, 1, 2))
    return folder / "one_node"


@pytest.fixture(params=["two_nodes", pytest.param("under_torchrun", marks=pytest.mark.nightly)])
def shared(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def commands(folder, image_folder, weights_file):
    """The command line on two nodes under SLURM, and its output."""
    line = (sys.executable, SCRIPT, "commands", image_folder, weights_file, 2, 1)
    return folder / "commands", run(folder / "commands", line, line, slurm=True)


def left(folder, name):
    return [torch.load(folder / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1)]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_store_is_complete_and_that_of_a_single_process(
    shared, image_folder, weights_file, tmp_path, quiet_trainer
):
    (path,) = [entry for entry in (shared / "features").iterdir() if entry.suffix != ".lock"]
    store = FeatureStore(path)
    images = ImageFolderDataModule(str(image_folder), image_size=SIZE, batch_size=5, num_workers=0)
    backbone = Backbone("squeezenet1_1", str(weights_file))
    single = extract_features(quiet_trainer(precision="32-true"), backbone, images, root=tmp_path, dtype="float32")
    assert store.manifest == single.manifest
    for split in ("train", "validation", "test"):
        np.testing.assert_allclose(store.features(split), single.features(split), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("regime", REGIMES)
def test_both_nodes_end_with_the_weights_that_are_saved(shared, regime):
    first, second = left(shared, regime)
    assert differing(first, second) == []
    saved = torch.load(shared / "checkpoints" / regime / "last.ckpt", weights_only=True)["state_dict"]
    assert differing(first["weights"], saved) == []


@pytest.mark.nightly
@pytest.mark.parametrize("regime", REGIMES)
def test_two_nodes_end_with_the_weights_of_one_with_two_processes(shared, one_node, regime):
    assert differing(left(shared, regime)[0], left(one_node, regime)[0]) == []


def test_something_was_trained_and_unfrozen(two_nodes):
    frozen, tuned = left(two_nodes, "frozen")[0]["weights"], left(two_nodes, "tuned")[0]["weights"]
    changed = {
        name.split(".")[3]
        for name in frozen
        if name.startswith("network.backbone.") and differing(frozen[name], tuned[name])
    }
    assert changed == {"fire9"}


def test_only_the_first_process_writes_checkpoints_and_logs(shared):
    first, second = (seen["written"] for seen in left(shared, "files"))
    assert {f"logs/{regime}/metrics.csv" for regime in REGIMES} <= first
    # Either process may draw the images.
    others = {name for name in second if not name.startswith("data") and not name.endswith(".1.pt")}
    assert len(others) == 3
    assert all(name.startswith("features/.") and name.endswith(".npy") for name in others), others


@pytest.mark.nightly
def test_two_nodes_leave_the_files_that_one_leaves(shared, one_node):
    assert files(shared) == files(one_node)


def test_images_are_drawn_once(shared):
    drawn = [name for name in files(shared) if name.endswith(".jpg")]
    assert len(drawn) == 2 * sum(SAMPLES.values())
    notes = [name for seen in left(shared, "files") for name in seen["written"] if name.endswith("sketches.json")]
    assert len(notes) == 1
    assert [path.name for path in (shared / "data").iterdir() if path.name != ".sketches.lock"] == ["sketches"]


@pytest.mark.nightly
def test_the_command_line_trains_and_predicts(commands):
    folder, (first, second) = commands
    assert {"best.ckpt", "last.ckpt"} <= {
        path.name for path in (folder / "checkpoints/feature_extraction").iterdir()
    }
    assert [path.name for path in (folder / "logs/feature_extraction").iterdir()] == ["version_0"]
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    assert all(float(row["probability_cats"]) + float(row["probability_dogs"]) > 0.99 for row in rows)
    assert "48 predictions: predictions.csv" in first
    assert "predictions" not in second
    written = left(folder, "files")[1]["written"]
    assert all(name.startswith("features/.") and name.endswith(".npy") for name in written), written


@pytest.mark.nightly
def test_nodes_that_do_not_see_the_same_get_errors(commands):
    folder, _ = commands
    for seen in left(folder, "apart"):
        store, others, fitting, predicting = seen["complaints"]
        assert "StoreError: The nodes do not share features: not every process sees" in store
        assert "--features.root" in store
        assert "StoreError: The processes would make different stores, the first squeezenet1_1-fire9-64-" in others
        for complaint in (fitting, predicting):
            assert "DataError: Not all processes find the same images in images: process 1 and" in complaint
    for node in ("node0", "node1"):
        assert [path for path in (folder / node / "features").glob("*") if path.suffix != ".lock"] == []
