"""Planted copies are refused, collapse is told from variety, and what a run was trained on never judges what comes of it."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from configs import dcgan
from database import gates, index, making
from metrics.memorisation import random_crops
from microscopy import preparation
from microscopy.atomic import write_json
from microscopy.scan import Scan
from tests.database import fakes
from training import lineage
from training.errors import RunError

SIZE = 32


def textured(random, size, num_particles):
    """Small bright discs on smooth noise, float32 (size, size) in [-1, 1]."""
    image = cv2.GaussianBlur(random.normal(size=(size, size)).astype(np.float32), (0, 0), 2.0) * 2 - 0.2
    for x, y in random.integers(0, size, (num_particles, 2)).tolist():
        cv2.circle(image, (x, y), int(random.integers(1, 4)), float(random.uniform(0.3, 0.9)), -1)
    return image.clip(-1, 1)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Eight scans of round particles on noise, 60 x 60 px, prepared for crops of 32 px at their own size."""
    folder = tmp_path_factory.mktemp("scans")
    for number in range(8):
        image = textured(np.random.default_rng(number), 60, 30)
        cv2.imwrite(str(folder / f"scan{number}.png"), np.clip(image * 100 + 100, 0, 255).astype(np.uint8))
    config = dcgan.config("test", SIZE, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "crop": SIZE, "held_out": 0.25})
    return preparation.prepare(config)


@pytest.fixture(scope="module")
def gate(prepared):
    return gates.calibrate(prepared)


def honest(num, seed):
    """Images like the scans, but of none of them: other noise, other particles."""
    return np.stack([textured(np.random.default_rng([seed, number]), SIZE, 8) for number in range(num)])


def test_twenty_planted_copies_are_all_refused_and_named(prepared, gate, tmp_path):
    """Turned, mirrored, of another gain and offset, noisy; among honest images of which none or next to none is refused."""
    random = np.random.default_rng(1)
    of = random.integers(0, len(prepared.splits["train"]), 20)
    scans = gates.seen(prepared, "train")
    planted = np.concatenate([random_crops([scans[number]], 1, SIZE, 1.0, random) for number in of])
    planted = planted * random.uniform(0.4, 1.0, (20, 1, 1)) + random.normal(size=planted.shape) * 0.02
    places = np.sort(random.permutation(64)[:20])
    images = honest(64, 5)
    images[places] = planted
    judged = gates.make_judge(prepared, gate)(images[..., None].astype(np.float32))
    assert gate["sensitivity"] > 0.9 and judged.copied[places].all()
    assert [judged.scan[i] for i in places] == [prepared.splits["train"][number].id for number in of]
    assert np.delete(judged.copied, places).sum() <= 1

    made_by = fakes.made_by("grey", generator=lambda number: (images[..., None].astype(np.float32), images))
    database = making.make(tmp_path, fakes.facts(40, unit="grey"), made_by, judge=lambda _: judged)
    assert {row["index"] for row in database.rows}.isdisjoint(places.tolist())
    assert {item["index"] for item in database.facts["refused"]} >= {i for i in places.tolist() if i < database.rows[-1]["index"]}
    assert all(row["nearest"] in {scan.id for scan in prepared.splits["train"]} for row in database.rows)


def test_a_resume_takes_the_gate_from_the_folder_where_the_scans_are_the_same(prepared, gate, tmp_path, monkeypatch):
    monkeypatch.setattr(gates, "memorisation", lambda *_, **__: pytest.fail("searched again"))
    write_json(tmp_path / index.FACTS, {**fakes.facts(gate=gate), "state": "making"})
    assert gates.calibrate(prepared, tmp_path) == json.loads(json.dumps(gate))
    fewer = dataclasses.replace(prepared, splits={**prepared.splits, "train": prepared.splits["train"][1:]})
    with pytest.raises(pytest.fail.Exception, match="searched again"):
        gates.calibrate(fewer, tmp_path)


def test_without_held_out_scans_nothing_is_called_and_it_is_said(prepared):
    bare = dataclasses.replace(prepared, splits={**prepared.splits, "held_out": []})
    found = gates.calibrate(bare)
    assert found["threshold"] is None and "held out" in found["why"]
    judged = gates.make_judge(bare, found)(gates.real_crops(bare, 2)[..., None])
    assert not judged.copied.any() and (judged.similarity > 0.9).all()


def test_the_effective_number_is_that_of_the_closed_forms():
    eye = np.eye(6)
    assert gates.effective_number(eye) == pytest.approx(6) and gates.effective_number(eye[[2] * 6]) == pytest.approx(1)
    assert gates.effective_number(eye[[0, 0, 1, 1]]) == pytest.approx(2)
    assert gates.effective_number(eye[[0, 0, 0, 1]]) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))


def test_collapse_is_told_from_variety():
    real, noise = honest(80, 1), np.random.default_rng(0).normal(size=(80, SIZE, SIZE)) * 0.01
    varied = gates.diversity(honest(80, 2), real)
    assert 0.9 < varied["ratio"] < 1.1 and not varied["collapsed"] and not gates.diversity_text(varied).startswith("warning")
    for modes in (1, 4, 12):
        found = gates.diversity(honest(modes, 3)[np.arange(80) % modes] + noise, real)
        assert found["collapsed"] == (modes < 12) and found["distinct"] < modes + 3 and found["alike"] > 0.9, modes
        words = "less varied than the scans" if modes == 12 else "has collapsed"
        assert f"{words}: train longer, or with config.train.augment" in gates.diversity_text(found)
    assert gates.diversity(np.zeros((80, SIZE, SIZE)), real)["distinct"] == pytest.approx(1)


def test_the_database_says_when_its_generator_has_collapsed(tmp_path, capsys):
    one = fakes.chunk(0)[0][:1]
    same = fakes.made_by("grey", generator=lambda number: (np.repeat(one, 64, 0), np.repeat(one[..., 0], 64, 0)))
    made = making.make(tmp_path, fakes.facts(40, unit="grey"), same, real=fakes.chunk(1)[0][..., 0])
    assert made.facts["diversity"]["collapsed"] and "The generator has collapsed" in capsys.readouterr().out


def a_scan(name, sha="7", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (90, 90)).astype(np.float32)
    pixels = cv2.GaussianBlur(pixels, (0, 0), 1.5)
    return Scan(id=name, pixels=pixels, sha256=sha * 64, file=f"scans/{name}.png")


TESTED = a_scan("tested", "7", 7)
CLEAN = lineage.record({"train": [a_scan("clean", "1")], "held_out": [a_scan("held", "2")], "test": [TESTED]}, [])
LEAKY = lineage.record({"train": [TESTED]}, [])


def run(folder, record):
    folder.mkdir(parents=True)
    write_json(folder / "lineage.json", record)
    return folder


def begun_from(source, scans):
    return {**CLEAN, "upstream": [lineage.of_weights(source, 5, "e" * 64, scans)]}


def of_database(folder, sources, generator):
    """The lineage of a U-Net that was trained on the images of a database with these sources."""
    run(folder.parent / "dcgan", generator)
    folder.mkdir()
    write_json(folder / index.FACTS, {**fakes.facts(sources=sources), "state": "finished"})
    image = Scan(id="000000", pixels=np.zeros((4, 4)), sha256="9" * 64, file=str(folder / "images" / "000000.png"))
    return lineage.record({"train": [image]}, [])


def as_source(scan):
    return {"id": scan.id, "file": scan.file, "sha256": scan.sha256}


LEAKS = {
    "the generator was trained on it": lambda where: LEAKY,
    "its bytes under another name": lambda where: lineage.record({"train": [a_scan("renamed", "7", 7)]}, []),
    "begun from weights trained on it": lambda where: begun_from("superres_before", LEAKY["scans"]),
    "begun from weights begun from such": lambda where: begun_from("last", lineage.behind(begun_from("first.npz", LEAKY["scans"]))),
    "trained on a database made from it": lambda where: of_database(where / "database", [as_source(TESTED)], CLEAN),
    "trained on a database whose generator began from it": lambda where: of_database(
        where / "database", [], begun_from("elsewhere", LEAKY["scans"])
    ),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_every_leak_stops_with_the_name_of_the_scan(tmp_path, leak):
    leaky, clean = run(tmp_path / "leaky", LEAKS[leak](tmp_path)), run(tmp_path / "clean", CLEAN)
    with pytest.raises(RunError, match=r"^scans/tested\.png: leaky was trained on this scan.* cannot judge") as caught:
        gates.refuse_upstream([clean, leaky], [a_scan("other", "5"), TESTED])
    assert len(str(caught.value).splitlines()) <= 5
    gates.refuse_upstream([clean], [TESTED])


def test_a_copy_saved_anew_is_told_from_another_scan():
    mirrored = np.rint(np.rot90(TESTED.pixels[:, ::-1]) * 0.7 + 20)
    resaved = Scan(id="resaved", pixels=mirrored, sha256="4" * 64)
    with pytest.raises(RunError, match=r"^scans/tested\.png: shows what the training scan resaved shows"):
        gates.refuse_lookalikes([a_scan("a", "1", 1), resaved], [TESTED])
    gates.refuse_lookalikes([a_scan("a", "1", 1), a_scan("b", "2", 2)], [TESTED, a_scan("c", "3", 3)])


def test_a_damaged_lineage_is_told(tmp_path):
    with pytest.raises(RunError, match="lineage.json cannot be read"):
        gates.refuse_upstream([tmp_path], [TESTED])
