"""DCGAN at 32 x 32 with n = 256 filters in the last hidden block (CO-1144); settings and presets in dcgan.py.

python main.py --config=configs/dcgan32.py --workdir=runs/dcgan32
python main.py --config=configs/dcgan32.py:cpu --workdir=runs/dcgan32_cpu
"""

from configs import dcgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return dcgan.config("dcgan32", 32, 256, preset)
