"""Weights of timm's networks: from files, and from a loopback server in the hub's place; nothing is fetched."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from torchvision.transforms.v2 import functional as transforms

from lightning_transfer import Backbone, ImageFolderDataModule
from lightning_transfer.errors import BackboneError, DownloadError
from lightning_transfer.models.providers import timm_weights
from lightning_transfer.models.providers.timm import PROVIDER

NAME = "test_resnet"  # a ResNet of 0.5 million parameters, with the tag r160_in1k
REPOSITORY = f"timm/{NAME}.r160_in1k"
COMMIT = "0123456789" * 4


def state_of(name, **arguments):
    """A network's numbers, BatchNorm's statistics made to matter."""
    generator = torch.Generator().manual_seed(0)
    state = timm.create_model(name, pretrained=False, **arguments).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
        for key, value in state.items()
    }


def numbers(state):
    return sorted((tuple(value.shape), value.contiguous().numpy().tobytes()) for value in state.values())


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("name", [NAME, "vit_tiny_patch16_224"])
def test_a_file_of_half_precision_fills_the_backbone_with_or_without_a_classifier(tmp_path, name, suffix):
    whole = {key: value.half() if value.is_floating_point() else value for key, value in state_of(name).items()}
    features = {key: value for key, value in whole.items() if not key.startswith(("fc.", "head."))}
    wide = {key: value if key in features else torch.ones(7, *value.shape[1:]) for key, value in whole.items()}
    for number, state in enumerate((whole, features, wide)):
        path = tmp_path / f"{number}.{suffix}"
        save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
        backbone = Backbone(f"timm/{name}", str(path))
        expected = {key: value.float() if value.is_floating_point() else value for key, value in features.items()}
        assert numbers(backbone.stages.state_dict()) == numbers(expected)
        assert {p.dtype for p in backbone.parameters()} == {torch.float32}
        assert not any(tensor.is_meta for tensor in (*backbone.parameters(), *backbone.buffers()))


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_small_patch16_dinov3", "resnetblur18"])
def test_what_no_file_holds_is_computed(tmp_path, name):
    state = state_of(name)
    save_file(state, tmp_path / "a.safetensors")
    loaded, fresh = Backbone(f"timm/{name}", str(tmp_path / "a.safetensors")), Backbone(f"timm/{name}", None)
    computed = {key: buffer for key, buffer in fresh.named_buffers() if key not in fresh.state_dict()}
    buffers = dict(loaded.named_buffers())
    assert computed
    assert all(torch.equal(buffers[key], buffer) for key, buffer in computed.items())


def test_position_embeddings_of_another_size_are_resampled_when_they_are_read(tmp_path):
    state = state_of("vit_tiny_patch16_384")
    save_file(state, tmp_path / "a.safetensors")
    backbone = Backbone("timm/vit_tiny_patch16_224", str(tmp_path / "a.safetensors"))
    network = timm.create_model("vit_tiny_patch16_384", pretrained=False)
    network.load_state_dict(state)
    network.set_input_size((224, 224))
    assert torch.allclose(backbone.stages["patch_embed"].network.pos_embed, network.pos_embed, atol=1e-5)


def test_another_form_of_the_keys_is_understood(tmp_path):
    state = state_of("vit_small_patch14_dinov2")
    save_file(
        {**state, "mask_token": torch.zeros(1, 384)}, tmp_path / "a.safetensors"
    )  # as its authors publish it
    backbone = Backbone("timm/vit_small_patch14_dinov2", str(tmp_path / "a.safetensors"))
    assert numbers(backbone.stages.state_dict()) == numbers(state)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "convnext_atto", "swin_tiny_patch4_window7_224"])
def test_a_file_of_another_network_is_told(tmp_path, name):
    save_file(state_of(NAME), tmp_path / "a.safetensors")
    with pytest.raises(BackboneError, match=rf"does not fit timm/{name}: .* missing .* unexpected"):
        Backbone(f"timm/{name}", str(tmp_path / "a.safetensors"))


@pytest.mark.parametrize(
    ("name", "mean", "size", "interpolation", "crop"),
    [
        ("vit_base_patch16_siglip_224", 0.5, 224, "bicubic", 0.9),
        ("tf_efficientnet_lite0", 0.5, 224, "bicubic", 0.875),
        ("vit_small_patch14_dinov2", 0.485, 518, "bicubic", 1.0),
        ("vit_base_patch16_clip_224.openai", 0.48145466, 224, "bicubic", 0.9),
        ("resnet18.tv_in1k", 0.485, 224, "bilinear", 0.875),
        ("resnet18", 0.485, 224, "bicubic", 0.95),
    ],
)
def test_preprocessing_is_that_of_the_tag(name, mean, size, interpolation, crop):
    found = PROVIDER.preprocessing(name)
    assert (found.mean[0], found.size, found.interpolation, found.crop) == (mean, size, interpolation, crop)
    assert PROVIDER.find_weights(name, "DEFAULT").preprocessing == found


def test_tags_are_found_by_name():
    assert PROVIDER.find_weights("resnet18", "DEFAULT").origin == "timm/resnet18.a1_in1k"
    assert PROVIDER.find_weights("resnet18", "tv_in1k").preprocessing.interpolation == "bilinear"
    assert PROVIDER.find_weights("resnet18.tv_in1k", "DEFAULT").origin == "timm/resnet18.tv_in1k"
    assert PROVIDER.find_weights("resnet18.tv_in1k", "a1_in1k").origin == "timm/resnet18.a1_in1k"


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        (
            "resnet18",
            "a1_in1",
            r"no weights 'a1_in1' \(did you mean a1_in1k\?\): wanted DEFAULT, a1_in1k, .*or None",
        ),
        ("vit_srelpos_small_patch16_224", "x", "no weights 'x'"),
        ("resnet51q", "DEFAULT", None),
        ("gcvit_tiny", "DEFAULT", r"published as https://github.com/.*\.pth alone.*pass its path as weights"),
        ("vit_tiny_patch16_dinov3_qkvb", "DEFAULT", None),
    ],
)
def test_weights_that_there_are_not_are_told(name, weights, message):
    if message is None:
        assert PROVIDER.find_weights(name, weights).origin.startswith(f"timm/{name}.")
        return
    with pytest.raises(BackboneError, match=message):
        PROVIDER.find_weights(name, weights)


def test_a_network_without_published_weights_is_told():
    name = next(name for name in timm.list_models() if not timm_weights.tags_of(name))
    with pytest.raises(BackboneError, match=f"publishes no weights of {name}: wanted the path of a .*None"):
        PROVIDER.find_weights(name, "DEFAULT")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server that answers as the hub does for the files of `hub.files`, and an empty cache."""

    class Answer(BaseHTTPRequestHandler):
        def do_HEAD(self, body=False):
            server.asked.append((self.command, self.path))
            content = server.files.get(self.path)
            self.send_response(200 if content is not None else 404)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
                content = b""
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_GET(self):
            self.do_HEAD(body=True)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.files, server.asked, server.cache = {}, [], tmp_path / "hub"
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    # What HF_ENDPOINT and HF_HUB_CACHE set when it is imported; see below for those themselves.
    constants = huggingface_hub.constants
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(server.cache))
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def address(file="model.safetensors", repository=REPOSITORY):
    return f"/{repository}/resolve/main/{file}"


@pytest.mark.parametrize("name", [NAME, f"{NAME}.r160_in1k"])
def test_weights_are_fetched_from_the_hub_once_and_read_from_its_cache_without_a_network(hub, name, monkeypatch):
    state = state_of(NAME)
    hub.files[address()] = save(state)
    backbone = Backbone(f"timm/{name}")
    expected = {key: value for key, value in state.items() if not key.startswith("fc.")}
    assert numbers(backbone.stages.state_dict()) == numbers(expected)
    assert ("GET", address()) in hub.asked
    hub.asked.clear()
    assert Backbone(f"timm/{name}").fingerprint() == backbone.fingerprint()
    assert {method for method, _ in hub.asked} <= {"HEAD"}
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert Backbone(f"timm/{name}").fingerprint() == backbone.fingerprint()


def test_no_pickle_is_fetched(hub):
    hub.files[address("pytorch_model.bin")] = b"a pickle"
    with pytest.raises(BackboneError, match=rf"The hub has no {REPOSITORY}/model\.safetensors.*pickle alone"):
        Backbone(f"timm/{NAME}")
    assert not any(path.endswith(".bin") for _, path in hub.asked)


def test_a_file_that_holds_no_weights_is_told(hub):
    hub.files[address()] = b"<html>a login page</html>"
    with pytest.raises(BackboneError, match=r"model\.safetensors cannot be read as weights"):
        Backbone(f"timm/{NAME}")


def test_without_a_network_and_without_a_cache_the_remedy_is_told(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError) as caught:
        Backbone(f"timm/{NAME}")
    message = str(caught.value)
    assert f"{REPOSITORY}/model.safetensors" in message
    assert f"bring model.safetensors of {hub.url}/{REPOSITORY} here by other means and pass its path" in message
    assert "\n" not in message
    assert hub.asked == []


def test_the_hubs_own_variables_hold(hub, tmp_path):
    hub.files[address()] = save(state_of(NAME))
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "other")}
    program = f"from lightning_transfer import Backbone; Backbone('timm/{NAME}')"
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert ("GET", address()) in hub.asked
    assert list((tmp_path / "other").rglob("model.safetensors"))


@pytest.mark.real
def test_real_weights_of_efficientnet_lite0_carry_their_preprocessing(real):
    backbone = Backbone(
        "timm/tf_efficientnet_lite0", str(real / "weights/tf_efficientnet_lite0-imagenet.safetensors")
    )
    assert backbone.preprocessing.mean == backbone.preprocessing.std == (0.5, 0.5, 0.5)
    assert backbone.native_size == 224
    assert backbone.out_shape(224) == (1280, 7, 7)


@pytest.mark.real
def test_real_weights_of_the_saliency_vit_are_read_and_take_other_sizes(real):
    path = real / "weights/vit_small_patch14-saliency.safetensors"
    backbone = Backbone("timm/vit_small_patch14_dinov2", str(path)).eval()
    assert backbone.native_size == 518
    assert backbone.out_shape(154) == (122, 384)
    photograph = next((real / "data/cats_and_dogs_small/test/cats").iterdir())
    image = transforms.resize(_decoded(photograph), [154, 154])[None]
    with torch.no_grad():
        tokens = backbone(image)
    assert tokens.isfinite().all()


def _decoded(path: Path) -> torch.Tensor:
    from PIL import Image

    return transforms.pil_to_tensor(Image.open(path).convert("RGB"))


@pytest.mark.nightly
@pytest.mark.real
def test_a_linear_classifier_on_efficientnet_lite0s_native_features_reaches_what_was_measured(real):
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    path = real / "weights/tf_efficientnet_lite0-imagenet.safetensors"
    backbone = Backbone("timm/tf_efficientnet_lite0", str(path)).eval()
    pool = backbone.native_pool().eval()
    data = ImageFolderDataModule(str(real / "data/cats_and_dogs_small"), image_size=224, num_workers=0)
    data.setup("fit")
    data.setup("test")
    features = {}
    for split, loader in (("train", data.train_dataloader()), ("test", data.test_dataloader())):
        rows, labels = [], []
        for images, targets in loader:
            with torch.no_grad():
                rows.append(pool(backbone(images)))
            labels.append(targets)
        features[split] = torch.cat(rows).numpy(), torch.cat(labels).numpy()
    scaler = StandardScaler().fit(features["train"][0])
    model = LogisticRegression(C=1e-3, max_iter=2000)
    model.fit(scaler.transform(features["train"][0][:1000]), features["train"][1][:1000])
    assert len(features["test"][1]) == 1000
    assert model.score(scaler.transform(features["test"][0]), features["test"][1]) >= 0.985
