"""DCGAN at 48 x 48 with n = 256 filters in the last hidden block (CO-1144); settings and presets in dcgan.py.

python main.py --config=configs/dcgan48.py --workdir=runs/dcgan48
python main.py --config=configs/dcgan48.py:cpu --workdir=runs/dcgan48_cpu
"""

from configs import dcgan


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    return dcgan.config("dcgan48", 48, 256, preset)
