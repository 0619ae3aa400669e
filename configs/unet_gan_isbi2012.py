"""U-Net inside a GAN on ISBI 2012: its critic learns a quality function of masks, and the U-Net lessens the error the critic predicts.

    SOURCE="--config.data.source=folder:isbi/image --config.data.masks=isbi/label"
    python main.py --config=configs/unet_gan_isbi2012.py $SOURCE --config.train.quality=iou_squared --workdir=runs/isbi_gan

Published: 30 slices 512 x 512; U-Net with leaky ReLU and tanh; critic of a U-Net, then convolutions, then dense layers, which sees scan and
mask and learns module, squaring, percent, IoU or whether the mask is a true one; trained on IoU squared its table has module .235, squaring
.453, 88.3 % and IoU .866 on the training slices, .212, .407, 89.5 % and .89 on others. No supervised loss.
Not published, ours: everything else: sizes of both networks, what masks the critic learns on (predicted, true and six kinds of damage;
segmentation/damage.py), its mean over space before the dense layers, rates (the U-Net's a fifth of its critic's), a start in which only the
critic learns, and the critic audit. Options, 0 and false as published: `supervised_weight`; `window_weight`, by which the critic learns the
qualities of windows of 8 px too; `critic_products`, with which the critic's U-Net sees the scan alone and its maps are multiplied by the
mask. What the last two gain is in docs/segmentation.md.

Presets: `:tiny` seconds, for tests; `:cpu` an hour and more on a laptop, 16 maps at the U-Net's first level, 8 at the critic's.
"""

from configs import unet, unet_isbi2012


def get_config(preset: str = ""):
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    c = unet.config("unet_gan_isbi2012", 256)
    c.task = "segmentation.metric_critic"
    unet_isbi2012.membranes(c)
    c.model.update({"critic_width": 16, "critic_depth": 3, "critic_strided": 3, "critic_hidden": 64, "critic_products": False})
    c.train.update({"quality": "iou_squared", "supervised_weight": 0.0, "window_weight": 0.0})
    # A U-Net that is slower than its critic: at equal rates it leaves the masks for which the critic's word is worth something.
    c.train.update({"rate": 2e-4, "critic_rate": 1e-3, "critic_warmup": 100})
    c.eval.update({"num_images": 64, "num_audited_steps": 20})
    if preset == "cpu":
        c.model.critic_width = 8
        c.eval.num_images = 128
    if preset == "tiny":
        c.model.update({"critic_width": 4, "critic_depth": 2, "critic_strided": 2, "critic_hidden": 8})
        c.train.critic_warmup = 2
        c.eval.num_audited_steps = 2
    return unet.finished(c, preset)
