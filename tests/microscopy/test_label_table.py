"""Tables of classes: what a row may name, and every error with its file and line."""

import numpy as np
import pytest

from microscopy.label_table import Row, labelled, of_classes, read_table
from microscopy.scan import DataError, FieldError, Scan

IDS = ("001", "002", "a/cell.v2", "b/cell")
FILES = dict.fromkeys(IDS, ())


def table(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "labels.csv"
    path.write_bytes(text.encode(encoding))
    return path


def scans(ids=IDS):
    return [Scan(id, np.zeros((2, 2), np.uint8), "", label="old", group=f"own {id}") for id in ids]


def test_columns_are_found_by_name_in_any_order(tmp_path):
    text = "\ufeffNote,Class Label,image_ID,Patient\r\n,round,001,ada\r\n\r\n,lobed,b/cell,\r\n"
    assert read_table(table(tmp_path, text)) == [Row(2, "001", "round", "ada"), Row(4, "b/cell", "lobed", "")]
    assert read_table(table(tmp_path, "file;label\n001;round, large\n")) == [Row(2, "001", "round, large", "")]


@pytest.mark.parametrize(
    "text",
    [
        "file\tlabel\n001\tround\n",
        "\n\r\n \nfile;label\n001;round\n",
        "file;label;note, if any, of the day\n001;round;\n",
        '"file";"note, if any";"label"\n001;;round\n',
        "id,label,note;or two;of;them\n001,round,\n",
    ],
)
def test_columns_are_divided_by_what_gives_the_known_ones(tmp_path, text):
    assert [(row.id, row.label) for row in read_table(table(tmp_path, text))] == [("001", "round")]


def test_rows_may_name_files_of_the_folder_by_their_whole_paths(tmp_path):
    files = {"a/cell": [tmp_path / "scans" / "a" / "cell.png"], "cell": [tmp_path / "scans" / "cell.png"]}
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    rows = f"file,label\n{tmp_path}/link/a/cell.png,round\n{tmp_path}/scans/cell.png,lobed\n"
    found = labelled(scans(tuple(files)), table(tmp_path, rows), files)
    assert [scan.label for scan in found] == ["round", "lobed"]
    with pytest.raises(DataError, match=f"line 2: {tmp_path}/cell.png is no image in the folder of the scans; correct"):
        labelled(scans(tuple(files)), table(tmp_path, f"file,label\n{tmp_path}/cell.png,round\n"), files)


def test_rows_name_images_by_id_file_name_or_number(tmp_path):
    path = table(tmp_path, "file,label,group\n1,round,ada\n002.png,lobed,ada\ncell.v2,round,\nb/cell.tif,kidney,bob\n")
    found = {scan.id: (scan.label, scan.group) for scan in labelled(scans(), path, FILES)}
    assert found == {"001": ("round", "ada"), "002": ("lobed", "ada"), "a/cell.v2": ("round", "own a/cell.v2"), "b/cell": ("kidney", "bob")}


def test_images_without_a_row_have_no_class_and_rows_of_images_not_taken_are_no_error(tmp_path):
    path = table(tmp_path, "file,label\n1,round\n2,lobed\n")
    assert [(scan.id, scan.label) for scan in labelled(scans(("002", "b/cell")), path, FILES)] == [("002", "lobed"), ("b/cell", None)]


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "labels.csv: is empty"),
        ("file,label\n", "labels.csv: has a header but no row"),
        (
            "name,label\n001,round\n",
            r"labels.csv, line 1: no column file \(only name, label\); known are file, filename, image, imageid, id",
        ),
        ("file,kind\n001,round\n", r"line 1: no column label \(only file, kind\); known are label, class, classlabel"),
        ("file,id,label\n001,001,round\n", "line 1: file and id could both be the id"),
        ("file,label\n001,round\n002\n", "line 3: has 1 fields, the header 2"),
        ("file,label\n001,round\n002, \n", "line 3: has no label"),
        ("file,label\n,round\n", "line 2: has no id"),
        ("file,label\n001,round\n002,round\n001,lobed\n", "line 4: 001 stands in line 2 already"),
        ("file,label\n001,round\n1,round\n", "line 3: 1 is 001, as line 2 says already"),
        ("file,label\n001,round\n003,round\n", "line 3: 003 is no image"),
        ("file,label\n001,round\nb/cel,round\n", r"line 3: b/cel is no image \(nearest: b/cell\)"),
        ('file,label\n001,"round\n', "line 2: is no CSV"),
        ('file,label\n001,"ro"und\n', "line 2: is no CSV"),
        ("file,label\n001,ro\0und\n", "line 2: is no CSV"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(tmp_path, text, words):
    with pytest.raises(DataError, match=words) as error:
        labelled(scans(), table(tmp_path, text), FILES)
    assert len(str(error.value).splitlines()) == 1 and "labels.csv" in str(error.value)


def test_a_name_that_fits_two_images_is_told(tmp_path):
    with pytest.raises(DataError, match="line 2: cell fits a/cell and b/cell; write one of them"):
        labelled(scans(), table(tmp_path, "file,label\ncell,round\n"), {"a/cell": (), "b/cell": ()})


def test_what_cannot_be_read_is_told(tmp_path):
    with pytest.raises(DataError, match="labels.csv: cannot be read"):
        read_table(tmp_path / "labels.csv")
    for encoding in ("latin-1", "utf-16"):
        with pytest.raises(DataError, match="labels.csv: is not UTF-8; save it as CSV in UTF-8"):
            read_table(table(tmp_path, "file,label\n001,r\u00fcnd\n", encoding))


def test_only_scans_of_the_named_classes_are_taken():
    some = [
        Scan(str(n), np.zeros((2, 2), np.uint8), "", label=label) for n, label in enumerate(("round", "lobed", None, "round", "kidney"))
    ]
    assert [scan.id for scan in of_classes(some, "round, kidney")] == ["0", "3", "4"]
    with pytest.raises(FieldError, match=r"no scan is of the class 'rund' \(nearest: round\); the classes are kidney, lobed, round"):
        of_classes(some, "rund")
    with pytest.raises(FieldError, match="no scan has a class"):
        of_classes(some[2:3], "round")
