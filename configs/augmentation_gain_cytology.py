"""What generated cells add to a classifier: the same one on real, affine, generated and mixed training sets, five seeds each.

    SOURCE="--config.source=folder:wbc-cytology/images --config.labels=wbc-cytology/labels.csv --config.classes=1,2,3,4"
    python main.py --config=configs/augmentation_gain_cytology.py:cpu $SOURCE --workdir=runs/gain

A run over stages, resumed by the same command: WORKDIR/images/real and test hold the scans as the networks see them; `gan` is the WGAN of
cwgan_gp_cytology.py on the real ones; images/candidates what it makes, images/generated the first `num_generated` of each class,
images/selected as many that a classifier trained on real scans is surest of, no copies and no strangers (studies/image_sets.py); then the
classifiers NAME_seedN of classifier.py, all for `num_steps` steps with every class equally often in a batch and, where generated images are
added, half of each class's draws real (`--config.mixture=files`: every file alike, so that many generated ones drown a few real ones).
WORKDIR/table.md and table.json: scores on the test scans with 95 % intervals, differences to real + affine on the same draws, FID and KID
of each class, copies.

Published: 78 cytology images of 4 classes, 128 x 128, widened to 1000 by shift, zoom, rotation and reflection; about 1,900 generated;
classifier 7:3, accuracy about 75 % on originals and 95.5 % with generated (histology 84 % and 96.5 %). Not published: on what the 95.5 %
were taken. Ours: 78 training scans and all 221 others for testing (held_out 0.74 of each class), never seen by either network, though one
of them (158) shows nearly what a training scan (157) does, as the run warns; the last checkpoint, since none is chosen by test scans.

`--config.control=copies` puts copies of the real scans in the place of generated ones, so "generated only" must score as "real" does;
`--config.control=shuffled` deals out the training labels anew, so nothing may score above chance. Neither trains a WGAN.
Other fields by --config.stages.gan.FIELD=VALUE and --config.stages.classifier.FIELD=VALUE; Inception's weights for FID and KID of 768
features by --config.weights=FILE, auto, cached (where they are there) or none.

Presets: `:tiny` seconds, for tests, on the built-in cells; `:cpu` 64 x 64, 3,500 steps of the WGAN and 400 of each classifier: 45 minutes
for the WGAN and about 2 for each of the 25 classifiers on one core, shared (docs/classification.md). The default, 128 x 128, is for an
accelerator and was not timed.
"""

import ml_collections

from configs import classifier, cwgan_gp_cytology

KINDS = ("real_affine", "real", "generated", "real_affine_generated", "real_affine_selected")


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    gan, judge = (module.get_config(preset).unlock() for module in (cwgan_gp_cytology, classifier))
    c = ml_collections.ConfigDict({"name": "configs/augmentation_gain_cytology.py", "task": "studies.augmentation_gain", "seed": 0})
    c.update({"source": "folder:wbc-cytology/images", "labels": "wbc-cytology/labels.csv", "classes": "1,2,3,4"})
    c.update({"crop": 120, "pad": "border", "held_out": 0.74})  # 78 of 299 are trained on
    c.update({"num_seeds": 5, "num_generated": 475, "num_candidates": 950})  # of each class
    c.mixture = "half"  # of what is drawn of a class where generated images are added is real; files: every file alike
    c.update({"control": "", "weights": "cached", "features": "768", "num_searched": 100, "num_bootstrap": 2_000})
    c.update({"gan_steps": gan.train.num_steps, "num_steps": judge.train.num_steps})
    SIZES[preset](c)
    c.order = ("gan", *(f"{kind}_seed{seed}" for kind in KINDS for seed in range(c.num_seeds)))
    for stage in (gan, judge):
        for name in ("source", "labels", "classes", "crop", "pad", "held_out"):
            stage.data[name] = c.get_ref(name)
        stage.data.update({"test": 0.0, "class_balanced": True, "value_range": "0,255"})
    if preset == "cpu":
        gan.train.update({"preview_every": 500, "save_every": 500, "eval_every": 3_500})
    judge.train.class_weights, gan.eval.weights = "none", "none"
    gan.train.num_steps, judge.train.num_steps = c.get_ref("gan_steps"), c.get_ref("num_steps")
    judge.train.update(dict.fromkeys(("save_every", "eval_every", "preview_every"), max(1, c.num_steps // 2)))
    c.stages = ml_collections.ConfigDict({"gan": gan, "classifier": judge})
    return c.lock()


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """64 x 64, for two cores."""
    c.update({"num_generated": 60, "num_candidates": 180, "gan_steps": 3_500, "num_steps": 400})


def tiny(c) -> None:
    """Seconds, for tests."""
    c.update({"source": "cells", "labels": "", "classes": "", "crop": 0, "pad": "", "held_out": 0.5, "weights": "none", "num_searched": 0})
    c.update({"num_seeds": 2, "num_generated": 4, "num_candidates": 8, "gan_steps": 4, "num_steps": 4, "num_bootstrap": 100})


SIZES = {"": full, "cpu": cpu, "tiny": tiny}
