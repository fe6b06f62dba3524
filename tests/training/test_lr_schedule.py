"""The rates against torch's schedulers on their own, with a warm-up computed by hand."""

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, lr_scheduler

from lightning_transfer.errors import ModuleError
from lightning_transfer.training.lr_schedule import LENGTHS, NOT_BY_NAME, StageLRScheduler, lr_schedule

STEPS, EPOCHS = 20, 5
OPTIONS = {
    "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 3]},
    "ExponentialLR": {"gamma": 0.9},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "cycle_momentum": False},
    "CosineAnnealingWarmRestarts": {"T_0": 2},
}


def make_optimizer():
    torch.manual_seed(0)
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": rate} for rate in (0.1, 0.5)]
    return SGD(groups, momentum=0.9)


def run(schedule, epochs=range(EPOCHS), scores=(1.0,) * EPOCHS):
    """The rates in force at each step, stepped as a fit does."""
    rates = []
    for epoch in epochs:
        for _ in range(STEPS // EPOCHS):
            rates.append([group["lr"] for group in schedule.optimizer.param_groups])
            schedule.optimizer.step()
            schedule.step()
        schedule.validation_end(scores[epoch])
        schedule.epoch_end()
    return rates


def made(name, options=None, interval=None, warmup=0):
    optimizer = make_optimizer()
    return lr_schedule(optimizer, name, options or {}, interval, warmup, STEPS, EPOCHS)


BY_NAME = [name for name in lr_scheduler.__all__ if name not in NOT_BY_NAME and name != "ReduceLROnPlateau"]


@pytest.mark.parametrize("name", BY_NAME)
def test_each_scheduler_of_torch_gives_its_own_rates(name):
    options = OPTIONS.get(name, {})
    optimizer = make_optimizer()
    filled = {"OneCycleLR": {"max_lr": [0.1, 0.5], "total_steps": STEPS}, "CosineAnnealingLR": {"T_max": STEPS}}
    alone = getattr(lr_scheduler, name)(optimizer, **options, **filled.get(name, {}))
    expected = []
    for step in range(STEPS):
        expected.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        last = step == STEPS - 1
        if (name in LENGTHS or (step + 1) % (STEPS // EPOCHS) == 0) and not last:
            alone.step()
    assert run(made(name, options)) == expected


def test_short_names_stand_for_torchs():
    for short, name in (("cosine", "CosineAnnealingLR"), ("one_cycle", "OneCycleLR")):
        assert run(made(short)) == run(made(name))
    assert isinstance(made("plateau").scheduler, lr_scheduler.ReduceLROnPlateau)
    assert made(None).scheduler is None


def test_an_interval_of_epochs_counts_epochs():
    rates = run(made("cosine", interval="epoch"))
    assert [len(set(map(tuple, rates[start : start + 4]))) for start in range(0, STEPS, 4)] == [1] * EPOCHS
    assert rates[8] == pytest.approx([0.1 * 0.6545084972, 0.5 * 0.6545084972])  # (1 + cos 2π/5) / 2


def test_a_plateau_hears_of_each_validation():
    schedule = made("plateau", {"patience": 1, "factor": 0.1})
    rates = run(schedule, scores=[1.0, 0.5, 0.6, 0.7, 0.4])
    assert [rates[start][0] for start in range(0, STEPS, 4)] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01])


@pytest.mark.parametrize("name", [None, "cosine", "plateau", "ExponentialLR"])
def test_each_stage_warms_up_from_its_own_unfreeze_on(name):
    options = OPTIONS.get(name, {})
    schedule = made(name, options, warmup=4)
    plain = made(name, options) or StageLRScheduler(make_optimizer())
    late = schedule.optimizer.param_groups[0]["params"][0].requires_grad_(False)
    rates = run(schedule, range(2))
    late.requires_grad_(True)
    rates += run(schedule, range(2, EPOCHS))
    full = run(plain)
    for step in range(STEPS):
        early_factor = min(1, (step + 1) / 4)
        late_factor = min(1, (max(0, step - 8) + 1) / 4)
        assert rates[step] == pytest.approx([full[step][0] * late_factor, full[step][1] * early_factor]), step


def test_a_stage_warms_up_though_its_first_parameter_is_frozen():
    schedule = made(None, warmup=4)
    group = schedule.optimizer.param_groups[0]
    group["params"].insert(0, nn.Parameter(torch.zeros(1), requires_grad=False))
    rates = run(schedule, range(2))
    assert [rate for rate, _ in rates] == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("name", [None, "cosine", "one_cycle", "plateau", "ExponentialLR"])
@pytest.mark.parametrize("stopped", [1, 2, 4])
def test_it_goes_on_where_it_was_saved(name, stopped):
    scores = [1.0, 1.0, 1.0, 0.5, 0.2]
    options = {"patience": 0} if name == "plateau" else OPTIONS.get(name, {})
    whole = run(made(name, options, warmup=6), scores=scores)
    first = made(name, options, warmup=6)
    run(first, range(stopped), scores)
    state = copy.deepcopy((first.state_dict(), first.optimizer.state_dict()))
    again = made(name, options, warmup=6)
    again.optimizer.load_state_dict(state[1])
    again.load_state_dict(state[0])
    assert run(again, range(stopped, EPOCHS), scores) == whole[stopped * 4 :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cosin",), "scheduler='cosin': wanted cosine, one_cycle, plateau or one of .*StepLR"),
        (("LambdaLR",), "override configure_optimizers"),
        (("StepLR", {"size": 2}), "StepLR has no size, but step_size, gamma"),
        (("StepLR",), "do not make a StepLR: .*step_size"),
        (("cosine", {}, "batch"), "scheduler_interval='batch': wanted step or epoch"),
        ((None, {}, None, -1), "warmup_steps=-1"),
    ],
)
def test_what_cannot_be_made_is_named(arguments, message):
    with pytest.raises(ModuleError, match=message):
        made(*arguments)


def test_a_run_without_end_has_no_cosine():
    for endless in (-1, float("inf")):
        with pytest.raises(ModuleError, match="CosineAnnealingLR needs the length of the run: set max_epochs"):
            lr_schedule(make_optimizer(), "cosine", {}, None, 0, endless, endless)


def test_the_state_of_other_groups_is_refused():
    alone = StageLRScheduler(AdamW([nn.Parameter(torch.zeros(1))]))
    with pytest.raises(ModuleError, match=r"made with 2 parameter groups, this run has 1: .*init_from"):
        alone.load_state_dict(StageLRScheduler(make_optimizer()).state_dict())


def test_a_one_cycle_that_is_too_short_is_refused_before_the_run():
    with pytest.raises(ModuleError, match="OneCycleLR of 5 steps, and the run has 20: leave its length out"):
        made("one_cycle", {"total_steps": 5})


# What is asked of the run that resumes: scheduler, options, interval, lr of the head.
OTHERS = {
    "another lr": ("cosine", {}, None, 0.05),
    "another lr, constant": (None, {}, None, 0.05),
    "from a cosine to a one-cycle": ("one_cycle", {}, None, 0.5),
    "to another class": ("ExponentialLR", {"gamma": 0.5}, None, 0.5),
    "to epochs": ("cosine", {}, "epoch", 0.5),
    "from constant rates": ("StepLR", {"step_size": 2}, None, 0.5),
}
BEFORE = {"another lr, constant": None, "from constant rates": None}


@pytest.mark.parametrize("case", OTHERS)
def test_what_is_asked_at_a_resume_is_what_a_whole_run_with_it_has(case):
    """From the epoch that was reached: as if the run had had these arguments from the start."""
    first = made(BEFORE.get(case, "cosine"), warmup=3)
    run(first, range(2))
    state = copy.deepcopy((first.state_dict(), first.optimizer.state_dict()))
    name, options, interval, lr = OTHERS[case]

    def asked():
        optimizer = make_optimizer()
        optimizer.param_groups[1]["lr"] = lr
        optimizer.param_groups[1]["weight_decay"] = 0.3
        return lr_schedule(optimizer, name, options, interval, 3, STEPS, EPOCHS)

    again = asked()
    again.optimizer.load_state_dict(state[1])
    again.load_state_dict(state[0])
    np.testing.assert_allclose(run(again, range(2, EPOCHS)), run(asked())[8:])
    assert again.optimizer.param_groups[1]["weight_decay"] == 0.3


@pytest.mark.parametrize("name", ["cosine", "one_cycle"])
@pytest.mark.parametrize("factor", [1, 2])
def test_a_longer_run_follows_its_own_formula_and_never_climbs(name, factor):
    """Twice the epochs, with as many steps each or twice as many."""
    first = made(name)
    run(first)
    again = lr_schedule(make_optimizer(), name, {}, None, 0, 2 * factor * STEPS, 2 * EPOCHS, 4 * factor)
    whole = lr_schedule(make_optimizer(), name, {}, None, 0, 2 * factor * STEPS, 2 * EPOCHS, 4 * factor)
    state = {**first.state_dict(), "steps_per_epoch": 4}
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    again.load_state_dict(state)
    rates = [[0.1, 0.5], *run_steps(again, factor * STEPS)]
    assert rates[1:] == run_steps(whole, 2 * factor * STEPS)[factor * STEPS :]
    assert all(
        later < rate for rate, later in itertools.pairwise(rates) for rate, later in zip(rate, later, strict=True)
    )


def run_steps(schedule, steps):
    """The rates in force at each of some steps."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.optimizer.step()
        schedule.step()
    return rates


def test_a_plateau_keeps_what_it_has_seen():
    first = made("plateau", {"patience": 0, "factor": 0.1})
    run(first, range(2), [1.0, 2.0])
    again = made("plateau", {"patience": 1, "factor": 0.5})
    again.optimizer.param_groups[1]["lr"] = 0.5
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    again.load_state_dict(first.state_dict())
    rates = run(again, range(3), [2.0, 2.0, 2.0])
    assert [rates[step][0] for step in (0, 4, 8)] == pytest.approx([0.01, 0.01, 0.005])
    assert again.scheduler.best == 1.0


def test_fewer_epochs_than_were_done_are_no_error():
    first = made("one_cycle")
    run(first)
    again = lr_schedule(make_optimizer(), "one_cycle", {}, None, 0, STEPS // 2, EPOCHS)
    again.optimizer.load_state_dict(first.optimizer.state_dict())
    again.load_state_dict(first.state_dict())
    assert again.optimizer.param_groups[0]["lr"] < 1e-4
