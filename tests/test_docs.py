"""Examples in README and docs run, links lead somewhere, and named tests exist."""

import fnmatch
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
import torch
from torchvision import models

from conftest import COLOURS, draw_image
from lightning_transfer.cli.main import COMMANDS
from lightning_transfer.comparison import run
from lightning_transfer.models.meta_init import meta_init
from lightning_transfer.models.providers import torchvision
from lightning_transfer.monitoring.plots import PLOTS, Plots
from runs import finished

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_PYTHON = [page for page in PAGES if "```python" in page.read_text()]
WITH_BASH = [page for page in PAGES if "lightning-transfer " in page.read_text()]
# Instead of the config's own data, so that a command takes a second.
FAST = [
    "--data=ImageFolderDataModule",
    "--data.root=my_images",
    "--data.image_size=64",
    "--data.num_workers=0",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
# Left on where a page is about them.
PLOTLESS = [f"--plots.{name}=false" for name in PLOTS]


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


@cache
def random_weights(source):
    """Random weights instead of a download."""
    name = type(source).__name__.removesuffix("_Weights").lower()
    torch.manual_seed(0)
    return {
        key: value
        for key, value in models.get_model(name, weights=None).state_dict().items()
        if "classifier" not in key
    }


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder like a new user's, with images and the configs; weights are random, not downloaded."""
    monkeypatch.chdir(tmp_path)
    for number in range(16):
        for name in ("cats", "dogs"):
            draw_image(tmp_path / "my_images" / name / f"{number}.jpg", COLOURS[name], number)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.setattr(torchvision, "read_weights", random_weights)
    monkeypatch.setattr(run, "Plots", lambda: Plots(**dict.fromkeys(PLOTS, False)))


def pages(chosen, always):
    """The pages as parameters; those but a few are left to `make nightly`."""
    return [
        pytest.param(page, id=page.stem, marks=[] if page.stem in always else [pytest.mark.nightly])
        for page in chosen
    ]


@pytest.mark.slow
@pytest.mark.parametrize("page", pages(WITH_PYTHON, ["README", "reuse"]))
def test_python_examples_run(page, workplace):
    code = "\n".join(blocks(page, "python"))
    shorter = {"Trainer(": "Trainer(accelerator='cpu', ", "max_epochs=30": "max_epochs=2", '"vgg16"': '"vgg11"'}
    for words, instead in shorter.items():
        code = code.replace(words, instead)
    exec(compile(code, str(page), "exec"), {"__name__": "__main__"})


GUARD = 'if __name__ == "__main__":'
SPAWN = "import multiprocessing\n\nmultiprocessing.set_start_method('spawn', force=True)\n"


def test_scripts_that_may_start_processes_have_a_main_guard():
    for page in WITH_PYTHON:
        for block in blocks(page, "python"):
            whole = "import Trainer" in block and re.search(r"\.fit\(|extract_features\(", block)
            assert GUARD in block or not whole, (page, block)


@pytest.mark.slow
def test_the_readmes_script_runs_where_processes_are_spawned(tmp_path):
    """Spawned workers import the script that started them."""
    for number in range(8):
        for name in ("cats", "dogs"):
            draw_image(tmp_path / "my_images" / name / f"{number}.jpg", COLOURS[name], number)
    torch.manual_seed(0)
    torch.save(models.vgg11(weights=None).features.state_dict(prefix="features."), tmp_path / "vgg11.pth")
    code = SPAWN + "\n".join(block for block in blocks(ROOT / "README.md", "python") if GUARD in block)
    shorter = {
        "Trainer(max_epochs=30": "Trainer(accelerator='cpu', max_epochs=1",
        '"vgg16"': '"vgg11", weights="vgg11.pth"',
        '"my_images"': '"my_images", image_size=32, num_workers=1',
    }
    for words, instead in shorter.items():
        assert words in code
        code = code.replace(words, instead)
    (tmp_path / "script.py").write_text(code)
    done = finished("script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "frozen.ckpt").exists()


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize("page", pages(WITH_BASH, ["README", "fine_tuning"]))
def test_command_lines_run(page, workplace, command):
    lines = [line for block in blocks(page, "bash") for line in block.splitlines()]
    lines = [shlex.split(line) for line in lines if line.startswith("lightning-transfer")]
    for _, verb, *arguments in lines:
        plain = verb in COMMANDS  # not of Lightning's command line
        extra = ["--epochs=1", "--image_size=64"] if verb == "compare" else [] if plain else FAST
        if not plain and page.stem != "monitoring":
            extra = [*extra, *PLOTLESS]
        if not plain and "--model.backbone" not in arguments:  # a small one with VGG16's stages
            extra = [*extra, "--model.backbone=vgg11"]
        if verb == "fit" and "--trainer.max_epochs" not in arguments:
            extra = [*extra, "--trainer.max_epochs=2"]
        arguments = ["4" if argument == "40" else argument for argument in arguments]
        assert command(verb, *arguments, *extra) == 0, (verb, arguments)


def test_the_readme_begins_with_commands_that_others_here_run():
    text = (ROOT / "README.md").read_text()
    first, own, tests = re.findall(r"^    (pip install .*|lightning-transfer .*)$", text, flags=re.MULTILINE)
    assert first == "pip install -e . && lightning-transfer compare"
    assert own in blocks(ROOT / "README.md", "bash")[0].splitlines()
    assert tests == 'pip install -e ".[dev]" && pytest'


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_the_table_of_stages_is_complete_and_right():
    provider = torchvision.PROVIDER
    known = provider.network_names()
    rows = re.findall(r"^\| (`.*) \| (.*) \|$", (ROOT / "docs" / "backbones.md").read_text(), flags=re.MULTILINE)
    seen = set()
    for networks, stages in rows:
        # "block1 … block12" stands for all that are between.
        stages = re.sub(
            r"([a-z]+)(\d+) … \1(\d+)",
            lambda m: ", ".join(f"{m[1]}{number}" for number in range(int(m[2]), int(m[3]) + 1)),
            stages,
        )
        patterns = re.findall(r"`([^`]+)`", networks)
        names = [name for name in known for pattern in patterns if fnmatch.fnmatch(name, pattern)]
        for name in names:
            with meta_init():
                network = provider.build(name)
            assert ", ".join(provider.row(name, network).stages) == stages, name
        # "vgg11 … vgg19_bn" names the ends of a range.
        seen |= {re.match(r"[a-z]+", name)[0] for name in names}
    assert seen == {re.match(r"[a-z]+", name)[0] for name in known}


def test_each_promise_names_a_test_that_exists():
    page = (ROOT / "docs" / "reliability.md").read_text()
    rows = [line.split("|")[3] for line in page.splitlines() if line.startswith("| ") and "`" in line]
    assert rows
    for row in rows:
        file = ""
        for name in re.findall(r"`((?:tests|::)[^` ]*)`", row):
            path, _, function = name.partition("::")
            file = path or file
            text = (ROOT / file).read_text()
            assert not function or f"def {function}(" in text, (file, function)


def test_the_tests_that_a_table_names_are_there():
    """Of docs/fine_tuning.md, "What others get wrong": a file of tests, or a test in it."""
    table = (ROOT / "docs" / "fine_tuning.md").read_text().partition("## What others get wrong")[2]
    named = re.findall(r"`((?:faults/)?test_\w+\.py)(?:::(\w+))?`", table)
    assert len(named) >= 20
    files = {
        path.relative_to(ROOT / "tests").as_posix(): path.read_text() for path in (ROOT / "tests").rglob("*.py")
    }
    for file, test in named:
        texts = [text for path, text in files.items() if path.endswith(file)]
        assert len(texts) == 1, file
        assert not test or f"def {test}(" in texts[0], (file, test)
