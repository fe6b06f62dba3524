"""Any value that YAML can write, as a schedule: a ScheduleError, or stages that train when they should."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule
from torch import nn

from lightning_transfer import StagedUnfreeze
from lightning_transfer.errors import ScheduleError

STAGES = ("stem", "body", "neck", "head")
ORDER = STAGES[::-1]


class Staged(LightningModule):
    """Four stages of one number each."""

    def __init__(self, audit: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layers = nn.ModuleDict({name: nn.Linear(1, 1, bias=False) for name in STAGES})

    @property
    def stages(self):
        return dict(self.layers.items())


names = st.sampled_from([*STAGES, "haed", ""]) | st.text(max_size=3)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | names
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=8,
)
nearly = st.dictionaries(
    st.integers(-1, 6) | st.floats(0, 3) | st.booleans() | st.sampled_from(["0", None]),
    st.lists(names, max_size=3) | values,
    max_size=4,
)


@st.composite
def right(draw):
    """The stages in order, cut into steps; the epochs in any order of writing."""
    depth = draw(st.integers(1, len(ORDER)))
    cuts = sorted(draw(st.sets(st.integers(1, depth - 1)))) if depth > 1 else []
    steps = [list(ORDER[a:b]) for a, b in zip([0, *cuts], [*cuts, depth], strict=True)]
    epochs = [0, *sorted(draw(st.sets(st.integers(1, 9), min_size=len(cuts), max_size=len(cuts))))]
    pairs = [(epoch, draw(st.permutations(step))) for epoch, step in zip(epochs, steps, strict=True)]
    return dict(draw(st.permutations(pairs)))


def trained(schedule, epoch):
    return [name for start, step in schedule.items() if start <= epoch for name in step]


def is_right(schedule):
    """From what it leads to, epoch by epoch: always some last stages, and none of them named twice."""
    if not isinstance(schedule, dict) or not all(isinstance(step, list) for step in schedule.values()):
        return False
    if not all(type(epoch) is int and epoch >= 0 for epoch in schedule):
        return False
    if not all(isinstance(name, str) for step in schedule.values() for name in step):
        return False
    sets = [trained(schedule, epoch) for epoch in [0, *schedule]]
    return bool(sets[0]) and all(sorted(names) == sorted(ORDER[: len(names)]) for names in sets)


@pytest.fixture
def trainer(quiet_trainer):
    """One for all examples, which it does not remember."""
    return quiet_trainer()


@given(values | nearly | right())
@example({0: "head"})
@example({False: ["head"]})
@example({0.0: ["head"]})
@example({0: ["head"], "5": ["neck"]})
@example({0: [["head"]]})
@example([["head"]])
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_schedule_is_refused_or_does_what_it_says(trainer, schedule):
    module = Staged()
    trainer.fit_loop.epoch_progress.current.completed = 0
    try:
        callback = StagedUnfreeze(schedule)
        callback.setup(trainer, module, "fit")
    except ScheduleError:
        assert not is_right(schedule)
        return
    assert is_right(schedule)
    for epoch in range(11):
        trainer.fit_loop.epoch_progress.current.completed = epoch
        callback.setup(trainer, module, "fit")
        free = {name for name, stage in module.stages.items() if stage.weight.requires_grad}
        assert free == set(trained(schedule, epoch)) == set(callback.trained_stages(epoch))
