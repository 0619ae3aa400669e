"""From files to what is trained on: groups that no split cuts through, classes, masks, and whose fault an error is."""

import cv2
import numpy as np
import pytest

from configs import dcgan
from microscopy import preparation
from microscopy.scan import DataError, FieldError


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
    assert "--config.data.masks=DIR" in str(error.value)
    with pytest.raises(FieldError, match=r"config.data.crop=41: with rotation none 24 of 24 scans are too small for 41x41 px"):
        preparation.prepare(config_of(patients, rotation="none", crop=41))


def test_levelling_that_an_image_cannot_have_names_the_file(patients):
    with pytest.raises(DataError, match=r"patient0_0.png: levelling: a height map \(h, w\) is needed"):
        preparation.prepare(config_of(patients, channels=3, levelling="plane"))
