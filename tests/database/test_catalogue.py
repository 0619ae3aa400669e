"""The command line on a database of a trained workdir: rows made again, changes found and mended, exports read back."""

import json
import shutil

import cv2
import numpy as np
import pytest

from configs import dcgan, srgan
from database import index, making, recipe, verifying
from gan import dcgan as generator
from microscopy import label_field
from microscopy.coco import read_coco
from microscopy.datasets import read_tfds
from microscopy.folder import read_folder
from microscopy.formats import read_image
from microscopy.labelme import read_labelme, write_labelme
from superres import srgan as superres
from tests.database.fakes import NUM, run, saved, train_scans
from training import generation, sources
from training import workdir as workdirs
from training.errors import ConfigError, RunError

LIMIT = 10**6


def test_a_hundred_random_rows_are_made_again_bit_by_bit(chain, capsys):
    code, out, _ = run(capsys, "verify", chain / "database", "--rows=100", "--seed=5")
    assert code == 0 and f"{2 * NUM} files of {NUM} rows checked; 100 rows made again, compared bit by bit (cpu" in out
    database = index.read(chain / "database")
    chosen = verifying.choose(database, 100, 5)
    assert len(set(chosen)) == 100 and chosen != verifying.choose(database, 100, 6)
    assert verifying.choose(database, 500, 5) == list(range(NUM))
    assert {row["checkpoint"] for row in database.rows} == {"dcgan@2"} and {row["label_origin"] for row in database.rows} == {"prelabelled"}
    assert index.source_ids(database.rows[0]) == sorted(scan["id"] for scan in train_scans(chain)["train"])


def test_the_images_are_those_that_generate_writes(chain, tmp_path):
    request = generation.Request(70, 11, str(tmp_path), "npy")
    generator.generate(workdirs.read_config(chain / "dcgan"), chain / "dcgan", request)
    rows = index.read(chain / "database").rows
    for number in (0, 63, 69):
        value_map = workdirs.read_value_map(chain / "dcgan")
        small = (np.load(tmp_path / f"generated_{number:06d}.npy").astype(np.float64) - value_map.low) / (value_map.high - value_map.low)
        large = cv2.resize(small.astype(np.float32), (64, 64), interpolation=cv2.INTER_LINEAR)
        there = read_image(chain / "database" / rows[number]["image"], max_pixels=LIMIT)
        assert np.abs(there - np.rint(large * 255)).max() <= 1 and there.std() > 0


def test_one_flipped_pixel_a_lost_and_an_extra_file_are_found_and_mended(copy, capsys):
    folder = copy / "database"
    picture = cv2.imread(str(folder / "images" / "000042.png"), cv2.IMREAD_UNCHANGED)
    picture[30, 31] ^= 1
    cv2.imwrite(str(folder / "images" / "000042.png"), picture)
    (folder / "labels" / "000099.png").unlink()
    (folder / "images" / "mine.png").write_bytes(b"")
    code, out, _ = run(capsys, "verify", folder, "--rows=0")
    assert code == 1 and out.splitlines()[:3] == ["changed: images/000042.png", "missing: labels/000099.png", "extra: images/mine.png"]
    assert "3 findings" in out
    (folder / "images" / "mine.png").unlink()
    code, out, _ = run(capsys, "verify", folder, "--rows=0", "--repair")
    assert code == 0 and "\n2 of 2 files made again and written.\n" in out and out.endswith("all as the index says.\n")
    assert run(capsys, "verify", folder, "--rows=2")[0] == 0


def test_a_database_moved_alone_tells_its_findings_before_the_lost_weights(copy, tmp_path, capsys):
    folder = shutil.move(copy / "database", tmp_path / "alone")
    with open(folder / "images" / "000001.png", "ab") as file:
        file.write(b"x")
    for flags, asked in (
        ([], "16 rows"),
        (["--rows=0", "--repair"], "the files to repair"),
        (["--repair"], "16 rows and the files to repair"),
    ):
        code, out, err = run(capsys, "verify", folder, *flags)
        assert code == 1 and out.startswith("changed: images/000001.png\n") and out.endswith("checked: 1 finding.\n")
        assert err.startswith(f"{asked} could not be made again: {tmp_path / 'dcgan' / 'config.json'}: not found")
        assert ("--rows=0" in err) == ("rows" in asked)
    code, out, err = run(capsys, "verify", folder, "--rows=0")
    assert code == 1 and out.startswith("changed: ") and not err


def test_a_file_that_cannot_be_written_again_is_told_in_short(copy, capsys):
    place = copy / "database" / "images" / "000002.png"
    place.unlink()
    place.mkdir()
    code, out, err = run(capsys, "verify", copy / "database", "--rows=0", "--repair")
    assert code == 1 and out == "missing: images/000002.png\n"
    assert err.startswith(f"{place} cannot be written: Is a directory.\n") and len(err.splitlines()) == 2
    assert not list(place.parent.glob(".*"))


def test_an_edited_index_csv_is_written_again(copy, capsys):
    folder = copy / "database"
    text = (folder / index.TEXT).read_bytes()
    (folder / index.TEXT).write_bytes(text.replace(b"dcgan@2", b"dcgan@9"))
    code, out, err = run(capsys, "verify", folder, "--rows=0")
    assert (code, out) == (1, "") and f"verify {folder} --repair writes it again from index.parquet" in err
    code, out, _ = run(capsys, "verify", folder, "--rows=0", "--repair")
    assert code == 0 and out.startswith("index.csv written again from index.parquet.\n") and (folder / index.TEXT).read_bytes() == text
    assert "written again" not in run(capsys, "verify", folder, "--rows=0", "--repair")[1]


def rewritten(folder, place, change):
    """A row whose image was changed together with its SHA-256 and the index: only making it again can tell."""
    database = index.read(folder)
    rows = [dict(row) for row in database.rows]
    file = folder / rows[place]["image"]
    picture = change(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
    cv2.imwrite(str(file), picture)
    rows[place]["sha256"] = sources.digest(file)
    index.write(folder, database.facts, rows)


def with_rows(*places):
    """Flags that draw six rows, these among them."""
    database = index.Database(None, {}, [None] * NUM)
    seed = next(seed for seed in range(100_000) if {*places} <= {*verifying.choose(database, 6, seed)})
    return "--rows=6", f"--seed={seed}"


def test_a_change_hidden_in_the_index_is_found_by_making_the_row_again(copy, capsys):
    rewritten(copy / "database", 7, lambda picture: np.where(np.arange(64) == 5, picture ^ 1, picture))
    assert run(capsys, "verify", copy / "database", "--rows=0")[0] == 0
    code, out, _ = run(capsys, "verify", copy / "database", *with_rows(7, 8))
    assert code == 1 and "differs: images/000007.png: up to 1 grey levels in 1.56 % of the pixels" in out


def test_on_another_device_one_grey_level_is_allowed_and_no_more(copy, capsys):
    folder = copy / "database"
    facts = json.loads((folder / index.FACTS).read_text())
    facts["environment"] = {"platform": "gpu", "device": "Another One", "jax": "0.1"}
    (folder / index.FACTS).write_text(json.dumps(facts))
    rewritten(folder, 7, lambda picture: picture ^ 1)
    code, out, _ = run(capsys, "verify", folder, *with_rows(7, 8))
    assert code == 0 and "compared to within 1 grey level: made on gpu Another One 0.1, this is cpu" in out
    rewritten(folder, 8, lambda picture: picture ^ 2)
    code, out, _ = run(capsys, "verify", folder, *with_rows(7, 8))
    assert code == 1 and "differs: images/000008.png: up to 2 grey levels in 100 % of the pixels" in out


def test_other_weights_are_told(copy, capsys):
    facts = json.loads((copy / "database" / index.FACTS).read_text())
    for changes, told in (({"weights_sha256": "0" * 64}, "holds other weights"), ({"step": 9}, "checkpoint 9"), ({"workdir": "../x"}, "x")):
        changed = {**facts, "generator": {**facts["generator"], **changes}}
        (copy / "database" / index.FACTS).write_text(json.dumps(changed))
        code, _, err = run(capsys, "verify", copy / "database")
        assert code == 1 and told in err
        assert run(capsys, "verify", copy / "database", "--rows=0")[0] == 0


def test_coco_and_labelme_give_back_the_instances(chain, tmp_path, capsys):
    database = index.read(chain / "database")
    for form in ("coco", "labelme"):
        assert run(capsys, "export", chain / "database", f"--format={form}", f"--output={tmp_path / form}")[0] == 0
    found = read_coco(tmp_path / "coco" / "annotations.json", max_pixels=LIMIT)
    assert list(found) == [f"{row['id']}.png" for row in database.rows] and sum(len(one.labels) for one in found.values()) > 20
    for row in database.rows[:8]:
        labels = read_image(chain / "database" / row["label"], max_pixels=LIMIT)
        by_hand = read_labelme(tmp_path / "labelme" / f"{row['id']}.json", max_pixels=LIMIT).instances
        for instances in (found[f"{row['id']}.png"].instances, by_hand):
            pairs = {*zip(labels.ravel().tolist(), instances.ravel().tolist(), strict=True)}
            assert len(pairs) == len(np.unique(labels)) == len(np.unique(instances))  # the same map, numbered in another order
        for copied in (tmp_path / "coco" / "images", tmp_path / "labelme"):
            assert sources.digest(copied / f"{row['id']}.png") == row["sha256"]


def test_folders_and_tfds_are_read_back_as_scans_with_masks(chain, tmp_path, capsys):
    database = index.read(chain / "database")
    assert run(capsys, "export", chain / "database", "--format=folder", f"--output={tmp_path / 'folder'}")[0] == 0
    code, out, _ = run(capsys, "export", chain / "database", "--format=tfds", f"--output={tmp_path / 'tfds'}")
    assert code == 0 and out == f"{tmp_path / 'tfds'}: {NUM} images as tfds.\n"
    assert [path.name for path in (tmp_path / "tfds").iterdir()] == ["scanforge_database"]
    for split in ("train", "held_out"):
        rows = [row for row in database.rows if row["split"] == split]
        of_folder, _ = read_folder(tmp_path / "folder" / split, max_pixels=LIMIT)
        of_tfds, _ = read_tfds("scanforge_database", split=split, data_dir=tmp_path / "tfds", max_pixels=LIMIT)
        assert [scan.id for scan in of_folder] == [row["id"] for row in rows]
        assert {scan.sha256 for scan in of_tfds} == {scan.sha256 for scan in of_folder} == {row["sha256"] for row in rows}
        masks = {scan.sha256: scan.mask for scan in of_folder}
        assert all((scan.mask == masks[scan.sha256]).all() for scan in of_tfds) and max(mask.max() for mask in masks.values()) > 0


def test_of_a_database_labelled_in_part_the_labelled_rows_are_exported(copy, tmp_path, capsys):
    database = index.read(copy / "database")
    rows = [{**row, "label": "", "label_sha256": "", "label_origin": ""} if place > 9 else row for place, row in enumerate(database.rows)]
    index.write(copy / "database", database.facts, rows)
    for form in ("coco", "labelme", "folder", "tfds"):
        code, out, _ = run(capsys, "export", copy / "database", f"--format={form}", f"--output={tmp_path / form}")
        assert code == 0 and f"10 images as {form}" in out and f"{NUM - 10} of {NUM} images have no label and were left out" in out
    assert len(list((tmp_path / "folder").glob("*/masks/*"))) == len(list((tmp_path / "folder").glob("*/images/*"))) == 10
    assert len(list((tmp_path / "coco" / "images").iterdir())) == 10 and len(list((tmp_path / "labelme").glob("*.json"))) == 10
    num = sum(row["split"] == "train" for row in rows[:10])
    assert len(read_tfds("scanforge_database", split="train", data_dir=tmp_path / "tfds", max_pixels=LIMIT)[0]) == num > 0


def test_labels_by_hand_are_taken_in_and_kept(copy, tmp_path, capsys):
    drawn = np.zeros((64, 64), np.int32)
    drawn[10:20, 10:20] = 1
    write_labelme(tmp_path / "000003.json", drawn, labels="particle", image="000003.png")
    code, out, _ = run(capsys, "label", copy / "database", f"--labels={tmp_path}")
    assert code == 0 and f"1 labels by hand taken in, {NUM - 1} rows left" in out
    row = index.read(copy / "database").rows[3]
    assert (row["label_origin"], row["particles"], row["coverage"]) == ("hand", 1, 100 / 64**2)
    assert (read_image(copy / "database" / row["label"], max_pixels=LIMIT) == drawn).all()
    assert run(capsys, "verify", copy / "database", *with_rows(3))[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "required: command"),
        (["verfy", "D"], 2, "invalid choice: 'verfy'"),
        (["verify", "D", "--rows=-1"], 2, "--rows=-1"),
        (["verify", "D", "--rows=x"], 2, "invalid int value"),
        (["verify", "nowhere"], 1, "nowhere/database.json: not found"),
        (["export", "D", "--format=zip", "--output=O"], 2, "--format=zip: choose coco, labelme, tfds, folder"),
        (["export", "D", "--format=coco", "--output=D"], 2, "is there already"),
        (["label", "D", "--labels=nowhere"], 2, "--labels=nowhere: no such folder"),
        (["label", "D", "--labels=D"], 2, "holds no Labelme file named as an image"),
    ],
)
def test_mistakes_are_told_in_short(chain, tmp_path, capsys, words, code, told):
    words = [word.replace("=D", f"={chain / 'database'}").replace("=O", f"={tmp_path / 'out'}") for word in words]
    words = [chain / "database" if word == "D" else word for word in words]
    found, out, err = run(capsys, *words)
    assert (found, out) == (code, "") and told in err


def test_an_export_of_a_changed_file_is_refused_and_leaves_nothing(copy, tmp_path, capsys):
    (copy / "database" / "images" / "000050.png").write_bytes(b"changed")
    code, _, err = run(capsys, "export", copy / "database", "--format=folder", f"--output={tmp_path / 'out'}")
    assert code == 1 and "000050.png: was changed since it was made" in err and "--repair makes it again" in err
    assert [path.name for path in tmp_path.iterdir()] == ["chain"]


def test_a_trained_upscaler_enlarges_and_what_cannot_be_is_refused(copy, scans):
    config = srgan.get_config("tiny").unlock()
    config.data.source = f"folder:{scans}"
    saved(copy / "superres", config, superres.make_task(config))
    folder = copy / "enlarged"
    facts = recipe.describe(folder, copy / "dcgan", copy / "superres", num_images=3, size=(64, 64), labels="none")
    made_by = recipe.load(folder, facts)
    images, _ = made_by.chunk(0)
    large = made_by.upscale(images)
    assert large.shape == (64, 64, 64, 1) and np.abs(large).max() <= 1
    database = making.make(folder, facts, made_by)
    assert {row["upscaler"] for row in database.rows} == {"superres@2"} and database.facts["upscaler"]["workdir"] == "../superres"
    assert verifying.rows(database, [0, 2], recipe.load(folder, facts), True) == []
    with pytest.raises(ConfigError, match="is a run of superres.srgan; one of gan.dcgan is needed"):
        recipe.describe(folder, copy / "superres", num_images=3)
    with pytest.raises(ConfigError, match="draws 32 x 32 px, 1 channels; a database of 96 x 64 px"):
        recipe.describe(folder, copy / "dcgan", num_images=3, size=(64, 96))
    with pytest.raises(RunError, match="config.json: not found"):
        recipe.describe(folder, copy / "nowhere", num_images=3)


def test_a_generator_that_draws_a_field_labels_its_own_images(tmp_path):
    config = dcgan.config("test", 32, 4, "tiny").unlock()
    config.data.label_field = "distance"
    saved(tmp_path / "dcgan", config, generator.make_task(config))
    folder = tmp_path / "database"
    facts = recipe.describe(folder, tmp_path / "dcgan", num_images=5, size=(64, 64))
    made_by = recipe.load(folder, facts)
    database = making.make(folder, facts, made_by)
    _, fields = made_by.chunk(0)
    assert facts["unit"] == "nm" and facts["nm_per_pixel"] == pytest.approx(workdirs.read_value_map(tmp_path / "dcgan").nm_per_pixel[0] / 2)
    for row in database.rows:
        large = cv2.resize(fields[row["index"]], (64, 64), interpolation=cv2.INTER_LINEAR)
        labels = read_image(folder / row["label"], max_pixels=LIMIT)
        assert row["label_origin"] == "generated field" and row["particles"] == labels.max()
        assert np.mean((labels > 0) != (label_field.instances(large, 5) > 0)) < 0.01
    assert verifying.rows(database, [1, 4], made_by, True) == []
