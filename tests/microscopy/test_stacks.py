"""z-stacks: TIFFs of several pages and their masks bit by bit, the simulator's planes, short errors for what does not fit."""

import cv2
import numpy as np
import pytest

from configs import unet3d_emulsion
from microscopy import emulsion, fields, preparation, stacks
from microscopy.scan import AllRefused, DataError, FieldError
from microscopy.writing import encode_tiff_stack

RANDOM = np.random.default_rng(0)


def data(place, **changes):
    c = unet3d_emulsion.get_config("tiny").unlock()
    c.data.update({"source": f"folder:{place}", "planes": 3, **changes})
    return c


def written(folder, name, planes=3, shape=(40, 50), dtype=np.uint8):
    """Returns (stack, mask), both (planes, h, w), of the TIFFs name.tif and masks/name.tif."""
    (folder / "masks").mkdir(exist_ok=True)
    stack = RANDOM.integers(0, 200, (planes, *shape)).astype(dtype)
    mask = (RANDOM.random((planes, *shape)) > 0.9) * np.arange(1, planes + 1, dtype=np.uint16)[:, None, None]
    (folder / f"{name}.tif").write_bytes(encode_tiff_stack(stack, (300.0, 250.0)))
    cv2.imwritemulti(str(folder / "masks" / f"{name}.tif"), list(mask.astype(np.uint16)))
    return stack, mask


def test_stacks_and_their_masks_come_plane_by_plane(tmp_path):
    wanted = {name: written(tmp_path, name) for name in "abcd"}
    prepared = preparation.prepare(data(tmp_path, height=24, width=24, crop=24))
    scans = {scan.id: scan for part in prepared.splits.values() for scan in part}
    assert sorted(scans) == list("abcd") and prepared.facts["a"]["shape"] == [40, 50, 3]
    for name, (stack, _) in wanted.items():
        resized = cv2.resize(stack[1].astype(np.float32), (46, 44), interpolation=cv2.INTER_LINEAR)
        assert scans[name].pixels.shape == scans[name].mask.shape == (*resized.shape, 3)  # 300 x 250 nm become squares of 274
        assert np.corrcoef(scans[name].pixels[..., 1].ravel(), resized.ravel())[0, 1] > 0.9
        assert set(np.unique(scans[name].mask[..., 2])) == {0, 3}
    loaded, refused = stacks.load_stacks(data(tmp_path, nm_per_pixel=500.0).data)
    assert not refused and loaded[0].nm_per_pixel == (500.0, 500.0)
    assert np.array_equal(loaded[0].pixels, np.moveaxis(wanted["a"][0], 0, -1)) and loaded[0].mask.dtype == np.int32
    assert np.array_equal(loaded[0].mask, np.moveaxis(wanted["a"][1], 0, -1))


def test_a_simulated_stack_is_the_simulators_planes(monkeypatch):
    settings = emulsion.EmulsionSettings(size_px=(32, 40))
    (scan,) = emulsion.emulsion_scans(settings, 1, seed=4, num_planes=3)
    frames = emulsion.simulate_frames(settings, (4, 0), 3)
    assert np.array_equal(scan.pixels[..., 2], frames.pixels[2]) and np.array_equal(scan.mask[..., 0], frames.mask[0])
    assert scan.pixels.shape == (32, 40, 3) and scan.nm_per_pixel == (150.0, 150.0)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: written(folder, "b", planes=4), "b.tif: has 4 pages, config.data.planes is 3"),
        (lambda folder: cv2.imwrite(str(folder / "b.png"), np.zeros((9, 9), np.uint8)), "b.png: is no TIFF"),
        (lambda folder: (folder / "b.tif").write_bytes(b"II*\0" + b"\0" * 40), "b.tif"),
        (lambda folder: (written(folder, "b", shape=(30, 30)), written(folder, "c"), swap(folder, "b", "c")), "differ in size"),
        (lambda folder: (folder / "b.tif").write_bytes(nan_stack()), "b.tif.*NaN"),
        (lambda folder: cv2.imwritemulti(str(folder / "b.tif"), [np.zeros((9, 9), np.uint8)] * 2 + [np.zeros((8, 9), np.uint8)]), "page 3"),
    ],
)
def test_what_is_no_such_stack_is_told_and_with_skip_bad_left_out(tmp_path, spoil, reason):
    written(tmp_path, "a")
    spoil(tmp_path)
    with pytest.raises(DataError, match=reason) as error:
        stacks.load_stacks(data(tmp_path).data)
    assert len(str(error.value).splitlines()) <= 2
    scans, refused = stacks.load_stacks(data(tmp_path, skip_bad=True).data)
    assert scans[0].id == "a" and refused
    (tmp_path / "a.tif").write_bytes(b"none")
    (tmp_path / "c.tif").unlink(missing_ok=True)
    with pytest.raises(AllRefused, match=r"none of its 2 stacks can be read; the first: .*a\.tif: ") as none:
        preparation.prepare(data(tmp_path, skip_bad=True))
    assert len(none.value.refused) == 2 and len(str(none.value).splitlines()) == 1


def swap(folder, one, other):
    first, second = folder / "masks" / f"{one}.tif", folder / "masks" / f"{other}.tif"
    kept = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(kept)


def nan_stack():
    stack = np.zeros((3, 9, 9), np.float32)
    stack[1, 4, 4] = np.nan
    return encode_tiff_stack(stack)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("planes", -1),
        ("planes", 300),
        ("plane_nm", -1.0),
        ("source", "simulated"),
        ("channels", 3),
        ("levelling", "plane"),
        ("channel", "Z"),
        ("margins", (1, 0, 0, 0)),
        ("boundary_weight", 5.0),
    ],
)
def test_a_field_that_is_not_for_stacks_is_named(field, value):
    with pytest.raises(FieldError, match=f"config.data.{field}="):
        fields.check(data("somewhere", **{field: value}))


def test_configs_without_the_field_are_of_images():
    c = data("somewhere", planes=1)
    assert fields.num_planes(c.data) == 0
    del c.data.planes
    assert fields.num_planes(c.data) == 0
    fields.check(c)
