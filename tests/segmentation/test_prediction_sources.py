"""Which scan a prediction is of: one of the same stem, a replaced or a removed one, outputs of before, a folder without any part."""

import csv
import json
import signal

import cv2
import numpy as np
import pytest

from microscopy.writing import encode_tiff, encode_tiff_stack
from segmentation import prediction, stack_prediction
from tests.segmentation import test_prediction, test_stack_prediction
from tests.segmentation.test_prediction import BRIGHT, discs
from training import arrivals, sources
from training.errors import RunError
from training.prediction import Request
from training.pseudonyms import pseudonym
from training.signals import Stop


@pytest.fixture
def scans(tmp_path):
    """A folder with the scan a.png."""
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), discs())
    return tmp_path / "in"


def predict(place, output, **options):
    return test_prediction.predict(BRIGHT, place, output, **options)


def images(output):
    """Returns scan -> coverage of images.csv."""
    with open(output / "images.csv", newline="") as file:
        return {row["scan"]: float(row["coverage"]) for row in csv.DictReader(file)}


def watch(place, output, monkeypatch, *rounds):
    """Watches a folder in which each of `rounds`, functions without arguments, happens between polls."""
    monkeypatch.setattr(arrivals, "POLL_SECONDS", 0.0)
    stop, real = Stop(), arrivals.settled

    def settled(place, stop):
        polls = real(place, stop)
        for happens in rounds:
            happens()
            yield next(polls)
            yield next(polls)
        stop.signal = signal.SIGINT

    monkeypatch.setattr(arrivals, "settled", settled)
    outcome = predict(place, output, watch=True, stop=stop)
    monkeypatch.setattr(arrivals, "settled", real)
    return outcome


def test_a_second_file_of_a_stem_has_its_whole_name_and_the_first_keeps_its_id(scans, tmp_path, capsys):
    predict(scans, out := tmp_path / "out")
    (scans / "a.tif").write_bytes(encode_tiff(discs()[::-1].copy()))
    assert "is the scan" not in capsys.readouterr().out
    outcome = predict(scans, out)
    assert (outcome.written, outcome.there) == (1, 1) and set(images(out)) == {"a", "a.tif"}
    assert f"{scans / 'a.tif'} is the scan a.tif: a is that of another file.\n" in capsys.readouterr().out
    assert predict(scans, out).there == 2 and set(images(out)) == {"a", "a.tif"}
    assert "is the scan" not in capsys.readouterr().out
    (scans / "a.png").unlink()
    assert predict(scans, out).there == 1 and set(images(out)) == {"a.tif"}


def test_a_stack_of_the_stem_of_an_image_has_its_whole_name(scans, tmp_path):
    predict(scans, out := tmp_path / "out")
    assert cv2.imwritemulti(str(scans / "a.tif"), [discs()] * 2)
    for _ in range(2):
        predict(scans, out)
        assert set(images(out)) == {"a", "a.tif_page0001", "a.tif_page0002"}
    (scans / "a.png").unlink()
    assert predict(scans, out).there == 2


def test_a_file_whose_whole_name_is_taken_too_is_refused(tmp_path):
    files = {"a": tmp_path / "a", "a.png": tmp_path / "a.png"}
    found, refused = sources.assigned(files, lambda id, file: {"a": ".png"}.get(id))
    assert found == {"a": tmp_path / "a.png"} and [wrong.file for wrong in refused] == [str(tmp_path / "a")]
    assert refused[0].reason == "would have the same name as the scan a of another file; rename one"


def test_a_watch_counts_a_file_once_when_another_of_its_stem_arrives(scans, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    outcome = watch(scans, out, monkeypatch, lambda: None, lambda: cv2.imwrite(str(scans / "a.jpg"), discs()))
    said = capsys.readouterr().out
    assert (outcome.written, outcome.refused) == (2, []) and set(images(out)) == {"a", "a.jpg"}
    assert said.count("a.png: done") == said.count("a.jpg: done") == said.count("a.jpg is the scan a.jpg") == 1
    outcome = watch(scans, out, monkeypatch, lambda: None)
    assert (outcome.written, outcome.there) == (0, 2) and set(images(out)) == {"a", "a.jpg"}


def test_a_watch_keeps_what_was_moved_away_and_gives_its_id_to_no_other(scans, tmp_path, monkeypatch):
    watch(scans, out := tmp_path / "out", monkeypatch, lambda: None)
    (scans / "a.png").rename(tmp_path / "a.png")
    cv2.imwrite(str(scans / "a.jpg"), discs())
    watch(scans, out, monkeypatch, lambda: None)
    assert set(images(out)) == {"a", "a.jpg"}


def test_a_replaced_scan_is_predicted_anew_and_told(scans, tmp_path, monkeypatch, capsys):
    predict(scans, out := tmp_path / "out")
    before = images(out)["a"]
    cv2.imwrite(str(scans / "a.png"), np.full((60, 80), 250, np.uint8))
    outcome = predict(scans, out)
    assert (outcome.written, outcome.there) == (1, 0) and before < 0.5 < images(out)["a"] == 1
    assert (cv2.imread(str(out / "a_mask.png")) == 255).all()
    assert f"{scans / 'a.png'}: changed since, predicted anew.\n" in capsys.readouterr().out
    assert predict(scans, out).there == 1
    outcome = watch(scans, out, monkeypatch, lambda: None, lambda: cv2.imwrite(str(scans / "a.png"), discs()))
    assert (outcome.written, outcome.there) == (1, 1) and images(out)["a"] == before


def test_a_stack_replaced_is_predicted_anew_on_all_its_pages(tmp_path):
    assert cv2.imwritemulti(str(tmp_path / "s.tif"), [discs()] * 2)
    predict(tmp_path, out := tmp_path / "out")
    assert predict(tmp_path, out).there == 2
    assert cv2.imwritemulti(str(tmp_path / "s.tif"), [discs(), np.full((60, 80), 250, np.uint8)])
    assert predict(tmp_path, out).written == 2 and images(out)["s_page0002"] == 1


def test_a_scan_replaced_by_a_damaged_one_is_in_no_table(scans, tmp_path):
    cv2.imwrite(str(scans / "b.png"), discs())
    predict(scans, out := tmp_path / "out")
    (scans / "a.png").write_bytes((scans / "a.png").read_bytes()[:60])
    with pytest.raises(RunError, match="1 of 2 files have no prediction"):
        predict(scans, out)
    assert set(images(out)) == {"b"}


def test_a_removed_scan_is_told_and_left_out_of_the_tables_until_it_is_back(scans, tmp_path, capsys):
    for name in "bc":
        cv2.imwrite(str(scans / f"{name}.png"), discs())
    predict(scans, out := tmp_path / "out")
    for name in "bc":
        (scans / f"{name}.png").rename(tmp_path / f"{name}.png")
    assert predict(scans, out).there == 1 and set(images(out)) == {"a"} and (out / "b_particles.json").exists()
    assert "left out of the tables, for the input has no such scan now: b and 1 more. Their files stay.\n" in capsys.readouterr().out
    (tmp_path / "b.png").rename(scans / "b.png")
    assert predict(scans, out).there == 2 and set(images(out)) == {"a", "b"}


def test_outputs_of_before_that_say_no_file_are_accepted(scans, tmp_path):
    predict(scans, out := tmp_path / "out")
    part = json.loads((out / "a_particles.json").read_text())
    assert part.pop("source")["suffix"] == ".png"
    (out / "a_particles.json").write_text(json.dumps(part))
    cv2.imwrite(str(scans / "a.png"), np.full((60, 80), 250, np.uint8))
    assert predict(scans, out).there == 1
    cv2.imwrite(str(scans / "a.jpg"), discs())
    assert predict(scans, out).written == 2 and set(images(out)) == {"a.png", "a.jpg"}


def test_scans_with_salted_ids_keep_them_too_and_tell_no_name(scans, tmp_path):
    kept = []

    def renamed(found, keep=True):
        kept.extend(found if keep else ())
        return {pseudonym(name, b"salt"): told for name, told in found.items()}

    predict(scans, out := tmp_path / "out", renamed=renamed)
    cv2.imwrite(str(scans / "a.jpg"), discs())
    assert predict(scans, out, renamed=renamed).written == 1
    assert set(images(out)) == {pseudonym("a", b"salt"), pseudonym("a.jpg", b"salt")} and set(kept) == {"a", "a.jpg"}
    assert all("a.png" not in path.read_text() for path in out.glob("*.json"))


def test_without_any_part_there_are_no_tables(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(RunError, match="No prediction was written: 1 file refused"):
        predict(tmp_path / "a.png", out := tmp_path / "out")
    assert [path.name for path in out.iterdir()] == ["prediction.json"]
    cv2.imwrite(str(tmp_path / "a.png"), discs())
    predict(tmp_path / "a.png", out)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(RunError, match="No prediction was written"):
        predict(tmp_path / "a.png", out)
    assert not list(out.glob("*.csv")) and not (out / "a_particles.json").exists()


def test_stacks_remember_their_files_too(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.tif").write_bytes(encode_tiff_stack(test_stack_prediction.stack(2)))
    one, out = test_stack_prediction.network(), tmp_path / "out"

    def run():
        return stack_prediction.predict(one, Request(str(tmp_path / "in"), str(out)), {"step": 1})

    run()
    (tmp_path / "in" / "a.tif").write_bytes(encode_tiff_stack(test_stack_prediction.stack(3)))
    (tmp_path / "in" / "a.tiff").write_bytes(encode_tiff_stack(test_stack_prediction.stack(4)))
    (tmp_path / "in" / "b.tif").unlink()
    outcome = run()
    rows = test_stack_prediction.table(out / "stacks.csv")
    assert (outcome.written, outcome.there) == (2, 0) and [(row["stack"], row["planes"]) for row in rows] == [("a.tiff", "4"), ("a", "3")]


def test_tables_are_left_where_nothing_is_begun(scans, tmp_path):
    cv2.imwrite(str(scans / "b.png"), discs())
    predict(scans, out := tmp_path / "out")
    (scans / "b.png").unlink()
    predict(scans, out)
    with pytest.raises(Exception, match="another request"):
        prediction.predict(BRIGHT, Request(str(scans), str(out)), {"step": 2})
    assert set(images(out)) == {"a"}
