"""DCGAN at 128 x 128 with n = 128 filters in the last hidden block (CO-1144); settings and presets in dcgan.py.

python main.py --config=configs/dcgan128.py --workdir=runs/dcgan128
python main.py --config=configs/dcgan128.py:cpu --workdir=runs/dcgan128_cpu
"""

from configs import dcgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return dcgan.config("dcgan128", 128, 128, preset)
