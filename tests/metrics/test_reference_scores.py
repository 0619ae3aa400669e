"""FID, KID and MiFID from pixels against the numbers of other codes: all pairs of a reference extractor, and torchmetrics' printed ones."""

import csv
import json

import cv2
import numpy as np
import pytest

from metrics import fid, inception, inception_table, kid, neighbours, weights

TAPS = ("64", "192", "768")


@pytest.fixture(scope="module")
def expected(real_data):
    file = real_data / "fid-reference" / "expected.json"
    if not file.is_file():
        pytest.skip(f"no reference numbers at {file}")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def staged(real_data):
    folder = real_data / "inception-fid-weights"
    if not folder.is_dir():
        pytest.skip(f"no weights at {folder}")
    return weights.load(str(folder / "inception_v3_2015_12_05_bnfolded_to_mixed7a.npz"))


def read(folder):
    """Returns the images of a folder by name, (h, w, 3) as stored."""
    if not folder.is_dir():
        pytest.skip(f"no images at {folder}")
    return {path.stem: np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in sorted(folder.glob("*.png"))}


@pytest.fixture(scope="module")
def sets(real_data, staged):
    """Returns {name of a set in the pairs: {tap: features}}; every image goes through the network once."""
    cells = read(real_data / "wbc-cytology" / "images")
    stacks = [read(real_data / "isbi2012-em" / part / "image") for part in ("train", "test")]
    images = [*cells.values(), *stacks[0].values(), *stacks[1].values()]
    assert [len(part) for part in (cells, *stacks)] == [300, 20, 30]
    features = inception.make_features(staged, TAPS)(images)
    with open(real_data / "wbc-cytology" / "labels.csv") as file:
        label = {int(row["image ID"]): int(row["class label"]) for row in csv.DictReader(file)}
    number = np.array([int(name) for name in cells])
    kind = np.array([label[each] for each in number])
    chosen = {"odd_ids": np.flatnonzero(number % 2), "even_ids": np.flatnonzero(number % 2 == 0), "wbc all": np.arange(300)}
    chosen |= {name: np.flatnonzero(kind == place) for name, place in (("neutrophil(1)", 1), ("lymphocyte(2)", 2), ("monocyte(3)", 3))}
    chosen |= {"isbi train[0..19]": np.arange(300, 320), "isbi test[0..29]": np.arange(320, 350)}
    return {name: {tap: features[tap][rows] for tap in TAPS} for name, rows in chosen.items()}


PAIRS = [
    ("wbc odd_ids vs even_ids", "odd_ids", "even_ids"),
    ("wbc neutrophil(1) vs lymphocyte(2)", "neutrophil(1)", "lymphocyte(2)"),
    ("wbc neutrophil(1) vs monocyte(3)", "neutrophil(1)", "monocyte(3)"),
    ("isbi train[0..19] vs isbi test[0..29]", "isbi train[0..19]", "isbi test[0..29]"),
    ("wbc all vs isbi train[0..19]", "wbc all", "isbi train[0..19]"),
]


def test_every_pair_of_the_reference_is_here(expected):
    assert [name for name, *_ in PAIRS] == list(expected["pairs"])


@pytest.mark.parametrize(("name", "first", "second"), PAIRS)
def test_scores_of_real_images_are_the_references(expected, sets, name, first, second):
    for tap in TAPS:
        real, generated = sets[first][tap].astype(float), sets[second][tap].astype(float)
        wanted = expected["pairs"][name]
        assert fid.frechet_distance(real, generated) == pytest.approx(wanted[f"fid_{tap}"], rel=1e-4, abs=1e-5)
        # A KID near 0 is a difference of means of the kernel: its digits are theirs.
        scale = sum((((rows**2).mean(axis=1) + 1) ** 3).mean() for rows in (real, generated))
        assert kid.kernel_distance(real, generated) == pytest.approx(wanted[f"kid_{tap}"], rel=0, abs=1e-6 * scale)


def noise(torch, seed, network_built):
    """Returns the two sets of 100 images of torchmetrics' docstrings, as uint8 (n, h, w, 3).

    There the reference extractor is built between seed and images, and what its layers begin with is drawn from the generator.
    """
    torch.manual_seed(seed)
    if network_built:
        shapes = inception.layers(inception.TAPS)
        for name in inception_table.construction_order():
            height, width, channels, features = shapes[f"{name}/kernel"]
            torch.nn.Conv2d(channels, features, (height, width), bias=False)
        torch.nn.Linear(2048, 1008)
    sets = [torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8) for low, high in ((0, 200), (100, 255))]
    return [images.numpy().transpose(0, 2, 3, 1) for images in sets]


@pytest.mark.parametrize(("seed", "network_built"), [(123, False), (123, True), (42, True)])
def test_scores_of_noise_are_those_torchmetrics_prints(expected, staged, seed, network_built):
    torch = pytest.importorskip("torch", reason="needs PyTorch's generator")
    real, generated = (inception.features(staged, images, ("64",))["64"] for images in noise(torch, seed, network_built))
    distance = fid.frechet_distance(real, generated)
    if not network_built:
        assert distance == pytest.approx(expected["computed_plain_seed"][f"seed_{seed}"]["fid_64"], rel=1e-6)
        return
    cases = [case for case in expected["published"] if case["seed"] == seed]
    assert len(cases) == (2 if seed == 42 else 1)
    for case in cases:
        memorised = "Memorization" in case["source"]
        found = neighbours.mifid(real, generated) if memorised else distance
        assert found == pytest.approx(case["published"], rel=5e-5)
        assert found == pytest.approx(case["got_with_staged_weights"], rel=1e-6)
