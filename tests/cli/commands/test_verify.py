"""Whether a store is sound, by the command line and from Python."""

import os

import numpy as np
import pytest

from lightning_transfer.cli.commands.verify import verify
from lightning_transfer.errors import StoreError
from lightning_transfer.features.builder import StoreBuilder
from lightning_transfer.features.manifest import MANIFEST, Manifest, SplitManifest


@pytest.fixture
def store(tmp_path):
    """1,500 images, 500 of them twice, 32 numbers each."""
    splits = {
        name: SplitManifest(tuple(f"{name}/{i}.jpg" for i in range(n)), (0,) * n, views)
        for name, n, views in (("train", 500, 2), ("test", 1000, 1))
    }
    builder = StoreBuilder(tmp_path / "[one]", Manifest("f", {}, ("cats",), (8, 2, 2), "float16", splits))
    assert builder.begin()
    for name in splits:
        builder.write(name, range(1000), np.random.default_rng(0).normal(size=(1000, 8, 2, 2)))
    builder.publish()
    return builder.path


def test_a_sound_store_is_a_line(command, store, capsys):
    assert command("verify", "[one]") == 0
    assert capsys.readouterr() == ("[one]: 1,500 images, 0.1 MB: sound\n", "")
    assert verify(str(store)).path == store


def test_it_finds_a_flipped_bit(command, store, capsys):
    """Of which neither size nor date tell."""
    file = store / "test.npy"
    state, content = file.stat(), bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert command("verify", store) == 1
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith(f"error: The feature store is damaged: {file} has changed since it was made")
    assert line.endswith("the features are then extracted again.")


def test_a_label_that_was_changed_is_noticed(command, store, capsys):
    manifest = store / MANIFEST
    manifest.write_text(manifest.read_text().replace('"cats"', '"dogs"'))
    assert command("verify", store) == 1
    assert "its content is not that of its manifest_sha256" in capsys.readouterr().err


def test_what_is_no_store_is_one_paragraph(command, tmp_path, capsys):
    for name in ("nowhere", "."):
        assert command("verify", name) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "There is no complete feature store at" in line
    with pytest.raises(StoreError):
        verify(str(tmp_path))
