"""Masks come to lie on their images whatever frame and size they were scanned with; what cannot be a pair is named, nothing overwritten."""

import cv2
import numpy as np
import pytest

from microscopy import alignment
from microscopy.folder import read_folder
from tools import prepare_fission_tracks as prepare

SIZE = (240, 320)


def tracks(seed):
    """Slanted bars, bool (240, 320), some of them across the border."""
    random, mask = np.random.default_rng(seed), np.zeros(SIZE, np.uint8)
    for y, x in random.uniform((0, 0), SIZE, (14, 2)):
        turn = random.uniform(0, np.pi)
        end = (int(x + 40 * np.cos(turn)), int(y + 40 * np.sin(turn)))
        cv2.line(mask, (int(x), int(y)), end, 1, 9)
    return mask > 0


def micrograph(mask, seed):
    grey = cv2.GaussianBlur(np.where(mask, 60.0, 170.0), (0, 0), 1.0) + np.random.default_rng(seed).normal(0, 4, mask.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


def scanned(mask, frame, zoom=0.6):
    """The mask as a printed one was scanned: white margins of `frame` px (top, right, bottom, left) around it, reduced and blurred."""
    top, right, bottom, left = frame
    page = cv2.copyMakeBorder(mask.astype(np.float32) * 255, top, bottom, left, right, cv2.BORDER_CONSTANT, value=255)
    size = tuple(round(side * zoom) for side in page.shape[::-1])
    return cv2.resize(page, size, interpolation=cv2.INTER_AREA).round().astype(np.uint8)


@pytest.fixture
def source(tmp_path):
    for folder in ("image", "mask"):
        (tmp_path / "set" / folder).mkdir(parents=True)
    frames = {"fig1": None, "fig2": (2, 2, 2, 2), "fig4": (7, 8, 2, 3), "fig5": (1, 4, 6, 0)}
    for seed, (name, frame) in enumerate(frames.items()):
        mask = tracks(seed)
        cv2.imwrite(str(tmp_path / "set" / "image" / f"{name}.png"), micrograph(mask, seed))
        cv2.imwrite(str(tmp_path / "set" / "mask" / f"{name}.png"), mask * np.uint8(255) if frame is None else scanned(mask, frame))
    return tmp_path / "set"


def run(source, output):
    return prepare.main(["", f"--input={source}", f"--output={output}"])


def test_masks_lie_on_their_images_and_the_frame_is_gone(source, tmp_path, capsys):
    assert run(source, tmp_path / "out") == 0
    assert "8 files written, 0 were there" in capsys.readouterr().out
    scans, refused = read_folder(tmp_path / "out", max_pixels=10**6)
    assert [scan.id for scan in scans] == list(prepare.NAMES) and not refused
    for seed, scan in enumerate(scans):
        found, true = scan.mask > 0, tracks(seed)
        assert scan.pixels.ndim == 2 and found.shape == SIZE == scan.pixels.shape
        assert (found & true).sum() / (found | true).sum() > (0.999 if seed == 0 else 0.93)
        border = np.concatenate([(found & ~true)[rows] for rows in (0, -1)] + [(found & ~true)[:, columns] for columns in (0, -1)])
        assert border.mean() < 0.02
        moves = alignment.agreement(scan.pixels, scan.mask, 6)
        assert np.abs(np.subtract(np.unravel_index(moves.argmax(), moves.shape), 6)).max() <= 1


def test_the_same_again_writes_what_is_missing_and_others_are_refused_untouched(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert run(source, output) == 0
    (output / "images" / "fig2.png").unlink()
    assert run(source, output) == 0
    assert "1 files written, 7 were there" in capsys.readouterr().out
    other = output / "images" / "masks" / "fig5.png"
    cv2.imwrite(str(other), np.zeros(SIZE, np.uint8))
    before = other.read_bytes()
    (output / "images" / "fig1.png").unlink()
    assert run(source, output) == 1
    assert "fig5.png: exists and is another" in capsys.readouterr().err
    assert other.read_bytes() == before and not (output / "images" / "fig1.png").exists()
    other.unlink()
    cv2.imwrite(str(output / "images" / "mine.tif"), np.zeros(SIZE, np.uint8))
    assert run(source, output) == 1
    assert "mine.tif: is none of the prepared files" in capsys.readouterr().err


def damage(source, fault):
    image, mask = source / "image" / "fig4.png", source / "mask" / "fig4.png"
    grey = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    if fault == "missing":
        mask.unlink()
    elif fault == "damaged":
        image.write_bytes(image.read_bytes()[:900])
    elif fault == "inverted":
        cv2.imwrite(str(mask), 255 - grey)
    elif fault == "another's":
        cv2.imwrite(str(mask), grey[:, :150])
    elif fault == "empty":
        cv2.imwrite(str(mask), np.zeros(SIZE, np.uint8))
    elif fault == "16 bits":
        cv2.imwrite(str(image), np.zeros(SIZE, np.uint16))
    elif fault == "instances":
        cv2.imwrite(str(mask), grey.astype(np.uint16) * 9)


FAULTS = {
    "missing": "mask/fig4.png: cannot be read",
    "damaged": "image/fig4.png: ",
    "inverted": "mask/fig4.png: bright 8 px from its border",
    "another's": "mask/fig4.png: height / width",
    "empty": "mask/fig4.png: white on 0% of it",
    "16 bits": "image/fig4.png: holds uint16",
    "instances": "mask/fig4.png: holds values up to 2295",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_pair_is_named_in_one_line_before_anything_is_written(source, tmp_path, capsys, fault):
    damage(source, fault)
    assert run(source, tmp_path / "out") == 1
    told = capsys.readouterr().err.strip()
    assert FAULTS[fault] in told and "\n" not in told and not (tmp_path / "out").exists()


def test_flags_and_folders_that_cannot_be_are_told(tmp_path, capsys):
    assert prepare.main(["", f"--input={tmp_path}"]) == 2
    assert run(tmp_path / "nowhere", tmp_path / "out") == 1
    assert "no such folder" in capsys.readouterr().err


def test_the_real_masks_lie_on_dark_tracks_and_fit_unmoved(real_data, tmp_path):
    if not (real_data / "fission-tracks").is_dir():
        pytest.skip(f"no fission-tracks in {real_data}: see docs/data.md")
    assert run(real_data / "fission-tracks", tmp_path / "out") == 0
    scans, _ = read_folder(tmp_path / "out", max_pixels=10**7)
    assert [scan.pixels.shape for scan in scans] == [(909, 668), (649, 445), (575, 766), (575, 766)]
    for scan in scans:
        mask = scan.mask > 0
        assert 0.02 < mask.mean() < 0.08 and scan.pixels[mask].mean() + 40 < scan.pixels[~mask].mean()
        assert max(line.mean() for line in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) < 0.15
        moves = alignment.agreement(scan.pixels, scan.mask)
        assert np.abs(np.subtract(np.unravel_index(moves.argmax(), moves.shape), alignment.REACH)).max() <= 1
