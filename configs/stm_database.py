"""From scans to a labelled database of generated ones, and to a U-Net that reads real scans: one command, a run over stages.

    python main.py --config=configs/stm_database.py --config.data.source=folder:SCANS --workdir=runs/database
    python main.py --config=configs/stm_database.py:cpu --workdir=runs/demo

DCGAN on crops of the training scans (with a label field where the scans have masks), SRGAN pre-trained on the same crops and fine-tuned
adversarially (or --config.upscaler=bilinear), a database of 256 px images with labels, its scores against scans that no stage has seen, a
U-Net trained on the database beside one trained on real crops, both judged on those unseen scans, and WORKDIR/report.html. What stands
where, and what happens on a change: docs/database_chain.md. The same command again goes on; a setting that was changed lists what it makes
stale, and `--config.resume=rebuild` makes just that anew. Scans are named once, by --config.data.FIELD=VALUE; any other setting of a stage
by --config.stages.NAME.FIELD=VALUE. Two sizes are named once, too: --config.dcgan_size=64, --config.size=128.

Published (Computer Optics 47(2), 2023, CO-1144): DCGAN96 with n = 128, SRGAN x4 (first kernel 9x9, 64 maps) to 256 px, 100 generated images
scored against 100 originals, a U-Net on 256 px images. Ours: everything of dcgan.py, srgan.py and unet.py that is said there to be ours;
labels by a generated field instead of by hand; 2,000 images, as many as the publication's crops; 768-d scores, which are not comparable
with the published 2048-d ones (--config.stages.scores.features=2048).

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop: DCGAN of 48 px, upscaler on 128 px crops, small networks.
"""

import ml_collections

from configs import dcgan, srgan, unet

SCANS = ("source", "num_simulated", "simulator_seed", "tfds_dir", "channels", "rotation", "mirror", "levelling", "held_out", "test")
SCANS += ("fold", "group_by", "margins", "masks", "select", "channel", "nm_per_pixel", "resample_nm", "max_pixels", "skip_bad")
SCANS += ("window", "window_steps", "crop")
"""Fields of a data section that say which scans there are, how they are read, split and cut: alike in all stages."""


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    c = ml_collections.ConfigDict({"name": "configs/stm_database.py", "task": "database.build", "seed": 0})
    c.command = ""  # the words of the command line that say which config this is; filled in by main.py, for the report
    c.resume = ""  # rebuild: make stale stages anew
    c.labels = "auto"  # distance or mask: a label field learned with the image; none: found by a threshold; auto: distance with masks
    c.upscaler = "superres"  # or bilinear
    c.size = 64 if preset == "tiny" else 256  # px to a side of a database image; all stages follow
    c.dcgan_size = {"": 96, "cpu": 48, "tiny": 16}[preset]  # px to a side of what the DCGAN draws; all stages follow
    c.data = {name: value for name, value in dcgan.data(c.size).items() if name in SCANS}
    c.stages = ml_collections.ConfigDict()
    filters = 0  # 256 up to 64 px, 128 above, as dcgan32.py ... dcgan128.py have it; presets have their own
    c.stages.dcgan = dcgan.config("stm_database", c.dcgan_size, filters, preset).copy_and_resolve_references().unlock()
    for phase, name in (("pixels", "superres_before"), ("adversarial", "superres")):
        c.stages[name] = upscaler(phase, c.size, preset)
    c.stages.superres.init_from = "stage:superres_before"
    for name in ("dcgan", "superres_before", "superres"):
        for field in SCANS:
            c.stages[name].data[field] = c.data.get_ref(field)
    c.stages.real = {"num_crops": 2_000, "num_scored": 100}  # crops of training scans, for a U-Net; of scans unseen, for the scores
    c.stages.database = {"num_images": 2_000, "refuse_copies": True}
    c.stages.scores = {"num_images": 100, "features": "768", "weights": "cached", "draws": 0, "repeats": 20}
    for name in ("unet_database", "unet_real"):
        c.stages[name] = segmentation(c.size, preset)
    c.stages.unet_database.data.update({"source": "stage:database/images", "masks": "stage:database/labels"})
    c.stages.unet_real.data.update({"source": "stage:real/train/images", "masks": "stage:real/train/masks", "group_by": "^([0-9]+)_"})
    c.stages.downstream = {"checkpoint": "last"}  # of both U-Nets; best would choose on images like those trained on
    c.order = ("dcgan", "superres_before", "superres", "real", "database", "scores", "unet_database", "unet_real", "downstream")
    for name in c.order:
        if "train" in c.stages[name]:
            c.stages[name].name, c.stages[name].seed = c.name, c.get_ref("seed")
    PRESETS[preset](c)
    refer(c, 1 if preset == "" else 2)
    return c.lock()


def refer(c, part: int) -> None:
    """Makes the sizes of stages follow `c.size` and `c.dcgan_size`: upscaler and U-Nets train at the `part`-th of a database image."""
    for side in ("height", "width"):
        c.stages.dcgan.data[side] = c.get_oneway_ref("dcgan_size")
        for name in ("superres_before", "superres", "unet_database", "unet_real"):
            c.stages[name].data[side] = c.get_oneway_ref("size") // part
    for name in ("unet_database", "unet_real"):
        c.stages[name].data.crop = c.get_oneway_ref("size")


def upscaler(phase: str, size: int, preset: str) -> ml_collections.ConfigDict:
    """Returns the config of one phase of the upscaler to `size` px, from as many of a crop as the DCGAN's images have of theirs."""
    c = srgan.config("stm_database", size)
    c.model.update({"first_kernel": 9, "low_sizes": (), "reduction": "area"})  # empty: of the DCGAN's size
    srgan.PRESETS[preset](c)
    c.train.phase = phase
    return c


def segmentation(size: int, preset: str) -> ml_collections.ConfigDict:
    """Returns the config of a U-Net on images of `size` px, which are levelled and have no scale but their own."""
    c = unet.config("stm_database", size)
    unet.PRESETS[preset](c)
    c.data.update({"boundary_weight": 5.0, "boundary_sigma": 3.0, "rotation": "quarter", "levelling": "none", "test": 0.0})
    return c


def full(c) -> None:
    """The real thing as it is above."""


def cpu(c) -> None:
    """Minutes on two cores: an upscaler of half the crop, which is convolutional and serves the whole one; U-Nets at half the pixels."""
    c.data.num_simulated = 24
    c.stages.dcgan.model.base_filters = 16
    c.stages.dcgan.train.update({"num_steps": 3_000, "eval_every": 3_000, "save_every": 500, "preview_every": 500})
    for name in ("superres_before", "superres"):
        stage = c.stages[name]
        stage.model.update({"num_blocks": 2, "num_maps": 16, "discriminator_maps": 8})
        stage.train.update({"batch_size": 4, "num_steps": 250, "eval_every": 250, "save_every": 50, "preview_every": 250})
        stage.eval.update({"num_images": 16})
    c.stages.real.update({"num_crops": 256, "num_scored": 100})
    c.stages.database.num_images = 256
    for name in ("unet_database", "unet_real"):
        stage = c.stages[name]
        stage.model.base_width = 8
        stage.train.update({"batch_size": 8, "num_steps": 200, "eval_every": 200, "save_every": 50, "preview_every": 200})
        stage.eval.num_scans = 16


def tiny(c) -> None:
    """Seconds, for tests."""
    c.data.num_simulated = 6
    c.data.crop = 128
    c.stages.real.update({"num_crops": 12, "num_scored": 8})
    c.stages.database.update({"num_images": 12, "refuse_copies": False})
    c.stages.scores.update({"num_images": 8, "weights": "none"})
    c.stages.dcgan.eval.num_images = 8
    for name in ("unet_database", "unet_real"):
        c.stages[name].model.depth = 1
    for name in ("dcgan", "superres_before", "superres", "unet_database", "unet_real"):
        c.stages[name].train.update(dict.fromkeys(("num_steps", "preview_every", "save_every", "eval_every"), 4))


PRESETS = {"": full, "cpu": cpu, "tiny": tiny}
