import hashlib
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from PIL import Image

from lightning_transfer import errors
from lightning_transfer.data import cats_and_dogs as module
from lightning_transfer.data.cats_and_dogs import CatsAndDogsDataModule

RANGES = {"train": range(2), "validation": range(2, 3), "test": range(3, 4)}
FILTERED_RANGES = {"train": range(2), "validation": range(20, 21), "test": range(21, 22)}
FILTERED = {"train": range(2), "validation": range(20, 22)}  # as the archive has them

BUILT = sorted(
    f"{split}/{animal}s/{animal}.{number}.jpg"
    for animal in ("cat", "dog")
    for split, numbers in RANGES.items()
    for number in numbers
)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """Shrinks the splits; the list of what a person is told."""
    lines = []
    monkeypatch.setattr(module, "RANGES", RANGES)
    monkeypatch.setattr(module, "FILTERED_RANGES", FILTERED_RANGES)
    monkeypatch.setattr(module, "rank_zero_info", lines.append)
    return lines


def jpeg(animal, number):
    """An image's file, different for each animal and number."""
    file = BytesIO()
    Image.new("RGB", (8, 6), (10 * number, 255 * (animal == "dog"), 0)).save(file, "JPEG")
    return file.getvalue()


def contents(kind, count=7):
    """Path to content, as the source of this kind has them."""
    numbered = [(animal, number) for animal in ("cat", "dog") for number in range(count)]
    if kind == "kaggle":
        return {f"train/{a}.{n}.jpg": jpeg(a, n) for a, n in numbered}
    if kind == "microsoft":
        files = {f"PetImages/{a.title()}/{n}.jpg": jpeg(a, n) for a, n in numbered}
        return files | {"PetImages/Cat/Thumbs.db": b"thumbs", "readme[1].txt": b"read me"}
    files = {
        f"cats_and_dogs_filtered/{split}/{animal}s/{animal}.{number}.jpg": jpeg(animal, number)
        for animal in ("cat", "dog")
        for split, numbers in FILTERED.items()
        for number in numbers
    }
    return files | {"cats_and_dogs_filtered/vectorize.py": b""}


def as_folder(files, path):
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def as_zip(files, path):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def prepare(tmp_path, source):
    """Makes the folder from a source; returns the data module."""
    data = CatsAndDogsDataModule(str(tmp_path / "data" / "pets"), str(source), image_size=4, num_workers=0)
    data.prepare_data()
    return data


def assert_nothing_made(tmp_path):
    assert [path.name for path in (tmp_path / "data").iterdir()] == [".pets.lock"]


@pytest.mark.parametrize("make", [as_folder, as_zip])
@pytest.mark.parametrize("kind", ["kaggle", "microsoft"])
def test_from_a_local_copy(tmp_path, told, kind, make):
    data = prepare(tmp_path, make(contents(kind), tmp_path / "copy"))
    assert below(data.root) == BUILT
    assert (data.root / "test/dogs/dog.3.jpg").read_bytes() == jpeg("dog", 3)
    assert sorted(p.name for p in data.root.parent.iterdir()) == [".pets.lock", "pets"]
    assert told == []


@pytest.mark.parametrize("make", [as_folder, as_zip])
def test_filtered_has_its_validation_halved(tmp_path, make):
    data = prepare(tmp_path, make(contents("filtered"), tmp_path / "copy"))
    cats = [name for name in below(data.root) if "cat." in name]
    assert cats == [
        "test/cats/cat.21.jpg",
        "train/cats/cat.0.jpg",
        "train/cats/cat.1.jpg",
        "validation/cats/cat.20.jpg",
    ]


def test_from_the_innermost_folder_and_from_an_earlier_built_one(tmp_path):
    copy = as_folder(contents("microsoft"), tmp_path / "copy")
    data = prepare(tmp_path, copy / "PetImages")
    assert below(prepare(tmp_path / "again", data.root).root) == BUILT


def test_serves_what_it_made(tmp_path):
    data = prepare(tmp_path, as_folder(contents("kaggle"), tmp_path / "copy"))
    data.setup()
    images, labels = next(iter(data.test_dataloader()))
    assert images.shape == (2, 3, 4, 4)
    assert labels.tolist() == [0, 1]
    assert (data.class_names, data.num_classes) == (("cats", "dogs"), 2)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The Microsoft archive, on a server of our own; the list of requests."""
    requests = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archive = as_zip(contents("microsoft"), tmp_path / "pets.zip").read_bytes()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        url = f"http://127.0.0.1:{server.server_port}/pets.zip"
        entry = (url, hashlib.sha256(archive).hexdigest())
        monkeypatch.setattr(module, "ARCHIVES", {"microsoft": entry})
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield requests
        server.shutdown()
        thread.join()


def test_downloads_once_and_keeps_the_archive(tmp_path, served):
    for root in ("pets", "more"):
        data = CatsAndDogsDataModule(str(tmp_path / "data" / root))
        data.prepare_data()
        assert below(data.root) == BUILT
    assert (data.root.parent / "pets.zip").is_file()
    assert served == ["/pets.zip"]


def test_no_network_names_the_way_out(tmp_path, served, monkeypatch):
    monkeypatch.setattr(module, "ARCHIVES", {"microsoft": ("http://127.0.0.1:1/pets.zip", "0")})
    remedy = r"cannot be fetched .*[Gg]et http://127\.0\.0\.1:1/pets\.zip by other means.*--data\.source PATH"
    with pytest.raises(errors.DownloadError, match=remedy):
        prepare(tmp_path, "microsoft")
    assert not (tmp_path / "data" / "pets").exists()


def test_unreadable_and_missing_ones_are_replaced(tmp_path, told):
    files = contents("kaggle")
    files["train/cat.1.jpg"] = files["train/cat.1.jpg"][:-40]
    files["train/cat.4.jpg"] = b"not an image"  # the first to step in
    del files["train/cat.5.jpg"], files["train/cat.2.jpg"], files["train/dog.3.jpg"]
    files["train/cat.11.jpg"] = jpeg("cat", 11)
    data = prepare(tmp_path, as_folder(files, tmp_path / "copy"))
    assert below(data.root / "train" / "cats") == ["cat.0.jpg", "cat.6.jpg"]
    assert below(data.root / "validation" / "cats") == ["cat.11.jpg"]
    assert below(data.root / "test" / "dogs") == ["dog.4.jpg"]
    assert told[0].startswith("cat.1.jpg cannot be read (")
    assert told[0].endswith("): cat.6.jpg replaces it in train.")
    assert told[1:] == [
        "cat.2.jpg is missing: cat.11.jpg replaces it in validation.",
        "dog.3.jpg is missing: dog.4.jpg replaces it in test.",
    ]


def test_nothing_is_left_to_step_in(tmp_path):
    files = contents("filtered")
    files["cats_and_dogs_filtered/validation/dogs/dog.20.jpg"] = b"not an image"
    message = r"dog\.20\.jpg cannot be read \(none of JPEG, .*, HEIC\), and .*copy has none"
    with pytest.raises(errors.DataError, match=message):
        prepare(tmp_path, as_zip(files, tmp_path / "copy"))
    assert_nothing_made(tmp_path)


def test_what_is_there_is_used_untouched(tmp_path):
    root = as_folder(dict.fromkeys(BUILT, b""), tmp_path / "data" / "pets")
    for folder in (root, root.parent):
        folder.chmod(0o555)
    try:
        prepare(tmp_path, "nowhere")
        assert list(root.parent.iterdir()) == [root]
        assert below(root) == BUILT
    finally:
        for folder in (root, root.parent):
            folder.chmod(0o755)


@pytest.mark.parametrize(
    "names",
    [
        ["holiday.jpg"],
        [name for name in BUILT if "test" not in name],
        [name for name in BUILT if "train/dogs" not in name] + ["train/dogs/readme.txt"],
        [*BUILT, "train/birds/1.jpg"],
    ],
    ids=["other", "no test", "no images", "three classes"],
)
def test_something_else_there_is_refused_and_left(tmp_path, names):
    root = as_folder(dict.fromkeys(names, b""), tmp_path / "data" / "pets")
    with pytest.raises(errors.DataError, match=r"pets is there, but not as wanted.*Pass another root, or remove"):
        prepare(tmp_path, "microsoft")
    assert below(root) == sorted(names)


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "data" / "pets").mkdir(parents=True)
    data = prepare(tmp_path, as_folder(contents("kaggle"), tmp_path / "copy"))
    assert below(data.root) == BUILT


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(errors.DataError, match=r"pets cannot be made .* pass another root"):
        prepare(tmp_path, "microsoft")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_build_leaves_nothing(tmp_path, monkeypatch, interruption):
    copy = as_folder(contents("kaggle"), tmp_path / "copy")
    calls = []

    def fails_later(path):
        calls.append(path)
        if len(calls) == 5:
            raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(module, "load_image", fails_later)
        with pytest.raises((KeyboardInterrupt, errors.DataError)):
            prepare(tmp_path, copy)
    assert len(calls) == 5
    assert_nothing_made(tmp_path)
    assert below(prepare(tmp_path, copy).root) == BUILT


def test_what_a_killed_build_left_is_removed(tmp_path):
    as_folder(contents("kaggle"), tmp_path / "data" / ".pets.staging-1")
    prepare(tmp_path, as_folder(contents("kaggle"), tmp_path / "copy"))
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [".pets.lock", "pets"]


def test_of_several_at_once_one_builds(tmp_path, monkeypatch):
    copy, built = as_folder(contents("kaggle"), tmp_path / "copy"), []
    build = module._copy_all
    monkeypatch.setattr(module, "_copy_all", lambda *args: (built.append(args), build(*args)))
    threads = [threading.Thread(target=prepare, args=(tmp_path, copy)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert below(tmp_path / "data" / "pets") == BUILT


def test_sources_that_are_none(tmp_path):
    (tmp_path / "text").write_text("not a zip")
    as_zip({"train/bird.0.jpg": b""}, tmp_path / "birds.zip")
    as_folder({"train/cat.0.jpg": b"", "train/cats.1.jpg": b""}, tmp_path / "cats")
    for name, reason in {
        "nowhere": "nowhere cannot be opened .*No such file",
        "text": "text cannot be opened .*not a zip",
        "birds.zip": r"birds\.zip has no cat\.N\.jpg, no Cat/N\.jpg",
        "cats": r"cats has no dog\.N\.jpg, no Dog/N\.jpg",
    }.items():
        with pytest.raises(errors.DataError, match=f'{reason}.* wanted "microsoft" or "filtered", or the path'):
            prepare(tmp_path, tmp_path / name)
        assert_nothing_made(tmp_path)


def test_a_damaged_archive_is_named(tmp_path):
    archive = as_zip(contents("kaggle"), tmp_path / "copy.zip")
    content = archive.read_bytes()
    archive.write_bytes(content.replace(jpeg("dog", 1), bytes(len(jpeg("dog", 1)))))
    with pytest.raises(errors.DataError, match=r"train/dog\.1\.jpg in .*copy\.zip cannot be read \(Bad CRC"):
        prepare(tmp_path, archive)
    assert_nothing_made(tmp_path)


@pytest.mark.parametrize("make", [as_folder, as_zip])
def test_a_file_too_large_for_a_image_is_refused(tmp_path, monkeypatch, make):
    monkeypatch.setattr(module, "MAX_BYTES", len(jpeg("cat", 0)) - 1)
    with pytest.raises(errors.DataError, match=r"train/cat\.0\.jpg in .*copy has more than \d+ bytes"):
        prepare(tmp_path, make(contents("kaggle"), tmp_path / "copy"))
    assert_nothing_made(tmp_path)


def test_no_name_inside_an_archive_leads_out(tmp_path):
    files = {
        name.replace("train/", "../../../" if "cat" in name else "/tmp/"): content
        for name, content in contents("kaggle").items()
    }
    archive = as_zip(files | {"../escaped.txt": b"", "..\\cat.1.jpg": b""}, tmp_path / "copy.zip")
    data = prepare(tmp_path, archive)
    assert below(data.root) == BUILT
    assert below(tmp_path) == sorted(["copy.zip", "data/.pets.lock", *(f"data/pets/{name}" for name in BUILT)])
