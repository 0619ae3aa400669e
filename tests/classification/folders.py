"""Labelled folders that tests make: two classes that differ in the direction of their stripes."""

import cv2
import numpy as np


def striped(folder, num, size=(20, 24), classes=("across", "down"), seed=0):
    """Returns `folder` after each class's sub-folder holds `num` noisy RGB pictures of its stripes, 8 bit."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    for name, along in zip(classes, (y, x, x + y), strict=False):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(num):
            wave = 90 * np.sin(2 * np.pi * along / 5 + random.uniform(0, 6))[..., None] + random.normal(128, 25, (*size, 3))
            assert cv2.imwrite(str(folder / name / f"{seed}_{index:03d}.png"), np.clip(wave, 0, 255).astype(np.uint8))
    return folder
