"""What a stranger's config or command line tries: nothing is imported or fetched, each error is one paragraph."""

import shutil
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from jsonargparse import ArgumentParser, _common

from lightning_transfer.cli.config_limits import limit_configs
from lightning_transfer.cli.lightning import TransferCLI

ROOT = Path(__file__).parents[2]
FIT = ["fit", "--config", ROOT / "configs" / "feature_extraction.yaml"]
TUNING = ["fit", "--config", ROOT / "configs" / "fine_tuning.yaml"]
LAMBDA = "--trainer.callbacks+=lightning.pytorch.callbacks.LambdaCallback"
EVIL = """
from pathlib import Path
from lightning.pytorch import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
class Model(BoringModel): pass
Path(__file__).with_suffix(".imported").touch()
def function(*arguments):
    Path(__file__).with_suffix(".called").touch()
"""


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """Modules that tell when they are imported, under names of which some begin like allowed ones."""
    monkeypatch.setitem(
        _common.parsing_settings, "import_path_verdicts", dict(_common.parsing_settings["import_path_verdicts"])
    )
    folder = tmp_path / "evil"
    folder.mkdir()
    for name in ("evil", "lightning_transfer_evil", "torchevil"):
        (folder / f"{name}.py").write_text(EVIL)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(folder)
    return lambda: sorted(path.name for path in folder.iterdir() if path.suffix in (".imported", ".called"))


@pytest.fixture(autouse=True)
def one_parser(monkeypatch, built={}):  # noqa: B006
    """Lightning's parsers are built once for all these tests, which takes them most of their time."""
    build = TransferCLI.setup_parser

    def reuse(self, *arguments):
        if not built:
            before = set(vars(self))
            build(self, *arguments)
            built.update({name: value for name, value in vars(self).items() if name not in before})
        vars(self).update(built)

    monkeypatch.setattr(TransferCLI, "setup_parser", reuse)


@pytest.fixture
def complaint(capsys):
    """The paragraph on stderr."""

    def read():
        before, error, text = capsys.readouterr().err.rpartition("error: ")
        assert error
        assert "Traceback" not in before + text
        assert "\n" not in text.strip(), "more than one paragraph"
        return text.strip()

    return read


ON_THE_LINE = [
    ["--model=evil.Model"],
    ["--model.class_path=evil.Model"],
    ['--model={"class_path": "evil.Model"}'],
    ["--model=lightning_transfer_evil.Model"],
    ["--model=torchevil.Model"],
    ["--model.help=evil.Model"],
    ["--data=evil.Data"],
    ["--trainer.callbacks=evil.Callback"],
    ["--trainer.callbacks+=evil.Callback"],
    ['--trainer.callbacks=[{"class_path": "evil.Callback"}]'],
    ["--trainer.logger=evil.Logger"],
    ["--trainer.plugins+=evil.Plugin"],
    ["--trainer.profiler=evil.Profiler"],
    ["--trainer.strategy=evil.Strategy"],
    ["--trainer.accelerator=evil.Accelerator"],
    [LAMBDA, "--trainer.callbacks.on_fit_start=evil.function"],
]


@pytest.mark.parametrize("arguments", ON_THE_LINE, ids=lambda arguments: arguments[-1])
def test_what_the_line_names_is_not_imported(arguments, command, evil, complaint):
    assert command(*FIT, *arguments) in (1, 2)
    complaint()
    assert evil() == []
    assert not {"evil", "lightning_transfer_evil", "torchevil"} & sys.modules.keys()


IN_A_CONFIG = {
    "model": "model: {class_path: evil.Model}",
    "model by its name": "model: evil.Model",
    "data": "data: {class_path: evil.Data, init_args: {root: x}}",
    "callback": "trainer: {callbacks: [{class_path: evil.Callback}]}",
    "logger": "trainer: {logger: {class_path: evil.Logger}}",
    "logger in a list": "trainer: {logger: [{class_path: evil.Logger}]}",
    "callable": """
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.LambdaCallback
      init_args: {on_fit_start: evil.function}""",
    "class that is called": """
trainer:
  callbacks:
    - class_path: lightning.pytorch.callbacks.LambdaCallback
      init_args: {on_fit_start: {class_path: evil.Model}}""",
    "class within a class": """
trainer:
  plugins:
    - class_path: lightning.pytorch.plugins.io.AsyncCheckpointIO
      init_args: {checkpoint_io: {class_path: evil.Plugin}}""",
    "tag of YAML": "model: !!python/object/apply:evil.function []",
    "module tag of YAML": "model: !!python/module:evil",
    "another config": "config: {class_path: evil.Model}",
}


@pytest.mark.parametrize("text", IN_A_CONFIG.values(), ids=IN_A_CONFIG)
def test_what_a_config_names_is_not_imported(text, command, evil, complaint, tmp_path):
    (tmp_path / "stranger.yaml").write_text(text)
    assert command(*FIT, "--config=stranger.yaml") in (1, 2)
    complaint()
    assert evil() == []


@pytest.mark.parametrize("path", ["evil.Model", "torch.nn.Identity"])
def test_what_may_be_anything_is_not_made_an_object(path, evil):
    """Such as a value in `scheduler_options`: what looks like a class there stays as it is."""
    limit_configs()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--anything", type=Any)
    config = parser.parse_args([f"--anything={{class_path: {path}}}"])
    assert parser.instantiate(config).anything["class_path"] == path
    assert evil() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model=os.system"], "os.system is refused"),
        (["--model=torch.os.system"], "posix.system is refused"),
        (["--model=lightning.pytorch.cli.os.system"], "posix.system is refused"),
        (["--model=subprocess.Popen"], "subprocess.Popen is refused"),
        (["--model=torch.hub.subprocess.Popen"], "is refused"),
        (["--model=builtins.eval"], "builtins.eval is refused"),
        (["--model=jsonargparse.set_parsing_settings"], "is refused"),
        ([LAMBDA, "--trainer.callbacks.on_fit_start=os.system"], "os.system is refused"),
        ([LAMBDA, "--trainer.callbacks.on_fit_start=torch.hub.load"], "torch.hub.load is refused"),
        (
            [LAMBDA, "--trainer.callbacks.on_fit_start=torch.distributed.launcher.api.elastic_launch"],
            "torch.distributed.launcher.api.elastic_launch is refused",
        ),
        ([LAMBDA, "--trainer.callbacks.on_fit_start=torch.load"], "is a function: a config names classes alone"),
        (["--data=lightning.pytorch.LightningDataModule.from_datasets"], "is a function"),
        (["--model=lightning_transfer.FeatureClassifier.load_from_checkpoint"], "subclass of LightningModule"),
        (["--weights_only=false"], "unrecognized arguments: --weights_only=false"),
    ],
)
def test_what_is_loaded_already_is_not_called(arguments, said, command, complaint):
    """Python has these modules in memory; a name may also lead to them through an allowed package."""
    assert command(*FIT, *arguments) == 2
    assert said in complaint()


@pytest.mark.parametrize("before", [True, False])
def test_allow_import_adds_a_package_wherever_it_stands(before, command, evil, capsys):
    allow = ["--allow-import=evil"] if before else ["--allow-import", "evil"]
    show = ["fit", "--model.help=evil.Model"]
    assert command(*([*allow, *show] if before else [*show, *allow])) == 0
    assert "evil.Model" in capsys.readouterr().out
    assert evil() == ["evil.imported"]
    assert command("fit", "--model.help=torchevil.Model", "--allow-import=evil") == 2


@pytest.mark.parametrize("packages", [["--allow-import"], ["--allow-import=*"], ["--allow-import=jsonargparse"]])
def test_allow_import_wants_a_package(packages, command, complaint):
    assert command("fit", *packages) == 2
    assert "--allow-import wants the name of a package" in complaint()


@pytest.fixture
def server():
    """Where a URL leads to, and how often somebody came."""
    visits = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            visits.append(connection)
            connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listener.getsockname()[1]}", visits
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


REMOTE = ["http://{}/a.yaml", "https://{}/a.yaml", "ftp://{}/a.yaml", "s3://a/a.yaml", "memory://a.yaml"]
REMOTE += ["zip://a.yaml::http://{}/a.zip", "simplecache::http://{}/a.yaml", "zip://a.yaml::a.zip"]


@pytest.mark.parametrize("url", REMOTE)
def test_a_config_from_a_url_is_not_fetched(url, command, server, complaint, tmp_path):
    address, visits = server
    fsspec.filesystem("memory").pipe("/a.yaml", b"model: {class_path: evil.Model}")
    (tmp_path / "a.yaml").write_text("model: {class_path: evil.Model}")
    shutil.make_archive("a", "zip", tmp_path, "a.yaml")
    (tmp_path / "names_it.yaml").write_text(f"model: {url.format(address)}")
    url = url.format(address)
    for arguments in ([f"--config={url}"], [f"--model={url}"], ["--config=names_it.yaml"]):
        assert command("fit", *arguments) == 2
        said = complaint()
        assert "is not fetched: configs are files" in said
        assert url in said
    assert visits == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fitt"], "There is no command 'fitt': did you mean fit?"),
        (["draw"], "There is no command 'draw': there are compare, probe, "),
        ([*FIT, "--trainer.max_epoch", "3"], "--trainer.max_epoch 3: did you mean trainer.max_epochs?"),
        ([*FIT, "--trainr.max_epochs=3"], "--trainr.max_epochs=3: did you mean trainer?"),
        ([*FIT, "--model.hiden=3"], "Option 'hiden' is not accepted: did you mean hidden?"),
        ([*FIT, "--model=FeatureClasifier"], "no class FeatureClasifier: did you mean FeatureClassifier?"),
        (
            [*FIT, "--model=lightning_transfer.FeatureClasifier"],
            "no class lightning_transfer.FeatureClasifier: did you mean FeatureClassifier?",
        ),
        ([*FIT, "--trainer.callbacks+=EarlyStoping"], "did you mean EarlyStopping?"),
        ([*TUNING, "--trainer.callbacks.schedul=3"], "no argument of StagedUnfreeze: did you mean schedule?"),
        ([*FIT, "--features.dtype=float17"], "float17"),
        ([*FIT, "--trainer.max_epochs=three"], "trainer.max_epochs: Expected a int Given value: three"),
        ([*FIT, "--config=nowhere.yaml"], "nowhere.yaml"),
        (["fit"], "required: fit.model"),
        (["summary", "--backbon=vgg11"], "--backbon=vgg11: did you mean backbone?"),
        (["compare", "--epochs=few"], "epochs: Expected a int Given value: few"),
        (["classify"], "required: checkpoint, images"),
    ],
)
def test_a_wrong_word_names_the_nearest_right_one(arguments, said, command, complaint):
    assert command(*arguments) == 2
    assert said in complaint()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle: {class_path: lightning_transfer.FeatureClassifier}", "'modle.class_path': did you mean model?"),
        ("trainer: {max_epoch: 3}", "did you mean trainer.max_epochs?"),
        ("model: {init_args: {hiden: 3}}", "did you mean hidden?"),
        (
            "model: {init_args: {lerning_rate: 1}}",
            "'lerning_rate' is not accepted: there are backbone, weights, ",
        ),
        ("model: {init_arg: {a: 1}}", "init_arg"),
        ("model: [", "expected node content"),
        ("- a\n- b", "Unexpected config"),
        ("\0", "unacceptable character"),
    ],
)
def test_a_wrong_key_of_a_config_names_the_nearest_right_one(text, said, command, complaint, tmp_path):
    (tmp_path / "wrong.yaml").write_text(text)
    assert command(*FIT, "--config=wrong.yaml") == 2
    assert said in complaint()


def test_an_error_that_nobody_foresaw_is_a_paragraph_too(command, complaint, capsys, monkeypatch):
    def summary(backbone: str = "vgg16"):
        """Fails."""
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("lightning_transfer.cli.commands.summary.summary", summary)
    assert command("summary") == 1
    assert complaint() == "ZeroDivisionError: division by zero (pass --debug for the traceback)"
    for arguments in (["summary", "--debug"], ["--debug", "summary"]):
        assert command(*arguments) == 1
        traceback, _, said = capsys.readouterr().err.rpartition("error: ")
        assert traceback.startswith("Traceback")
        assert "in summary" in traceback
        assert said.strip() == "ZeroDivisionError: division by zero"


def test_debug_shows_where_a_foreseen_error_comes_from(command, capsys):
    for arguments, code in ((["fitt"], 2), (["summary", "--backbone=vgg61"], 1), ([*FIT, "--modle=x"], 2)):
        assert command(*arguments, "--debug") == code
        assert capsys.readouterr().err.startswith("Traceback")
