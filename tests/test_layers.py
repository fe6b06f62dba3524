"""Imports point one way, as the layout promises."""

import ast
from pathlib import Path

import pytest

import lightning_transfer

ROOT = Path(lightning_transfer.__file__).parent
# From the ground up. A file may import its own part and those of earlier lines.
LAYERS = (
    {"errors"},
    {"utils"},
    {"models", "data"},
    {"features"},
    {"monitoring"},  # below callbacks, since History draws learning curves
    {"callbacks"},
    {"training"},
    {"inference", "comparison", "sketches"},
    {"cli"},
)
PARTS = {part: number for number, parts in enumerate(LAYERS) for part in parts}
LOOSE = {"__init__.py", "__main__.py", "errors.py"}
FILES = sorted(ROOT.rglob("*.py"))


def imports(file: Path) -> set[str]:
    """The parts of the package that a file imports: "models", "errors", …"""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "lightning_transfer":
            names = [f"lightning_transfer.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("lightning_transfer.")}
    return found


def test_each_part_has_its_layer():
    assert {file.relative_to(ROOT).parts[0] for file in FILES} - LOOSE == PARTS.keys() - {"errors"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file):
    part = file.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__"):
        return
    assert imports(file) - {part} <= {other for other, layer in PARTS.items() if layer < PARTS[part]}


def test_commands_do_not_know_each_other():
    for file in (ROOT / "cli" / "commands").glob("*.py"):
        assert "lightning_transfer.cli.commands" not in file.read_text(), file


def test_the_plain_parts_know_nothing_of_lightning():
    for file in [*(ROOT / "models").rglob("*.py"), ROOT / "monitoring" / "figures.py"]:
        tree = ast.parse(file.read_text())
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        assert not [module for module in modules if module.split(".")[0] == "lightning"], file


def test_public_names_are_there_and_documented():
    for name in lightning_transfer.__all__:
        assert getattr(lightning_transfer, name).__doc__, name
