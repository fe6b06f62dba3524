"""Check that what is frozen stays as it is, and that what trains changes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from lightning_transfer.errors import AuditError
from lightning_transfer.utils.lightning import find_callbacks, learning_rates


@dataclass(frozen=True)
class Snapshot:
    """The state of a module at the start of a phase: consecutive epochs in which the same parameters train.

    Attributes:
        epoch: The phase's first epoch.
        step: Optimizer steps before it.
        scale: The loss scale of float16 training; None in other precisions.
        trained: Names of the parameters that train.
        digests: Name and digest of every parameter and buffer.
    """

    epoch: int
    step: int
    scale: float | None
    trained: list[str]
    digests: dict[str, str]


class FreezeAudit(Callback):
    """Compare every parameter and buffer before and after each phase of a run; fail the run, with their names.

    Frozen parameters must not change, nor running statistics where all parameters beside them are frozen.
    Parameters that train must change, unless their learning rate or last gradient was too small to move them, as
    that of a bias before BatchNorm may be; a learning rate of 0 does not count as too small. All ranks must have
    equal parameters, to the last bit. It keeps digests, not copies; they are part of checkpoints, so that a phase
    may be interrupted.

    The modules of this library bring one along; add it to the Trainer for your own. It goes by `requires_grad` at
    an epoch's first batch: less may train than a schedule of stages unfreezes, never more.

    Raises:
        AuditError: During fit, at the end of a phase; lists the names.
    """

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._declared: frozenset[str] | None = None
        self._unmoved: list[str] = []

    def declare(self, trainer: Trainer, module: LightningModule, may_train: Collection[str]) -> None:
        """Take note of which parameters may train from now on; where others train than before, a phase ends.

        Args:
            trainer: In fit.
            module: Its weights are still those of the last step.
            may_train: Names of parameters.
        """
        self._declared = frozenset(may_train)
        if self._before is not None and self._before.trained != _trained(module):
            self._compare(trainer, module)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget what an earlier fit may have left."""
        self._before = self._declared = None
        self._unmoved = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a phase, if there is none or other parameters train than before."""
        if batch_idx and self._before is not None:
            return
        trained = _trained(pl_module)
        if self._declared is not None and (more := set(trained) - self._declared):
            raise AuditError(
                f"Something other than the schedule changed what trains, in epoch {trainer.current_epoch}: "
                + _listed(sorted(more))
            )
        if self._before is not None and self._before.trained != trained:
            self._compare(trainer, pl_module)
        if self._before is None:
            digests = {name: digest(value) for name, value in _numbers(pl_module)}
            step, epoch = trainer.global_step, trainer.current_epoch
            self._before = Snapshot(epoch, step, _loss_scale(trainer), trained, digests)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Look at an epoch's last gradients, which a resumed run does not have."""
        if trainer.is_last_batch:
            self._unmoved = _too_small_to_move(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare after the last epoch, before callbacks that average weights exchange them."""
        last = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if last and self._before is not None and find_callbacks(trainer, WeightAveraging):
            self._compare(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare after the last epoch."""
        if self._before is None:
            return
        if find_callbacks(trainer, WeightAveraging):
            rank_zero_warn(
                "FreezeAudit: the last epochs were not compared, since averaged weights are in place now."
            )
        else:
            self._compare(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return the current phase, as plain values."""
        return {"before": None if self._before is None else asdict(self._before), "unmoved": self._unmoved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue a phase that was interrupted."""
        self._before = None if state_dict["before"] is None else Snapshot(**state_dict["before"])
        self._unmoved = state_dict["unmoved"]

    def _compare(self, trainer: Trainer, module: LightningModule) -> None:
        before, self._before = self._before, None
        assert before is not None
        digests = {name: digest(value) for name, value in _numbers(module)}
        changed = {name for name in digests if digests[name] != before.digests.get(name)}
        frozen, unfrozen = _expectations(module, frozenset(before.trained))
        complaints = []
        if drifted := sorted(frozen & changed):
            complaints.append(f"frozen, but changed: {_listed(drifted)}")
        if idle := sorted(unfrozen - changed - set(self._unmoved) if _steps(trainer, before) else ()):
            complaints.append(
                f"to be trained, but not changed: {_listed(idle)} (does the loss depend on them, and does the "
                "optimizer have them?)"
            )
        if trainer.world_size > 1:
            names = [name for name, _ in module.named_parameters()]
            everywhere: list[Any] = [None] * trainer.world_size
            dist.all_gather_object(everywhere, (complaints, [digests[name] for name in names]))
            complaints = next((theirs for theirs, _ in everywhere if theirs), [])
            columns = zip(names, *(column for _, column in everywhere), strict=True)
            if apart := [name for name, *values in columns if len(set(values)) > 1]:
                complaints.append(f"not the same in all processes: {_listed(apart)}")
        if complaints:
            last = max(before.epoch, trainer.current_epoch - 1)
            epochs = f"epoch {before.epoch}" if last == before.epoch else f"epochs {before.epoch} to {last}"
            raise AuditError(f"FreezeAudit, {epochs}: {'; '.join(complaints)}.")


def digest(value: Tensor) -> str:
    """Return 32 hexadecimal digits that depend on every bit of a tensor.

    >>> digest(torch.zeros(3)) == digest(torch.zeros(3)) != digest(-torch.zeros(3))
    True
    """
    array = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(array.data, digest_size=16).hexdigest()


def _trained(module: nn.Module) -> list[str]:
    return [name for name, parameter in module.named_parameters() if parameter.requires_grad]


def _numbers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _expectations(module: nn.Module, trained: frozenset[str]) -> tuple[set[str], set[str]]:
    """Return the names of what must not change, and of what must."""
    frozen = {name for name, _ in module.named_parameters()} - trained
    unfrozen = set(trained)
    for owner_name, owner in module.named_modules():
        for name, _ in owner.named_buffers(recurse=False):
            full = f"{owner_name}.{name}" if owner_name else name
            near = _nearest_parameters(module, owner_name)
            if near and not near & trained:
                frozen.add(full)
            elif isinstance(owner, _BatchNorm) and owner.training and near and name == "running_mean":
                unfrozen.add(full)
    return frozen, unfrozen


def _nearest_parameters(module: nn.Module, name: str) -> set[str]:
    """Return the parameters of a submodule or, if it has none, of the nearest module around it but the whole."""
    while name:
        owner = module.get_submodule(name)
        if found := {f"{name}.{parameter}" for parameter, _ in owner.named_parameters()}:
            return found
        name = name.rpartition(".")[0]
    return set()


def _too_small_to_move(trainer: Trainer, module: LightningModule) -> list[str]:
    """Return the names of parameters whose next step is lost in rounding."""
    rates = learning_rates(trainer)
    names = []
    for name, parameter in module.named_parameters():
        rate = rates.get(id(parameter), 0.0)
        if parameter.grad is None or not rate:
            continue
        rounding = 8 * torch.finfo(parameter.dtype).eps * parameter.detach().abs()
        if rate <= rounding.max() or bool((rate * parameter.grad.abs() <= rounding).all()):
            names.append(name)
    return names


def _steps(trainer: Trainer, before: Snapshot) -> int:
    """Count optimizer steps since a phase began, without those that float16's loss scaling skipped."""
    steps = trainer.global_step - before.step
    scale = _loss_scale(trainer)
    if scale is None or before.scale is None or scale >= before.scale:
        return steps
    return max(0, steps - round(math.log2(before.scale / scale)))


def _loss_scale(trainer: Trainer) -> float | None:
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return None if scaler is None else float(scaler.get_scale())


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8:,} more" if len(names) > 8 else "")
