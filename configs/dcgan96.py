"""DCGAN at 96 x 96 with n = 128 filters in the last hidden block (CO-1144); settings and presets in dcgan.py.

python main.py --config=configs/dcgan96.py --workdir=runs/dcgan96
python main.py --config=configs/dcgan96.py:cpu --workdir=runs/dcgan96_cpu
"""

from configs import dcgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return dcgan.config("dcgan96", 96, 128, preset)
