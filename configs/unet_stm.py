"""U-Net for nanoparticles on scanning-probe images: built-in simulator, or scans with masks or Labelme files.

    python main.py --config=configs/unet_stm.py --config.data.source=folder:SCANS --workdir=runs/unet_stm
    python main.py --config=configs/unet_stm.py:cpu --workdir=runs/unet_stm_cpu
    python main.py --mode=predict --workdir=runs/unet_stm --checkpoint=best --input=SCANS --output=PARTICLES

Published (Computer Optics 47(2), 2023, CO-1144): a U-Net trained on 256 x 256 px images labelled in Labelme; no settings. Ours: everything
else; see configs/unet.py. Pixels in narrow gaps between particles count more, so that touching ones come apart.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 16 maps at the first level.
"""

from configs import unet


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = unet.config("unet_stm", 256)
    c.data.update({"boundary_weight": 5.0, "boundary_sigma": 3.0})
    return unet.finished(c, preset)
