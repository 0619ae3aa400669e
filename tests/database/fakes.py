"""Stand-ins that several tests share: facts, a generator of smooth noise by index, and what a database of them is made with."""

import json

import cv2
import jax
import numpy as np

import resize
from database import catalogue, gates, making, recipe
from microscopy import preparation
from microscopy.normalisation import ValueMap
from microscopy.thresholds import split_touching
from training import checkpoints, lineage
from training import workdir as workdirs

SIZE, SMALL = 48, 24
NUM = 130
"""Images of the database that the fixture `chain` has."""


def facts(num_images=100, unit="nm", **changes):
    nm = 2.5 if unit == "nm" else None
    value_map = ValueMap(-1.5, 6.5, unit, (0.0, 0.0), nm and (2 * nm, 2 * nm), "" if unit == "nm" else "uint8")
    found = {
        "format_version": 1,
        "num_images": num_images,
        "seed": 3,
        "size": [SIZE, SIZE],
        "unit": unit,
        "nm_per_pixel": nm,
        "value_map": value_map.__dict__,
        "generator": {"workdir": "../dcgan", "step": 7, "weights_sha256": "a" * 64, "config_sha256": "b" * 64},
        "upscaler": "bilinear",
        "labels": {"origin": "generated field", "kind": "distance"},
        "held_out": 0.2,
        "gate": None,
        "sources": [{"id": f"scan{n}", "file": f"scans/scan{n}.png", "sha256": f"{n}" * 64} for n in range(3)],
        "environment": recipe.environment(),
    }
    return found | changes


def chunk(number):
    """64 images of smooth noise and their fields, each a function of its index."""
    noise = [np.random.default_rng(64 * number + i).normal(size=(SMALL, SMALL)) for i in range(64)]
    images = np.stack([cv2.GaussianBlur(one, (0, 0), 2.0) * 4 for one in noise]).astype(np.float32).clip(-1, 1)
    return images[..., None], np.tanh(images - 0.2)


def made_by(unit="nm", generator=chunk):
    value_map = ValueMap(**facts(unit=unit)["value_map"])
    upscale = lambda images: resize.bilinear(images, SIZE, SIZE)  # noqa: E731
    return making.Recipe(generator, upscale, value_map, lambda field: split_touching(field > 0), "generated field")


def judge(images):
    """Calls every image whose first pixel is high a copy."""
    similarity = images[:, 0, 0, 0].astype(np.float64)
    return gates.Judged(similarity, ["scan1"] * len(images), similarity > 0.4)


def hashes(folder):
    """File within the folder -> content of everything there."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def saved(folder, config, task):
    """A workdir as the loop leaves it at step 2, of random weights."""
    folder.mkdir()
    prepared = preparation.prepare(config)
    workdirs.describe(folder, config, prepared.value_map)
    lineage.write(folder, prepared.splits, [])
    state = task.init(jax.random.key(2), None)
    checkpoints.save(folder, 2, task.settle(state) if task.settle else state)


def run(capsys, *words):
    """(exit code, stdout, stderr) of a command."""
    code = catalogue.main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert len(err.splitlines()) <= 5
    return code, out, err


def train_scans(folder):
    """The scans of a chain's lineage by split."""
    found = json.loads((folder / "dcgan" / "lineage.json").read_text())["scans"]
    return {split: [scan for scan in found if scan["split"] == split] for split in ("train", "held_out", "test")}
