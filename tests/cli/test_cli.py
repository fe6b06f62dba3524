"""The real command line, in fast runs, on images and weights that the tests make."""

import inspect
import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torchvision import models

from conftest import draw_folder, draw_image
from lightning_transfer import Backbone
from lightning_transfer.cli import main as cli
from lightning_transfer.monitoring.plots import PLOTS
from lightning_transfer.utils import machine
from runs import differing, finished, saved

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
FAST = ["--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
FAST += [f"--plots.{name}=false" for name in PLOTS]  # they take seconds, and passes of the backbone

# Runs of one test share a folder, as a person's do.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.fixture
def small(image_folder, weights_file):
    """Flags that put small images and a small backbone in place of a config's own."""

    def flags(root=image_folder, weights=weights_file):
        data = [
            "--data=ImageFolderDataModule",
            f"--data.root={root}",
            "--data.image_size=64",
            "--data.num_workers=0",
        ]
        return [*data, "--model.backbone=squeezenet1_1", f"--model.weights={weights}", "--model.hidden=16"]

    return flags


CHECKPOINTS = {f"{name}.ckpt{suffix}" for name in ("best", "last") for suffix in ("", ".sha256")}
LEFT = {*CHECKPOINTS, "metrics.csv", "curves.png"}


def scalars(folder):
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_there_is_a_config_for_each_regime_and_a_few_overlays():
    assert [path.relative_to(ROOT / "configs").as_posix() for path in CONFIGS] == [
        "cached_prefix.yaml",
        "feature_extraction.yaml",
        "fine_tuning.yaml",
        "fine_tuning_squeezenet.yaml",
        "frozen_backbone.yaml",
        "pretrain_sketches.yaml",
        "trainer/ddp.yaml",
        "trainer/gpu.yaml",
        "trainer/lr_finder.yaml",
        "trainer/nodes.yaml",
    ]


def test_feature_extraction_fits_tests_and_leaves_what_it_promises(command, small, passes):
    config = ROOT / "configs" / "feature_extraction.yaml"
    assert command("fit", "--config", config, *small(), *FAST) == 0
    assert len(passes) == 48, "each image once"
    folder = Path("checkpoints") / config.stem
    assert {path.name for path in folder.iterdir()} == LEFT
    fitted = scalars(Path("logs") / config.stem / "version_0")
    for split in ("train", "validation"):
        for score in ("loss", "accuracy", "auroc", "f1"):
            assert len(fitted[f"{split}/{score}"]) == 2

    assert command("fit", "--config", config, *small(), *FAST) == 0
    assert len(passes) == 48, "the second fit ran the backbone"
    assert scalars(Path("logs") / config.stem / "version_1") == fitted, "the second fit was another"

    for number, source in enumerate(([], ["--features.root=null"]), start=2):
        test = ["test", "--config", config, *small(), *FAST[1:], "--ckpt_path", folder / "best.ckpt", *source]
        assert command(*test) == 0
        tested = scalars(Path("logs") / config.stem / f"version_{number}")
        assert {"test/loss", "test/accuracy", "test/auroc", "test/f1"} <= tested.keys()
    assert len(passes) == 48 + 12


@pytest.fixture(scope="module")
def vgg11_file(tmp_path_factory):
    """VGG11's convolutions with random weights, in torchvision's keys."""
    torch.manual_seed(0)
    layers = models.vgg.make_layers(models.vgg.cfgs["A"])
    path = tmp_path_factory.mktemp("weights") / "vgg11.pth"
    torch.save({f"features.{key}": value for key, value in layers.state_dict().items()}, path)
    return path


@pytest.fixture
def vgg(small, vgg11_file):
    """Flags that put a smaller backbone with the same stages in place of the configs' own."""
    return [*small(weights=vgg11_file), "--model.backbone=vgg11"]


@pytest.mark.slow
def test_the_three_regimes_start_from_one_another(command, small, capsys, vgg):
    """Each takes what the one before it has learned, and fine-tuning unfreezes by the config's own schedule."""
    flags = [*vgg, *FAST]
    assert command(*FIT, *flags) == 0
    extracted = "checkpoints/feature_extraction/last.ckpt"
    frozen_config = ["--config", ROOT / "configs" / "frozen_backbone.yaml"]
    assert command("fit", *frozen_config, *flags, f"--model.head_from={extracted}") == 0
    frozen = "checkpoints/frozen_backbone/best.ckpt"
    tuning_config = ["--config", ROOT / "configs" / "fine_tuning.yaml"]
    capsys.readouterr()
    start = [f"--model.init_from={frozen}", "--model.weights=nowhere.pth", "--trainer.max_epochs=11"]
    assert command("fit", *tuning_config, *flags, *start) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith("epoch ")] == [
        "epoch 0: head",
        "epoch 5: head, block5",
        "epoch 10: head, block5, block4",
    ]
    logged = scalars(Path("logs/fine_tuning/version_0"))
    assert logged["stages/trained"] == [1] * 5 + [2] * 5 + [3]
    assert {f"learning_rate/{name}" for name in ("block1", "block5", "head")} <= logged.keys()

    before, after = (
        torch.load(path, weights_only=True)["state_dict"] for path in (frozen, "checkpoints/fine_tuning/last.ckpt")
    )
    stages = {
        key.split(".")[3]
        for key in before
        if key.startswith("network.backbone.st") and not torch.equal(before[key], after[key])
    }
    assert stages == {"block5", "block4"}
    for config, folder in ((frozen_config, "frozen_backbone"), (tuning_config, "fine_tuning")):
        assert {path.name for path in Path("checkpoints", folder).iterdir()} == LEFT
        best = f"--ckpt_path=checkpoints/{folder}/best.ckpt"
        assert command("test", *config, *small(weights="nowhere.pth"), *FAST[1:], best) == 0


@pytest.mark.nightly
def test_fine_tuning_resumes_exactly_by_the_command_line(command, vgg):
    flags = [*vgg, *FAST, "--trainer.callbacks.schedule={0: [head], 2: [block5], 3: [block4]}"]
    config = ["--config", ROOT / "configs" / "fine_tuning.yaml", "--data.num_workers=2"]
    last = Path("checkpoints/fine_tuning/last.ckpt")
    constant = ["--model.scheduler=null"]  # a cosine would know that the first run was to be shorter
    assert command("fit", *config, *flags, *constant, "--trainer.max_epochs=4") == 0
    whole = saved(last)
    assert command("fit", *config, *flags, *constant, "--trainer.max_epochs=2") == 0
    last = last.rename(last.with_name("stopped.ckpt"))
    assert command("fit", *config, *flags, *constant, "--trainer.max_epochs=4", f"--ckpt_path={last}") == 0
    assert differing(whole, saved(last.with_name("last.ckpt"))) == []


def test_another_schedule_on_resume_is_one_paragraph(command, vgg, capsys):
    flags = [*vgg, *FAST]
    config = ["--config", ROOT / "configs" / "fine_tuning.yaml"]
    assert command("fit", *config, *flags) == 0
    other = "--trainer.callbacks.schedule={0: [head], 1: [block5]}"
    assert command("fit", *config, *flags, other, "--ckpt_path=checkpoints/fine_tuning/last.ckpt") == 1
    error = capsys.readouterr().err.rpartition("error: ")[2].replace("\n", " ")
    assert "schedule={0: ['head'], 5: ['block5'], 10: ['block4']}" in error
    assert "this run has schedule={0: ['head'], 1: ['block5']}" in error
    assert "Traceback" not in error


def test_norms_are_left_frozen_by_a_flag_and_a_resumed_run_must_have_it_too(command, image_folder, capsys):
    config = ["--config", ROOT / "configs" / "fine_tuning.yaml"]
    data = [f"--data.root={image_folder}", "--data.image_size=32", "--data.num_workers=0"]
    model = ["--model.backbone=mobilenet_v3_small", "--model.weights=null", "--model.pool=avg", "--model.hidden=4"]
    flags = ["--data=ImageFolderDataModule", *data, *model, *FAST]
    schedule = "--trainer.callbacks.schedule={0: [head, last_conv], 1: [block5]}"
    assert command("fit", *config, *flags, schedule, "--trainer.callbacks.train_norm=false") == 0
    weights = saved(Path("checkpoints/fine_tuning/last.ckpt"))["state_dict"]
    # Fresh statistics, of a mean of 0: nothing has moved them.
    norms = {key.rpartition(".")[0] for key in weights if key.endswith("running_mean")}
    assert norms
    for norm in norms:
        for key, fresh in {"running_mean": 0, "num_batches_tracked": 0, "weight": 1, "bias": 0}.items():
            assert (weights[f"{norm}.{key}"] == fresh).all(), norm
    capsys.readouterr()
    assert command("fit", *config, *flags, schedule, "--ckpt_path=checkpoints/fine_tuning/last.ckpt") == 1
    error = capsys.readouterr().err.replace("\n", " ")
    assert "train_norm=False; this run has" in error


def test_all_of_a_small_network_unfreezes(command, small, capsys):
    config = ["--config", ROOT / "configs" / "fine_tuning_squeezenet.yaml"]
    assert command("fit", *config, *small(), *FAST, "--trainer.max_epochs=5") == 0
    said = capsys.readouterr().out
    assert "epoch 4: head, fire9, fire8, fire7, fire6," in said
    logged = scalars(Path("logs/fine_tuning_squeezenet/version_0"))
    assert logged["stages/trained"] == [1, 1, 5, 5, 10]
    best = "--ckpt_path=checkpoints/fine_tuning_squeezenet/best.ckpt"
    assert command("test", *config, *small(weights="nowhere.pth"), *FAST[1:], best) == 0


def test_the_bundled_backbone_can_be_trained_again(command):
    config = ["--config", ROOT / "configs" / "pretrain_sketches.yaml"]
    few = ["--data.samples={train: 2, validation: 1, test: 1}", "--data.image_size=64", "--data.num_workers=0"]
    assert command("fit", *config, *few, *FAST) == 0
    backbone = Backbone("mobilenet_v3_small", "checkpoints/pretrain_sketches/mobilenet_v3_small.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in backbone.state_dict().values())


@pytest.mark.nightly
def test_the_ddp_overlay_runs_two_processes(vgg, tmp_path):
    overlays = [f"--config={ROOT / 'configs' / name}" for name in ("fine_tuning.yaml", "trainer/ddp.yaml")]
    flags = [*vgg, "--trainer.devices=2", *FAST]
    schedule = "--trainer.callbacks.schedule={0: [head], 1: [block5]}"
    done = finished("-m", "lightning_transfer", "fit", *overlays, *flags, schedule, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Starting with 2 processes" in done.stderr
    assert done.stdout.count("epoch 1: head, block5") == 1, "said by one process"
    assert (tmp_path / "checkpoints" / "fine_tuning" / "best.ckpt").exists()


def test_the_gpu_overlay_asks_for_one_gpu_in_bf16(command, vgg, capsys):
    overlays = [f"--config={ROOT / 'configs' / name}" for name in ("fine_tuning.yaml", "trainer/gpu.yaml")]
    assert command("fit", *overlays, *vgg, "--print_config") == 0
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (trainer["accelerator"], trainer["devices"], trainer["precision"]) == ("gpu", 1, "bf16-mixed")
    assert [callback["class_path"] for callback in trainer["callbacks"]] == ["lightning_transfer.StagedUnfreeze"]


def test_the_overlay_for_two_machines_asks_for_all_their_devices(command, vgg, capsys):
    overlays = [f"--config={ROOT / 'configs' / name}" for name in ("fine_tuning.yaml", "trainer/nodes.yaml")]
    assert command("fit", *overlays, *vgg, "--trainer.num_nodes=8", "--print_config") == 0
    trainer = yaml.safe_load(capsys.readouterr().out)["trainer"]
    assert (trainer["strategy"], trainer["num_nodes"], trainer["devices"]) == ("ddp", 8, "auto")
    assert [callback["class_path"] for callback in trainer["callbacks"]] == ["lightning_transfer.StagedUnfreeze"]


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_the_rate_finder_overlay_adds_to_the_callbacks(command, vgg):
    overlays = [
        f"--config={ROOT / 'configs' / name}" for name in ("frozen_backbone.yaml", "trainer/lr_finder.yaml")
    ]
    short = ["--data.batch_size=1", "--trainer.callbacks.num_training_steps=40"]
    assert command("fit", *overlays, *vgg, *FAST, *short) == 0
    checkpoint = torch.load("checkpoints/frozen_backbone/best.ckpt", weights_only=True)
    rate = checkpoint["optimizer_states"][0]["param_groups"][-1]["lr"]
    assert rate != pytest.approx(1e-4)
    assert 1e-6 <= rate <= 1e-1


FIT = ["fit", "--config", ROOT / "configs" / "feature_extraction.yaml"]


def test_a_config_names_its_own_command_and_what_to_expect():
    for config in CONFIGS:
        header = "".join(line for line in config.read_text().splitlines(True) if line.startswith("#"))
        assert f"--config {config.relative_to(ROOT)}" in header
        assert "Expect" in header


def test_the_checkpoint_needs_neither_weights_nor_arguments_again(
    command, small, image_folder, tmp_path, weights_file
):
    own = tmp_path / "own.pth"
    own.write_bytes(weights_file.read_bytes())
    assert command(*FIT, *small(weights=own), *FAST, "--model.pool=avg") == 0
    own.unlink()
    data = [
        "--data=ImageFolderDataModule",
        f"--data.root={image_folder}",
        "--data.image_size=64",
        "--data.num_workers=0",
    ]
    best = "checkpoints/feature_extraction/best.ckpt"
    for verb in ("validate", "test"):
        assert command(verb, *FIT[1:], *data, *FAST[1:], "--ckpt_path", best) == 0


def test_resume_goes_on_from_the_last_checkpoint(command, small):
    assert command(*FIT, *small(), *FAST) == 0
    last = "checkpoints/feature_extraction/last.ckpt"
    assert command(*FIT, *small(), *FAST, "--trainer.max_epochs=4", "--ckpt_path", last) == 0
    resumed = torch.load(last, weights_only=True)
    assert command(*FIT, *small(), *FAST, "--trainer.max_epochs=4", "--features.root=features") == 0
    whole = torch.load(last, weights_only=True)
    assert resumed["epoch"] == whole["epoch"] == 3
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, resumed["state_dict"][key]), key


def test_the_number_of_classes_is_the_datas(command, small, tmp_path):
    root = draw_folder(tmp_path / "three", ("cats", "dogs", "horses"))
    assert command(*FIT, *small(root), *FAST) == 0
    checkpoint = torch.load("checkpoints/feature_extraction/best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["num_classes"] == 3
    assert checkpoint["class_names"] == ("cats", "dogs", "horses")


def test_extract_makes_the_store_that_fit_uses(command, small, passes, capsys):
    assert command("extract", *FIT[1:], *small(), *FAST[1:]) == 0
    assert "FeatureStore('features/squeezenet1_1-fire9-64-" in capsys.readouterr().out
    assert not Path("logs").exists()
    assert command(*FIT, *small(), *FAST) == 0
    assert len(passes) == 48


def folder_with(tmp_path, change):
    root = draw_folder(tmp_path / "images")
    change(root)
    return root


def one_class(root):
    for split in ("train", "validation", "test"):
        (root / split / "dogs").rename(root / split / ".dogs")


def other_class(root):
    draw_image(root / "validation" / "horses" / "one.jpg", (0, 0, 0), 0)


def zero_bytes(root):
    (root / "validation" / "cats" / "cats.2.jpg").write_bytes(b"")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (one_class, "holds one class only, 'cats'"),
        (other_class, "horses: in validation of"),
        (zero_bytes, "validation/cats/cats.2.jpg cannot be read (an empty file)"),
        (lambda root: root.rename(root.with_name("elsewhere")), "does not exist"),
    ],
)
def test_unusable_images_are_one_paragraph(change, message, command, small, tmp_path, capsys):
    root = folder_with(tmp_path, change)
    assert command(*FIT, *small(root), *FAST, "--data.num_workers=1") == 1
    error = capsys.readouterr().err.rpartition("error: ")[2]
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error
    assert not [path for path in Path("features").glob("*") if path.suffix != ".lock"]
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.backbone=vgg61"], "Nearest: vgg19, vgg16"),
        (["--model.last_stage=fire99"], "has no stage 'fire99' (did you mean fire9?)"),
        (["--model.backbone=resnet18"], "does not fit resnet18: 100 missing"),
        (["--model.weights=nowhere.pth"], "There is no weights file nowhere.pth"),
        (["--ckpt_path=nowhere.ckpt"], "There is no checkpoint nowhere.ckpt"),
        (["--data.image_size=5"], "Images of 5 × 5 are too small for squeezenet1_1"),
    ],
)
def test_wrong_arguments_are_one_paragraph(flags, message, command, small, capsys):
    assert command(*FIT, *small(), *FAST, *flags) == 1
    error = capsys.readouterr().err.rpartition("error: ")[2]
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error


def test_a_checkpoint_that_is_none_is_named(command, small, capsys, tmp_path):
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    assert command(*FIT, *small(), *FAST, "--ckpt_path=text.ckpt") == 1
    assert "text.ckpt cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_named(command, small, capsys):
    assert command(*FIT, *small(), *FAST) == 0
    last = "checkpoints/feature_extraction/last.ckpt"
    assert command(*FIT, *small(), *FAST, "--model.hidden=32", f"--ckpt_path={last}") == 1
    assert "was trained with hidden=16, this run has hidden=32" in capsys.readouterr().err


def test_modules_of_other_people_work_too(command, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from lightning.pytorch.demos.boring_classes import BoringDataModule as Data, BoringModel as Model"
    )
    monkeypatch.syspath_prepend(tmp_path)
    mine = [
        "--allow-import=mine",
        "--model=mine.Model",
        "--data=mine.Data",
        "--trainer.logger=false",
        "--trainer.default_root_dir=saved",
    ]
    assert command("fit", *mine, *FAST[1:], "--trainer.max_epochs=1") == 0
    (checkpoint,) = Path("saved").rglob("*.ckpt")
    assert command("test", *mine, *FAST[1:], f"--ckpt_path={checkpoint}") == 0
    del sys.modules["mine"]  # other tests have modules of that name


def test_on_bad_image_skip_goes_on(command, small, tmp_path):
    root = folder_with(tmp_path, zero_bytes)
    options = ["--data.on_bad_image=skip", "--data.max_pixels=1920", "--data.duplicates=keep"]
    assert command(*FIT, *small(root), *FAST, *options) == 0
    assert "validation/cats/cats.2.jpg" in Path("left_out.csv").read_text()


def test_summary_prints_the_table(command, capsys):
    assert command("summary", "--backbone", "squeezenet1_1", "--image_size", "64") == 0
    assert "722,496" in capsys.readouterr().out
    assert command("summary", "--backbone", "vit_b_16", "--image_size", "150") == 1
    assert "image_size=150 is no multiple of 16: pass 144 or 160" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16-mixed"),
        ({"avx512_f": True, "avx512_bf16": False}, "32-true"),
        ({}, "32-true"),
    ],
)
def test_the_default_precision_is_the_processors(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert machine.default_precision() == expected


@pytest.mark.parametrize(("given", "said"), [([], True), (["--trainer.precision=32-true"], False)])
def test_a_precision_that_was_chosen_is_said(monkeypatch, command, small, given, said):
    messages = []
    monkeypatch.setattr("lightning_transfer.cli.lightning.rank_zero_info", messages.append)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    assert command("extract", *FIT[1:], *small(), *FAST[1:], *given) == 0
    assert any("this machine has units for it" in message for message in messages) is said


def test_both_ways_to_call_it_list_all_commands():
    (program,) = entry_points(group="console_scripts", name="lightning-transfer")
    assert program.load() is cli.main
    start = [sys.executable, "-m", "lightning_transfer"]
    run = subprocess.run([*start, "--help"], capture_output=True, text=True, check=True)
    listed = [line.split()[0] for line in run.stdout.splitlines() if line.startswith("  ")]
    assert listed == list(cli.OVERVIEW)
    assert run.stdout.startswith("usage: lightning-transfer")


def test_the_list_of_commands_says_what_they_say_of_themselves(command, capsys):
    lightnings = {*LightningCLI.subcommands(), "extract"} - {"predict"}
    assert set(cli.OVERVIEW) == {*cli.COMMANDS, *lightnings}
    for name, about in cli.OVERVIEW.items():
        if name in cli.COMMANDS:
            function = getattr(import_module(f"lightning_transfer.cli.commands.{name}"), name)
            assert inspect.getdoc(function).startswith(about), name
        assert command(name, "--help") == 0
        assert "usage: lightning-transfer" in capsys.readouterr().out


def test_a_command_imports_what_it_uses(checkpoints, tmp_path):
    """In a fresh process, since this one has imported everything."""
    draw_image(tmp_path / "a.jpg", (200, 90, 60), 0)
    code = "import sys; from lightning_transfer.cli.main import main; main(); print(*sys.modules, file=sys.stderr)"
    arguments = ["classify", str(checkpoints["FeatureClassifier"]), "a.jpg"]
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("a.jpg")
    imported = set(run.stderr.split())
    assert "lightning_transfer.cli.commands.classify" in imported
    others = {f"lightning_transfer.cli.commands.{name}" for name in cli.COMMANDS if name != "classify"}
    others |= {"lightning_transfer.cli.lightning", "lightning_transfer.comparison.run", "lightning.pytorch.cli"}
    assert imported & {*others, "lightning_transfer.monitoring.figures", "captum", "onnx", "tensorboard"} == set()


CACHED = [f"--config={ROOT / 'configs' / name}" for name in ("fine_tuning.yaml", "cached_prefix.yaml")]


def test_the_frozen_prefix_runs_once_a_view(command, small, passes, capsys, vgg):
    flags = [*vgg, *FAST, "--trainer.max_epochs=6"]
    assert command("fit", *CACHED, *flags, "--trainer.callbacks.schedule={0: [head], 3: [block5]}") == 0
    assert len(passes) == 5 * 24 + 12 + 12
    (store,) = Path("features").glob("vgg11-block4-64-*")
    assert (store / "manifest.json").exists()
    best = "--ckpt_path=checkpoints/fine_tuning/best.ckpt"
    assert command("test", *CACHED, *small(weights="nowhere.pth"), *FAST[1:], best) == 0
    assert len(passes) == 5 * 24 + 12 + 12 + 12, "tested on images"
    before = torch.load("checkpoints/fine_tuning/last.ckpt", weights_only=True)["state_dict"]
    assert {key.split(".")[3] for key in before if key.startswith("network.backbone.stages")} == {
        f"block{number}" for number in range(1, 6)
    }


def test_extract_makes_the_store_that_a_cached_fit_uses(command, vgg, passes, capsys):
    flags = [*vgg, *FAST[1:], "--trainer.callbacks.schedule={0: [head], 3: [block5]}"]
    assert command("extract", *CACHED, *flags, "--features.views=2") == 0
    assert "vgg11-block4-64-" in capsys.readouterr().out
    assert len(passes) == 2 * 24 + 12 + 12
    flags = [*flags, "--trainer.max_epochs=1", "--features.views=2"]
    assert command("fit", *CACHED, *flags) == 0
    assert len(passes) == 2 * 24 + 12 + 12


@pytest.mark.parametrize("flags", [["--trainer.logger=false"], ["--trainer.fast_dev_run=2"]])
@pytest.mark.filterwarnings("ignore:No (negative|positive) samples")  # a trial's batches are of one class
def test_where_there_is_no_tensorboard_nothing_is_drawn(flags, command, small):
    assert command(*FIT, *small(), *FAST, *flags) == 0
    assert not list(Path().rglob("events*"))


def test_a_drawing_is_on_by_its_flag(command, small):
    images = {"confusion_matrix", "wrong_images", "first_layer_filters"}
    off = [f"--plots.{name}=false" for name in PLOTS]
    for number, (on, seen) in enumerate(({"filters": {"first_layer_filters"}} | {"": set()}).items()):
        flags = [*off, *([f"--plots.{on}=true"] if on else [])]
        assert command(*FIT, *small(), *FAST, *flags) == 0
        events = EventAccumulator(f"logs/feature_extraction/version_{number}").Reload()
        assert images & set(events.Tags()["images"]) == seen
