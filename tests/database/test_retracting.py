"""Scans withdrawn: by every name they have, with all that depends on them, and nothing else taken for a scan."""

import json
import pathlib

from database import index
from tests.database.fakes import NUM, run, train_scans
from training import checkpoints, pseudonyms, sources

SALT = bytes(range(32))


def test_retract_lists_rows_runs_and_results(copy, capsys):
    splits = train_scans(copy)
    trained, tested = splits["train"][0], splits["test"][0]
    unet = copy / "unet_database"
    unet.mkdir()
    used = [
        {"id": row["id"], "file": row["image"], "sha256": row["sha256"], "split": "train"} for row in index.read(copy / "database").rows
    ]
    judged = [{**tested, "split": "test"}]
    (unet / "lineage.json").write_text(json.dumps({"scans": used[:120] + judged, "upstream": []}))
    for name in ("scores.json", "downstream.json", "downstream_real.png", "unet_database.safetensors"):
        (copy / name).write_text("{}")
    for name in ("train/images/0004_000011.png", "train/images/0005_000012.png", "whole/heights/0004.tiff"):
        (copy / "real" / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / "real" / name).touch()
    (copy / "real" / "real.json").write_text(json.dumps({"scans": {"0004": trained, "0005": tested}}))
    for name in (trained["id"], trained["file"], trained["sha256"][:12]):
        code, out, _ = run(capsys, "retract", name, copy / "database")
        assert code == 0 and f"rows made from it: {NUM} of {NUM}: 000000-{NUM - 1:06d}" in out
        assert "dcgan: trained on it" in out and "unet_database: used 120 images made from it" in out and out.count("\nresult ") == 4
        assert "1 file in " in out and "0004_000011.png" in out and "0004.tiff" in out and "0005_000012.png" not in out
    code, out, _ = run(capsys, "retract", tested["id"], copy / "database")
    assert code == 0 and "rows made from it: none" in out
    assert "dcgan: is judged by it" in out and "unet_database: is judged by it" in out
    code, _, err = run(capsys, "retract", trained["id"] + "x", copy / "database")
    assert code == 2 and f"Did you mean {trained['id']}?" in err


def test_retract_knows_generated_images_by_their_heights(copy, capsys):
    database, trained = index.read(copy / "database"), train_scans(copy)["train"][0]
    rows = [row | {"heights": f"heights/{row['id']}.tiff", "heights_sha256": f"{place:064x}"} for place, row in enumerate(database.rows)]
    index.write(database.folder, database.facts, rows)
    (copy / "unet_database").mkdir()
    used = [{"id": row["id"], "file": row["heights"], "sha256": row["heights_sha256"], "split": "train"} for row in rows[:120]]
    (copy / "unet_database" / "lineage.json").write_text(json.dumps({"scans": used, "upstream": []}))
    code, out, _ = run(capsys, "retract", trained["id"], copy / "database")
    assert code == 0 and "unet_database: used 120 images made from it" in out
    code, out, err = run(capsys, "retract", "000003", copy / "database")
    assert (code, out) == (2, "") and "000003: no such scan" in err and "Did you mean 000003" not in err


def test_a_run_of_a_copied_chain_was_begun_from_the_one_beside_it(copy, capsys):
    trained, sha256 = train_scans(copy)["train"][0], checkpoints.verify(copy / "dcgan", 2)["sha256"]
    (copy / "real").mkdir()
    (copy / "real" / "real.json").write_text("{}")
    beside = {"source": "/old/chain/dcgan", "step": 2, "sha256": sha256}
    others = [{**beside, "source": "/old/other"}, {**beside, "source": "/older/dcgan", "sha256": "0" * 64}]
    crops = {"source": "/old/chain/real", "step": 0, "sha256": sources.digest(copy / "real" / "real.json")}
    (copy / "unet").mkdir()
    upstream = [{**entry, "scans": [trained]} for entry in (beside, *others, crops)]
    (copy / "unet" / "lineage.json").write_text(json.dumps({"scans": [], "upstream": upstream}))
    _, out, _ = run(capsys, "retract", trained["id"], copy / "database")
    line = next(line for line in out.splitlines() if line.startswith(f"run {copy / 'unet'}: "))
    assert [part.split(",")[0] for part in line.partition(": ")[2].split("; ")] == [
        f"was begun from {name}" for name in ("dcgan", "/old/other", "/older/dcgan", "real")
    ]


def test_retract_finds_a_scan_by_its_name_where_ids_are_salted(copy, scans, capsys):
    """As a run with group_by leaves it: lineage.json tells salted ids and no file, names.json who is who."""
    run_folder, facts = copy / "dcgan", copy / "database" / index.FACTS
    names, salted = {}, {}
    for scan in (found := json.loads((run_folder / "lineage.json").read_text()))["scans"]:
        salted[scan["sha256"]] = {"id": pseudonyms.pseudonym(scan["id"], SALT), "file": ""}
        names[salted[scan["sha256"]]["id"]] = scan["file"]
    trained = next(scan for scan in found["scans"] if scan["split"] == "train")
    hidden = salted[trained["sha256"]]["id"]
    (run_folder / "lineage.json").write_text(json.dumps({**found, "scans": [scan | salted[scan["sha256"]] for scan in found["scans"]]}))
    stated = json.loads(facts.read_text())
    facts.write_text(json.dumps({**stated, "sources": [scan | salted[scan["sha256"]] for scan in stated["sources"]]}))
    code, _, err = run(capsys, "retract", trained["id"], copy / "database")
    assert code == 2 and "The ids of dcgan stand for names that only names.json tells" in err and "give the SHA-256" in err
    code, out, _ = run(capsys, "retract", trained["sha256"][:10], copy / "database")
    assert code == 0 and out.splitlines()[0].endswith("found by its SHA-256") and "name withheld" in out
    (run_folder / pseudonyms.FILE).write_text(json.dumps({"salt": SALT.hex(), "names": names}))
    for name in (trained["id"], trained["file"], pathlib.PurePath(trained["file"]).name):
        code, out, _ = run(capsys, "retract", name, copy / "database")
        first = out.splitlines()[0]
        assert code == 0 and first.startswith(hidden) and first.endswith("found by its name, which its id stands for by dcgan/names.json")
        assert "dcgan: trained on it" in out and f"rows made from it: {NUM} of {NUM}" in out
        assert trained["id"] not in out.replace(str(copy), "")
    groups = {pseudonyms.pseudonym(group, SALT): group for group in (pathlib.PurePath(trained["file"]).stem, "ada")}
    (run_folder / pseudonyms.FILE).write_text(json.dumps({"salt": SALT.hex(), "names": groups | names}))
    for name in ("ada", pseudonyms.pseudonym("ada", SALT)):
        code, _, err = run(capsys, "retract", name, copy / "database")
        assert code == 2 and err == f"{name}: is a group of scans, and which are of it is not recorded.\nGive its scans one by one.\n"
    of_ada = {id: f"scans/ada_{place}.png" if place % 2 else f"scans/adam_{place}.png" for place, id in enumerate(sorted(names))}
    (run_folder / pseudonyms.FILE).write_text(json.dumps({"salt": SALT.hex(), "names": groups | of_ada}))
    assert f"Its name is in those of {', '.join(sorted(names)[1::2])}.\n" in run(capsys, "retract", "ada", copy / "database")[2]
    (run_folder / pseudonyms.FILE).write_text(json.dumps({"salt": SALT.hex(), "names": {}}))
    assert run(capsys, "retract", trained["id"], copy / "database")[0] == 0  # the salt alone is enough for an id
    assert run(capsys, "retract", trained["id"] + "x", copy / "database")[0] == 2
