"""Class-conditional WGAN of tissue in 5 classes at 128 x 128 in colour; settings, what is published and what is ours: cwgan_cytology.py.

    python main.py --config=configs/cwgan_histology.py --config.data.source=folder:tissue --workdir=runs/tissue

Published: 91 images of 5 classes, widened as those of cytology, 9 hours on a K80. Ours: quarter turns, mirrors and random places alone,
since a shift, a zoom or a turn of tissue that fills its image must invent what comes in (`config.train.shift`, `zoom`, `turn` continue the
border). Where scans are larger than 181 px, `--config.data.rotation=free` cuts crops at any angle; from smaller ones they would be
enlarged.
The built-in cells, which are trained on where no source is given, have 4 classes.
"""

from configs import cwgan_cytology


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = cwgan_cytology.config("cwgan_histology", preset)
    c.train.update(cwgan_cytology.STILL)
    return c.lock()
