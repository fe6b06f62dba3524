"""Trees of files that hypothesis thinks of: refused, or labelled right."""

import json
import os
import socket
import unicodedata
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_transfer.data.folder import find_images, scan_folder
from lightning_transfer.data.index import SPLITS
from lightning_transfer.errors import DataError

NAMES = [
    *SPLITS,
    "Train",
    "val",
    "cats",
    "Cats",
    "dogs",
    "caf\u00e9",
    "cafe\u0301",
    os.fsdecode(b"\xff"),
    ".x",
    "__MACOSX",
]
FILES = [
    "a.jpg",
    "B.PNG",
    "\u00e9.webp",
    "e\u0301.webp",
    os.fsdecode(b"\xff.jpg"),
    ".c.jpg",
    "__MACOSX",
    "d.txt",
    "e\n.jpg",
    "cats",
]
KINDS = ["file"] * 6 + ["folder", "pipe", "socket", "out", "in", "broken"]
usual = [["cats"], ["dogs"], ["train", "cats"], ["train", "dogs"], ["validation", "cats"]]
places = st.one_of(st.sampled_from(usual), st.lists(st.sampled_from(NAMES), max_size=3))
a_file = st.tuples(places, st.sampled_from(FILES), st.sampled_from(KINDS))
whole = st.one_of(
    st.just({"cats", "dogs"}),
    st.sets(st.sampled_from(["cats", "dogs", "caf\u00e9", "cafe\u0301", "Cats"]), min_size=1, max_size=3),
)
# What a folder's name says of its split, written out by hand.
MEANING = {
    **dict.fromkeys(["train", "Train", "Training", "TRAIN-SET", "seg_train"], "train"),
    **dict.fromkeys(["validation", "val", "Valid", "dev", "valid-images"], "validation"),
    **dict.fromkeys(["test", "testing", "Testing", "Holdout", "test_images"], "test"),
}
layouts = st.one_of(
    st.just({split: {"cats", "dogs"} for split in SPLITS}),
    st.dictionaries(st.sampled_from(SPLITS), whole, max_size=3),
    st.dictionaries(st.sampled_from(sorted(MEANING)), whole, max_size=3),
    st.dictionaries(
        st.sampled_from(["data", "docs", "data/train", "data/Testing", "images/all"]), whole, max_size=3
    ),
)


def plant(root, outside, folders, name, kind):
    """Puts something there, unless something is."""
    place = root.joinpath(*folders)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        return
    path = place / name
    if os.path.lexists(path):
        return
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.fsencode(path))
    else:
        path.symlink_to({"out": outside, "in": root, "broken": root / "absent.jpg"}[kind])


@given(layouts=layouts, unsplit=whole, others=st.lists(a_file, max_size=12))
@settings(deadline=None, derandomize=True, max_examples=150)
def test_any_tree_of_files_is_refused_or_labelled_right(layouts, unsplit, others):
    with TemporaryDirectory() as folder:
        root, outside = Path(folder) / "root", Path(folder) / "outside.jpg"
        root.mkdir()
        outside.touch()
        classes = [(*split.split("/"), name) for split, names in layouts.items() for name in names]
        for place in classes or [(name,) for name in unsplit]:
            for number in range(4):
                plant(root, outside, place, f"{number}.jpg", "file")
        for each in others:
            plant(root, outside, *each)
        try:
            scan = scan_folder(root)
        except DataError:
            scan = None
        if scan is not None:
            check(scan, root.resolve())
        try:
            image_folder, left_out = find_images(root)
        except DataError:
            return
        told_as_text([image_folder, left_out])
        assert all(is_image(root.resolve(), path) for path in image_folder)


def told_as_text(what):
    json.dumps(what, ensure_ascii=False).encode()


def is_image(root, path):
    file = root / path
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(path).parts)
    return file.is_file() and file.resolve().is_relative_to(root) and not hidden


def check(scan, root):
    """What must hold of a scan, looked up in the tree by other means."""
    told_as_text([scan.class_names, scan.left_out, [vars(samples) for samples in scan.splits.values()]])
    assert (
        len({unicodedata.normalize("NFC", name).lower() for name in scan.class_names}) == len(scan.class_names) > 1
    )
    assert {"train", "validation"} <= scan.splits.keys()
    found = []
    for split, samples in scan.splits.items():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            folders = [unicodedata.normalize("NFC", part) for part in PurePosixPath(path).parts[:-1]]
            assert scan.class_names[label] in folders
            if split not in scan.made_here:
                assert any(split in MEANING.get(name, "") for name in folders), (split, path)
            assert is_image(root, path)
            found.append(path)
    assert len(set(found)) == len(found)
    # And none is forgotten: each is used, or told to be left out.
    told = {path for path, _ in scan.left_out}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not Path(folder, name).is_symlink()]
        for file in files:
            path = Path(folder, file).relative_to(root).as_posix()
            if Path(file).suffix.lower() in {".jpg", ".png", ".webp"} and is_image(root, path):
                assert path in found or told & _above(path), path


def _above(path):
    """The names under which a file or a folder that it is in may be told to be left out."""
    return {os.fsencode(each).decode(errors="backslashreplace") for each in (path, *PurePosixPath(path).parents)}
