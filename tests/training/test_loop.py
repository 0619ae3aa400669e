"""How the loop tells the best checkpoint: by the value that was logged, whichever way its score ranks it."""

import json

import numpy as np

from training import checkpoints, loop
from training.task import Score


def test_the_best_checkpoint_is_told_with_the_logged_value_not_the_negated_score(tmp_path):
    assert loop.best_text(tmp_path) == ""
    for step, psnr in ((1000, 20.0), (2000, 25.5), (3000, 24.0)):
        checkpoints.save(tmp_path, step, {"weights": np.ones(3, np.float32)}, Score("superres/psnr_y", -psnr, "4 held-out crops"))
    assert loop.best_text(tmp_path) == "step 2,000, superres/psnr_y -25.5 (4 held-out crops)"  # no log: nothing else is known
    records = [{"step": step, "time": 0.0, "superres/psnr_y": psnr} for step, psnr in ((1000, 20.0), (2000, 25.5), (3000, 24.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert loop.best_text(tmp_path) == "step 2,000, superres/psnr_y 25.5 (4 held-out crops)"


def test_a_score_that_is_no_logged_scalar_is_told_as_it_is(tmp_path):
    checkpoints.save(tmp_path, 10, {"weights": np.ones(3, np.float32)}, Score("segmentation/jaccard_distance", 0.25, "2 scans"))
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 10, "time": 0.0, "segmentation/iou": 0.75}) + "\n")
    assert loop.best_text(tmp_path) == "step 10, segmentation/jaccard_distance 0.25 (2 scans)"
