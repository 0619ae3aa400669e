"""A U-Net for scans with masks: particles, cells, tracks; foreground is where a mask is above 0.

    python main.py --config=configs/unet.py --config.data.source=folder:SCANS --workdir=runs/unet
    python main.py --config=configs/unet.py:cpu --workdir=runs/unet_cpu

Masks lie in SCANS/masks (PNG, TIFF or NPY of the same stem, or Labelme's JSON files), or in the folder or COCO file
that config.data.masks names.

Published (Ronneberger et al. 2015): four poolings, 64 maps doubled at each level, 3x3 convolutions, ReLU, dropout at the deepest levels,
elastic deformation, weights on narrow gaps. Ours: zeros around convolutions, so that the output has the scan's size; batch norm; Adam at
1e-3 instead of momentum; batches of crops; soft Dice beside cross entropy; a moving average.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 16 maps at the first level.
"""

import ml_collections

from configs import dcgan


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return finished(config("unet", 256), preset)


def config(name: str, size: int) -> ml_collections.ConfigDict:
    """Returns the config, not yet locked, of a U-Net trained on whole-pixel crops of `size` px."""
    c = ml_collections.ConfigDict()
    c.name = f"configs/{name}.py"
    c.task = "segmentation.supervised"
    c.seed = 0
    c.init_from = ""  # workdir[@last|best|STEP], or a .npz of tools.export_weights, whose network to begin with
    c.data = dcgan.data(size)
    c.data.update({"crop": size, "rotation": "free", "use_masks": True})
    c.model = ml_collections.ConfigDict(
        {
            "base_width": 64,  # maps of the first level; each level below doubles them
            "depth": 4,
            "kernel": 3,
            "activation": "relu",  # relu or leaky_relu
            "leak": 0.01,
            "norm": "batch",  # batch, group or none
            "momentum": 0.9,  # of the running batch statistics
            "dropout": 0.0,  # after the two deepest levels
            "output": "softmax",  # softmax of two maps, or tanh of one
            "dtype": "auto",  # float32 on a CPU, bfloat16 on an accelerator
        }
    )
    c.train = ml_collections.ConfigDict(
        {
            "batch_size": 16,
            "num_steps": 10_000,
            "steps_per_call": 10,
            "log_every": 50,
            "preview_every": 500,
            "save_every": 500,
            "eval_every": 500,
            "rate": 1e-3,
            "schedule": "constant",  # of the rate; cosine falls to 0 at num_steps
            "beta1": 0.9,
            "beta2": 0.999,
            "weight_decay": 0.0,
            "loss": "cross_entropy_dice",  # cross_entropy, dice or cross_entropy_dice
            "class_weights": (),  # of background and foreground; empty: 1 and 1
            "augment": "medium",  # none, light, medium or strong: elastic deformation, contrast, noise
            "ema_decay": 0.995,
        }
    )
    c.eval = ml_collections.ConfigDict(
        {
            "num_images": 8,  # crops of the sample pictures
            "num_scans": 0,  # held-out scans judged whole; 0: all
            "num_train_scans": 0,  # training scans judged whole, for the gap between both; 0: none
            "partition": False,  # V_rand and V_info, for membranes
            "objects": True,  # AP50, PQ, diameters, for particles
            "min_area": 12,  # px; smaller objects are specks
        }
    )
    return c


def finished(c: ml_collections.ConfigDict, preset: str) -> ml_collections.ConfigDict:
    """Returns the config locked, with the preset in it; ValueError for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    PRESETS[preset](c)
    return c.lock()


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    c.model.base_width = 16
    c.train.update({"batch_size": 4, "num_steps": 1_000, "preview_every": 250, "save_every": 100, "eval_every": 250, "log_every": 10})


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.update({"num_simulated": 5, "height": 32, "width": 32, "crop": 32})
    c.model.update({"base_width": 4, "depth": 2})
    c.train.update({"batch_size": 4, "num_steps": 8, "steps_per_call": 2, "log_every": 2, "preview_every": 4, "save_every": 4})
    c.train.update({"eval_every": 8})
    c.eval.update({"num_images": 4, "num_scans": 2})


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
