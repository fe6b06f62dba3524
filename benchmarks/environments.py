"""Virtual environments of those that are compared with, made once; workers run in them and answer in JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import torch
import torchvision

# fastai gets the torch that runs here, so that the libraries are compared and not two releases of torch.
PACKAGES = {
    "keras": ("keras==3.15.1", "tensorflow-cpu==2.21.0", "pillow==13.0.0"),
    "fastai": (
        "fastai==2.8.12",
        f"torch=={torch.__version__.split('+')[0]}",
        f"torchvision=={torchvision.__version__.split('+')[0]}",
    ),
}
WORKERS = Path(__file__).parent / "others"


def python_of(name: str, root: Path) -> Path:
    """The interpreter of an environment, which is made first where it is not there, or holds other versions.

    Args:
        name: A key of `PACKAGES`.
        root: The folder of environments.

    Raises:
        subprocess.CalledProcessError: pip could not install.
    """
    folder = root / name
    python, complete = folder / "bin" / "python", folder / "complete.json"
    if not complete.exists() or json.loads(complete.read_text()) != list(PACKAGES[name]):
        print(f"Making an environment for {name}: {', '.join(PACKAGES[name])}", flush=True)
        venv.create(folder, clear=True, symlinks=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
        complete.write_text(json.dumps(PACKAGES[name]))
    return python


def run_worker(worker: str, name: str, root: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Runs a file of `benchmarks/others` in an environment.

    Args:
        worker: The file's name without its suffix.
        name: The environment's.
        root: The folder of environments.
        arguments: What the worker reads as JSON from its only argument.

    Returns:
        What it printed as the last line of its standard output, which is JSON, too.

    Raises:
        subprocess.CalledProcessError: It failed; its complaint is on standard error.
    """
    return answer([str(python_of(name, root)), str(WORKERS / f"{worker}.py"), json.dumps(arguments)])


def run_here(module: str, arguments: dict[str, Any], **environment: str) -> dict[str, Any]:
    """The same with a module of this package, in a process of its own.

    Args:
        module: Its full name.
        arguments: What it reads as JSON from its only argument.
        environment: Variables beside those of this process.
    """
    return answer([sys.executable, "-m", module, json.dumps(arguments)], environment)


def answer(command: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON in the last line that a command prints."""
    given = os.environ | (environment or {})
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=given).stdout
    said: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return said
