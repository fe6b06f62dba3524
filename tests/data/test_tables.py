"""Tables as people have them: names of columns, folders, suffixes, encodings, and rows that do not fit."""

import re

import pytest

from conftest import COLOURS, draw_image
from lightning_transfer import ImageTableDataModule
from lightning_transfer.cli.data_by_name import data_by_name
from lightning_transfer.data.csv import WITHOUT_FILE, WITHOUT_ROW, read_table
from lightning_transfer.data.table_columns import Columns
from lightning_transfer.errors import DataError

TRAINED = {"shares": (0.5, 0.5, 0.0)}  # two images of a class are enough


def draw(folder, *names):
    for seed, name in enumerate(names):
        draw_image(folder / name, COLOURS["cats"], seed, (8, 6))


def write(folder, text, name="labels.csv", encoding="utf-8"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


def labels_of(index):
    """Path to class name, of all splits."""
    names = index.class_names
    found = {}
    for samples in index.splits.values():
        for path, label in zip(samples.paths, samples.labels, strict=True):
            found[path] = tuple(names[i] for i in label) if index.multi_label else names[label]
    return found


FOUR = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")
KINDS = dict(zip(FOUR, ("cat", "cat", "dog", "dog"), strict=True))


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("File Name,Class", "{file},{kind}", "paths are in column 'File Name', labels in 'Class'"),
        ("width;IMAGE_ID;diagnosis", "9;{stem};{kind}", "column 'IMAGE_ID', labels in 'diagnosis'"),
        ("id,filename,label", "7,{file},{kind}", "paths are in column 'filename', labels in 'label'"),
        ("breed\tspecies\timg", "x\t{kind}\t{file}", "paths are in column 'img', labels in 'species'"),
        ("id,name", "{kind},{stem}", "paths are in column 'name', labels in 'id'"),
        ("id,name", "{stem},{kind}", "paths are in column 'id', labels in 'name'"),
        ("where,what", "{file},{kind}", "paths are in column 'where', labels in 'what'"),
        ("what,where", "{kind},{file}", "paths are in column 'where', labels in 'what'"),
        ("width,where,class", "9,{file},{kind}", "paths are in column 'where', labels in 'class'"),
        (",image,target,", "0,{file},{kind},", "paths are in column 'image', labels in 'target'"),
    ],
)
def test_columns_are_found(tmp_path, header, row, said):
    draw(tmp_path, *FOUR)
    rows = [row.format(file=file, stem=file[0], kind=kind) for file, kind in KINDS.items()]
    index = read_table(write(tmp_path, "\n".join([header, *rows])), **TRAINED)
    assert labels_of(index) == KINDS
    assert any(said in note and note.endswith("no column of splits.") for note in index.notes)


def test_a_table_of_two_columns_may_lack_a_header(tmp_path):
    draw(tmp_path, *FOUR)
    table = write(tmp_path, "\n".join(f"{kind},{file}" for file, kind in KINDS.items()))
    index = read_table(table, **TRAINED)
    assert labels_of(index) == KINDS
    assert "labels.csv has no header: its first line is an image like the others." in index.notes


@pytest.mark.parametrize(
    ("header", "columns", "message"),
    [
        (
            "one,two,three",
            Columns(),
            "no column of paths .* or labels .*, only one, two, three: pass path_column and",
        ),
        ("file,File,label", Columns(), "has the columns 'file' and 'File': pass path_column"),
        ("image,label,LABEL", Columns(), "has the columns 'label' and 'LABEL': pass label_column"),
        ("image,label,other", Columns(label="kind"), "no column 'kind', only image, label, other"),
        ("image,label,label", Columns(label="label"), "several columns 'label'"),
    ],
)
def test_columns_that_cannot_be_decided_are_listed(tmp_path, header, columns, message):
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, f"{header}\n1,2,3\n"), columns=columns)


@pytest.mark.parametrize(
    ("files", "cell", "folder"),
    [
        ("{}.jpg", "{}", ""),
        ("{}.JPEG", "{}", ""),
        ("train_images/{}.png", "{}", "train_images"),
        ("train_images/{}.png", "{}.png", "train_images"),
        ("data/images/{}.jpg", "{}.jpg", "data/images"),
        ("data/images/{}.jpg", r"images\{}.jpg", "data"),
        ("in/{}.jpg", "./in//{}.jpg", ""),
        ("in/{}.1.jpg", "in/{}.1", ""),
        ("in/{}.gif.jpg", "x/../in/{}.gif", ""),
    ],
)
def test_files_are_found(tmp_path, files, cell, folder):
    wanted = {
        files.format(letter): kind for letter, kind in zip("abcd", ("cat", "cat", "dog", "dog"), strict=True)
    }
    draw(tmp_path, *wanted)
    draw(tmp_path, "other/x.jpg", "other/a.bmp")  # fewer names fit there
    rows = [f"{cell.format(letter)},{kind}" for letter, kind in zip("abcd", wanted.values(), strict=True)]
    index = read_table(write(tmp_path, "\n".join(["path,label", *rows])), **TRAINED)
    assert index.root == tmp_path / folder
    assert {f"{folder}/{path}".lstrip("/"): kind for path, kind in labels_of(index).items()} == wanted
    said = f"The names in labels.csv are those of files in {index.root}."
    assert (said in index.notes) == bool(folder)


def test_a_root_goes_before_the_folder_of_the_table(tmp_path):
    draw(tmp_path, *(f"root/deep/{file}" for file in FOUR), *(f"tables/{file}" for file in FOUR))
    (tmp_path / "empty").mkdir()
    table = write(tmp_path / "tables", "\n".join(["path,label", *(f"{f},{k}" for f, k in KINDS.items())]))
    assert read_table(table, tmp_path / "root", **TRAINED).root == tmp_path / "root/deep"
    assert read_table(table, tmp_path / "empty", **TRAINED).root == tmp_path / "tables"
    with pytest.raises(DataError, match="there is no such folder"):
        read_table(table, tmp_path / "absent")


def test_an_absolute_path_below_the_root_is_used(tmp_path):
    draw(tmp_path, *FOUR)
    rows = [f"{tmp_path / file},{kind}" for file, kind in KINDS.items()]
    assert labels_of(read_table(write(tmp_path, "\n".join(["path,label", *rows])), **TRAINED)) == KINDS


@pytest.mark.parametrize("path", ["../x.jpg", "a/../../x.jpg", "/etc/x.jpg", r"C:\x.jpg", r"..\x.jpg"])
def test_a_path_out_of_the_root_is_refused(tmp_path, path):
    draw(tmp_path, "in/a.jpg", "x.jpg")
    table = write(tmp_path / "in", f"path,label\na.jpg,cat\n{path},dog\n")
    message = re.escape(f"{table}, line 3: {path} leads out of {tmp_path / 'in'}: write")
    with pytest.raises(DataError, match=message):
        read_table(table)
    with pytest.raises(DataError, match=r"line 2: .* leads out of"):
        read_table(write(tmp_path / "in", f"path,label\n{path},dog\n"))


def test_a_link_out_of_the_root_is_not_followed(tmp_path):
    draw(tmp_path, *(f"in/{file}" for file in FOUR), "x.jpg")
    (tmp_path / "in/e.jpg").symlink_to(tmp_path / "x.jpg")
    (tmp_path / "in/f.jpg").symlink_to("a.jpg")
    rows = [*(f"{file},{kind}" for file, kind in KINDS.items()), "e.jpg,dog", "f.jpg,cat"]
    index = read_table(write(tmp_path / "in", "\n".join(["path,label", *rows])), **TRAINED)
    assert labels_of(index) == {**KINDS, "f.jpg": "cat"}
    assert index.left_out == (("e.jpg", WITHOUT_FILE),)


def test_what_fits_twice_is_refused(tmp_path):
    draw(tmp_path, "one/a.jpg", "two/a.jpg")
    table = write(tmp_path, "path,label\na,cat\n")
    with pytest.raises(DataError, match=r"are of files in .*/one and .*/two: pass one of them as root"):
        read_table(table)
    draw(tmp_path, "one/a.png")
    with pytest.raises(DataError, match=r"line 2: a may be a\.jpg or a\.png in .*/one: write the suffix"):
        read_table(table, tmp_path / "one")
    exact = "path,label,split\na.jpg,cat,train\na.png,dog,train\nb.jpg,dog,dev\n"
    draw(tmp_path, "one/b.jpg")
    assert labels_of(read_table(write(tmp_path, exact))) == {"a.jpg": "cat", "a.png": "dog", "b.jpg": "dog"}


def test_rows_without_files_and_files_without_rows_are_listed(tmp_path):
    draw(tmp_path, *(f"images/{file}" for file in FOUR), "images/more/x.jpg", "images/y.png", "elsewhere/z.jpg")
    (tmp_path / "images/readme.txt").write_text("no image")
    rows = [*(f"{file},{kind}" for file, kind in KINDS.items()), "gone.jpg,cat", "lost,horse"]
    index = read_table(write(tmp_path, "\n".join(["image,label", *rows])), **TRAINED)
    assert labels_of(index) == KINDS
    assert sorted(index.left_out) == [
        ("gone.jpg", WITHOUT_FILE),
        ("lost", WITHOUT_FILE),
        ("more/x.jpg", WITHOUT_ROW),
        ("y.png", WITHOUT_ROW),
    ]
    assert index.notes[-2:] == (
        "No row of horse in labels.csv can be used: these are no classes.",
        "Left out: rows of labels.csv without a file: 2 of 6; images without a row: 2.",
    )


def test_no_file_at_all_is_an_error_that_shows_a_row(tmp_path):
    draw(tmp_path, "images/a.jpg")
    message = f"No row of {tmp_path}/labels.csv has a file: that of line 2, x.jpg, .* is not in {tmp_path} nor"
    with pytest.raises(DataError, match=message):
        read_table(write(tmp_path, "path,label\nx.jpg,cat\n"))


def test_rows_of_one_file(tmp_path):
    files = [f"{number}.jpg" for number in range(30)]
    draw(tmp_path, *files)
    rows = [f"{file},{'cat' if number % 2 else 'dog'}" for number, file in enumerate(files)]
    once = labels_of(read_table(write(tmp_path, "\n".join(["path,label", *rows]))))
    twice = read_table(write(tmp_path, "\n".join(["path,label", *rows, "0,dog", "./1.jpg,cat"])))
    assert labels_of(twice) == once
    assert twice.left_out == ()
    assert "Rows of labels.csv for a file that another row names already: 2; they agree, and count once." in (
        twice.notes
    )
    unclear = read_table(write(tmp_path, "\n".join(["path,label", *rows, "0,cat"])))
    assert labels_of(unclear) == {file: kind for file, kind in once.items() if file != "0.jpg"}
    assert unclear.left_out == (("0.jpg", "in two rows with different labels"),)
    assert "Left out: rows of labels.csv that contradict another of the same file: 2." in unclear.notes
    with pytest.raises(DataError, match=r"line 32: 0\.jpg is in line 2 already, with another label"):
        read_table(write(tmp_path, "\n".join(["path,label", *rows, "0,cat", "2,cat"])))


def test_a_file_in_two_splits_is_left_out(tmp_path):
    files = [f"{number}.jpg" for number in range(30)]
    draw(tmp_path, *files)
    rows = [f"{f},{'cat' if n % 2 else 'dog'},{'val' if n < 9 else 'train'}" for n, f in enumerate(files)]
    index = read_table(write(tmp_path, "\n".join(["path,label,split", *rows, "0.jpg,dog,train"])))
    assert index.left_out == (("0.jpg", "in two rows with different splits"),)


def test_labels_in_several_rows_are_put_together_with_a_separator(tmp_path):
    draw(tmp_path, *FOUR)
    text = "path,label,split\na.jpg,cat,train\na.jpg,young,train\nb.jpg,dog,train\nc.jpg,dog|young,dev\n"
    index = read_table(write(tmp_path, text), separator="|")
    assert labels_of(index) == {"a.jpg": ("cat", "young"), "b.jpg": ("dog",), "c.jpg": ("dog", "young")}
    assert index.left_out == (("d.jpg", WITHOUT_ROW),)


@pytest.mark.parametrize("column", ["Split", "SET", "subset", "partition", "fold_name"])
def test_a_split_column_is_found_and_its_words_understood(tmp_path, column):
    words = {
        "train": ["Train", "training"],
        "validation": ["VAL", "valid", "validation", "dev", "eval"],
        "test": ["test", "Testing", "holdout", "hold-out"],
    }
    rows = [(f"{word}{kind}.jpg", kind, word) for own in words.values() for word in own for kind in ("cat", "dog")]
    draw(tmp_path, *(file for file, _, _ in rows))
    table = write(tmp_path, "\n".join([f"path,label,{column}", *map(",".join, rows)]))
    index = read_table(table)
    assert {split: samples.paths for split, samples in index.splits.items()} == {
        split: tuple(file for file, _, word in rows if word in own) for split, own in words.items()
    }
    assert f"labels.csv: paths are in column 'path', labels in 'label', splits in {column!r}." in index.notes
    assert "no column of splits" in read_table(table, columns=Columns(split="")).notes[0]


def test_numbers_are_text_in_the_order_of_numbers(tmp_path):
    files = {f"{number}_{copy}.jpg": str(number) for number in range(12) for copy in range(2)}
    draw(tmp_path, *files)
    table = write(tmp_path, "\n".join(["path,label", *map(",".join, files.items())]))
    index = read_table(table, **TRAINED)
    assert index.class_names == tuple(map(str, range(12)))
    assert labels_of(index) == files


@pytest.mark.parametrize(
    ("text", "encoding", "note"),
    [
        ("path,label\n{a},Käfer\n{b},Bär\n", "utf-8", None),
        ("path,label\n{a},Käfer\n{b},Bär\n", "utf-8-sig", None),
        ("path,label\r\n{a},Käfer\r\n{b},Bär\r\n", "cp1252", "labels.csv is not UTF-8: it is read as cp1252"),
        ("path;label\n{a};Käfer\n{b};Bär\n", "utf-8", "labels.csv: semicolons separate the columns."),
        ("path\tlabel\n{a}\tKäfer\n{b}\tBär\n", "utf-8", "labels.csv: tabs separate the columns."),
        ('path,label,a note\n{a},Käfer,"x;y,z"\n{b},Bär,;;\n', "utf-8", None),
        ('\n"path","label",,\n"{a}","Käfer",,\n\n,,,\n"{b}","Bär",,\n', "utf-8", None),
        ("path,label\n{a},Ka\u0308fer\n{b},Bär\n", "utf-8", None),
    ],
)
def test_encodings_and_delimiters(tmp_path, text, encoding, note):
    draw(tmp_path, "ä.jpg", "b1.jpg", "b2.jpg", "c.jpg")
    first = text.format(a="ä.jpg", b="b1.jpg")
    more = text.format(a="c.jpg", b="b2.jpg").lstrip().split("\n", 1)[1]
    index = read_table(write(tmp_path, first + more, encoding=encoding), **TRAINED)
    assert labels_of(index) == {"ä.jpg": "Käfer", "c.jpg": "Käfer", "b1.jpg": "Bär", "b2.jpg": "Bär"}
    assert len(index.notes) == (1 if note is None else 2)
    assert note is None or index.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"path,label\na.jpg,big, cat\n",
            "line 2: 3 cells, and the header has 2: put a cell that holds ',' in quot",
        ),
        (b'path,label\na.jpg,"cat\nb.jpg,dog\n', r"line \d: it cannot be read"),
        ("path,label\na.jpg,cat\n".encode("utf-16"), "holds zero bytes"),
        (b"path,label\na.jpg,\x81\n", "cannot be read .*: wanted a CSV file in UTF-8"),
    ],
)
def test_text_that_is_no_table_is_refused(tmp_path, content, message):
    draw(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "labels.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / "labels.csv")


@pytest.mark.parametrize("name", ["labels.csv", "labels.TSV"])
def test_a_table_on_the_command_line(tmp_path, command, name, capsys):
    rows = {f"{kind}{n}": kind for kind in ("cats", "dogs") for n in range(8)}
    for seed, (stem, kind) in enumerate(rows.items()):
        draw_image(tmp_path / "images" / f"{stem}.jpg", COLOURS[kind], seed)
    write(tmp_path, "\n".join(["image_id\tlabel", *map("\t".join, rows.items())]), name)
    small = ["--backbone", "squeezenet1_1", "--weights", "none", "--image_size", "32"]
    assert command("probe", "--data", name, *small) == 0
    assert name in capsys.readouterr().out
    assert type(data_by_name(name)) is ImageTableDataModule
    assert command("probe", "--data", "absent.csv", *small) != 0
