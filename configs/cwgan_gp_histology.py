"""The class-conditional WGAN of cwgan_histology.py with the options of cwgan_gp_cytology.py.

python main.py --config=configs/cwgan_gp_histology.py --config.data.source=folder:tissue --workdir=runs/tissue_gp
"""

from configs import cwgan_cytology, cwgan_gp_cytology


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = cwgan_gp_cytology.config("cwgan_gp_histology", preset)
    c.train.update(cwgan_cytology.STILL)
    return c.lock()
