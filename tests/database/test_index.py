"""An index comes back as it was written; damaged, missing and hostile ones are one short error with file and remedy."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import subprocess
import sys

import pyarrow
import pyarrow.parquet
import pytest

from database import index
from tests.database import fakes
from training.errors import RunError


def row(place=0, **changes):
    id = f"{place:06d}"
    found = {
        "id": id,
        "image": f"images/{id}.png",
        "sha256": "0" * 64,
        "heights": "",
        "heights_sha256": "",
        "label": f"labels/{id}.png",
        "label_sha256": "1" * 64,
        "seed": 4294967295,
        "index": place + 5,
        "checkpoint": "dcgan@3000",
        "weights_sha256": "2" * 64,
        "config_sha256": "3" * 64,
        "upscaler": "bilinear",
        "sources": '["a", "b, \\"c\\"", "dünn"]',
        "nm_per_pixel": None,
        "particles": 4,
        "mean_diameter": 0.1 + 0.2,
        "coverage": 1e-17,
        "roughness": 3.5,
        "nearest": "a",
        "nearest_similarity": None,
        "label_origin": "hand",
        "split": "train",
    }
    return found | changes


def written(folder, rows=None, **changes):
    rows = [row(place) for place in range(4)] if rows is None else rows
    return index.write(folder, fakes.facts(len(rows), **changes), rows)


def test_what_is_written_comes_back_from_parquet_and_csv(tmp_path):
    facts = written(tmp_path)
    database = index.read(tmp_path)
    assert database.rows == [row(place) for place in range(4)] and database.facts == json.loads(json.dumps(facts))
    assert pyarrow.parquet.read_table(tmp_path / index.TABLE).column_names == list(index.COLUMNS)
    (_, *lines) = list(csv.reader(io.StringIO((tmp_path / index.TEXT).read_text())))
    assert [float(line[16]) for line in lines] == [0.1 + 0.2] * 4 and lines[2][13] == row()["sources"] and lines[0][14] == ""
    assert index.source_ids(database.rows[0]) == ["a", 'b, "c"', "dünn"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": "000007"}, "row 0 has the id '000007', not 000000"),
        ({"image": "../../etc/passwd"}, r"image is '\.\./\.\./etc/passwd'"),
        ({"image": "images/000001.png"}, "image is 'images/000001.png'"),
        ({"heights": "/etc/passwd", "heights_sha256": "0" * 64}, "heights is '/etc/passwd'"),
        ({"sha256": "0" * 63 + "G"}, "sha256 is .* no SHA-256"),
        ({"label_sha256": ""}, "label_sha256 is '', no SHA-256"),
        ({"coverage": float("nan")}, "coverage is 'nan', no float"),
        ({"coverage": None}, "coverage is 'None', no float"),
        ({"sources": "[1]"}, "sources are no JSON list"),
        ({"sources": "[" * 100_000}, "sources are no JSON list"),
        ({"split": "test"}, "split is 'test'"),
        ({"label_origin": "guessed"}, "label_origin is 'guessed'"),
        ({"index": None}, "index is 'None', no int"),
    ],
)
def test_a_row_that_cannot_be_is_neither_written_nor_read(tmp_path, changes, told):
    bad = row(**changes)
    with pytest.raises(ValueError, match=told):
        written(tmp_path, [bad])
    put(tmp_path, {index.TABLE: index.encode_table([bad]), index.TEXT: index.encode_text([bad])}, 1)
    with pytest.raises(RunError, match=rf"(?s)index\.parquet: .*{told}.*Restore it") as caught:
        index.read(tmp_path)
    assert len(str(caught.value).splitlines()) <= 5 and len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [1.5, True, "4"])
def test_a_count_that_is_no_whole_number_is_not_written(tmp_path, value):
    with pytest.raises(ValueError, match=f"particles is '{value}', no int"):
        written(tmp_path, [row(particles=value)])


def put(folder, contents, num):
    """Files as they are, with a database.json whose sums fit them."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / index.FACTS).write_text(json.dumps({**fakes.facts(num), "state": "finished", "index": sums}))


def test_hostile_tables_with_fitting_sums_are_refused(tmp_path):
    good = {index.TABLE: index.encode_table([row()]), index.TEXT: index.encode_text([row()])}
    other = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"id": ["000000"]}), other)
    cases = {
        "cannot be read as parquet": {index.TABLE: b"PAR1" + b"\xff" * 200 + b"PAR1"},
        "cannot be read as parquet.": {index.TABLE: good[index.TABLE][:-20]},
        "its columns are not those of version 1": {index.TABLE: other.getvalue()},
        "its rows are not those of index.parquet": {index.TEXT: good[index.TEXT].replace(b"bilinear", b"trilinea")},
    }
    for told, changes in cases.items():
        put(tmp_path, good | changes, 1)
        with pytest.raises(RunError, match=told):
            index.read(tmp_path)
    put(tmp_path, good, 2)
    with pytest.raises(RunError, match="1 rows, but database.json states 2 images"):
        index.read(tmp_path)


def test_every_flipped_byte_of_the_tables_is_found(tmp_path):
    written(tmp_path)
    for name in (index.TABLE, index.TEXT):
        content = (tmp_path / name).read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            (tmp_path / name).write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(RunError, match=f"{name}: its SHA-256 is not the one"):
                index.read(tmp_path)
        (tmp_path / name).write_bytes(content)
    (tmp_path / index.TEXT).unlink()
    with pytest.raises(RunError, match="index.csv: cannot be read .No such file"):
        index.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda facts: b"{", "cannot be read"),
        (lambda facts: b"[" * 50_000, "cannot be read"),
        (lambda facts: b"\xff\xfe", "cannot be read"),
        (lambda facts: b"[]", "holds no JSON object"),
        (lambda facts: {**facts, "format_version": 2}, "format version 2; this program reads 1"),
        (lambda facts: {**facts, "seed": float("nan")}, "NaN is no number"),
        (lambda facts: {**facts, "num_images": "4"}, "field num_images is '4', no int"),
        (lambda facts: {**facts, "num_images": 10**12}, "of 1000000000000 images cannot be"),
        (lambda facts: {**facts, "size": [256, -1]}, "two numbers of pixels"),
        (lambda facts: {**facts, "sources": [{"id": 3}]}, "a scan has id, file and sha256"),
        (lambda facts: {**facts, "index": None}, "states no SHA-256 of the index"),
        (lambda facts: {**facts, "state": "making"}, "is not finished.\nGive the command that makes it again"),
        (lambda facts: {**facts, "state": "lost"}, "state 'lost'"),
    ],
)
def test_damaged_facts_are_told(tmp_path, change, told):
    changed = change(json.loads(json.dumps(written(tmp_path))))
    (tmp_path / index.FACTS).write_bytes(changed if isinstance(changed, bytes) else json.dumps(changed).encode())
    with pytest.raises(RunError, match=told) as caught:
        index.read(tmp_path)
    assert str(tmp_path / index.FACTS) in str(caught.value) and len(str(caught.value).splitlines()) <= 5


def test_an_index_written_anew_can_be_read_wherever_it_was_interrupted(tmp_path, monkeypatch):
    old, new = ([row(place, label_origin=origin) for place in range(2)] for origin in ("prelabelled", "hand"))
    facts, replace, seen = written(tmp_path, old), os.replace, []

    class Killed(Exception):
        pass

    for last in range(6):
        left = [last]

        def dying(source, target, left=left):
            if not left[0]:
                raise Killed
            left[0] -= 1
            replace(source, target)

        index.write(tmp_path, facts, old)
        monkeypatch.setattr(os, "replace", dying)
        with contextlib.suppress(Killed):
            index.write(tmp_path, facts, new)
        monkeypatch.setattr(os, "replace", replace)
        found = index.read(tmp_path)
        seen.append({one["label_origin"] for one in found.rows})
        index.write(tmp_path, found.facts, new)
        assert index.read(tmp_path).rows == new and not list(tmp_path.glob(f"*{index.PENDING}"))
    assert seen == [{"prelabelled"}] * 3 + [{"hand"}] * 3  # with database.json, the third file, the new one holds


def test_index_csv_is_mended_only_from_a_whole_index_parquet(tmp_path):
    written(tmp_path)
    table, text = ((tmp_path / name).read_bytes() for name in (index.TABLE, index.TEXT))
    assert not index.mend(tmp_path)
    (tmp_path / index.TEXT).unlink()
    with pytest.raises(RunError, match="--repair writes it again from index.parquet"):
        index.read(tmp_path)
    assert index.mend(tmp_path) and (tmp_path / index.TEXT).read_bytes() == text
    (tmp_path / index.TEXT).write_bytes(b"edited")
    (tmp_path / index.TABLE).write_bytes(table + b"x")
    with pytest.raises(RunError, match=r"index.parquet: its SHA-256 is not the one(?s:.*)Restore it from a backup"):
        index.mend(tmp_path)
    put(tmp_path, {index.TABLE: table, index.TEXT: b"other rows"}, 4)
    assert not index.mend(tmp_path) and (tmp_path / index.TEXT).read_bytes() == b"other rows"


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted by Linux")
def test_reading_begins_no_thread_that_could_outlive_the_program(tmp_path):
    written(tmp_path)
    count = "len(os.listdir('/proc/self/task'))"
    code = f"import os, sys; from database import index; n = {count}; index.read(sys.argv[1]); print({count} - n)"
    root = pathlib.Path(index.__file__).parents[1]
    found = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=root, capture_output=True, text=True, timeout=120)
    assert (found.returncode, found.stdout.strip()) == (0, "0"), found.stderr


def test_a_folder_that_is_no_database_is_told(tmp_path):
    with pytest.raises(RunError, match=r"database.json: not found, so .* is not the folder of a database"):
        index.read(tmp_path / "nowhere")
