"""DCGAN at any height and width that are multiples of 16; the published sizes are dcgan32.py ... dcgan128.py.

    python main.py --config=configs/dcgan.py --config.data.height=64 --config.data.width=128 --workdir=runs/wide

Published (Computer Optics 47(2), 2023, CO-1144): crops of 256 x 256 rotated by random angles and reduced, reflections,
one channel, LeakyReLU 0.01, batch norm, dropout, transposed convolutions and tanh, convolutions, dense layer and sigmoid,
n = 256 filters up to 64 px and 128 above.
Not published, ours: z = 100, kernels 5x5, Adam 2e-4 with beta1 0.5, batch 64, dropout 0.3 in the discriminator only,
N(0, 0.02) weights, no batch norm on the discriminator's first block, number of steps, simultaneous updates.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, a network of a quarter to an eighth the width, batch 16, with
two options the paper does not have: DiffAugment (translation, cutout) and a moving average of the generator (0.995).
"""

import ml_collections


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return config("dcgan", 96, 128, preset)


def config(name: str, size: int, base_filters: int, preset: str) -> ml_collections.ConfigDict:
    """Returns the locked config of a square DCGAN of `size` px; ValueError for an unknown preset."""
    c = ml_collections.ConfigDict()
    c.name = f"configs/{name}.py"
    c.task = "gan.dcgan"
    c.seed = 0
    c.init_from = ""  # workdir[@last|best|STEP], or a .npz of tools.export_weights, whose networks to begin with
    c.data = data(size)
    # A label field learned as one more channel: distance or mask, from the scans' masks; tanh(distance to the particle's outline / reach).
    c.data.update({"label_field": "none", "label_reach": 24.0, "label_weight": 0.3})  # the weight is the field's in the discriminator
    c.model = ml_collections.ConfigDict(
        {
            "base_filters": base_filters,  # filters of the last hidden block; each block towards the noise doubles them
            "latent_dim": 100,
            "kernel_size": 5,
            "leak": 0.01,
            "dropout": 0.3,
            "discriminator_norm": "batch",  # batch, spectral or none
            "resize_convolution": False,  # nearest neighbour and a convolution instead of a transposed convolution
            "dtype": "auto",  # float32 on a CPU, bfloat16 on an accelerator
        }
    )
    c.train = ml_collections.ConfigDict(
        {
            "batch_size": 64,
            "num_steps": 100_000,
            "steps_per_call": 50,  # compiled into one call on accelerators
            "log_every": 50,
            "preview_every": 2_500,
            "save_every": 2_500,
            "eval_every": 2_500,
            "generator_rate": 2e-4,
            "discriminator_rate": 2e-4,
            "beta1": 0.5,
            "beta2": 0.999,
            "loss": "cross_entropy",  # cross_entropy, hinge or relativistic
            "label_smoothing": 0.0,
            "r1_weight": 0.0,
            "ema_decay": 0.0,
            "augment": (),  # of colour, translation, cutout
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
    return c.lock()


def data(size: int) -> ml_collections.ConfigDict:
    """Returns the data section: where scans come from, how they are split and how crops are cut."""
    return ml_collections.ConfigDict(
        {
            "source": "simulated",  # simulated, emulsion, cells, folder:PATH or tfds:NAME
            "num_simulated": 40,
            "simulator_seed": 0,
            "tfds_dir": "",
            "height": size,
            "width": size,
            "channels": 1,
            "crop": 0,  # px of a scan along the longer side; 0: min(256, what fits at every angle)
            "rotation": "free",  # free, quarter or none
            "mirror": True,
            "levelling": "auto",  # auto (plane+backgrounds for heights, none for photographs), none, or steps such as facet+terraces+scars
            "held_out": 0.1,  # shares of scans, split before any crop
            "test": 0.1,
            "fold": "",  # "2/4": the second of four blocks of neighbouring scans, in the order of their ids, is held out instead
            "group_by": "",  # regular expression, its one bracket is the part of an id that is never split: '^(patient[0-9]+)_'
            "levels": "",  # names of the folders below PATH, outermost first: patient/study, class/patient; empty: a folder is a class
            "labels": "",  # CSV table of classes: columns file or id, label, and group where there is one
            "classes": "",  # names divided by commas: only scans of these
            "canvas": 0,  # px: every scan is cut or padded to this square about its middle; 0: scans keep their sizes
            "pad": "",  # scans smaller than the crop: border repeats their border pixels, "255" that value; empty: they are refused
            "value_range": "",  # "0,255": these values become -1 and 1; empty: the 0.1 and 99.9 percentile of the training scans
            "names": False,  # scans of patient folders and tables keep their names in the workdir, instead of salted ids
            "margins": (0, 0, 0, 0),  # top, right, bottom, left px cut off, for info bars
            "masks": "",  # folder of masks; empty: masks/ where there is one
            "use_masks": False,
            "boundary_weight": 0.0,  # of pixels in the narrowest gaps between two masked objects, above the 1 of all (U-Net's w0, 10)
            "boundary_sigma": 5.0,  # px of a scan over which that weight falls off
            "select": "",  # text file with one stem a line: only those files
            "channel": "",  # of an instrument's file: Z, Z backward, Phase, ...; empty: the heights, forward
            "nm_per_pixel": 0.0,  # 0: what the files say
            "resample_nm": 0.0,  # nm per pixel that scans of different or oblong pixels are resampled to; 0: the training scans' median
            "max_pixels": 100_000_000,
            "skip_bad": False,
            "window": 0,  # scans resident at a time; 0: all
            "window_steps": 1_000,
        }
    )


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    c.model.base_filters = 32
    c.train.update({"batch_size": 16, "num_steps": 3_000, "steps_per_call": 10, "log_every": 50, "ema_decay": 0.995})
    c.train.update({"preview_every": 500, "save_every": 250, "eval_every": 500, "augment": ("translation", "cutout")})
    c.eval.num_images = 64


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.num_simulated = 5
    c.model.update({"base_filters": 4, "latent_dim": 8, "kernel_size": 3})
    c.train.update(
        {"batch_size": 8, "num_steps": 8, "steps_per_call": 2, "log_every": 2, "preview_every": 4, "save_every": 4, "eval_every": 8}
    )
    c.eval.update({"num_images": 16, "weights": "none"})


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
