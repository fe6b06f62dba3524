"""Imports point one way, as the layout promises."""

import ast
from pathlib import Path

import pytest

import lightning_transfer

ROOT = Path(lightning_transfer.__file__).parent
GROUND = {"errors", "locking", "output", "download"}
MAY_IMPORT = {
    "errors": set(),
    "locking": set(),
    "signals": set(),
    "output": {"errors"},
    "download": {"errors", "locking"},
    "backbones": GROUND,
    "heads": GROUND,
    "data": GROUND,
    "precision": GROUND,
    "config_limits": {"errors"},
    "usage": {"errors", "config_limits"},
    "without_chatter": GROUND,
    "reports": GROUND,
    "features": GROUND | {"backbones", "data"},
    "callbacks": GROUND | {"backbones", "reports"},
    # They bring the audit along, and look whether anything will ever unfreeze.
    "modules": GROUND | {"backbones", "heads", "callbacks"},
    "regimes": GROUND | {"data", "precision", "features", "reports", "callbacks", "modules"},
    "prediction": GROUND | {"data", "modules"},
    "explanation": GROUND | {"prediction"},
    "commands": GROUND
    | {"backbones", "heads", "data", "precision", "without_chatter", "features", "reports", "callbacks"}
    | {"modules", "regimes", "prediction", "explanation"},
}
FILES = sorted(ROOT.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """The parts of the package that a file imports: "backbones", "errors", …"""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "lightning_transfer":
            names = [f"lightning_transfer.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lightning_transfer.")}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file):
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__", "cli", "lightning_cli"):
        return
    assert imports(file) - {part} <= MAY_IMPORT[part]


def test_commands_do_not_know_each_other():
    for file in (ROOT / "commands").glob("*.py"):
        assert "commands" not in imports(file), file


def test_the_plain_parts_know_nothing_of_lightning():
    for file in [*(ROOT / "backbones").glob("*.py"), ROOT / "heads.py", *(ROOT / "reports").glob("*.py")]:
        tree = ast.parse(file.read_text())
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [module for module in modules if module.split(".")[0] == "lightning"], file


def test_public_names_are_there_and_documented():
    for name in lightning_transfer.__all__:
        assert getattr(lightning_transfer, name).__doc__, name
