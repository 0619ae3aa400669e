import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest

from microscopy import atomic, pictures
from training.errors import RunError
from training.logbook import open_logbook
from training.report import arrange, series, write_report


class Page(html.parser.HTMLParser):
    """Tags, attribute values and text of a page; checks that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.images, self.values = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.values += [(name, value) for name, value in attributes]
        self.images += [dict(attributes)] if tag == "img" else []
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text += [data.strip()] if data.strip() else []


@pytest.fixture
def run(tmp_path):
    """A workdir with made-up metrics and five sample grids."""
    book = open_logbook(tmp_path, step=0, num_steps=2000, batch_size=4, stream=io.StringIO())
    noise = np.random.default_rng(0)
    for step in range(1, 1501):
        scalars = {"generator/loss": 1 + noise.normal(), "discriminator/loss": noise.normal(), "generator/norm": 3.0}
        book.log(step, scalars | ({"held_out/fid": 1e3 / step} if step % 500 == 0 else {}))
    for step in (9, 10, 100, 1000, 1500):
        book.picture("samples", step, np.full((6, 8), step % 251, np.uint8))
    book.close()
    return tmp_path


def test_report_is_whole_self_contained_and_shows_everything(run):
    figure = np.arange(24, dtype=np.uint8).reshape(4, 6)
    rows = [{"class": "round", "n": 1200, "iou": 0.91}, {"class": "rod", "n": 7, "note": "few"}]
    evaluation = {"step": 1500, "scalars": {"fid_768": 87.1234567}, "tables": {"per class": rows}, "figures": {"nearest": figure}}
    path = write_report(run, title="DCGAN 96", facts={"config": "dcgan96.py:tiny", "device": "CPU"}, evaluation=evaluation)
    assert path == run / "report.html"
    text = path.read_text()
    page = Page(text)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    assert "url(" not in text and "//" not in re.sub(r"base64,[^\"]+", "", text)
    assert all(value.startswith("data:image/png;base64,") for name, value in page.values if name in ("src", "href"))
    assert [image["alt"] for image in page.images] == ["nearest", "step 9", "step 100", "step 1,500"]
    shown = [base64.b64decode(image["src"].split(",")[1]) for image in page.images]
    samples = [(run / f"samples/step_{step:08d}.png").read_bytes() for step in (9, 100, 1500)]
    assert shown == [pictures.encode_png(figure), *samples]
    for words in ("DCGAN 96", "dcgan96.py:tiny", "CPU", "1,500 log points up to step 1,500", "fid_768", "87.123", "1,500", "per class"):
        assert words in page.text
    start = page.text.index("per class")
    assert page.text[start : start + 11] == ["per class", "class", "n", "iou", "note", "round", "1,200", "0.91", "rod", "7", "few"]
    for name in ("generator/loss", "discriminator/loss", "generator/norm", "held_out/fid"):
        assert name in page.text
    assert page.tags.count("svg") == 2 * 3 and len(text) < 300_000


def test_everything_is_escaped(tmp_path):
    evil = '<script>alert("1")</script>&\''
    record = {"step": 1, "time": 0.0, f"{evil}/{evil}": 1.0, evil: 2.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    picture = np.zeros((2, 2), np.uint8)
    evaluation = {evil: evil, "scalars": {evil: 1.0}, "tables": {evil: [{evil: evil}]}, "figures": {evil: picture}}
    text = write_report(tmp_path, title=evil, facts={evil: evil}, evaluation=evaluation).read_text()
    page = Page(text)
    assert "script" not in page.tags and "<script" not in text and page.text.count(evil) >= 9
    assert page.images[0]["alt"] == evil


def test_an_empty_workdir_and_no_evaluation_give_a_report(tmp_path):
    page = Page(write_report(tmp_path, title="empty", facts={}, evaluation=None).read_text())
    assert "nothing logged yet" in page.text and "svg" not in page.tags and "Evaluation" not in page.text and "Samples" not in page.text


@pytest.mark.parametrize(("steps", "expected"), [((5,), ["step 5"]), ((5, 7), ["step 5", "step 7"])])
def test_few_samples_are_shown_once(tmp_path, steps, expected):
    for step in steps:
        pictures.write_png(tmp_path / f"samples/step_{step:08d}.png", np.zeros((3, 3), np.uint8))
    pictures.write_png(tmp_path / "samples/step_best.png", np.zeros((3, 3), np.uint8))
    page = Page(write_report(tmp_path, title="few", facts={}, evaluation={}).read_text())
    assert [image["alt"] for image in page.images] == expected and page.images[0]["class"] == "small"


def test_damaged_metrics_and_a_refusing_disk_are_run_errors(run, monkeypatch):
    monkeypatch.setattr(atomic.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"report\.html cannot be written: No space left"):
        write_report(run, title="a", facts={}, evaluation=None)
    (run / "metrics.jsonl").write_text('{"step": 1}\nrubbish\n{"step": 2}\n')
    with pytest.raises(RunError, match="line 2"):
        write_report(run, title="a", facts={}, evaluation=None)
    assert not (run / "report.html").exists()


def test_series_collects_points_in_order_and_only_finite_numbers():
    records = [{"step": 1, "time": 5.0, "a": 1.0, "b": 3}, {"step": 2, "time": 6.0, "a": float("nan"), "c": "x"}, {"step": 3, "a": 2.5}]
    found = series(records)
    assert list(found) == ["a", "b"]
    np.testing.assert_array_equal(found["a"], [[1, 3], [1.0, 2.5]])
    np.testing.assert_array_equal(found["b"], [[1], [3]])


def flat(*levels):
    return np.arange(len(levels)), np.array(levels, float)


def test_arrange_overlays_equal_suffixes_of_like_range():
    names = ["generator/loss", "discriminator/loss", "generator/norm", "speed", "held_out/fid/768", "rate/a", "rate/b"]
    curves = dict.fromkeys(names, flat(0, 1, 2)) | {"discriminator/norm": flat(0, 100, 200)}
    assert arrange(curves) == {
        "": {"loss": ["generator/loss", "discriminator/loss"]},
        "generator": {"norm": ["generator/norm"]},
        "discriminator": {"norm": ["discriminator/norm"]},
        "run": {"speed": ["speed"]},
        "held_out": {"fid/768": ["held_out/fid/768"]},
        "rate": {"a": ["rate/a"], "b": ["rate/b"]},
    }
    assert arrange({"a/x": flat(1, 1), "b/x": flat(5, 5)}) == {"": {"x": ["a/x", "b/x"]}}
    assert arrange({"a/x": flat(1, 2), "b/x": flat(1001, 1002)}) == {"a": {"x": ["a/x"]}, "b": {"x": ["b/x"]}}
    assert arrange({}) == {}
