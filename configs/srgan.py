"""SRGAN, one phase a workdir: "pixels" makes SRResNet, "adversarial", begun from it, SRGAN. srgan_div2k.py runs both phases.

    python main.py --config=configs/srgan.py --config.data.source=folder:PHOTOS --config.data.channels=3 --workdir=runs/srresnet
    python main.py --config=configs/srgan.py --config.train.phase=adversarial --config.init_from=runs/srresnet --workdir=runs/srgan ...

Published (C: SRGAN on DIV2K, 800 images): first kernel 3x3, 64 maps, 16 residual blocks, PReLU, two sub-pixel layers, tanh;
discriminator of eight 3x3 convolutions 64..512; content loss on VGG's ReLU features and adversarial loss; rate 1e-4, 400 epochs.
Not published, ours: Adam with beta1 0.9, batch 16, crops of 96 px, last kernel 9x9, relu2_2 at weight 1 beside the pixels' mean squared
error at 1, adversarial weight 1e-3 (Ledig et al. 2017), mean over space before the discriminator's dense layers, number of steps.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 4 blocks of 32 maps without batch norm, a moving average (0.995).
"""

import ml_collections

from configs import dcgan


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = config("srgan", 96)
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    PRESETS[preset](c)
    return c.lock()


def config(name: str, size: int) -> ml_collections.ConfigDict:
    """Returns the config, not yet locked, of the phase "pixels" on whole-pixel crops of `size` px."""
    c = ml_collections.ConfigDict()
    c.name = f"configs/{name}.py"
    c.task = "superres.srgan"
    c.seed = 0
    c.init_from = ""  # workdir[@last|best|STEP] of the phase before, or a .npz of tools.convert_srgan or tools.export_weights
    c.data = dcgan.data(size)
    c.data.update({"crop": size, "rotation": "quarter", "levelling": "auto"})
    c.model = ml_collections.ConfigDict(
        {
            "scale": 4,  # 2, 4 or 8
            "low_sizes": (),  # heights that crops are reduced to, each for its share of a batch; empty: the crop's over the scale
            "reduction": "bicubic",  # bicubic (antialiased, as MATLAB's) or area
            "num_blocks": 16,
            "num_maps": 64,
            "first_kernel": 3,
            "last_kernel": 9,
            "norm": "batch",  # batch or none
            "trunk_norm": True,
            "trunk_prelu": False,
            "output": "tanh",  # tanh, sigmoid (of -1..1) or none
            "output_mean": False,  # the mean of three maps: imported colour networks on grey pictures
            "pad_value": 0.0,  # around the picture at the first convolution
            "momentum": 0.9,  # of the running batch statistics
            "discriminator_maps": 64,
            "discriminator_norm": "batch",  # batch or none
            "discriminator_pool": "mean",  # mean, or flatten, which ties the weights to one crop size
            "leak": 0.2,
            "dtype": "auto",  # float32 on a CPU, bfloat16 on an accelerator
        }
    )
    c.train = ml_collections.ConfigDict(
        {
            "phase": "pixels",  # pixels or adversarial
            "batch_size": 16,
            "num_steps": 100_000,
            "steps_per_call": 10,
            "log_every": 50,
            "preview_every": 2_500,
            "save_every": 2_500,
            "eval_every": 2_500,
            "generator_rate": 1e-4,
            "discriminator_rate": 1e-4,
            "beta1": 0.9,
            "beta2": 0.999,
            "pixel_weight": 1.0,
            "content_weight": 1.0,
            "adversarial_weight": 1e-3,
            "loss": "cross_entropy",  # cross_entropy, hinge or relativistic
            "vgg": "none",  # VGG19's weights for the content loss and the feature distance: a file, auto (downloads 548 MB once), none
            "vgg_padding": "zero",  # zero (ImageNet's) or reflect
            "content_layers": ("relu2_2",),
            "freeze_norm": False,  # keeps the batch statistics that were imported
            "ema_decay": 0.0,
        }
    )
    c.eval = ml_collections.ConfigDict({"num_images": 64, "smoothing": 1.0, "num_back_projections": 10})
    return c


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    c.model.update({"num_blocks": 4, "num_maps": 32, "norm": "none", "trunk_norm": False, "discriminator_maps": 16})
    c.model.update({"discriminator_norm": "none"})
    c.train.update({"batch_size": 8, "num_steps": 3_000, "log_every": 50, "preview_every": 500, "save_every": 250, "eval_every": 500})
    c.train.update({"generator_rate": 5e-4, "ema_decay": 0.995})
    c.eval.num_images = 32


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.update({"num_simulated": 5, "height": 32, "width": 32, "crop": 32})
    c.model.update({"num_blocks": 1, "num_maps": 8, "discriminator_maps": 4})
    c.train.update(
        {"batch_size": 4, "num_steps": 8, "steps_per_call": 2, "log_every": 2, "preview_every": 4, "save_every": 4, "eval_every": 8}
    )
    c.eval.num_images = 4


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
