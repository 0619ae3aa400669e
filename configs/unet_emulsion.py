"""U-Net for grain tracks in nuclear emulsion, 1280 x 1024 frames: built-in simulator, or frames with masks.

    python main.py --config=configs/unet_emulsion.py --config.data.source=folder:FRAMES --workdir=runs/unet_emulsion
    python main.py --config=configs/unet_emulsion.py:cpu --workdir=runs/unet_emulsion_cpu
    python main.py --mode=predict --workdir=runs/unet_emulsion --checkpoint=best --input=FRAMES --output=TRACKS --watch

Published: 1261 pairs of 1280 x 1024 px, kernels 3x3 or 5x5, 2x2 pooling, best epoch kept, one file a model; Jaccard .954 on training
frames, .934 on others; 8 to 9 ms an image. Ours: everything else; see configs/unet.py.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 8 maps at the first level.
"""

from configs import unet


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = unet.config("unet_emulsion", 256)
    # Grains are 6 to 12 pixels wide: elastic deformation and free turns move a mask by half a pixel against its frame, too much for them.
    c.data.update({"source": "emulsion", "num_simulated": 60, "rotation": "quarter"})
    c.train.augment = "none"
    c.eval.update({"objects": False})
    if preset == "cpu":
        unet.cpu(c)
        c.model.base_width = 8
        c.data.num_simulated = 30
        c.train.update({"batch_size": 8, "num_steps": 1_500, "rate": 3e-3, "schedule": "cosine"})
        c.eval.num_scans = 6
        return c.lock()
    return unet.finished(c, preset)
