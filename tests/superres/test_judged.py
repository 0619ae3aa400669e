"""The table of a super-resolution run: interpolation beside the network, by scores checked against their definitions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import input_pipeline
import resize
from configs import srgan as settings
from configs import srgan_stm
from metrics import image
from superres import judged, srgan
from training import weights

BEHIND = ("srresnet + smoothing 1 px", "srresnet + 10 back-projections")


def config(base=settings, **train):
    c = base.get_config("tiny").copy_and_resolve_references().unlock()
    c.train.update(train)
    return c


@pytest.fixture(scope="module")
def data():
    c = config()
    return input_pipeline.make_data(c, input_pipeline.prepare(c))


def evaluated(c, data, frozen=None):
    task = srgan.make_task(c)
    return judged.evaluate(c, srgan.make_upscale(c), task.init(jax.random.key(0), None), frozen or {}, data)


def test_the_rows_are_those_of_the_crops_enlarged(data):
    c = config()
    found = evaluated(c, data)
    ((name, rows),) = found.tables.items()
    assert name == "8 x 8 to 32 x 32 px (4 held-out crops)"
    assert [row["image"] for row in rows] == ["bilinear", "bicubic", "lanczos", "srresnet", *BEHIND]
    rows = {row["image"]: row for row in rows}
    high = np.concatenate([np.asarray(batch["image"]) for batch in data.batches("held_out")])[:4]
    made = np.clip(np.asarray(resize.bicubic(resize.bicubic(jnp.asarray(high), 8, 8), 32, 32)), -1, 1)
    pixels = [np.rint((one + 1) * 127.5) for one in (made, high)]
    expected = np.mean([image.psnr(a, b) for a, b in zip(*pixels, strict=True)])
    assert rows["bicubic"]["psnr_y"] == pytest.approx(expected, abs=0.02)
    assert rows["bicubic"]["psnr_y"] > rows["bilinear"]["psnr_y"] > rows["srresnet"]["psnr_y"]  # nothing is trained yet
    assert rows[BEHIND[1]]["consistency_psnr"] > rows["srresnet"]["consistency_psnr"] + 10
    assert rows["bicubic"]["resolution_unit"] == "nm" and 0.5 < rows["bicubic"]["resolution"] < 4  # a pixel is 0.25 nm, reduced 1 nm
    sharp, smooth = (rows[name]["psd_distance"] for name in ("srresnet", BEHIND[0]))
    assert sharp != smooth and rows[BEHIND[0]]["gflop"] is None
    assert rows["srresnet"]["parameters"] > 0 and rows["srresnet"]["gflop"] > 0 and rows["srresnet"]["ms"] > 0
    assert all(row["feature_distance"] is None for row in rows.values())
    assert found.score.name == "superres/psnr_y" and found.score.value == -found.scalars["superres/psnr_y"]
    assert found.scalars["superres/bicubic_psnr_y"] == rows["bicubic"]["psnr_y"]
    assert all(np.isfinite(value) for value in found.scalars.values())
    (picture,) = found.figures.values()
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.shape[1] == 8 * (32 * 6 + 4) - 4


def test_equal_images_are_perfect_and_a_planted_disc_is_invented(data):
    c = config()
    y, x = np.mgrid[:64, :64]
    disc = lambda row, column: ((y - row) ** 2 + (x - column) ** 2 < 49).astype(np.float32)  # noqa: E731 - drawn three times below
    truth = (disc(20, 20) - 0.5)[None, ..., None]
    low = np.asarray(resize.bicubic(jnp.asarray(truth), 16, 16))
    same = judged.row("same", truth, truth, low, c, data.prepared.value_map, lambda a, b: float(np.mean((a - b) ** 2)))
    assert (same["psd_distance"], same["invented"], same["lost"], same["feature_distance"], same["ssim_y"]) == (0, 0, 0, 0, 1)
    assert (
        same["consistency_psnr"] > 100
        and same["psnr_y"] == judged.MOST_DB
        and same["resolution"] == 2 * data.prepared.value_map.nm_per_pixel[1]
    )
    planted = np.clip(truth + disc(44, 44)[None, ..., None], -1, 1)
    found = judged.row("planted", planted, truth, low, c, data.prepared.value_map, None)
    assert (found["invented"], found["lost"]) == (1, 0)
    gone = judged.row("gone", np.full_like(truth, -0.5), truth, low, c, data.prepared.value_map, None)
    assert (gone["invented"], gone["lost"]) == (0, 1)


def test_adversarial_runs_are_ranked_by_features_and_every_input_size_has_a_table(data):
    c = config(srgan_stm, phase="adversarial", content_layers=("relu1_1",))
    random = np.random.default_rng(0)
    from superres import vgg

    arrays = {name: random.normal(size=shape).astype(np.float32) for name, shape in vgg.needed(("relu1_1",)).items()}
    found = evaluated(c, data, arrays)
    assert [name.partition(" to ")[0] for name in found.tables] == ["8 x 8", "12 x 12"]
    assert found.score.name == "superres/feature_distance" and found.score.value == found.scalars["superres/feature_distance"] > 0
    values = [row["psnr_y"] for rows in found.tables.values() for row in rows if row["image"] == "srgan"]
    assert found.scalars["superres/psnr_y"] == pytest.approx(np.mean(values))


def test_what_it_began_from_is_shown_only_while_it_is_the_same(data, tmp_path):
    c = config()
    task = srgan.make_task(c)
    state = task.init(jax.random.key(1), None)
    flat = flatten_dict({"generator": {"params": state.generator.params, "stats": state.generator.stats}}, sep="/")
    weights.write(tmp_path / "w.npz", {name: np.asarray(array) for name, array in flat.items()}, [])
    c = config()
    c.init_from = str(tmp_path / "w.npz")
    _, entry = weights.read(c.init_from)
    same = evaluated(c, dataclasses.replace(data, upstream=(entry,)))
    assert "before" in {row["image"] for rows in same.tables.values() for row in rows}
    other = evaluated(c, dataclasses.replace(data, upstream=({**entry, "sha256": "0"},)))
    assert "before" not in {row["image"] for rows in other.tables.values() for row in rows}
    assert "has changed since the run began from it" in other.protocol
    (tmp_path / "w.npz").unlink()
    assert "are no longer at" in evaluated(c, data).protocol
