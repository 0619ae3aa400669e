"""The run over both phases, end to end on a small set of pairs prepared as tfds has DIV2K."""

import io
import json
import logging

import cv2
import numpy as np
import pytest

import main
from configs import srgan_div2k
from microscopy.formats import read_image
from studies import stages
from training.signals import Stop

tfds = pytest.importorskip("tensorflow_datasets")


def picture(number):
    random = np.random.default_rng(number)
    return cv2.resize(random.integers(256, size=(12, 16, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


class TinyDiv2k(tfds.core.GeneratorBasedBuilder):
    """The features of div2k: a picture and a reduced one; its 800 are 8."""

    __module__ = "tiny_sets"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        colour = tfds.features.Image(shape=(None, None, 3))
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({"lr": colour, "hr": colour}))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(8):
            large = picture(number)
            small = cv2.resize(large, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            yield str(number), {name: io.BytesIO(cv2.imencode(".png", one)[1].tobytes()) for name, one in (("lr", small), ("hr", large))}


def test_both_phases_on_a_tfds_set_through_to_enlarged_pictures(tmp_path):
    tfds.disable_progress_bar()
    logging.getLogger("absl").setLevel(logging.ERROR)
    TinyDiv2k(data_dir=tmp_path / "sets", file_format="array_record").download_and_prepare()
    config = srgan_div2k.get_config("tiny").unlock()
    config.data.update({"channels": 3, "source": "tfds:tiny_div2k", "tfds_dir": str(tmp_path / "sets"), "window": 4, "window_steps": 4})
    stages.run(config.lock(), tmp_path / "run", Stop())
    for name in config.order:
        folder = tmp_path / "run" / name
        assert json.loads((folder / "status.json").read_text())["state"] == "finished"
        (rows,) = json.loads((folder / "evaluation.json").read_text())["tables"].values()
        assert {"bicubic", {"pixels": "srresnet", "adversarial": "srgan"}[name]} <= {row["image"] for row in rows}
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "photo.png"), picture(9))
    words = ["main.py", "--mode=predict", f"--workdir={tmp_path}/run/adversarial", f"--input={tmp_path}/in", f"--output={tmp_path}/out"]
    assert main.run(words) == 0
    found = read_image(tmp_path / "out" / "photo.png", max_pixels=10**6)
    assert found.shape == (192, 256, 3) and found.dtype == np.uint8 and found.std() > 1
