"""3D U-Net for grain tracks in z-stacks of nuclear emulsion, 8 planes of 1280 x 1024: built-in simulator, or TIFF stacks with masks.

    python main.py --config=configs/unet3d_emulsion.py --config.data.plane_nm=1000 --workdir=runs/unet3d_emulsion
    python main.py --config=configs/unet3d_emulsion.py:cpu --workdir=runs/unet3d_emulsion_cpu
    python main.py --config=configs/unet3d_emulsion.py:cpu --config.model.kernel_depth=1 --workdir=runs/unet3d_slices_cpu
    python main.py --config=configs/unet3d_emulsion.py --config.data.source=folder:STACKS --config.data.plane_nm=NM --workdir=runs/stacks
    python main.py --mode=predict --workdir=runs/unet3d_emulsion --checkpoint=best --input=STACKS --output=CLUSTERS

STACKS holds TIFF files of config.data.planes pages, STACKS/masks a mask of as many pages for each. model.kernel_depth=1 is the same network
slice by slice, without a look at the planes above and below: what the third dimension is worth.

Published: a 3D U-Net is named as the next step, without settings or results. Ours: everything; see configs/unet.py. Kernels of
3 x 3 x 3, poolings of 1 x 2 x 2, for 8 planes are few and further apart than pixels.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, 8 maps at the first level, crops of 112 px.
"""

from configs import unet


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    c = unet.config("unet3d_emulsion", 128)
    c.data.update({"source": "emulsion", "num_simulated": 24, "rotation": "quarter"})  # see unet_emulsion.py
    c.data.planes = 8  # of a stack; a TIFF has as many pages
    c.data.plane_nm = 0.0  # nm from plane to plane, for the table of clusters (the simulator's are 1000); 0: not known, lengths in voxels
    c.model.update({"base_width": 32, "depth": 3})
    c.model.kernel_depth = 3  # of each convolution along the planes; 1: slice by slice
    c.model.pool_depth = 1  # of each pooling along the planes: 1 or 2
    c.train.update({"batch_size": 8, "augment": "none"})
    c.eval.update({"objects": False, "num_scans": 4, "min_area": 4})
    PRESETS[preset](c)
    return c.lock()


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores."""
    c.data.update({"num_simulated": 12, "height": 112, "width": 112, "crop": 112})
    c.model.base_width = 8
    c.train.update({"batch_size": 2, "num_steps": 600, "rate": 3e-3})
    c.train.update({"preview_every": 200, "save_every": 100, "eval_every": 200, "log_every": 10})
    c.eval.update({"num_images": 4, "num_scans": 2})


def tiny(c) -> None:
    """Seconds, for tests."""
    unet.tiny(c)
    c.data.update({"num_simulated": 3, "planes": 2})
    c.model.update({"base_width": 2, "depth": 1})
    c.train.update({"batch_size": 2})
    c.eval.update({"num_images": 2, "num_scans": 1})


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
