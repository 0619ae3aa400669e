"""The class-conditional WGAN of cwgan_cytology.py with what was learned since: a gradient penalty instead of clipped weights.

    python main.py --config=configs/cwgan_gp_cytology.py --config.data.source=folder:cells --workdir=runs/cells_gp

Nothing here is published for these images. Gradient penalty 10 and five critic updates (Gulrajani et al. 2017), layer norm in the critic,
no sigmoid, no dropout, classes by embedding and projection (Miyato and Koyama 2018), every class equally likely in a batch,
DiffAugment (Zhao et al. 2020), a moving average of the generator, Adam 2e-4 with beta1 0 and beta2 0.9, no L2.

`:cpu`, 64 x 64 and 3,000 steps, is without DiffAugment, which in so few steps costs variety and classes (docs/wgan.md), and has kernels of
4 x 4: 24 GFLOP a step as XLA counts them, 2.4 steps a second on two idle cores, so 21 minutes. An accelerator was not timed.
"""

from configs import cwgan_cytology


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return config("cwgan_gp_cytology", preset).lock()


def config(name: str, preset: str):
    """Returns the config of a WGAN, not yet locked; ValueError for an unknown preset."""
    c = cwgan_cytology.config(name, preset)
    c.data.class_balanced = True
    c.model.update({"dropout": 0.0, "generator_dropout": 0.0, "conditioning": "projection", "critic_norm": "layer", "sigmoid": False})
    c.train.update({"objective": "gp", "generator_rate": 2e-4, "critic_rate": 2e-4, "beta1": 0.0, "l2": 0.0})
    c.train.update({"ema_decay": 0.999, "augment": ("colour", "translation", "cutout")})
    if preset == "cpu":
        c.model.kernel_size = 4  # two thirds of the time of 5 x 5, and every pixel is the sum of as many products
        c.train.update({"ema_decay": 0.99, "augment": ()})
    return c
