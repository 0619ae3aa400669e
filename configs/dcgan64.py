"""DCGAN at 64 x 64 with n = 256 filters in the last hidden block (CO-1144); settings and presets in dcgan.py.

python main.py --config=configs/dcgan64.py --workdir=runs/dcgan64
python main.py --config=configs/dcgan64.py:cpu --workdir=runs/dcgan64_cpu
"""

from configs import dcgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return dcgan.config("dcgan64", 64, 256, preset)
