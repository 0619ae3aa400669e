"""The tables: published rows, means over finished folds, differences; and the whole study in small."""

import json
import math

import numpy as np
import pytest

from configs import isbi2012_table
from studies import isbi2012
from training import loop
from training.signals import Stop


def finished(folder, state="finished", step=1000, **scalars):
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": state, "step": step}))
    lines = [{"step": step // 2, "time": 0.0, "segmentation/iou": 0.1}, {"step": step, "time": 1.0, **scalars}, {"step": step, "time": 1.0}]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    rows = [{"by": "network", "iou": 0.5}, {"by": "everything foreground", **dict.fromkeys(isbi2012.SCORES, 0.75)}]
    (folder / "evaluation.json").write_text(
        json.dumps({"step": step, "protocol": "p", "scalars": scalars, "tables": {"5 held-out scans, means": rows}})
    )


def test_folds_are_averaged_and_unfinished_stages_left_out(tmp_path):
    config = isbi2012_table.get_config("cpu")
    assert len(config.order) == 13 and {config.stages[name].data.fold for name in config.order} == {"1/4", "2/4", "3/4", "4/4"}
    finished(tmp_path / "unet_fold4", **{"segmentation/iou": 0.8, "segmentation/train_iou": 0.9})
    finished(tmp_path / "unet_fold2", **{"segmentation/iou": 0.6, "segmentation/train_iou": 0.9})
    finished(tmp_path / "unet_fold1", "interrupted", **{"segmentation/iou": 0.0})
    finished(tmp_path / "module_fold4", **{"segmentation/iou": 0.7, "critic/cosine": 0.25})
    tables = isbi2012.gather(config, tmp_path)
    rows = {row["by"]: row for row in tables["scores"]}
    assert rows["U-Net alone, held out"]["folds"] == "2, 4" and rows["U-Net alone, held out"]["iou"] == pytest.approx(0.7)
    assert rows["U-Net alone, held out minus train"]["iou"] == pytest.approx(-0.2) and math.isnan(rows["U-Net alone, train"]["v_rand"])
    assert rows["everything a cell, held out"]["module"] == 0.75 and rows["U-Net in GAN, test (published)"]["iou"] == 0.89
    assert [row["by"] for row in tables["audit"]] == ["module"] and tables["audit"][0]["cosine"] == 0.25
    lines = isbi2012.text(tables).splitlines()
    assert "| U-Net alone, held out | 2, 4 | 1,000 | 1,000 | - | - | - | 0.7 | - | - | - |" in lines
    same = {row["by"]: row for row in tables["same folds"]}
    assert {row["folds"] for row in same.values()} == {"4"} and same["U-Net alone, held out"]["iou"] == pytest.approx(0.8)
    assert "everything a cell, held out" in same and "| U-Net alone, held out | 4 | 1,000 | 1,000 | - | - | - | 0.8 | - | - | - |" in lines


def test_another_evaluation_of_a_stage_does_not_change_the_table(tmp_path):
    config = isbi2012_table.get_config("cpu")
    finished(tmp_path / "unet_fold4", **{"segmentation/iou": 0.8})
    other = json.loads((tmp_path / "unet_fold4" / "evaluation.json").read_text())
    other |= {"scalars": {"segmentation/iou": 0.3}, "protocol": f"p {loop.OTHER_SCANS} here."}
    (tmp_path / "unet_fold4" / "evaluation.json").write_text(json.dumps(other))
    rows = {row["by"]: row for row in isbi2012.gather(config, tmp_path)["scores"]}
    assert rows["U-Net alone, held out"]["iou"] == 0.8 and "everything a cell, held out" not in rows


def test_source_masks_and_steps_are_said_once_for_all_stages():
    config = isbi2012_table.get_config("cpu").unlock()
    config.source, config.masks, config.num_steps, config.gan_steps, config.window_weight = "folder:a", "b", 50, 60, 0.5
    stages = {name: config.stages[name].copy_and_resolve_references() for name in config.order}
    assert {(one.data.source, one.data.masks) for one in stages.values()} == {("folder:a", "b")}
    for name, one in stages.items():
        kind, _, fold = name.rpartition("_fold")
        assert one.data.fold == f"{fold}/4" and one.train.num_steps == (50 if kind == "unet" else 60)
        assert kind == "unet" or (one.train.quality, one.train.window_weight) == (kind, 0.5)


def test_the_study_in_small(tmp_path):
    config = isbi2012_table.get_config("tiny").unlock()
    config.order, config.num_steps, config.gan_steps = ("unet_fold4", "iou_squared_fold4"), 4, 4
    for name in config.order:
        config.stages[name].eval.update({"num_images": 4, "num_train_scans": 1})
        config.stages[name].model.depth = 1
    config.stages.iou_squared_fold4.model.update({"critic_depth": 1, "critic_strided": 1})
    config.stages.iou_squared_fold4.eval.num_audited_steps = 2
    isbi2012.run(config.lock(), tmp_path, Stop())
    tables = json.loads((tmp_path / "table.json").read_text())
    assert [row["by"] for row in tables["scores"]][4:6] == ["U-Net alone, train", "U-Net alone, held out"]
    assert all(np.isfinite(row["iou"]) for row in tables["scores"]) and 0 <= tables["audit"][0]["steps_better"] <= 1
    assert (tmp_path / "table.md").read_text().startswith("| by | folds | steps | scored at | module |")
