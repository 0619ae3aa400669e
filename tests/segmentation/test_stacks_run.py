"""A run on TIFF stacks, from files to files: trained, gone on with in the same bits, exported, and applied to a stack of other depth."""

import csv

import cv2
import numpy as np

import main
from microscopy.tiff_stack import num_pages
from microscopy.writing import encode_tiff_stack


def write_stacks(folder, num):
    """Dark slanted rods in noise, 3 planes of 56 x 64, and their masks."""
    (folder / "masks").mkdir(parents=True)
    random = np.random.default_rng(0)
    for index in range(num):
        mask = np.zeros((3, 56, 64), np.uint8)
        for plane in range(3):
            mask[plane, 10 + 6 * index : 14 + 6 * index, 5 + 8 * plane : 30 + 8 * plane] = 1
        stack = np.clip(190 - 140 * mask + random.normal(0, 12, mask.shape), 0, 255).astype(np.uint8)
        (folder / f"s{index}.tif").write_bytes(encode_tiff_stack(stack, (300.0, 300.0)))
        cv2.imwritemulti(str(folder / "masks" / f"s{index}.tif"), list(mask))


def test_trained_gone_on_with_exported_and_applied(tmp_path, capsys):
    write_stacks(tmp_path / "in", 4)
    config = ["main.py", "--config=configs/unet3d_emulsion.py:tiny", f"--config.data.source=folder:{tmp_path / 'in'}"]
    config += ["--config.data.planes=3", "--config.data.plane_nm=1000", "--config.train.rate=0.01", "--config.train.ema_decay=0.0"]
    runs = {}
    for name, stops in (("whole", (8,)), ("parts", (4, 8))):
        for steps in stops:
            assert main.run([*config, f"--workdir={tmp_path / name}", f"--config.train.num_steps={steps}"]) == 0
        runs[name] = (tmp_path / name / "status.json").read_text().partition('"parameters_sha256": ')[2]
    assert runs["whole"] == runs["parts"] and len(runs["whole"]) > 60
    said = capsys.readouterr().out
    assert "Stacks of 3 planes; kernels of 3 x 3 x 3, poolings of 1 x 2 x 2 (planes first)." in said and "1 whole held-out scans" in said
    other = tmp_path / "other.tif"
    other.write_bytes(encode_tiff_stack(np.random.default_rng(1).integers(0, 255, (5, 40, 48)).astype(np.uint8), (300.0, 300.0)))
    model = tmp_path / "model.safetensors"
    assert main.run(["main.py", "--mode=export", f"--workdir={tmp_path / 'whole'}", f"--output={model}"]) == 0
    for name, source in (("a", f"--workdir={tmp_path / 'whole'}"), ("b", f"--weights={model}")):
        assert main.run(["main.py", "--mode=predict", source, f"--input={other}", f"--output={tmp_path / name}"]) == 0
    assert num_pages(tmp_path / "a" / "other_probability.tiff") == 5
    assert (tmp_path / "a" / "other_probability.tiff").read_bytes() == (tmp_path / "b" / "other_probability.tiff").read_bytes()
    with open(tmp_path / "a" / "stacks.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["stack"], row["planes"], row["nm_per_voxel_z"]) == ("other", "5", "1000.0")
