"""A module from its checkpoint alone, for prediction."""

from __future__ import annotations

import torch

from lightning_transfer.errors import ModuleError, TransferError
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.training.checkpoint_io import read_checkpoint
from lightning_transfer.training.checkpoints import NETWORK, load_part
from lightning_transfer.training.classifier import Classifier


def load_module(path: str) -> Classifier:
    """Reads backbone, head and class names from any regime's checkpoint; in float32, and in eval mode.

    Nothing but the file is needed, and nothing that may be in it is run: only known hyperparameters and tensors
    are taken.

    Raises:
        ModuleError: There is no such file; or it is a checkpoint of something else, or damaged; names it.
    """
    checkpoint = read_checkpoint(path)
    if "class_names" not in checkpoint:
        raise ModuleError(f"{path} was not made by a lightning-transfer module.")
    try:
        recorded = checkpoint["hyper_parameters"]
        # The weights follow at once, so random ones would be drawn in vain.
        with meta_init():
            module = Classifier(weights=None, audit_freezing=False, **{name: recorded[name] for name in NETWORK})
        for part, name in ((module.backbone, "backbone"), (module.head, "head")):
            load_part(part, checkpoint, name, path, assign=True)
        module.on_load_checkpoint(checkpoint)
        names = module.class_names
        if names is not None and [type(name) for name in names] != [str] * module.num_classes:
            raise ModuleError(f"class_names={names!r}: wanted {module.num_classes} names.")
    except (TransferError, LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModuleError(f"{path} is damaged, or of another version of this library ({reason}).") from error
    return module.float().to(memory_format=torch.channels_last).eval()
