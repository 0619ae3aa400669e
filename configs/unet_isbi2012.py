"""U-Net on the membranes of ISBI 2012, 20 or 30 slices of 512 x 512 px of one stack; cells are the foreground.

    SOURCE="--config.data.source=folder:isbi/image --config.data.masks=isbi/label"
    python main.py --config=configs/unet_isbi2012.py $SOURCE --workdir=runs/isbi

Slices are neighbours: they are held out in blocks (config.data.fold), never at random.

Published (B): 30 slices 512 x 512, leaky ReLU, tanh output; module .25, squaring .279, 90.3 % and IoU .882 on the training slices,
.312, .402, 86.1 % and .855 on others. No sizes and no loss are given. Ours: everything else; see configs/unet.py.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 16 maps at the first level.
"""

from configs import unet


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = unet.config("unet_isbi2012", 256)
    membranes(c)
    return unet.finished(c, preset)


def membranes(c) -> None:
    """What all configs of this stack share: the fold, quarter turns of a square lattice, the published activation and output."""
    c.data.update({"fold": "4/4", "held_out": 0.0, "test": 0.0, "rotation": "quarter"})
    c.model.update({"activation": "leaky_relu", "output": "tanh"})
    c.eval.update({"objects": False, "partition": True, "num_train_scans": 5})
