"""Class-conditional WGAN of cells in 4 classes at 128 x 128 in colour, settings and networks as published; presets `:cpu`, `:tiny`.

    python main.py --config=configs/cwgan_cytology.py --config.data.source=folder:cells --workdir=runs/cells
    python main.py --mode=generate --workdir=runs/cells --labels=all --num_images=475 --output=made    # of each class

Published: critic of six 5x5 convolutions with dropout, the first five strided, LeakyReLU 0.2, a dense layer and a sigmoid;
generator from z = 64 normal numbers by a dense layer and seven transposed 5x5 convolutions, each with dropout and batch norm,
LeakyReLU 0.2, tanh; batch 64, Adam 1e-3, L2 1e-6, 3000 epochs; 78 images of 4 classes, widened to 1000 by shift, zoom, rotation and
reflection; 8.5 hours on a K80.
Not published, ours: from 1x1 by seven doublings; filters 32, 64 ... 512; the last transposed convolution without dropout and batch norm;
dropout 0.3 in the critic and 0.1 in the generator; the class as one-hot planes beside the image and as a one-hot vector beside the noise;
five critic updates of 64 images a step (so batch_size is 320), clipping at 0.01; Adam's beta1 0.5 and beta2 0.9; 47,000 steps, which is
3000 epochs of 1000 images for the generator; quarter turns and reflections, then a shift, zoom and turn that continue the border, drawn
anew each time, in place of the widened set, and their strengths. Without the sigmoid, `--config.model.sigmoid=false`, it is the critic of
the WGAN's own paper.
The same networks with what was learned since 2017: configs/cwgan_gp_cytology.py.

Cost of `:cpu`, 64 x 64 and 3,000 steps: 28 GFLOP a step as XLA counts them, 3.2 steps a second on two idle cores, so 16 minutes; an
accelerator was not timed. docs/wgan.md says what is logged.
"""

import ml_collections

from configs import dcgan

STILL = {"shift": 0.0, "zoom": 0.0, "turn": 0.0}


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return config("cwgan_cytology", preset).lock()


def config(name: str, preset: str) -> ml_collections.ConfigDict:
    """Returns the config of a WGAN, not yet locked; ValueError for an unknown preset."""
    c = ml_collections.ConfigDict({"name": f"configs/{name}.py", "task": "gan.wgan", "seed": 0})
    c.init_from = ""  # workdir[@last|best|STEP], or a .npz of tools.export_weights, whose networks to begin with
    c.data = dcgan.data(128)
    c.data.update({"source": "cells", "channels": 3, "rotation": "quarter"})
    c.data.class_balanced = False  # every class equally likely in a batch, instead of every scan
    c.model = ml_collections.ConfigDict(
        {
            "base_filters": 32,  # filters of the block next to the image; each block away from it doubles them, up to 16 times
            "latent_dim": 64,
            "kernel_size": 5,
            "leak": 0.2,
            "dropout": 0.3,  # in the critic
            "generator_dropout": 0.1,  # while it trains
            "conditioning": "concat",  # or projection
            "critic_norm": "none",  # or layer
            "sigmoid": True,  # after the critic
            "dtype": "auto",  # float32 on a CPU, bfloat16 on an accelerator
        }
    )
    c.train = ml_collections.ConfigDict(
        {
            "batch_size": 320,  # shared by the critic's updates
            "critic_updates": 5,  # a step
            "num_steps": 47_000,
            "steps_per_call": 20,  # compiled into one call on accelerators
            "log_every": 100,
            "preview_every": 1_000,
            "save_every": 1_000,
            "eval_every": 1_000,
            "objective": "clip",  # or gp, a gradient penalty
            "clip": 0.01,  # largest weight of the critic
            "penalty_weight": 10.0,
            "generator_rate": 1e-3,
            "critic_rate": 1e-3,
            "beta1": 0.5,
            "beta2": 0.9,
            "l2": 1e-6,
            "ema_decay": 0.0,
            "shift": 0.1,  # of real images: greatest shift, share of the side; borders are continued
            "zoom": 0.15,  # greatest |log| of the magnification
            "turn": 45.0,  # greatest angle, degrees, on top of the quarter turns and mirrors of config.data
            "augment": (),  # of colour, translation, cutout, of all that the critic sees
        }
    )
    c.eval = ml_collections.ConfigDict(
        {
            "num_images": 256,
            "weights": "cached",  # of Inception for FID and KID: a file, auto (downloads once), cached (if it is there), none
            "features": "2048",  # 768, 192 and 64 are no FID or KID as published
            "num_searched": 0,  # images searched for in the training scans, to find copies: a minute or more on a CPU
        }
    )
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    PRESETS[preset](c)
    return c


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """64 x 64, half the filters, five critic updates of 16 images, real images unmoved (docs/wgan.md), for two cores."""
    c.train.update(STILL)
    c.data.update({"height": 64, "width": 64})
    c.model.base_filters = 16
    c.train.update({"batch_size": 80, "num_steps": 3_000, "steps_per_call": 10, "log_every": 50})
    c.train.update({"preview_every": 500, "save_every": 500, "eval_every": 500})
    c.eval.num_images = 64


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.update({"height": 16, "width": 16, "num_simulated": 12})
    c.model.update({"base_filters": 2, "latent_dim": 8, "kernel_size": 3})
    c.train.update({"batch_size": 16, "critic_updates": 2, "num_steps": 8, "steps_per_call": 2, "log_every": 2})
    c.train.update({"preview_every": 4, "save_every": 4, "eval_every": 8})
    c.eval.update({"num_images": 16, "weights": "none"})


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
