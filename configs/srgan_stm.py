"""SRGAN for generated scans: from any height of 32 to 128 px up to 256, trained on the path it is used on.

python main.py --config=configs/srgan_stm.py --config.data.source=folder:SCANS --workdir=runs/srresnet_stm
python main.py --config=configs/srgan_stm.py:cpu --workdir=runs/srresnet_stm_cpu

Crops of 256 px are reduced to h (area, as DCGAN's training crops are), enlarged by the network and brought to exactly 256 by bicubic
interpolation; the loss is taken at 256, for each h of 32, 48, 64, 96 and 128, a fifth of the batch each.

Published (Computer Optics 47(2), 2023, CO-1144): x4, first kernel 9x9 with 64 maps, PReLU, two sub-pixel layers, discriminator on
256 x 256, pre-trained, then fine-tuned on scans. Not published, ours: everything else; see configs/srgan.py.
The publication's pure x4 form is `--config.model.low_sizes="(64,)"`.
"""

from configs import srgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = srgan.config("srgan_stm", 256)
    c.data.update({"crop": 0, "rotation": "free"})
    c.model.update({"first_kernel": 9, "low_sizes": (32, 48, 64, 96, 128), "reduction": "area"})
    c.train.batch_size = 10
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    PRESETS[preset](c)
    return c.lock()


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    srgan.cpu(c)
    c.train.batch_size = 5


def tiny(c) -> None:
    """Seconds, for tests."""
    srgan.tiny(c)
    c.data.update({"height": 32, "width": 32, "crop": 0})
    c.model.low_sizes = (8, 12)


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
