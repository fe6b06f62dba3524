"""Weights from files and from torchvision's cache, all made here; nothing is fetched."""

import hashlib
import os
import re
from pathlib import Path

import pytest
import torch
from pooch import HTTPDownloader
from safetensors.torch import save_file
from torchvision import models

from lightning_transfer import Backbone
from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.providers.torchvision import DIGEST, PROVIDER
from tiny_networks import numbers_of

CLASSIFIERS = {"squeezenet1_1": "classifier.", "resnet18": "fc."}


def state_of(name):
    """A network's numbers, BatchNorm's statistics made to matter."""
    with torch.device("meta"):
        network = models.get_model(name, weights=None)
    generator = torch.Generator().manual_seed(0)
    state = network.to_empty(device="cpu").state_dict()
    for value in state.values():
        value.copy_(torch.rand(value.shape, generator=generator) + 1)
    return state


def without(state, *beginnings):
    return {key: value for key, value in state.items() if not key.startswith(beginnings)}


def save(path, state):
    (save_file if path.suffix == ".safetensors" else torch.save)(dict(state), path)
    return str(path)


def assert_same_numbers(backbone, state):
    """The backbone holds these arrays and no others, whatever their keys, in single precision."""
    ours, theirs = (
        sorted((tuple(value.shape), value.contiguous().numpy().tobytes()) for value in arrays.values())
        for arrays in (backbone.stages.state_dict(), state)
    )
    assert ours == theirs
    assert {p.dtype for p in backbone.parameters()} == {torch.float32}


@pytest.mark.parametrize("suffix", ["pth", "pt", "safetensors"])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_file_fills_the_backbone_with_or_without_a_classifier_of_any_width(tmp_path, name, suffix):
    whole = state_of(name)
    features = without(whole, CLASSIFIERS[name])
    narrow = {key: value if key in features else value[:7].clone() for key, value in whole.items()}
    for number, state in enumerate((whole, features, narrow)):
        backbone = Backbone(name, save(tmp_path / f"{number}.{suffix}", state))
        assert_same_numbers(backbone, features)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
    state = without({key: value.to(dtype) for key, value in state_of("squeezenet1_1").items()}, "classifier.")
    backbone = Backbone("squeezenet1_1", save(tmp_path / "a.pth", state))
    assert_same_numbers(backbone, {key: value.float() for key, value in state.items()})
    assert all(p.requires_grad for p in backbone.parameters())


def test_keys_of_old_densenet_files_are_understood(tmp_path):
    state = state_of("densenet121")
    old = {re.sub(r"(denselayer\d+\.)(norm|conv)(\d)\.", r"\1\2.\3.", key): value for key, value in state.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    old = {key: value for key, value in old.items() if not key.endswith("num_batches_tracked")}
    backbone = Backbone("densenet121", save(tmp_path / "old.pth", old))
    new = Backbone("densenet121", save(tmp_path / "new.pth", state)).state_dict()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, torch.zeros(()) if key.endswith("num_batches_tracked") else new[key])


def test_mnasnet_loads_from_a_plain_dict(tmp_path):
    # Without its version mark, torchvision's own load_state_dict rebuilds MNASNet's stem in an old width.
    state = state_of("mnasnet0_5")
    backbone = Backbone("mnasnet0_5", save(tmp_path / "a.pth", state))
    assert_same_numbers(backbone, without(state, "classifier."))


@pytest.mark.parametrize("name", ["resnet18", "small/swin_xs", "small/vit_xs", "small/convnext_xs"])
def test_loading_draws_no_random_numbers(tmp_path, name):
    state = numbers_of(name) if name.startswith("small/") else state_of(name)
    path = save(tmp_path / "a.pth", state)
    before = torch.random.get_rng_state()
    Backbone(name, path)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_file_of_another_network_is_told_key_by_key(tmp_path):
    path = save(tmp_path / "a.pth", state_of("squeezenet1_1"))
    with pytest.raises(BackboneError) as caught:
        Backbone("resnet18", path)
    # 26 convolutions there; here 20, and 20 normalisations of 4 arrays, as the counts of batches may be missing.
    pattern = (
        r"does not fit resnet18: 100 missing \(bn1\.bias, .*, …\); 52 unexpected \(classifier\.1\.bias, .*, …\)"
    )
    assert re.search(pattern, str(caught.value))
    assert "Is it the file of another network?" in str(caught.value)


def test_missing_unexpected_and_misshapen_keys_are_named(tmp_path):
    state = state_of("resnet18")
    state["conv2.weight"] = state.pop("conv1.weight")
    state["bn1.bias"] = torch.zeros(3)
    message = r"1 missing \(conv1\.weight\); 1 unexpected \(conv2\.weight\); 1 of another shape \(bn1\.bias\)"
    with pytest.raises(BackboneError, match=message):
        Backbone("resnet18", save(tmp_path / "a.pth", state))


class Intruder:
    """Unpickling it makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path, zipped):
    marker = tmp_path / "marker"
    torch.save({"a": Intruder(marker)}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BackboneError, match=r"a\.pth cannot be read as weights: wanted a state dict of tensors"):
        Backbone("squeezenet1_1", str(tmp_path / "a.pth"))
    assert not marker.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert marker.exists(), "the file would have been harmless"


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"a text", b"<html>", b"\x80\x02cut", b"\x80\x02K", b"PK\x03\x04", b"\0" * 99]
)
def test_a_file_that_holds_no_weights_is_named(tmp_path, suffix, content):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=rf"a\.{suffix} cannot be read as weights"):
        Backbone("squeezenet1_1", str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"state_dict": {"a": torch.zeros(2)}, "epoch": 3},
            'holds a dict.*checkpoint: save its "state_dict" alone',
        ),
        ({"model": {"a": torch.zeros(2)}}, r"holds a dict, wanted a flat dict of tensors\."),
        ({0: torch.zeros(2)}, r"holds a dict, wanted a flat dict of tensors\."),
        (torch.zeros(2), "holds a Tensor, wanted a flat dict"),
        ([torch.zeros(2)], "holds a list, wanted"),
        (None, "holds a NoneType, wanted"),
    ],
)
def test_what_is_no_state_dict_is_told(tmp_path, content, message):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(BackboneError, match=message):
        Backbone("squeezenet1_1", str(tmp_path / "a.pth"))


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(BackboneError, match=r"no weights file .*absent\.pth: wanted a \.pth, \.pt, \.safetensors"):
        Backbone("squeezenet1_1", str(tmp_path / "absent.pth"))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty $TORCH_HOME's folder of weights, on a machine without a network."""

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setattr(HTTPDownloader, "__call__", refuse)
    folder = tmp_path / "home/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize("weights", ["DEFAULT", "IMAGENET1K_V1"])
def test_torchvisions_weights_are_read_from_its_cache_without_a_network(cache, monkeypatch, weights):
    state = state_of("squeezenet1_1")
    content = Path(save(cache / "a.pth", state)).read_bytes()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (cache / "a.pth").rename(cache / name)
    monkeypatch.setattr(models.SqueezeNet1_1_Weights.DEFAULT.value, "url", f"https://example.invalid/{name}")
    assert_same_numbers(Backbone("squeezenet1_1", weights), without(state, "classifier."))
    assert [path.name for path in cache.iterdir()] == [name]


def test_without_a_network_the_address_and_the_remedy_are_told(cache):
    url = models.ResNet18_Weights.DEFAULT.url
    with pytest.raises(DownloadError) as caught:
        Backbone("resnet18", "DEFAULT")
    assert f"{url} cannot be fetched to {cache / Path(url).name} (no network)" in str(caught.value)
    assert f"pass its path as weights, or put it in {cache}." in str(caught.value)
    assert [path.name for path in cache.iterdir()] == [f".{Path(url).name}.lock"]


def test_every_file_of_torchvision_has_a_hash_in_its_name():
    urls = {entry.url for name in PROVIDER.network_names() for entry in models.get_model_weights(name)}
    assert len(urls) > 90
    assert [url for url in urls if not url.startswith("https://") or not DIGEST.search(url)] == []
