"""The score command on what is no folder, on several generated sets, with draws, and its errors about data."""

import json
import struct
import zipfile

import cv2
import numpy as np
import pytest

from metrics import fid, image_sets, inception_score, intervals, kid, neighbours, score, score_lines, set_scores
from metrics.image_sets import ImageSet
from metrics.set_features import Measured, Options
from microscopy.writing import encode_tiff


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def features(seed, rows=40, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, (rows, 6))


def scored(tmp_path, *words):
    assert score.main([*map(str, words), f"--json={tmp_path / 'out.json'}"]) == 0
    return json.loads((tmp_path / "out.json").read_text())


def refused(capsys, *words, code=1):
    assert score.main(list(map(str, words))) == code
    error = capsys.readouterr().err
    assert 1 <= len(error.splitlines()) <= 5 and "Traceback" not in error
    return error


def saved(path, array):
    np.save(path, array)
    return path


def test_features_are_taken_from_npz_by_the_layer_or_as_the_only_array(tmp_path):
    np.savez(tmp_path / "real.npz", f64=features(9), f768=features(0))
    np.savez(tmp_path / "other.npz", anything=features(1))
    found = scored(tmp_path, tmp_path / "real.npz", tmp_path / "other.npz", "--metrics=fid,kid,mifid", "--features=768")
    assert found["fid"]["value"] == pytest.approx(fid.frechet_distance(features(0), features(1)))
    assert found["mifid"]["value"] == pytest.approx(neighbours.mifid(features(0), features(1)))
    assert (found["fid"]["features"], found["fid"]["resize"], found["fid"]["rank"]) == ("6", "as given", 6)


def test_a_stack_an_array_and_a_folder_of_the_same_images_are_the_same_set(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 20, 30), np.uint8)
    (tmp_path / "folder").mkdir()
    for i, image in enumerate(images):
        cv2.imwrite(str(tmp_path / "folder" / f"{i}.png"), image)
    cv2.imwritemulti(str(tmp_path / "stack.tif"), list(images))
    np.save(tmp_path / "array.npy", images)
    np.savez(tmp_path / "array.npz", images=images[..., None], other=images)
    for name in ("folder", "stack.tif", "array.npy", "array.npz"):
        found = image_sets.read(str(tmp_path / name))
        assert np.array_equal(np.stack([scan.pixels for scan in found.scans]), images), name


def test_several_sets_get_a_row_each_and_a_verdict_for_each_two(tmp_path, capsys):
    real = saved(tmp_path / "real.npy", features(1, 200))
    near, nearer, far = (saved(tmp_path / f"{n}.npy", features(i, 200, s)) for n, i, s in (("near", 2, 0), ("nearer", 4, 0), ("far", 3, 2)))
    found = scored(tmp_path, real, near, nearer, far, "--metrics=fid,kid,prdc")
    assert list(found["sets"]) == ["near.npy", "nearer.npy", "far.npy"] and set(found["sets"]["far.npy"]) == {"fid", "kid", "prdc"}
    verdicts = {(one["score"], one["first"], one["second"]): one["verdict"] for one in found["verdicts"]}
    assert len(verdicts) == 6  # three pairs, two scores with intervals
    assert verdicts["fid", "near.npy", "nearer.npy"] == "cannot rank these two"
    assert verdicts["kid", "nearer.npy", "far.npy"] == "nearer.npy is better"
    assert found["sets"]["far.npy"]["fid"]["differs"] and not found["sets"]["near.npy"]["fid"]["differs"]
    printed = capsys.readouterr().out
    assert "fid: near.npy and nearer.npy: cannot rank these two" in printed and printed.count("precision") == 3


def test_the_lower_interval_wins_whichever_set_has_it():
    rows = {
        name: {"fid": {"interval": ends, "interval_calibrated": True}} for name, ends in (("a", [5, 6]), ("b", [1, 2]), ("c", [1.5, 3]))
    }
    found = [(one["first"], one["second"], one["better"]) for one in set_scores.verdicts(rows)]
    assert found == [("a", "b", "b"), ("a", "c", "c"), ("b", "c", None)]


def test_draws_are_mean_and_std_over_images_drawn_anew(tmp_path, capsys):
    paths = [saved(tmp_path / f"{i}.npy", features(i, 60)) for i in range(2)]
    found = scored(tmp_path, *paths, "--metrics=fid,kid", "--draws=20", "--repeats=5", "--seed=3")
    for name, of in (("fid", fid.frechet_distance), ("kid", kid.kernel_distance)):
        expected = intervals.resampled(of, features(0, 60), features(1, 60), 20, 5, 3)
        assert found[name]["draws"] == pytest.approx({"num": 20, "repeats": 5, "mean": expected.mean, "std": expected.std})
    assert "over 5 draws of 20 images" in capsys.readouterr().out
    assert "take at most 60" in refused(capsys, *paths, "--metrics=fid", "--draws=61")


def test_errors_about_sets_name_the_place_and_the_remedy(tmp_path, capsys):
    good = saved(tmp_path / "good.npy", features(0))
    images = saved(tmp_path / "images.npy", np.zeros((9, 8, 8), np.uint8))
    assert "give one kind for all sets" in refused(capsys, good, images, "--metrics=fid")
    assert "no such folder (did you mean" in refused(capsys, tmp_path.with_name(tmp_path.name + "x"), good)
    assert "prdc needs 6 at least" in refused(capsys, good, saved(tmp_path / "few.npy", features(1, 4)), "--metrics=prdc")
    assert "surface: needs images" in refused(capsys, good, good, "--metrics=surface")
    assert "named twice" in refused(capsys, good, images, images, code=2)
    assert "shows images" in refused(capsys, good, good, "--metrics=fid", f"--page={tmp_path / 'p.png'}")
    assert "take one layer for both" in refused(capsys, good, saved(tmp_path / "wide.npy", np.ones((40, 7))), "--metrics=fid")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.npy", np.zeros((5, 6, 3)), "one image of three colours"),
        ("a.npy", np.zeros(5), "features as \\(n, d\\)"),
        ("a.npy", np.zeros((0, 5, 5)), "empty array"),
        ("a.npy", np.full((4, 5, 5), np.nan), "a.npy: holds 100 NaN"),
        ("a.npy", np.array([[{}]]), "pickled"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (900000, 900000), }".ljust(128), "unpacks to"),
        ("a.npy", b"no array", "damaged"),
        ("a.npz", b"PK\x03\x04 no archive", "damaged"),
        ("a.npz", {"x": np.ones((3, 3)), "y": np.ones((3, 3))}, "holds the arrays x, y"),
        ("a.tif", b"II*\0 no stack", "a.tif: is"),
        ("a.pdf", b"%PDF", "give a folder of images, a TIFF stack"),
    ],
)
def test_files_that_hold_no_set_are_refused_by_name(tmp_path, capsys, name, content, match):
    path = tmp_path / name
    if isinstance(content, np.ndarray):
        np.save(path, content, allow_pickle=True)
    elif isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content)
    with pytest.raises(AssertionError, match=match):
        raise AssertionError(refused(capsys, path, path, "--metrics=surface"))


def test_one_image_mixed_types_and_a_damaged_image(tmp_path, capsys):
    for name, count, dtype in (("one", 1, np.uint8), ("eight", 6, np.uint8), ("sixteen", 6, np.uint16)):
        (tmp_path / name).mkdir()
        for i in range(count):
            cv2.imwrite(str(tmp_path / name / f"{i}.png"), np.random.default_rng(i).integers(0, 255, (16, 16)).astype(dtype))
    assert "one: holds 1 image; surface needs 2" in refused(capsys, tmp_path / "one", tmp_path / "eight", "--metrics=surface")
    error = refused(capsys, tmp_path / "eight", tmp_path / "sixteen", "--metrics=surface")
    assert "0.png holds grey (uint8)" in error and "grey (uint16): store all sets in one way" in error
    (tmp_path / "eight" / "3.png").write_bytes((tmp_path / "eight" / "3.png").read_bytes()[:-40])
    assert "3.png" in refused(capsys, tmp_path / "eight", tmp_path / "eight", "--metrics=surface")


def test_the_inception_score_is_of_the_generated_logits_with_its_draws():
    logits = {"logits": np.random.default_rng(0).normal(0, 2, (40, 9))}
    of = [Measured(ImageSet(name, [None] * 40, None), layers) for name, layers in (("real", {}), ("generated", logits))]
    facts = {"features": "2048", "resize": "tf1", "weights_sha256": "0"}
    found = set_scores.score(("is",), *of, facts, Options(draws=10, repeats=3))["is"]
    expected = inception_score.inception_score(logits["logits"], splits=10)
    assert (found["value"], found["std"], found["splits"], found["features"]) == (expected.mean, expected.std, 10, "logits")
    assert 1 < found["draws"]["mean"] < found["value"] * 2 and found["draws"]["num"] == 10
    lines = score_lines.table({"generated": {"is": found}}) + score_lines.notes("is", found)
    assert "(std, splits)" in lines[1] and "over 3 draws of 10 images" in lines[-1]


def test_above_two_million_values_the_rank_is_a_bound_and_says_so(monkeypatch, tmp_path, capsys):
    copies = np.repeat(features(0, 10), 2, axis=0)[:, :3]
    path = saved(tmp_path / "a.npy", np.hstack([copies, copies]))
    assert scored(tmp_path, path, path, "--metrics=kid")["kid"]["rank"] == 3
    monkeypatch.setattr(set_scores, "RANK_VALUES", 10)
    assert scored(tmp_path, path, path, "--metrics=kid")["kid"]["rank"] == 6
    assert capsys.readouterr().out.count("<= 6") == 2


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys):
    path, other = saved(tmp_path / "a.npy", features(0)), saved(tmp_path / "b.npy", features(1))
    for flag, place, reason in (("json", path / "out.json", "nothing can be written in"), ("page", tmp_path, "is a folder")):
        assert score.main([str(path), str(other), "--metrics=kid", f"--{flag}={place}"]) == 2
        assert reason in capsys.readouterr().err
    assert score.main([str(path), str(other), "--metrics=kid", f"--json={tmp_path / 'new' / 'out.json'}"]) == 0
    assert (tmp_path / "new" / "out.json").is_file()


def test_features_beyond_any_networks_are_refused(tmp_path, capsys):
    path, huge = saved(tmp_path / "a.npy", features(0)), saved(tmp_path / "huge.npy", features(1) * 1e200)
    assert "values up to" in refused(capsys, path, huge, "--metrics=fid,kid")


def test_arrays_that_lie_about_their_size_or_header_are_refused(tmp_path, capsys):
    path = saved(tmp_path / "a.npy", features(0))
    for name, shape in (("bomb", "(1000000000000, 1000)"), ("deep", "(" * 3000)):
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
        (tmp_path / f"{name}.npy").write_bytes(content)
        with zipfile.ZipFile(tmp_path / f"{name}.npz", "w") as archive:
            archive.writestr("images.npy", content)
        for suffix in ("npy", "npz"):
            assert f"{name}.{suffix}: " in refused(capsys, path, tmp_path / f"{name}.{suffix}", "--metrics=kid")


def test_a_scale_that_only_some_state_is_not_lent_to_the_others(tmp_path, capsys):
    maps = np.random.default_rng(0).normal(size=(6, 16, 16)).astype(np.float32)
    for name, scale in (("a", (2.0, 2.0)), ("b", None)):
        (tmp_path / name).mkdir()
        for index, each in enumerate(maps):
            (tmp_path / name / f"{index}.tif").write_bytes(encode_tiff(each, scale, "nm" if scale else "grey"))
    message = refused(capsys, tmp_path / "a", tmp_path / "b", "--metrics=surface")
    assert "states no nm per pixel" in message or "store all sets in one way" in message
