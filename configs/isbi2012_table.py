"""The published table of ISBI 2012 beside ours: U-Net alone and U-Nets in a GAN whose critics learn a quality function.

    SOURCE="--config.source=folder:isbi/image --config.masks=isbi/label"
    python main.py --config=configs/isbi2012_table.py:cpu $SOURCE --workdir=runs/isbi

A run over stages, each a training in a folder of the workdir: four folds of neighbouring slices for the U-Net alone and for iou_squared,
the fourth fold for the other quality functions. Critics have both options of unet_gan_isbi2012.py: windows and products. WORKDIR/table.md
and table.json hold the tables, on training and held-out slices, published against ours, and again of the folds alone that all methods
have; the same command again goes on, and writes them anew from the stages that are finished. Other fields by
--config.stages.NAME.FIELD=VALUE, for all stages --config.num_steps=N (U-Net alone), --config.gan_steps=N, --config.window_weight=X and
--config.critic_products=BOOL (in a GAN; 0 and false are as published).

Published: see unet_isbi2012.py and unet_gan_isbi2012.py. Ours: the folds; the published figures are of one split into 30 and 30 slices.

Presets: `:tiny` seconds, for tests; `:cpu` many hours on a laptop, for thirteen trainings of 1,000 steps.
"""

import ml_collections

from configs import unet_gan_isbi2012, unet_isbi2012

FOLDS = 4
OTHERS = ("module", "squaring", "percent", "iou", "truth")


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    alone, both = unet_isbi2012.get_config(preset), unet_gan_isbi2012.get_config(preset)
    c = ml_collections.ConfigDict({"name": "configs/isbi2012_table.py", "task": "studies.isbi2012"})
    c.source, c.masks = "folder:isbi/image", "isbi/label"
    c.num_steps, c.gan_steps, c.window_weight, c.critic_products = alone.train.num_steps, both.train.num_steps, 1.0, True
    names = [(kind, FOLDS) for kind in ("unet", "iou_squared", *OTHERS)]
    names += [(kind, fold) for fold in range(FOLDS - 1, 0, -1) for kind in ("unet", "iou_squared")]
    if preset == "tiny":
        c.source, c.masks = "simulated", ""
    c.order = tuple(f"{kind}_fold{fold}" for kind, fold in names)
    c.stages = ml_collections.ConfigDict()
    for name, (kind, fold) in zip(c.order, names, strict=True):
        stage = (alone if kind == "unet" else both).copy_and_resolve_references().unlock()
        stage.data.fold = f"{fold}/{FOLDS}"
        stage.data.source, stage.data.masks = c.get_ref("source"), c.get_ref("masks")
        stage.train.num_steps = c.get_ref("num_steps" if kind == "unet" else "gan_steps")
        if kind != "unet":
            stage.train.quality, stage.train.window_weight = kind, c.get_ref("window_weight")
            stage.model.critic_products = c.get_ref("critic_products")
        c.stages[name] = stage
    return c.lock()
