"""Labels drawn by hand outlive the database that they were drawn for."""

import pytest

from database import handmade, index, making
from tests.database import fakes


@pytest.fixture
def folder(tmp_path):
    making.make(tmp_path / "database", fakes.facts(3), fakes.made_by())
    return tmp_path / "database"


def by_hand(folder):
    database = index.read(folder)
    index.write(folder, database.facts, [{**row, "label_origin": "hand"} if row["id"] == "000001" else row for row in database.rows])


def test_a_database_without_them_stays_where_it_is(folder, tmp_path, capsys):
    handmade.set_aside(folder)
    handmade.set_aside(tmp_path / "nowhere")
    facts = fakes.facts(3) | {"state": "making"}
    index.atomic.write_json(folder / index.FACTS, facts)  # interrupted: nobody labels that
    handmade.set_aside(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["database"] and capsys.readouterr().out == ""


def test_a_database_with_them_is_kept_whole_under_a_name_that_is_free(folder, tmp_path, capsys):
    by_hand(folder)
    before = fakes.hashes(folder)
    for name in ("database.by-hand", "database.by-hand-2", "database.by-hand-3"):
        handmade.set_aside(folder)
        assert not folder.exists() and fakes.hashes(tmp_path / name) == before
        assert index.read(tmp_path / name).rows[1]["label_origin"] == "hand"
        assert capsys.readouterr().out.splitlines() == [
            f"{folder}: labels drawn by hand are not deleted; the database that holds them is now {tmp_path / name}."
        ]
        making.make(folder, fakes.facts(3), fakes.made_by())
        by_hand(folder)
        before = fakes.hashes(folder)


@pytest.mark.parametrize("name", ["database.json", "index.parquet", "index.csv"])
def test_one_that_cannot_be_read_any_more_is_kept(folder, tmp_path, name):
    (folder / name).write_bytes(b"damaged")
    handmade.set_aside(folder)
    assert not folder.exists() and (tmp_path / "database.by-hand" / "labels").is_dir()
