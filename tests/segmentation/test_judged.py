"""Scores of whole scans: a prediction that is the truth is perfect, one that is not scores what its definition says."""

import dataclasses
import json
import types

import jax.numpy as jnp
import numpy as np
import pytest

from configs import unet
from microscopy.normalisation import ValueMap
from microscopy.preparation import Prepared
from microscopy.scan import Scan
from segmentation import judged, networks
from training import logbook
from training import workdir as workdirs

MODEL = networks.UNet(base_width=2, depth=1)
DEFINED = ("iou", "dice", "percent", "module", "squaring", "binary", "v_rand", "v_info", "ap50", "pq", "precision", "recall", "objects")
DEFINED += ("true_objects", "diameter_error")


def scan(name, shape=(50, 70), seed=0):
    """Bright discs, numbered, on a dark ground of two values; two of the discs touch."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, np.int32)
    for number, (row, column) in enumerate([(12, 12), (12, 26), (36, 20), (30, 52)], 1):
        mask[(y - row) ** 2 + (x - column) ** 2 < 50] = number
    pixels = np.where(mask > 0, 200, 50 + random.integers(0, 2, shape)).astype(np.uint8)
    return Scan(name, pixels, name, mask=mask)


def prepared(**splits):
    return Prepared({"train": [], "held_out": [], "test": [], **splits}, ValueMap(0.0, 255.0, "grey", (0.0, 0.0)), (32, 32), [], {})


def config(**settings):
    c = unet.get_config("tiny").unlock()
    c.eval.update({"num_scans": 0, "partition": True, **settings})
    return c


def truth(images):
    return (jnp.asarray(images)[..., 0] > 0).astype(jnp.float32)


def test_a_perfect_prediction_is_perfect_in_every_score():
    found = judged.evaluate(
        config(num_train_scans=1), MODEL, truth, prepared(train=[scan("a"), scan("b")], held_out=[scan("c"), scan("d")])
    )
    wanted = {"iou": 1, "dice": 1, "percent": 100, "module": 0, "squaring": 0, "binary": 1, "v_rand": 1, "v_info": 1, "ap50": 1}
    wanted |= {"precision": 1, "recall": 1, "objects": 4, "true_objects": 4, "diameter_error": 0}
    for prefix in ("segmentation/", "segmentation/train_"):
        assert {name: found.scalars[f"{prefix}{name}"] for name in wanted} == pytest.approx(wanted, abs=1e-9)
        assert found.scalars[f"{prefix}pq"] > 0.99  # the watershed may part touching discs a pixel off
    assert found.score == ("segmentation/jaccard_distance", 0.0, "2 whole held-out scans") and "2 whole held-out scans" in found.protocol
    assert list(found.tables) == ["2 held-out scans, means", "held-out scans", "1 training scans, means"]
    rows = {row["by"]: row for row in found.tables["2 held-out scans, means"]}
    share = np.mean(scan("c").mask > 0)
    assert rows["everything foreground"]["iou"] == pytest.approx(share) and rows["everything foreground"]["recall"] == 0
    assert rows["Otsu's threshold"]["ap50"] == pytest.approx(1) and rows["network"]["iou_error"] == 0
    assert found.figures["segmentation"].dtype == np.uint8 and found.figures["segmentation"].shape[1] == 3 * 360 + 2 * 4


def test_an_uncertain_prediction_scores_its_definition():
    found = judged.evaluate(config(objects=False), MODEL, lambda images: 0.5 + 0.2 * (truth(images) - 0.5), prepared(held_out=[scan("a")]))
    scalars = found.scalars
    assert scalars["segmentation/iou"] == 1 and scalars["segmentation/binary"] == 0 and "segmentation/ap50" not in scalars
    assert scalars["segmentation/module"] == pytest.approx(0.8, abs=1e-6) and scalars["segmentation/squaring"] == pytest.approx(
        0.64, abs=1e-6
    )


def test_without_held_out_scans_training_ones_are_judged_and_it_says_so():
    found = judged.evaluate(config(num_scans=1), MODEL, truth, prepared(train=[scan("a"), scan("b")]))
    assert found.score.protocol == "1 whole training scans" and "segmentation/train_iou" not in found.scalars


NOTHING_FOUND, NOTHING_THERE = {"precision"}, {"recall", "diameter_error", "v_rand", "v_info"}


@pytest.mark.parametrize(("network", "mask", "undefined"), [(0, 1, NOTHING_FOUND), (1, 0, NOTHING_THERE)])
def test_a_score_that_no_scan_has_is_no_scalar_that_would_stop_a_run(tmp_path, network, mask, undefined):
    scans = [dataclasses.replace(scan(name), mask=scan(name).mask * mask) for name in "ab"]
    found = judged.evaluate(config(), MODEL, lambda images: truth(images) * network, prepared(held_out=scans))
    assert set(logbook.finite(1, found.scalars)) == {f"segmentation/{name}" for name in {*DEFINED} - undefined}
    workdirs.write_evaluation(tmp_path, 1, found)
    rows = json.loads((tmp_path / "evaluation.json").read_text(), parse_constant=pytest.fail)["tables"]["2 held-out scans, means"]
    assert {name for name, value in rows[0].items() if value is None} == undefined


def test_some_scans_are_spread_over_all():
    scans = [types.SimpleNamespace(id=i) for i in range(10)]
    assert [one.id for one in judged.chosen(scans, 4)] == [0, 2, 5, 7] and judged.chosen(scans, 0) == judged.chosen(scans, 99) == scans


def test_means_leave_out_what_has_no_value():
    rows = [{"a": 1.0, "b": float("nan")}, {"a": 3.0, "b": 2.0}]
    assert judged.mean_row(rows) == {"a": 2.0, "a_error": 1.0, "b": 2.0}
    assert np.isnan(judged.mean_row([{"a": float("nan")}])["a"])


def test_ids_of_any_size_are_counted():
    objects = np.zeros((20, 30), np.int32)
    objects[2:6, 2:6], objects[10:12, 2:10] = 2_000_000_000, 7
    assert judged.mean_diameter(objects) == pytest.approx(2 * np.sqrt(16 / np.pi))
