"""Downloads and archives: what is not right is refused, and a kill at any moment costs time alone.

More of it is in tests/utils/test_download.py, tests/data/test_cats_and_dogs.py and tests/models/test_weights.py.
"""

import hashlib
import os
import pathlib
import re
import resource
import shutil
import stat
import time
import zipfile
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

import numpy as np
import pytest
import torch
import torch.utils.data._utils.worker
from killing import die, ended, run_and_kill, start
from PIL import Image
from pooch import HTTPDownloader
from torchvision import models

from lightning_transfer import Backbone, SketchPetsDataModule
from lightning_transfer.data import cats_and_dogs
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule
from lightning_transfer.errors import DataError, DownloadError
from lightning_transfer.sketches import folder as sketch_folder
from lightning_transfer.utils import download as downloading
from lightning_transfer.utils import files
from lightning_transfer.utils.download import download
from lightning_transfer.utils.files import locked

CONTENT = bytes(range(256)) * 400
SHA256 = hashlib.sha256(CONTENT).hexdigest()

RANGES = {"train": range(2), "validation": range(2, 3), "test": range(3, 4)}
BUILT = sorted(f"{s}/{a}s/{a}.{n}.jpg" for a in ("cat", "dog") for s, numbers in RANGES.items() for n in numbers)


class Handler(BaseHTTPRequestHandler):
    """Serves the files of a folder and counts the requests; the path says with which fault."""

    def do_GET(self):
        with (self.server.folder / "requests").open("a") as file:
            file.write(f"{self.path}\n")
        place, name = self.path.strip("/").split("/")
        body = b"<html>Log in</html>" if place == "portal" else (self.server.folder / name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if place == "short" else body)

    def log_message(self, *args):
        pass

    def handle(self):
        with suppress(ConnectionError):  # the one that asked was killed
            super().handle()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server in a process of its own, since one with threads is not to be forked; the folder it serves."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "a.zip").write_bytes(CONTENT)
    (folder / "requests").touch()
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.folder = folder
        server.url = f"http://127.0.0.1:{server.server_port}"
        process = start(server.serve_forever)
        server.socket.close()
        yield server
        os.kill(process, 9)
        ended(process)


def requests(server):
    return (server.folder / "requests").read_text().split()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


DOWNLOAD_KILLS = {
    "half received": (),
    "before the check": (downloading, "sha256_of", 1, False),
    "before the sync": (os, "fsync", 1, False),
    "before the move": (pathlib.Path, "replace", 1, False),
    "after the move": (pathlib.Path, "replace", 1, True),
}


@pytest.mark.parametrize("kill", DOWNLOAD_KILLS, ids=DOWNLOAD_KILLS)
def test_a_download_survives_a_kill(server, tmp_path, kill):
    """The file is absent or whole; the next call fetches it, and removes what the killed one left."""
    target, url = tmp_path / "data" / "a.zip", f"{server.url}/good/a.zip"

    def work():
        if kill == "half received":
            HTTPDownloader.__call__ = lambda self, url, part, _: (pathlib.Path(part).write_bytes(b"half"), die())
        download(url, target, SHA256)

    assert run_and_kill(work, *DOWNLOAD_KILLS[kill]) == -9
    assert not target.exists() or kill == "after the move"
    assert download(url, target, SHA256) == target
    assert target.read_bytes() == CONTENT
    assert names(target.parent) == [".a.zip.lock", "a.zip"]


@pytest.fixture
def weights(server, tmp_path, monkeypatch):
    """Puts SqueezeNet's weights on our server, at a place; gives where they are kept, and their content."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    torch.manual_seed(0)
    file = BytesIO()
    torch.save(models.squeezenet1_1(weights=None).state_dict(), file)
    content = file.getvalue()
    name = f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (server.folder / name).write_bytes(content)
    entry = models.SqueezeNet1_1_Weights.DEFAULT.value

    def put(place):
        monkeypatch.setattr(entry, "url", f"{server.url}/{place}/{name}")
        return tmp_path / "home/hub/checkpoints" / name, content

    return put


def test_weights_are_fetched_once_and_checked_each_time(server, weights):
    path, content = weights("good")
    for _ in range(2):
        Backbone("squeezenet1_1", "DEFAULT")
        assert len(requests(server)) == 1
    assert path.read_bytes() == content
    for damaged in (content[:-1], content[:1000] + b"x" + content[1001:], b"", b"<html>Log in</html>"):
        path.write_bytes(damaged)
        message = rf"{path.name} is another file: its sha256 is .*Move or remove it, .* Without a network"
        with pytest.raises(DownloadError, match=message):
            Backbone("squeezenet1_1", "DEFAULT")
        assert path.read_bytes() == damaged
    path.unlink()
    Backbone("squeezenet1_1", "DEFAULT")
    assert path.read_bytes() == content


@pytest.mark.parametrize("place", ["portal", "short"])
def test_weights_that_are_none_never_lie_where_weights_are_looked_for(weights, place):
    path, _ = weights(place)
    with pytest.raises(DownloadError, match=r"pass its path as weights, or put it in .*checkpoints\."):
        Backbone("squeezenet1_1", "DEFAULT")
    assert not path.exists()
    weights("good")
    Backbone("squeezenet1_1", "DEFAULT")
    assert names(path.parent) == [f".{path.name}.lock", path.name]


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Splits of a few images."""
    monkeypatch.setattr(cats_and_dogs, "RANGES", RANGES)


def jpeg(animal, number):
    """An image's file, different for each animal and number."""
    file = BytesIO()
    noise = np.random.default_rng([number, animal == "dog"]).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


PICTURES = {f"train/{animal}.{n}.jpg": jpeg(animal, n) for animal in ("cat", "dog") for n in range(6)}


def as_zip(path, files=PICTURES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def prepare(tmp_path, source):
    """Makes the folder from a source, and looks what it holds."""
    data = CatsAndDogsDataModule(str(tmp_path / "data" / "pets"), str(source), image_size=4, num_workers=0)
    data.prepare_data()
    assert below(data.root) == BUILT
    assert names(data.root.parent) == [".pets.lock", "pets"]
    return data


def refused(tmp_path, source, message):
    """The source makes an error, and nothing else."""
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=message):
        prepare(tmp_path, source)
    assert names(tmp_path / "data") == [".pets.lock"]
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before | {tmp_path / "data" / ".pets.lock": b""}


BUILD_KILLS = {
    "before the first": (pathlib.Path, "write_bytes", 1, False),
    "half-way": (cats_and_dogs, "load_image", 5, False),
    "before the move": (pathlib.Path, "rename", 1, False),
    "after the move": (pathlib.Path, "rename", 1, True),
}


@pytest.mark.parametrize("kill", BUILD_KILLS.values(), ids=BUILD_KILLS)
@pytest.mark.parametrize("empty", [False, True], ids=["no folder", "an empty folder"])
def test_a_build_survives_a_kill(tmp_path, kill, empty):
    source, root = as_zip(tmp_path / "copy.zip"), tmp_path / "data" / "pets"
    if empty:
        root.mkdir(parents=True)
    assert run_and_kill(lambda: prepare(tmp_path, source), *kill) == -9
    assert not root.exists() or below(root) in ([], BUILT)
    # What the first one left is removed by the second, which is killed at that, and by the third.
    assert run_and_kill(lambda: prepare(tmp_path, source), shutil, "rmtree") == (0 if kill[3] else -9)
    assert not root.exists() or below(root) in ([], BUILT)
    data = prepare(tmp_path, source)
    assert (data.root / "test/dogs/dog.3.jpg").read_bytes() == PICTURES["train/dog.3.jpg"]


def test_drawing_survives_a_kill_though_its_workers_hold_the_lock(tmp_path, monkeypatch):
    """They notice after some seconds, of which the test has none, that the process that began them is gone."""
    monkeypatch.setattr(torch.utils.data._utils.worker, "MP_STATUS_CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(sketch_folder, "usable_cores", lambda: 2)
    data = SketchPetsDataModule(str(tmp_path / "pets"), {"train": 4, "validation": 2, "test": 2}, image_size=32)

    def interrupted():
        def track(items, *_, **__):
            next(iter(items))
            die()

        sketch_folder.track = track
        data.prepare_data()

    assert run_and_kill(interrupted) == -9
    data.prepare_data()
    assert len([name for name in below(data.root) if name.endswith(".jpg")]) == 16
    assert names(tmp_path) == [".pets.lock", "pets"]


@pytest.mark.parametrize(
    "inside", ["../../evil/", "/tmp/evil/", "C:/evil/", "C:\\evil\\", "..\\..\\evil\\", "//evil/share/", "./"]
)
def test_names_that_lead_out_of_an_archive_lead_nowhere(tmp_path, inside):
    """Some are taken for images, by their last part; their content then lies where it always does."""
    files = {f"{inside}{name.removeprefix('train/')}": content for name, content in PICTURES.items()}
    files |= {f"{inside}evil.jpg": b"", "../../evil.jpg": b""} | PICTURES
    data = prepare(tmp_path, as_zip(tmp_path / "copy.zip", files))
    assert below(tmp_path) == sorted(["copy.zip", "data/.pets.lock", *(f"data/pets/{name}" for name in BUILT)])
    assert not list(pathlib.Path("/tmp").glob("evil*"))
    assert (data.root / "train/cats/cat.1.jpg").read_bytes() == PICTURES["train/cat.1.jpg"]


def test_links_inside_an_archive_are_not_followed(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(cats_and_dogs, "rank_zero_info", told.append)
    (tmp_path / "secret.jpg").write_bytes(jpeg("cat", 77))
    with zipfile.ZipFile(tmp_path / "copy.zip", "w") as archive:
        for name, content in PICTURES.items():
            entry = zipfile.ZipInfo(name)
            if name == "train/cat.0.jpg":
                entry.external_attr = (stat.S_IFLNK | 0o777) << 16
                content = str(tmp_path / "secret.jpg").encode()
            archive.writestr(entry, content)
    data = prepare_with_a_spare(tmp_path, tmp_path / "copy.zip")
    assert len(told) == 1
    assert re.match(r"cat\.0\.jpg cannot be read .*: cat\.4\.jpg replaces it in train\.", told[0])
    assert not [path for path in data.root.rglob("*") if path.is_symlink()]


def prepare_with_a_spare(tmp_path, source):
    """As `prepare`, where cat 4 stands for cat 0."""
    data = CatsAndDogsDataModule(str(tmp_path / "data" / "pets"), str(source), image_size=4, num_workers=0)
    data.prepare_data()
    assert below(data.root) == sorted({*BUILT} - {"train/cats/cat.0.jpg"} | {"train/cats/cat.4.jpg"})
    return data


@pytest.mark.parametrize("link", ["file", "folder", "nowhere", "circle", "fifo"])
def test_links_out_of_a_source_folder_are_not_followed(tmp_path, link):
    source = tmp_path / "copy"
    for name, content in PICTURES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    outside = tmp_path / "outside" / "train"
    outside.mkdir(parents=True)
    (outside / "cat.0.jpg").write_bytes(jpeg("cat", 77))
    image = source / "train/cat.0.jpg"
    image.unlink()
    if link == "folder":
        (source / "a").symlink_to(outside.parent)
    elif link == "fifo":
        os.mkfifo(image)
    else:
        image.symlink_to({"file": outside / image.name, "nowhere": "absent.jpg", "circle": image}[link])
    prepare_with_a_spare(tmp_path, source)


def test_links_within_a_source_folder_and_to_it_are_followed(tmp_path):
    source = tmp_path / "copy"
    for name, content in PICTURES.items():
        (source / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (source / "all" / name).write_bytes(content)
    (source / "all/train/cat.0.jpg").rename(source / "kept.jpg")
    (source / "all/train/cat.0.jpg").symlink_to(source / "kept.jpg")
    (tmp_path / "link").symlink_to(source)
    data = prepare(tmp_path, tmp_path / "link")
    assert (data.root / "train/cats/cat.0.jpg").read_bytes() == PICTURES["train/cat.0.jpg"]
    assert not (data.root / "train/cats/cat.0.jpg").is_symlink()


def test_a_bomb_is_refused_unread(tmp_path):
    source = as_zip(tmp_path / "copy.zip", PICTURES | {"train/cat.0.jpg": bytes(50_000_000)})
    assert source.stat().st_size < 70_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(
        tmp_path,
        source,
        r"copy\.zip has [\d,]+ bytes, and its images would have 50,00\d,\d\d\d: they are not photogr",
    )
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kB


def test_members_that_share_their_bytes_are_a_bomb(tmp_path):
    """Each name is announced with the same bytes, so that none is too large by itself."""
    image = jpeg("cat", 0) + bytes(100_000)
    with zipfile.ZipFile(tmp_path / "copy.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train/cat.0.jpg", image)
        entry = archive.infolist()[0]
        for animal, number in [(animal, number) for animal in ("cat", "dog") for number in range(500)][1:]:
            twin = zipfile.ZipInfo(f"train/{animal}.{number}.jpg")
            twin.header_offset, twin.CRC = entry.header_offset, entry.CRC
            twin.compress_type, twin.compress_size, twin.file_size = (
                entry.compress_type,
                entry.compress_size,
                len(image),
            )
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    refused(tmp_path, tmp_path / "copy.zip", r"its images would have 100,\d\d\d,\d\d\d")


def test_a_member_gives_no_more_than_it_announces(tmp_path):
    source = as_zip(tmp_path / "copy.zip", PICTURES | {"train/cat.0.jpg": bytes(50_000_000)})
    content, announced = source.read_bytes(), (50_000_000).to_bytes(4, "little")
    assert content.count(announced) == 2
    source.write_bytes(content.replace(announced, (500).to_bytes(4, "little")))
    refused(tmp_path, source, r"train/cat\.0\.jpg in .*copy\.zip cannot be read \(Bad CRC")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_kinds_of_compression_that_zipfile_unpacks_whole_are_refused(tmp_path, method):
    source = as_zip(tmp_path / "copy.zip", method=method)
    refused(tmp_path, source, rf"train/cat\.0\.jpg in .*copy\.zip is compressed by method {method}: wanted")


def test_an_archive_in_an_archive_is_not_opened(tmp_path):
    inner = as_zip(tmp_path / "train.zip").read_bytes()
    source = as_zip(tmp_path / "copy.zip", {"train.zip": inner, "train/cat.0.jpg/train.zip": inner})
    refused(tmp_path, source, r"copy\.zip has no cat\.N\.jpg")


def test_many_members_are_passed_over(tmp_path):
    others = {f"train/{number}.jpg": b"" for number in range(20_000)}
    prepare(tmp_path, as_zip(tmp_path / "copy.zip", PICTURES | others))


def test_a_password_is_not_guessed(tmp_path):
    source = as_zip(tmp_path / "copy.zip")
    content = bytearray(source.read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        for match in re.finditer(re.escape(signature), bytes(content)):
            content[match.start() + flags] |= 1
    source.write_bytes(content)
    refused(tmp_path, source, r"train/cat\.0\.jpg in .*copy\.zip cannot be read \(.*encrypted, password required")


@pytest.mark.parametrize("archives", [40, pytest.param(200, marks=pytest.mark.nightly)])
def test_damaged_archives_make_an_error_or_the_right_folder(tmp_path, archives):
    """Each differs from a sound one by a few bytes, or ends early."""
    sound = as_zip(tmp_path / "sound.zip").read_bytes()
    right = {name: hashlib.sha256(content).digest() for name, content in PICTURES.items()}
    generator = np.random.default_rng(0)
    errors = 0
    for number in range(archives):
        content = bytearray(sound)
        # Most of the bytes are images; the tables at the end are where names, lengths and places are told.
        first = len(sound) - 1000 if number % 2 else 0
        for _ in range(generator.integers(1, 4)):
            content[generator.integers(first, len(content))] = generator.integers(256)
        if number % 5 == 0:
            content = content[: generator.integers(len(content))]
        source, root = tmp_path / "copy.zip", tmp_path / "data" / "pets"
        source.write_bytes(content)
        message = ""
        try:
            CatsAndDogsDataModule(str(root), str(source), image_size=4, num_workers=0).prepare_data()
        except DataError as error:
            message = str(error)
        if message:
            errors += 1
            assert "copy.zip" in message
            assert names(root.parent) == [".pets.lock"]
            continue
        for path in root.rglob("*.jpg"):
            assert hashlib.sha256(path.read_bytes()).digest() == right[f"train/{path.name}"]
        shutil.rmtree(root)
    assert names(tmp_path) == ["copy.zip", "data", "sound.zip"]
    assert errors > 0.6 * archives


def test_of_six_processes_one_fetches_and_builds(server, tmp_path, monkeypatch):
    archive = as_zip(server.folder / "pets.zip").read_bytes()
    entry = (f"{server.url}/good/pets.zip", hashlib.sha256(archive).hexdigest())
    monkeypatch.setitem(cats_and_dogs.ARCHIVES, "microsoft", entry)
    build, built, begin = cats_and_dogs._copy_all, tmp_path / "built", time.monotonic() + 0.2

    def counted(*arguments):
        with built.open("a") as file:
            file.write(f"{os.getpid()}\n")
        build(*arguments)

    def work():
        time.sleep(max(0.0, begin - time.monotonic()))
        data = CatsAndDogsDataModule(str(tmp_path / "data" / "pets"), image_size=4, num_workers=0)
        data.prepare_data()
        assert below(data.root) == BUILT

    monkeypatch.setattr(cats_and_dogs, "_copy_all", counted)
    processes = [start(work) for _ in range(6)]
    assert [ended(process) for process in processes] == [0] * 6
    assert len(built.read_text().split()) == 1
    assert len(requests(server)) == 1
    assert names(tmp_path / "data") == [".pets.lock", ".pets.zip.lock", "pets", "pets.zip"]


def test_a_lock_that_is_held_says_which_and_how_long_and_says_it_again(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(files, "PATIENCE", 0.02)
    path, held = tmp_path / "[a].lock", tmp_path / "held"

    def hold():
        with locked(path):
            held.touch()
            time.sleep(60)

    process = start(hold)
    while not held.exists():
        time.sleep(0.005)
    waiting = start(lambda: locked(path).__enter__())
    time.sleep(0.4)
    os.kill(process, 9)  # a killed process holds nothing
    assert ended(process) == -9
    assert ended(waiting) == 0
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(
        re.fullmatch(rf"Waiting for .* holds {re.escape(str(path))} \(0 s by now; .*\)", line) for line in lines
    )
