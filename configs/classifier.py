"""A classifier of images in class folders, with calibrated probabilities and ROC curves.

    python main.py --config=configs/classifier.py --config.data.source=folder:SCANS --workdir=runs/classifier
    python main.py --config=configs/classifier.py:cpu --workdir=runs/classifier_cpu
    python main.py --mode=predict --workdir=runs/classifier --checkpoint=best --input=IMAGES --output=CLASSES

SCANS has one folder a class. The default source is the built-in simulator of stained cells in four classes.

Published: colour images of 128 x 128, 91 histology images of 5 classes or 78 of cytology of 4; 7:3 split; shift, zoom, rotation and
reflection; ROC curve of each class; accuracy about 84 % (histology) and 75 % (cytology) on the originals.
Not published, ours: the network (two 3x3 convolutions a block, batch norm, ReLU, 2x2 pooling, global mean), cross entropy weighted by
class, AdamW at 1e-3, moving average, strengths of the augmentation, drawn anew for each sample instead of sets of 1000; temperature
scaling, intervals, best checkpoint by held-out likelihood.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 64 x 64.
"""

import ml_collections

from configs import dcgan


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    c = config("classifier", 128)
    PRESETS[preset](c)
    return c.lock()


def config(name: str, size: int) -> ml_collections.ConfigDict:
    """Returns the config, not yet locked, of a classifier of colour images of `size` px."""
    c = ml_collections.ConfigDict()
    c.name = f"configs/{name}.py"
    c.task = "classification.classifier"
    c.seed = 0
    c.init_from = ""  # workdir[@last|best|STEP], or a .npz of tools.export_weights, whose network to begin with
    c.data = dcgan.data(size)
    c.data.update({"source": "cells", "channels": 3, "rotation": "quarter", "held_out": 0.3, "test": 0.0, "num_simulated": 400})
    c.data.class_balanced = False  # every class equally likely in a batch, instead of every scan; then class_weights "none"
    c.model = ml_collections.ConfigDict(
        {
            "kind": "compact",  # compact, or residual: each block adds its input
            "base_width": 32,  # maps of the first block; each next one doubles them
            "num_blocks": 5,
            "dropout": 0.3,  # before the dense layer
            "momentum": 0.9,  # of the running batch statistics
            "dtype": "auto",  # float32 on a CPU, bfloat16 on an accelerator
        }
    )
    c.train = ml_collections.ConfigDict(
        {
            "batch_size": 64,
            "num_steps": 5_000,
            "steps_per_call": 10,
            "log_every": 50,
            "preview_every": 500,
            "save_every": 250,
            "eval_every": 250,
            "rate": 1e-3,
            "beta1": 0.9,
            "beta2": 0.999,
            "weight_decay": 1e-2,
            "label_smoothing": 0.0,
            "class_weights": "balanced",  # balanced, none, or a number of each class in the order of their names: "1,2.5,1"
            "shift": 0.1,  # greatest shift, share of the side; borders are continued
            "zoom": 0.15,  # greatest |log| of the magnification
            "turn": 45.0,  # greatest angle, degrees, on top of the quarter turns and mirrors of config.data
            "ema_decay": 0.99,
        }
    )
    c.eval = ml_collections.ConfigDict(
        {
            "num_images": 64,  # crops of the sample pictures
            "num_train_scans": 0,  # training scans scored too, for the gap to the others; 0: none
            "num_bootstrap": 1_000,  # draws behind the bands; 0: no bands
        }
    )
    return c


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    c.data.update({"height": 64, "width": 64})
    c.model.update({"base_width": 16, "num_blocks": 4})
    c.train.update({"batch_size": 32, "num_steps": 1_000, "preview_every": 250, "save_every": 100, "eval_every": 100})


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.update({"num_simulated": 40, "height": 16, "width": 16})
    c.model.update({"base_width": 4, "num_blocks": 2})
    c.train.update({"batch_size": 8, "num_steps": 8, "steps_per_call": 2, "log_every": 2, "preview_every": 4, "save_every": 4})
    c.train.update({"eval_every": 4})
    c.eval.update({"num_images": 8, "num_bootstrap": 20})


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
