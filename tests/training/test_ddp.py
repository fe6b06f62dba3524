"""Two processes are one: replicas equal to the last bit, one process with the joint batch, and an exact resume."""

from pathlib import Path

import pytest
import torch

from ddp_runs import FIRE, JOINT, STOPPED
from lightning_transfer import StagedUnfreeze
from runs import Watch, differing, fine_tuning, finished, images_of, saved

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(image_folder, tmp_path_factory):
    """What both processes left, by the run's name; and the folder."""
    out = tmp_path_factory.mktemp("ddp")
    done = finished(Path(__file__).parent.parent / "ddp_runs.py", image_folder, out)
    assert done.returncode == 0, done.stderr[-3000:]
    names = {path.name.split(".")[0] for path in out.glob("*.pt")}
    return {
        name: [torch.load(out / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1)] for name in names
    }, out


def test_replicas_are_equal_after_each_epoch_of_each_run(runs):
    seen, _ = runs
    names = [
        "joint",
        "accumulated",
        "whole",
        "adaptive",
        "averaged",
        "tokens",
        "tokens_from_1",
        "recipe",
        "recipe_from_1",
    ]
    names += [f"{kind}_from_{stopped}" for kind in ("whole", "adaptive") for stopped in STOPPED]
    assert seen.keys() == {*names, "not_wrapped_again"}
    for name in names:
        one, other = seen[name]
        assert one["complaint"] == ""
        assert max(one["weights"]) == 3
        assert differing(one["weights"], other["weights"]) == [], name
        assert differing(one["scores"], other["scores"]) == [], name


@pytest.mark.parametrize(("name", "batches"), [("joint", 1), ("accumulated", 2)])
def test_it_is_one_process_with_the_joint_batch(runs, quiet_trainer, image_folder, name, batches):
    watch = Watch()
    trainer = quiet_trainer(
        max_epochs=4,
        callbacks=[StagedUnfreeze(FIRE), watch],
        precision="64-true",
        accumulate_grad_batches=batches,
    )
    trainer.fit(fine_tuning(**JOINT), images_of(image_folder, batch_size=6))
    seen = runs[0][name][0]
    for epoch, weights in watch.weights.items():
        for key, value in weights.items():
            torch.testing.assert_close(
                seen["weights"][epoch][key],
                value,
                rtol=1e-9,
                atol=1e-9,
                msg=lambda text, key=key: f"{key}: {text}",
            )
        for score, value in watch.scores[epoch].items():
            torch.testing.assert_close(seen["scores"][epoch][score], value, msg=score)
    assert differing(
        watch.weights[0]["network.head.logits.weight"], watch.weights[3]["network.head.logits.weight"]
    )


@pytest.mark.parametrize("kind", ["whole", "adaptive", "tokens", "recipe"])
@pytest.mark.parametrize("stopped", STOPPED)
def test_a_resumed_run_is_the_whole_one(runs, kind, stopped):
    seen, out = runs
    assert differing(saved(out / kind / "3.ckpt"), saved(out / f"{kind}_from_{stopped}" / "3.ckpt")) == []
    for whole, resumed in zip(seen[kind], seen[f"{kind}_from_{stopped}"], strict=True):
        for epoch in range(stopped + 1, 4):
            assert differing(whole["weights"][epoch], resumed["weights"][epoch]) == []
            assert differing(whole["scores"][epoch], resumed["scores"][epoch]) == []


def test_norms_and_what_others_froze_stay_as_they_were(runs):
    """Each step comes after one epoch; EarlyStopping, which never sees an improvement, waits for both."""
    first, last = (runs[0]["recipe"][0]["weights"][epoch] for epoch in (0, 3))
    changed = {key for key in first if not torch.equal(first[key], last[key])}
    backbone = [key.removeprefix("network.backbone.stages.") for key in changed if ".backbone." in key]
    assert {key.split(".")[0] for key in backbone} == {"last_conv", "block5"}
    assert not [key for key in backbone if ".fc1." in key or "running" in key or "num_batches" in key]
    assert [key for key in backbone if ".fc2." in key]


def test_without_wrapping_again_replicas_drift_and_the_audit_says_so(runs):
    one, other = runs[0]["not_wrapped_again"]
    assert differing(one["weights"][0], other["weights"][0]) == []
    assert differing(one["weights"][1], other["weights"][1])
    for seen in (one, other):
        assert "not the same in all processes: network.backbone.stages.last_conv." in seen["complaint"]
