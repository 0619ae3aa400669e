import base64
import html.parser
import json
import re

import cv2
import numpy as np
import pytest

from database import evidence, figures, results
from database import page as page_of
from database.page import page
from microscopy import pictures
from microscopy.atomic import write_json
from tests.database.fake_chain import HOSTILE, NUM, SIZE, write_index
from training.errors import RunError


class Page(html.parser.HTMLParser):
    """Tags, attributes and text of a page; checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.attributes, self.pictures = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        named = dict(attributes)
        self.pictures += [named] if tag in ("img", "image") else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self.pictures += [dict(attributes)] if tag in ("img", "image") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += [data.strip()] if data.strip() else []

    @property
    def words(self):
        return " ".join(self.text)


def decoded(picture):
    kind, _, content = (picture.get("src") or picture["href"]).partition(";base64,")
    assert kind == "data:image/png"
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_UNCHANGED)


def test_the_page_is_one_file_and_every_picture_in_it_decodes(made):
    text = made[1]
    found = Page(text)
    assert not {"script", "link", "iframe", "object", "form"} & set(found.tags)
    assert "url(" not in text and "@import" not in text and "//" not in re.sub(r"base64,[^\"]+", "", text)
    for name, value in found.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/png;base64,", "#"))
    shown = [decoded(picture) for picture in found.pictures]
    assert all(picture is not None and picture.size for picture in shown)
    # 4 real, 8 generated, 6 x 3 of figure 4, 2 reliefs, 8 labelled, their fields, 1 segmented, 6 x 2 nearest
    assert len(shown) == 4 + NUM + 18 + 2 + NUM + 1 + 1 + 12
    assert all(picture["alt"] for picture in found.pictures if "src" in picture)
    drawings = re.findall(r'<svg [^>]*role="img" aria-label="[^"]+"', text)
    assert len(drawings) == text.count("<svg ") == 2 + 3 + 1 and text.count('aria-label="relief, ') == 2


def test_the_generators_own_images_stand_beside_the_upscaled_ones(made):
    found = Page(made[1])
    low = [picture for picture in found.pictures if "32 x 32, as generated" in picture.get("alt", "")]
    bilinear = [picture for picture in found.pictures if picture.get("alt", "").endswith(": bilinear")]
    assert len(low) == len(bilinear) == 6 and all(picture["class"] == "small" for picture in low)
    assert {decoded(picture).shape for picture in low} == {(32, 32)} and {decoded(picture).shape for picture in bilinear} == {(SIZE, SIZE)}
    assert len({decoded(picture).tobytes() for picture in low}) == 6
    own, large = decoded(low[0]).astype(float), decoded(bilinear[0]).astype(float)
    right, below, across = own[:-1, 1:], own[1:, :-1], own[1:, 1:]  # a pixel's lower right quarter lies a quarter of the way to them
    expected = 0.5625 * own[:-1, :-1] + 0.1875 * (right + below) + 0.0625 * across
    np.testing.assert_allclose(large[1:-1:2, 1:-1:2], expected, atol=0.501)


def test_the_words_say_what_it_is_and_whether_to_trust_it(made):
    words = Page(made[1]).words
    for line in (
        "Trained on the built-in microscope simulator, not on scans of yours: what is called real below is simulated, too",
        "can be told from real ones by KID (p = 0.001) against 4 real ones",
        "Near-copies of training scans that were refused: 1; 8 images kept. The search finds 95 % of planted copies.",
        "8 images are as varied as 3 distinct ones; as many crops of the scans as 8: the generator has collapsed.",
        "On 2 unseen real scans the U-Net of the database reaches a Dice of 0.871, the one of real crops 0.921: here generated data",
        "These weights do not reach Inception's logits, so no IS.",
        "0.28 to 0.34",
        "0.871 ± 0.01",
        "height, nm",
        "heights are drawn",
        "python -m database.catalogue verify",
        "signed distance to the outline",
        "images n f1 shift generated 16 0.91 0.2",
        "3 train, 1 held out, 1 test",
    ):
        assert line in words, line
    assert "not finished" not in words and "None" not in words and "nan" not in words.lower().split()


def test_a_missing_chain_is_said_in_words(tmp_path):
    found = Page(page(tmp_path / "nothing"))
    assert found.pictures == [] and "svg" not in found.tags
    parts = ("No run of the generator is in this folder", "holds no readable image", "No relief", "no scores yet", "no surface card")
    for line in (*parts, "No U-Net has been judged yet", "No real scan has been segmented", "names no nearest scans"):
        assert line in found.words, line


def test_without_weights_masks_and_upscaler_the_rest_stands(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    for path in (workdir / "dcgan" / "checkpoints", workdir / "database" / "labels"):
        path.rename(path.with_name("elsewhere"))
    for name in ("downstream.json", "scores.json"):
        (workdir / name).unlink()
    facts = json.loads((workdir / "database" / "database.json").read_text())
    write_json(
        workdir / "database" / "database.json", facts | {"upscaler": "bilinear", "gate": {"threshold": None, "why": "no scan is held out"}}
    )
    write_json(workdir / "status.json", {"state": "running", "stages": {"dcgan": {"state": "finished"}, "scores": {"state": "waiting"}}})
    found = Page(page(workdir))
    for line in (
        "No low-resolution images to show: ",
        "no checkpoint there",
        "no SRGAN was trained",
        "nothing is outlined here",
        "so none was refused: no scan is held out",
        "The chain is not finished (running): scores to come.",
    ):
        assert line in found.words, line
    assert len(found.pictures) == 4 + NUM + 2 + 1 + 12


def copied(workdir, tmp_path):
    """A copy of the workdir whose files may be changed."""
    target = tmp_path / "W"
    for path in sorted(workdir.rglob("*")):
        place = target / path.relative_to(workdir)
        if path.is_file():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    return target


def test_hostile_names_are_text(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    config = json.loads((workdir / "dcgan" / "config.json").read_text())
    config["data"]["source"] = config["name"] = f"folder:{HOSTILE}"
    write_json(workdir / "dcgan" / "config.json", config)
    scans = json.loads((workdir / "dcgan" / "lineage.json").read_text())
    scans["scans"][0] |= {"id": HOSTILE, "file": HOSTILE, "split": HOSTILE}
    write_json(workdir / "dcgan" / "lineage.json", scans)
    write_json(workdir / "real" / "real.json", {"scans": {f"{number:04d}": {"id": HOSTILE} for number in range(4)}})
    rows = evidence.index_rows(workdir / "database")
    write_index(workdir, [{**row, "id": HOSTILE + row["id"], "label_origin": HOSTILE, "nearest": HOSTILE} for row in rows])
    scores = json.loads((workdir / "scores.json").read_text())
    scores |= {HOSTILE: {"value": 1.0, "protocol": HOSTILE, "resize": HOSTILE}, "note": HOSTILE}
    scores["surface"]["quantities"][HOSTILE] = {"distance": 1.0, "low": 1.0, "high": 1.0, "floor": 1.0, "unit": HOSTILE}
    write_json(workdir / "scores.json", scores)
    downstream = json.loads((workdir / "downstream.json").read_text())
    downstream |= {"protocol": HOSTILE, "note": HOSTILE}
    downstream["rows"] += [{"by": HOSTILE, "dice": 0.5, HOSTILE: 0.5}]
    write_json(workdir / "downstream.json", downstream)
    write_json(workdir / "status.json", {"state": HOSTILE, "stages": {HOSTILE: {"state": HOSTILE}}})
    text = page(workdir)
    found = Page(text)
    assert "<img src=x" not in text and "onerror" not in [name for name, _ in found.attributes]
    assert found.words.count(HOSTILE) > 15 and found.tags.count("section") == 10


def test_files_that_were_left_out_are_listed(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    assert "Files left out" not in Page("".join(page_of._scans(evidence.read(workdir)))).words
    refused = [{"file": f"{HOSTILE}/cut.png", "reason": "cannot be read"}]
    write_json(workdir / "real" / "real.json", {"scans": {}, "refused": refused})
    words = Page("".join(page_of._scans(evidence.read(workdir)))).words
    assert "Files left out: 1" in words and f"{HOSTILE}/cut.png cannot be read" in words


def test_the_command_that_made_it_and_the_weights_that_were_used_are_told(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    words = Page("".join(page_of._again(evidence.read(workdir)))).words
    assert "--config=configs/stm_database.py --config.data.source=simulated" in words
    write_json(workdir / "config.json", {"command": "--config=configs/stm_database.py:cpu '--config.data.source=folder:my scans'"})
    facts = json.loads((workdir / "database" / "database.json").read_text())
    facts |= {"generator": {"step": 4, "weights_sha256": "c" * 64}, "upscaler": {"step": 10, "weights_sha256": "d" * 64}}
    write_json(workdir / "database" / "database.json", facts)
    status = json.loads((workdir / "status.json").read_text())
    status["stages"]["superres"] = {"state": "finished", "seconds": 6.0}
    write_json(workdir / "status.json", status)
    chain = evidence.read(workdir)
    words = Page("".join(page_of._again(chain))).words
    assert f"main.py --config=configs/stm_database.py:cpu '--config.data.source=folder:my scans' --workdir={workdir}" in words
    words = Page("".join(page_of._lineage(chain))).words
    assert f"finished 4 {'c' * 12}" in words and f"finished 10 {'d' * 12}" in words


@pytest.mark.parametrize("name", ["../../outside.png", "/etc/hostname", "images", "", "images/missing.png"])
def test_an_index_shows_no_file_outside_its_folder(tmp_path, name):
    folder = tmp_path / "W" / "database"
    pictures.write_png(folder / "images" / "a.png", np.zeros((4, 4), np.uint8))
    pictures.write_png(tmp_path / "outside.png", np.zeros((4, 4), np.uint8))
    assert evidence.inside(folder, name) is None
    assert evidence.inside(folder, "images/a.png") == folder / "images" / "a.png"


def test_a_damaged_record_stops_the_page_and_is_named(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    (workdir / "scores.json").write_text("{")
    with pytest.raises(RunError, match=r"scores\.json cannot be read"):
        page(workdir)
    (workdir / "scores.json").write_text("{}")
    (workdir / "database" / "index.csv").write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(RunError, match=r"index\.csv cannot be read"):
        page(workdir)


def test_a_damaged_image_is_left_out(made, tmp_path):
    workdir = copied(made[0], tmp_path)
    path = workdir / "database" / "images" / "000002.png"
    path.write_bytes(path.read_bytes()[:60])
    shown = Page(figures.generated_images(evidence.read(workdir))).pictures
    assert [picture["alt"] for picture in shown] == [f"generated image {index:06d}" for index in range(NUM) if index != 2]


def test_the_published_rows_are_those_of_the_paper():
    assert len(results.PUBLISHED) == 10 and {size for size, _ in results.PUBLISHED} == {32, 48, 64, 96, 128}
    assert results.PUBLISHED[96, "SRGAN"] == (234.26, 23.61, 0.20, 0.08)
    assert min(results.PUBLISHED, key=lambda row: results.PUBLISHED[row][0]) == (96, "SRGAN")
