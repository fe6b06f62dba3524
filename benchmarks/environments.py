"""Virtual environments of other libraries, made once; workers run in them and answer in JSON."""

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

# fastai gets the same torch as this library, so that releases of torch are not what is compared.
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
    """Return an environment's interpreter; make the environment if it does not exist or has other versions.

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
    """Run a file of `benchmarks/others` in an environment.

    Args:
        worker: The file's name without its suffix.
        name: The environment's.
        root: The folder of environments.
        arguments: What the worker reads as JSON from its only argument.

    Returns:
        The last line of its standard output, decoded from JSON.

    Raises:
        subprocess.CalledProcessError: It failed; the error is on standard error.
    """
    return answer([str(python_of(name, root)), str(WORKERS / f"{worker}.py"), json.dumps(arguments)])


def run_here(module: str, arguments: dict[str, Any], **environment: str) -> dict[str, Any]:
    """Run a module of this package the same way, in a process of its own.

    Args:
        module: Its full name.
        arguments: What it reads as JSON from its only argument.
        environment: Environment variables to add.
    """
    return answer([sys.executable, "-m", module, json.dumps(arguments)], environment)


def answer(command: list[str], environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON in the last line that a command prints."""
    given = os.environ | (environment or {})
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=given).stdout
    said: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return said
