"""From files to what is trained on: groups, classes, masks, pixel sizes, and whose fault an error is."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from configs import dcgan
from microscopy import fields, other_scans, preparation, spectra
from microscopy.normalisation import split_fold
from microscopy.scan import DataError, FieldError, Refused, Scan


def write(path, seed, shape=(40, 44)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8))


def config_of(folder, **changes):
    config = dcgan.config("test", 16, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{folder}", "crop": 16, **changes})
    return config


@pytest.fixture
def patients(tmp_path):
    for number in range(24):
        write(tmp_path / f"patient{number // 4}_{number % 4}.png", number)
    return tmp_path


def test_no_split_cuts_through_a_group(patients):
    for seed in range(5):
        config = config_of(patients, group_by=r"^(patient\d+)_", held_out=0.2, test=0.2)
        config.seed = seed
        splits = preparation.prepare(config).splits
        groups = {name: {scan.id.split("_")[0] for scan in part} for name, part in splits.items()}
        assert {name: (len(part), len(groups[name])) for name, part in splits.items()} == {
            "train": (16, 4),
            "held_out": (4, 1),
            "test": (4, 1),
        }
        assert len(set.union(*groups.values())) == 6
        assert all(scan.group == scan.id.split("_")[0] for part in splits.values() for scan in part)
    parts = preparation.prepare(config_of(patients, held_out=0.2, test=0.2)).splits
    assert len({scan.id.split("_")[0] for scan in parts["train"]} & {scan.id.split("_")[0] for scan in parts["held_out"]})


def test_a_fold_is_a_block_of_neighbours_by_number():
    pixels = np.zeros((4, 4), np.uint8)
    scans = [Scan(f"slice{i}", pixels, str(i)) for i in (10, 2, 1, 0, 9, 3, 11)]
    folds = [split_fold(scans, number, 3) for number in (1, 2, 3)]
    assert [{scan.id for scan in fold["held_out"]} for fold in folds] == [
        {"slice0", "slice1", "slice2"},
        {"slice3", "slice9"},
        {"slice10", "slice11"},
    ]
    assert all(len(fold["train"]) + len(fold["held_out"]) == 7 and not fold["test"] for fold in folds)
    stack = [dataclasses.replace(scan, group="a" if i < 4 else "b") for i, scan in enumerate(scans)]
    assert {scan.group for scan in split_fold(stack, 2, 2)["held_out"]} == {"b"}
    with pytest.raises(FieldError, match="7 scans or groups cannot be cut into 8 blocks"):
        split_fold(scans, 1, 8)
    odd = [dataclasses.replace(scan, id=f"{scan.id} m\u00b2") for scan in scans]  # a digit, but no number
    assert sum(len(part) for part in split_fold(odd, 1, 3).values()) == 7


@pytest.mark.parametrize("text", ["5/4", "0/3", "1/1", "2", "2/x", "-1/4"])
def test_a_fold_that_cannot_be_is_named(text):
    with pytest.raises(FieldError, match="config.data.fold"):
        fields.fold_of(text)


@pytest.mark.parametrize("pattern", [r"^(patient[0-4])_", r"^patient(?:([0-4])|5)_"])
def test_a_scan_without_a_group_is_named(patients, pattern):
    with pytest.raises(FieldError, match=r"config.data.group_by=.*: 4 of 24 scans have no such part, the first is patient5_0\."):
        preparation.prepare(config_of(patients, group_by=pattern))


def test_the_part_of_an_id_with_its_class_can_be_the_group(tmp_path):
    for name in ("dot/a1", "dot/a2", "wire/a1", "wire/b1"):
        write(tmp_path / f"{name}.png", 0)
    prepared = preparation.prepare(config_of(tmp_path, group_by="/([a-z])", held_out=0.0, test=0.0))
    assert {scan.id: scan.group for scan in prepared.splits["train"]} == {"dot/a1": "a", "dot/a2": "a", "wire/a1": "a", "wire/b1": "b"}
    assert prepared.classes == ("dot", "wire") and preparation.classes(prepared) == {"dot": 2, "wire": 2}


def test_missing_masks_and_crops_too_large_are_the_fields_fault(patients):
    write(patients / "masks" / "patient0_0.png", 0)
    with pytest.raises(
        FieldError, match=r"config.data.use_masks=True: 23 of 24 scans have no mask, the first is .*patient0_1.png"
    ) as error:
        preparation.prepare(config_of(patients, use_masks=True))
    assert "--config.data.masks=PLACE" in str(error.value)
    with pytest.raises(FieldError, match=r"config.data.label_field=distance: 23 of 24 scans have no mask, the first is .*patient0_1.png"):
        preparation.prepare(config_of(patients, label_field="distance"))
    with pytest.raises(FieldError, match=r"config.data.crop=41: with rotation none 24 of 24 scans are too small for 41 x 41 px"):
        preparation.prepare(config_of(patients, rotation="none", crop=41))


def test_held_out_scans_of_another_folder_need_masks_where_labels_are_drawn(patients, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    write(other / "new.png", 99)
    for number in range(24):
        write(patients / "masks" / f"patient{number // 4}_{number % 4}.png", number)
    config = config_of(patients, label_field="distance")
    prepared = preparation.prepare(config)
    with pytest.raises(DataError, match="label_field=distance: 1 of 1 scans have no mask(.|\n)*Put them into its folder masks"):
        other_scans.with_held_out(config, prepared, str(other))
    write(other / "masks" / "new.png", 100)
    assert [scan.id for scan in other_scans.with_held_out(config, prepared, str(other)).splits["held_out"]] == ["new"]


def test_levelling_that_an_image_cannot_have_names_the_file(patients):
    with pytest.raises(DataError, match=r"patient0_0.png: levelling: a height map \(h, w\) is needed"):
        preparation.prepare(config_of(patients, channels=3, levelling="plane"))


WAVELENGTH = 20.0


def waves(name, nm, seed=0, height_nm=120.0, width_nm=140.0, channels=None):
    """A grating of 20 nm in noise, sampled at `nm` (y, x) per pixel."""
    y, x = (np.arange(round(side / step)) * step for side, step in zip((height_nm, width_nm), nm, strict=True))
    noise = np.random.default_rng([seed, *name.encode()]).normal(0, 0.1, (len(y), len(x)))
    pixels = (np.sin(2 * np.pi * (0.6 * y[:, None] + 0.8 * x[None]) / WAVELENGTH) + noise).astype(np.float32)
    ids = np.arange(pixels.size, dtype=np.int32).reshape(pixels.shape)
    return Scan(name, pixels, f"sha{name}", file=f"scans/{name}.sxm", unit="nm", nm_per_pixel=nm, channel="Z", mask=ids)


def prepared_of(monkeypatch, scans, **changes):
    monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
    return preparation.prepare(config_of("x", **{"levelling": "none", "crop": 0, "held_out": 0.0, "test": 0.0, **changes}))


MIXED = [waves("a", (0.5, 0.5)), waves("b", (0.5, 0.5)), waves("c", (1.0, 1.0)), waves("d", (0.25, 0.5)), waves("e", (0.5, 0.5))]


def test_mixed_pixel_sizes_come_to_one_and_a_wave_keeps_its_length(monkeypatch):
    prepared = prepared_of(monkeypatch, MIXED)
    assert [scan.nm_per_pixel for scan in prepared.splits["train"]] == [(0.5, 0.5)] * 5
    assert [scan.pixels.shape for scan in prepared.splits["train"]] == [(240, 280)] * 5
    for scan, stored in zip(prepared.splits["train"], MIXED, strict=True):
        frequency, power = spectra.radial_psd(scan.pixels[None], 0.5)
        assert abs(frequency[np.argmax(power)] - 1 / WAVELENGTH) <= frequency[1]
        facts = prepared.facts[scan.id]
        assert facts["nm_per_pixel"] == list(stored.nm_per_pixel) and facts["shape"] == list(stored.pixels.shape)
        assert (facts["min"], facts["max"]) == (stored.pixels.min(), stored.pixels.max())
        factor = [step / 0.5 for step in stored.nm_per_pixel]
        assert facts["resampling"] == {"nm_per_pixel": 0.5, "factor": factor, "shape": [240, 280]}
        untouched = [np.shares_memory(scan.pixels, stored.pixels), np.shares_memory(scan.mask, stored.mask)]
        assert untouched == [factor == [1.0, 1.0]] * 2
    assert json.loads(json.dumps(prepared.facts)) == prepared.facts
    assert prepared.crop == (int(240 / 2**0.5),) * 2  # of the resampled scans
    assert prepared.value_map.nm_per_pixel == (0.5 * prepared.crop[0] / 16, 0.5 * prepared.crop[1] / 16)


def test_scans_of_one_scale_are_untouched_and_another_can_be_asked_for(monkeypatch):
    scans = [waves(name, (0.5, 0.5)) for name in "abc"]
    untouched = prepared_of(monkeypatch, scans).splits["train"]
    assert all(np.array_equal(one.pixels, other.pixels) for one, other in zip(untouched, scans, strict=True))
    prepared = prepared_of(monkeypatch, MIXED, resample_nm=1.0)
    assert {scan.pixels.shape for scan in prepared.splits["train"]} == {(120, 140)}
    assert prepared.facts["a"]["resampling"]["factor"] == [0.5, 0.5] and np.array_equal(prepared.splits["train"][2].pixels, MIXED[2].pixels)
    assert prepared.value_map.nm_per_pixel[0] == prepared.crop[0] / 16


def test_the_scale_is_the_median_of_the_training_scans_alone(monkeypatch):
    scans = [waves(f"coarse{i}", (1.0, 1.0), group) for i, group in enumerate(range(4))] + [waves(f"fine{i}", (0.5, 0.5)) for i in range(4)]
    for seed in range(3):
        monkeypatch.setattr(preparation, "load_scans", lambda data: (list(scans), []))
        config = config_of("x", levelling="none", crop=0, held_out=0.4, test=0.0)
        config.seed = seed
        prepared = preparation.prepare(config)
        trained = sorted(prepared.facts[scan.id]["nm_per_pixel"][0] for scan in prepared.splits["train"])
        assert len(trained) == 5
        assert {scan.nm_per_pixel for part in prepared.splits.values() for scan in part} == {(trained[2], trained[2])}


def test_the_few_scans_without_a_scale_are_left_out_by_name_and_many_are_an_error(monkeypatch):
    lost = Scan("lost", MIXED[0].pixels, "sha", file="scans/lost.npy", unit="nm")
    prepared = prepared_of(monkeypatch, [lost, *MIXED])
    assert prepared.refused == [Refused("scans/lost.npy", "states no nm per pixel, other scans do", misfit=True)]
    assert "lost" not in prepared.facts and len(prepared.facts) == len(MIXED)
    many = [dataclasses.replace(lost, id=f"lost{i}") for i in range(len(MIXED) + 1)]
    with pytest.raises(DataError, match=r"scans/lost.npy: states no nm per pixel, scans/a.sxm does \(6 of 11 scans do not\)") as error:
        prepared_of(monkeypatch, [*many, *MIXED])
    assert "config.data.select=FILE" in str(error.value) and len(str(error.value).splitlines()) <= 5


def test_the_fewer_of_photographs_and_heights_are_left_out_by_name(monkeypatch):
    photograph = Scan("photo", np.arange(40000, dtype=np.uint16).reshape(200, 200), "sha", file="scans/photo.png")
    prepared = prepared_of(monkeypatch, [photograph, *MIXED])
    assert prepared.refused == [Refused("scans/photo.png", "holds grey levels without a unit, other scans heights in nm", misfit=True)]
    many = [dataclasses.replace(photograph, id=str(i)) for i in range(len(MIXED) + 1)]
    prepared = prepared_of(monkeypatch, [*many, *MIXED])
    assert sorted(item.file for item in prepared.refused) == sorted(scan.file for scan in MIXED)


def test_the_few_scans_too_small_for_a_crop_are_left_out_by_name_and_do_not_shrink_the_others_crops(monkeypatch):
    small = waves("small", (0.5, 0.5), height_nm=10, width_nm=10)
    config = {"rotation": "free"}
    alone, prepared = prepared_of(monkeypatch, MIXED, **config), prepared_of(monkeypatch, [small, *MIXED], **config)
    assert prepared.crop == alone.crop and prepared.refused[0].misfit
    assert prepared.refused[0].reason == "has 20 x 20 px at 0.5 nm per pixel: too small for crops of 16 px at every angle"
    assert prepared_of(monkeypatch, [small, dataclasses.replace(small, id="two")], **config).crop == (
        14,
        14,
    )  # all are small: none is left out


def test_a_scale_can_only_be_asked_for_where_one_is_stated(monkeypatch):
    lost = Scan("lost", MIXED[0].pixels, "sha", file="scans/lost.npy")
    with pytest.raises(FieldError, match="config.data.resample_nm=0.5: no scan states its nm per pixel"):
        prepared_of(monkeypatch, [lost], resample_nm=0.5)


def test_a_scale_too_far_from_the_others_is_left_out_by_name_and_many_are_an_error(monkeypatch):
    far = waves("far", (20.0, 20.0), height_nm=2000, width_nm=2000)
    prepared = prepared_of(monkeypatch, [*MIXED, far])
    assert [scan.id for scan in prepared.splits["train"]] == list("abcde") and list(prepared.facts) == list("abcde")
    assert prepared.refused[0].file == "scans/far.sxm" and prepared.refused[0].reason.startswith("has 20 nm per pixel")
    with pytest.raises(DataError, match=r"scans/a.sxm: has 0.5 nm per pixel, the set is trained at 1000: more than 16 times apart"):
        prepared_of(monkeypatch, [*MIXED, far], resample_nm=1000.0)


def test_the_scale_is_that_of_the_scans_trained_on_in_the_end_whatever_was_left_out(monkeypatch):
    random = np.random.default_rng(0)
    for seed in range(12):
        scales = random.choice([0.3, 0.5, 0.8, 1.0, 20.0, 30.0], 9)
        scans = [waves(f"s{i}", (nm, nm), height_nm=60 * nm / 0.5, width_nm=60 * nm / 0.5) for i, nm in enumerate(scales)]
        monkeypatch.setattr(preparation, "load_scans", lambda data, scans=scans: (list(scans), []))
        config = config_of("x", levelling="none", crop=0, held_out=0.2, test=0.2)
        config.seed = seed
        try:
            prepared = preparation.prepare(config)
        except DataError:  # no more of one scale than of the other
            continue
        stored = sorted(prepared.facts[scan.id]["nm_per_pixel"][0] for scan in prepared.splits["train"])
        assert prepared.splits["train"][0].nm_per_pixel[0] == stored[(len(stored) - 1) // 2]


def test_one_scan_with_units_among_photographs_is_the_misfit(monkeypatch):
    photographs = [Scan(str(i), np.random.default_rng(i).integers(256, size=(90, 90), dtype=np.uint8), str(i)) for i in range(7)]
    prepared = prepared_of(monkeypatch, [MIXED[0], *photographs])
    assert [item.reason for item in prepared.refused] == ["holds heights in nm, other scans grey levels without a unit"]


def test_kinds_are_compared_over_all_splits(monkeypatch):
    scans = [Scan(str(i), np.random.default_rng(i).integers(256, size=(40, 40), dtype=np.uint8), str(i)) for i in range(9)]
    deep = Scan("deep", scans[0].pixels.astype(np.uint16), "deep", file="deep.tif")
    for seed in range(4):
        monkeypatch.setattr(preparation, "load_scans", lambda data: ([*scans, deep], []))
        config = config_of("x", held_out=0.4)
        config.seed = seed
        prepared = preparation.prepare(config)
        assert prepared.refused == [Refused("deep.tif", "is stored as uint16, other scans as uint8", misfit=True)]
    monkeypatch.setattr(preparation, "load_scans", lambda data: (scans + [dataclasses.replace(deep, id=f"deep{i}") for i in range(9)], []))
    assert len(preparation.prepare(config).facts) == 9  # of two equal halves the first type by name, the others are told


def test_messages_tell_the_area_in_nm_where_it_is_known(monkeypatch):
    with pytest.raises(FieldError, match=r"too small for 200 x 200 px: scans/a.sxm \(280 x 240 px, 140 x 120 nm\), scans/b"):
        prepared_of(monkeypatch, MIXED, crop=200)


def test_the_simulated_emulsion_is_a_source_of_photographs_with_masks():
    config = config_of("", source="emulsion", num_simulated=1, use_masks=True, crop=64, held_out=0.0)
    prepared = preparation.prepare(config)
    (scan,) = prepared.splits["train"]
    assert scan.id == "emulsion_000" and scan.pixels.shape == scan.mask.shape == (1024, 1280) and scan.pixels.dtype == np.uint8
    assert prepared.facts[scan.id]["levelling"] == {"method": "none"} and scan.nm_per_pixel == (150.0, 150.0) and scan.mask.max() > 5


def test_the_simulated_cells_are_a_source_in_colour_of_four_classes_split_by_patient():
    config = config_of("", source="cells", num_simulated=30, use_masks=True, crop=128, rotation="none", channels=3, held_out=0.3, test=0.2)
    prepared = preparation.prepare(config)
    assert prepared.classes == ("elongated", "kidney", "lobed", "round") and preparation.classes(prepared).keys() == set(prepared.classes)
    patients = {name: {scan.group for scan in part} for name, part in prepared.splits.items()}
    assert {name: len(found) for name, found in patients.items()} == {"train": 3, "held_out": 2, "test": 1}
    assert len(set.union(*patients.values())) == 6
    assert {scan.pixels.shape for part in prepared.splits.values() for scan in part} == {(128, 128, 3)}


def test_white_blood_cells_come_with_classes_from_their_table_at_one_size(real_data):
    folder = real_data / "wbc-cytology"
    fields = {"labels": str(folder / "labels.csv"), "classes": "1,2,3,4", "canvas": 120, "pad": "border", "crop": 120, "rotation": "none"}
    config = config_of(folder, channels=3, held_out=0.74, test=0.0, **fields)
    prepared = preparation.prepare(config)
    assert preparation.classes(prepared) == {"1": 176, "2": 53, "3": 48, "4": 22}
    assert {name: len(part) for name, part in prepared.splits.items()} == {"train": 78, "held_out": 221, "test": 0}
    assert {scan.pixels.shape for part in prepared.splits.values() for scan in part} == {(120, 120, 3)}


def test_held_out_scans_of_another_folder_are_stored_as_the_runs(patients, tmp_path_factory):
    deep = tmp_path_factory.mktemp("deep")
    assert cv2.imwrite(str(deep / "new.png"), np.random.default_rng(0).integers(65536, size=(40, 44), dtype=np.uint16))
    config = config_of(patients)
    with pytest.raises(DataError, match="the scans store uint16, the run was trained on uint8; store them as its scans were"):
        other_scans.with_held_out(config, preparation.prepare(config), str(deep))
