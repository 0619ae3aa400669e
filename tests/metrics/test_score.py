"""The command line of scores: public reference values from pixels, pairs, JSON, and short errors."""

import json
import shutil

import cv2
import numpy as np
import pytest

from metrics import overlap, score

WEIGHTS = "inception_v3_2015_12_05_bnfolded_to_mixed7a.npz"


def scored(tmp_path, *words):
    code = score.main([*map(str, words), f"--json={tmp_path / 'out.json'}"])
    assert code == 0
    return json.loads((tmp_path / "out.json").read_text())


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def odd_even(real_data, tmp_path_factory):
    """Every fourth cell image, odd and even ids, as the reference pair is cut, but smaller."""
    folders = [tmp_path_factory.mktemp(name) for name in ("odd", "even")]
    for number, path in enumerate(sorted((real_data / "wbc-cytology" / "images").iterdir())[:48]):
        shutil.copy(path, folders[number % 2])
    return folders


def test_fid_and_kid_from_pixels_are_those_of_the_stored_reference_features(real_data, odd_even, tmp_path, capsys):
    from metrics import fid, kid

    stored = np.load(real_data / "fid-reference" / "features_wbc_001_064.npz")["f192"][:48]
    weights = real_data / "inception-fid-weights" / WEIGHTS
    found = scored(tmp_path, *odd_even, "--metrics=fid,kid,prdc", "--features=192", f"--weights={weights}")
    assert found["fid"]["value"] == pytest.approx(fid.frechet_distance(stored[0::2], stored[1::2]), rel=1e-4)
    assert found["kid"]["whole"] == pytest.approx(kid.kernel_distance(stored[0::2], stored[1::2]), abs=1e-3)
    assert found["fid"]["n_real"] == found["fid"]["n_generated"] == 24 and found["fid"]["features"] == "192"
    assert found["fid"]["rank"] == 23 and not found["fid"]["interval_calibrated"] and found["fid"]["floor_n"] == 12
    assert 0 < found["kid"]["p_value"] <= 1 and found["prdc"]["precision"] > 0.5
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("fid "))
    assert line.split()[-9:] == ["24", "23", "192", "tf1", "covariance", "by", "N", "-", "1"] and "* not calibrated" in printed
    assert "fid: cannot be told from real against real" in printed and not found["fid"]["differs"] and not found["kid"]["differs"]
    for place, half in zip("ab", (stored[0::2], stored[1::2]), strict=True):
        np.save(tmp_path / f"{place}.npy", half)
    again = scored(tmp_path, tmp_path / "a.npy", tmp_path / "b.npy", "--metrics=fid,kid,prdc")
    assert again["fid"]["value"] == pytest.approx(found["fid"]["value"], rel=1e-4) and again["fid"]["resize"] == "as given"


def test_the_surface_card_needs_no_weights_and_sees_a_blur(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("real", "same", "blurred"):
        (tmp_path / name).mkdir()
        for i in range(12):
            image = cv2.GaussianBlur(random.normal(size=(48, 48)).astype(np.float32), (0, 0), 2 if name == "blurred" else 1)
            np.save(tmp_path / name / f"{i}.npy", image / image.std())
    same = scored(tmp_path, tmp_path / "real", tmp_path / "same", "--metrics=surface")["surface"]
    blurred = scored(tmp_path, tmp_path / "real", tmp_path / "blurred", "--metrics=surface")["surface"]
    assert blurred["value"] > 2 * same["value"] and blurred["p_value"] < 0.05 < same["p_value"] and same["n_real"] == 12
    assert same["psd_slope"]["generated"] > blurred["psd_slope"]["generated"] + 2  # the blur takes the high frequencies
    printed = capsys.readouterr().out
    assert "surface: cannot be told" in printed and "surface: differs from real against real" in printed and "correlation_length" in printed


def test_pairs_of_masks_and_images(tmp_path, capsys):
    random = np.random.default_rng(1)
    masks = []
    for name in ("truth", "other"):
        (tmp_path / name).mkdir()
    for i in range(3):
        truth = cv2.GaussianBlur(random.normal(size=(40, 50)), (0, 0), 3) > 0
        other = truth ^ (random.random((40, 50)) < 0.05)
        masks.append((other, truth))
        cv2.imwrite(str(tmp_path / "truth" / f"{i}.png"), np.uint8(255 * truth))
        cv2.imwrite(str(tmp_path / "other" / f"{i}.png"), np.uint8(255 * other))
    names = "iou,dice,percent,module,squaring,v_rand,v_info,ap50,pq"
    found = scored(tmp_path, tmp_path / "truth", tmp_path / "other", f"--metrics={names}")
    total = sum(overlap.counts(other, truth) for other, truth in masks)
    assert found["iou"]["value"] == overlap.iou(total) and found["percent"]["value"] == overlap.percent(total)
    assert found["module"]["value"] == pytest.approx(2 * (1 - found["percent"]["value"] / 100)) and found["iou"]["n"] == 3
    assert found["v_rand"]["value"] == pytest.approx(np.mean([overlap.partition_scores(*pair)["v_rand"] for pair in masks]), abs=0.02)
    perfect = scored(tmp_path, tmp_path / "truth", tmp_path / "truth", f"--metrics={names},psnr,ssim")
    assert [perfect[name]["value"] for name in ("iou", "pq", "ap50", "v_rand", "ssim_y", "squaring")] == [1, 1, 1, 1, 1, 0]
    assert "over 3 pairs" in capsys.readouterr().out


def test_a_photograph_in_the_place_of_a_mask_is_named_and_instance_maps_are_not(tmp_path, capsys):
    random = np.random.default_rng(2)
    tiles = np.kron(random.permutation(400).reshape(20, 20) + 1, np.ones((6, 6), int)).astype(np.uint16)
    split = np.where(random.random(tiles.shape) < 0.2, 0, tiles)  # holes and cuts scatter every instance a little
    noise = cv2.GaussianBlur(random.normal(size=(120, 120)), (0, 0), 1)
    photograph = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for name, picture in (("tiles", tiles), ("split", split), ("photograph", photograph)):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), picture)
    assert 0.5 < scored(tmp_path, tmp_path / "tiles", tmp_path / "split", "--metrics=iou,pq")["iou"]["value"] < 1
    capsys.readouterr()
    for folders, which in ((("tiles", "photograph"), "second"), (("photograph", "tiles"), "first")):
        assert score.main([*(str(tmp_path / name) for name in folders), "--metrics=dice"]) == 1
        told = capsys.readouterr().err.strip()
        assert f"a: the {which} folder's holds " in told and "no mask; give the folder of masks" in told and "\n" not in told
    assert score.main([str(tmp_path / "photograph"), str(tmp_path / "photograph"), "--metrics=psnr"]) == 0


@pytest.mark.parametrize(
    ("words", "code", "match"),
    [
        (["--metrics=fidd"], 2, "'fidd' is none of fid, kid"),
        (["--metrics=fid,psnr"], 2, "ask for them in two commands"),
        (["--features=100"], 2, "--features"),
        (["--seed=-1"], 2, "--seed=-1"),
        (["--nm_per_pixel=-2"], 2, "--nm_per_pixel=-2"),
        (["--draws=1"], 2, "--draws=1"),
        (["--metrics=psnr", "--page=a.png"], 2, "neither --page nor --draws"),
        (["--metrics=surface", "--page=a.jpg"], 2, "ends in .png"),
        (["--metrics=psnr"], 1, "pairs need the same stems"),
        (["--metrics=fid", "--weights=absent.npz"], 1, "absent.npz"),
        (["--metrics=surface"], 1, "the surface card"),
    ],
)
def test_what_cannot_be_is_a_short_error(tmp_path, words, code, match, capsys):
    for name, size in (("a", 40), ("b", 50)):
        (tmp_path / name).mkdir()
        for i in range(4):
            cv2.imwrite(str(tmp_path / name / f"{name}{i}.png"), np.random.default_rng(i).integers(0, 255, (size + i, size), np.uint8))
    assert score.main([str(tmp_path / "a"), str(tmp_path / "b"), *words]) == code
    error = capsys.readouterr().err
    assert match in error and len(error.splitlines()) <= 5 and "Traceback" not in error


def test_an_empty_folder_and_features_that_are_nan(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert score.main([str(tmp_path / "empty"), str(tmp_path / "empty")]) == 1
    assert "holds no image" in capsys.readouterr().err
    np.save(tmp_path / "nan.npy", np.full((9, 4), np.nan))
    assert score.main([str(tmp_path / "nan.npy"), str(tmp_path / "nan.npy"), "--metrics=kid"]) == 1
    assert "nan.npy, features: 9 of 9 rows hold NaN" in capsys.readouterr().err
