"""Scores of a GAN: heights in nm where the scans have them, KID where Inception is at hand, the card otherwise."""

import numpy as np
import pytest
import scipy.linalg

from gan import scores
from microscopy.normalisation import ValueMap
from training.errors import ConfigError

HEIGHTS = ValueMap(-2.0, 6.0, "nm", (0.0, 0.0), (0.5, 0.5))
GREY = ValueMap(0.0, 255.0, "grey", (0.0, 0.0))


def images(num=12, seed=0, gain=0.2):
    return np.clip(gain * np.random.default_rng(seed).normal(size=(num, 16, 16, 1)), -1, 1).astype(np.float32)


def test_the_card_is_in_nm_where_the_scans_are_and_ranks_without_inception():
    scalars, tables, protocol, best = scores.score(images(), images(seed=1), HEIGHTS, None)
    (rows,) = tables.values()
    rows = {row["quantity"]: row for row in rows}
    assert (rows["sq"]["unit"], rows["correlation_length"]["unit"], rows["density"]["unit"]) == ("nm", "nm", "1/um2")
    assert rows["sq"]["real"] == pytest.approx(4 * 0.2, rel=0.05)  # half the map's range of 8 nm, times the gain
    assert best.name == "surface/card" and best.value == scalars["surface/card"] and "12 against 12" in best.protocol
    assert "no Inception weights" in protocol
    grey = scores.score(images(), images(seed=1), GREY, None)
    assert {row["unit"] for row in grey[1][next(iter(grey[1]))]} == {"of 2, from -1 to 1", "", "px", "1/Mpx", "log10"}
    assert grey[0]["surface/card"] == pytest.approx(scalars["surface/card"], rel=1e-6)  # ratios have no unit
    worse = scores.score(images(gain=0.4), images(seed=1), GREY, None)[3]
    assert worse.value > 2 * best.value


def test_with_inception_the_kid_ranks_and_its_protocol_names_layer_weights_and_n():
    seen = []

    def extract(pixels):
        seen.append(pixels)
        return pixels.reshape(len(pixels), -1)[:, :20].astype(np.float64) / 64

    real, made = images(30, 1), images(20)
    scalars, tables, _, best = scores.score(made, real, GREY, scores.Judge(extract, "2048", "fid abcdef01"))
    assert [one.dtype for one in seen] == [np.uint8, np.uint8] and [len(one) for one in seen] == [30, 20]
    assert best == scores.Score("inception/kid", scalars["inception/kid"], "2048-d Inception fid abcdef01, 20 against 30")
    first, second = (extract(one) for one in seen[:2])
    means, covariances = zip(*((one.mean(0), np.cov(one.T)) for one in (first, second)), strict=True)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = ((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert scalars["inception/fid"] == pytest.approx(expected, rel=1e-6)
    kernel = [(a @ b.T / 20 + 1) ** 3 for a, b in ((first, first), (second, second), (first, second))]
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in kernel[:2]]
    assert scalars["inception/kid"] == pytest.approx(sum(within) - 2 * kernel[2].mean(), rel=1e-6)
    assert [row["score"] for row in next(iter(tables.values()))] == ["fid-2048", "kid-2048"]


def test_a_judge_is_had_only_where_weights_are(tmp_path, monkeypatch):
    from configs import dcgan

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = dcgan.get_config().eval.copy_and_resolve_references()
    assert settings.weights == "cached" and scores.judge(settings) is None
    settings.features = "100"
    with pytest.raises(ConfigError, match="config.eval.features='100'"):
        scores.judge(settings)
