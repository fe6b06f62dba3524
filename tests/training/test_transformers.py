"""Transformers are fine-tuned, frozen and resumed as convolutional networks are."""

import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

import tiny_networks  # noqa: F401  # makes "small/vit_xs" known
from lightning_transfer import FrozenBackboneClassifier, StagedUnfreeze
from runs import EXISTING, Watch, copied, differing, every_epoch, fine_tuning, images_of, saved

pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

SCHEDULES = {
    "vit_xs": {0: ["head"], 1: ["norm", "block4"], 3: ["block3"]},
    "swin_xs": {0: ["head"], 1: ["norm", "stage4"], 3: ["stage3"]},
    "swin_v2_xs": {0: ["head"], 1: ["norm", "stage4"], 3: ["stage3"]},
    "maxvit_xs": {0: ["head"], 1: ["block2"], 3: ["block1"]},
    "convnext_xs": {0: ["head"], 1: ["stage4"], 3: ["stage3"]},
}
EPOCHS = 4


def fitted(name, pool, folder, images, make_trainer, ckpt_path=None, **arguments):
    """A fine-tuning, audited; what was watched, the weights before and the module after."""
    watch = Watch()
    callbacks = [StagedUnfreeze(SCHEDULES[name]), watch, every_epoch(folder)]
    trainer = make_trainer(max_epochs=EPOCHS, callbacks=callbacks, enable_checkpointing=True)
    model = fine_tuning(backbone=f"small/{name}", pool=pool, lr=1e-2, layer_decay=0.8, **arguments)
    before = copied(model.state_dict())
    trainer.fit(model, images_of(images), ckpt_path=ckpt_path, weights_only=True)
    return watch, before, model


@EXISTING
@pytest.mark.parametrize(
    ("name", "pool"),
    [
        ("vit_xs", "native"),
        ("vit_xs", "class_token+avg"),
        ("swin_xs", "native"),
        ("swin_v2_xs", "avg"),
        ("maxvit_xs", "native"),
        ("convnext_xs", "native"),
    ],
)
def test_frozen_stages_stay_bit_equal_and_a_resumed_run_ends_the_same(
    name, pool, image_folder, quiet_trainer, tmp_path
):
    watch, before, model = fitted(name, pool, tmp_path / "whole", image_folder, quiet_trainer)
    planned = {stage for stages in SCHEDULES[name].values() for stage in stages}
    after = model.state_dict()
    for stage in model.stages:
        prefix = f"network.{stage if stage == 'head' else f'backbone.stages.{stage}'}."
        trained = {key for key in after if key.startswith(prefix) and not key.startswith("network.head.pool.")}
        changed = {key for key in trained if not torch.equal(after[key], before[key])}
        if stage in planned:
            assert changed, stage
        else:
            assert changed == set(), stage
    pooling = [key for key in after if key.startswith("network.head.pool.")]
    assert len(pooling) == (2 if pool == "native" and name in ("maxvit_xs", "convnext_xs") else 0)
    assert all(torch.equal(after[key], before[key]) for key in pooling)
    assert watch.trained[1] - watch.trained[0] == set(SCHEDULES[name][1])

    whole = saved(tmp_path / "whole" / f"{EPOCHS - 1}.ckpt")
    for stopped in (1, 2):
        folder = tmp_path / f"from {stopped}"
        checkpoint = tmp_path / "whole" / f"{stopped}.ckpt"
        fitted(name, pool, folder, image_folder, quiet_trainer, ckpt_path=checkpoint)
        assert differing(whole, saved(folder / f"{EPOCHS - 1}.ckpt")) == []


class LookInside(Callback):
    """Looks at what each module of a backbone gives during training steps."""

    def __init__(self):
        self.steps, self.seen, self.graphs, self.saved = 0, 0, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.steps += 1
        self.hooks = [
            module.register_forward_hook(self._note, with_kwargs=False) for module in pl_module.backbone.modules()
        ]

    def _note(self, module, inputs, output):
        self.seen += 1
        found = output if isinstance(output, torch.Tensor) else output[0]
        self.graphs += [type(module).__name__] if found.requires_grad or found.grad_fn is not None else []
        self.grad_mode = torch.is_grad_enabled()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for hook in self.hooks:
            hook.remove()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["vit_xs", "swin_xs"])
def test_frozen_blocks_build_no_graph(name, precision, image_folder, quiet_trainer):
    """MultiheadAttention asks its parameters, too, not the mode of the gradients alone."""
    look = LookInside()
    model = FrozenBackboneClassifier(
        f"small/{name}", weights=None, num_classes=2, image_size=32, pool="native", hidden=8
    )
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape) or tensor, lambda t: t):
        trainer = quiet_trainer(max_epochs=1, callbacks=[look], precision=precision, limit_val_batches=0)
        trainer.fit(model, images_of(image_folder))
    assert look.steps > 1
    assert look.seen > look.steps * len(model.backbone.stage_names)
    assert look.graphs == []
    # What is kept for the backward pass is the head's alone: no tokens or maps.
    assert kept
    assert max(len(shape) for shape in kept) <= 2


def test_blocks_after_a_frozen_prefix_build_one(image_folder, quiet_trainer):
    look = LookInside()
    model = fine_tuning(backbone="small/vit_xs", pool="native")
    trainer = quiet_trainer(max_epochs=1, callbacks=[look, StagedUnfreeze({0: ["head", "norm", "block4"]})])
    trainer.fit(model, images_of(image_folder))
    # Per step: the block, its two norms, its attention and its MLP with five layers, two dropouts; and the norm.
    kinds = set(look.graphs)
    assert {"EncoderBlock", "MultiheadAttention", "LayerNorm"} <= kinds
    assert look.graphs.count("EncoderBlock") == look.steps
    assert "Conv2d" not in kinds
    assert isinstance(model.backbone.stages["norm"], nn.LayerNorm)
