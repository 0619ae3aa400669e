"""Class-conditional WGAN of tissue in 5 classes at 128 x 128 in colour; settings, what is published and what is ours: cwgan_cytology.py.

    python main.py --config=configs/cwgan_histology.py --config.data.source=folder:tissue --workdir=runs/tissue

Published: 91 images of 5 classes, 9 hours on a K80. Ours: crops at free angles, as tissue has no outline to keep whole.
The built-in cells, which are trained on where no source is given, have 4 classes.
"""

from configs import cwgan_cytology


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = cwgan_cytology.config("cwgan_histology", preset)
    c.data.rotation = "free"
    return c.lock()
