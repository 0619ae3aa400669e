"""From scans to a labelled database of generated ones, and to a U-Net that reads real scans: one command, a run over stages.

    python main.py --config=configs/stm_database.py --config.data.source=folder:SCANS --workdir=runs/database
    python main.py --config=configs/stm_database.py:cpu --workdir=runs/demo

DCGAN on crops of the training scans (with a label field where the scans have masks), SRGAN pre-trained on the same crops and fine-tuned
adversarially (or --config.upscaler=bilinear), a database of 256 px images with labels, its scores against scans that no stage has seen, a
U-Net trained on the database beside one trained on real crops, both judged on those unseen scans, and WORKDIR/report.html. What stands
where, and what happens on a change: docs/database_chain.md. The same command again goes on; a setting that was changed lists what it makes
stale, and `--config.resume=rebuild` makes just that anew. Scans are named once, by --config.data.FIELD=VALUE; any other setting of a stage
by --config.stages.NAME.FIELD=VALUE.

Published (Computer Optics 47(2), 2023, CO-1144): DCGAN96 with n = 128, SRGAN x4 (first kernel 9x9, 64 maps) to 256 px, 100 generated images
scored against 100 originals, a U-Net on 256 px images. Ours: everything of dcgan.py, srgan.py and unet.py that is said there to be ours;
labels by a generated field instead of by hand; 2,000 images, as many as the publication's crops; 768-d scores, which are not comparable
with the published 2048-d ones (--config.stages.scores.features=2048).

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop: DCGAN of 48 px, upscaler on 128 px crops, small networks.
"""

import ml_collections

from configs import dcgan, srgan, unet

SIZE = 256
"""Pixels of a database image's side."""
SCANS = ("source", "num_simulated", "simulator_seed", "tfds_dir", "channels", "rotation", "mirror", "levelling", "held_out", "test")
SCANS += ("fold", "group_by", "margins", "masks", "select", "channel", "nm_per_pixel", "resample_nm", "max_pixels", "skip_bad")
SCANS += ("window", "window_steps", "crop")
"""Fields of a data section that say which scans there are, how they are read, split and cut: alike in all stages."""


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    c = ml_collections.ConfigDict({"name": "configs/stm_database.py", "task": "database.build", "seed": 0})
    c.resume = ""  # rebuild: make stale stages anew
    c.labels = "auto"  # of generated images: distance or mask, a label field learned with the image; none; auto: distance with masks
    c.upscaler = "superres"  # or bilinear
    c.size = SIZE
    c.data = {name: value for name, value in dcgan.data(SIZE).items() if name in SCANS}
    size = {"": 96, "cpu": 48, "tiny": 16}[preset]
    c.stages = ml_collections.ConfigDict()
    c.stages.dcgan = dcgan.config("stm_database", size, 128, preset).copy_and_resolve_references().unlock()
    for phase, name in (("pixels", "superres_before"), ("adversarial", "superres")):
        c.stages[name] = upscaler(phase, size, preset)
    c.stages.superres.init_from = "stage:superres_before"
    for name in ("dcgan", "superres_before", "superres"):
        for field in SCANS:
            c.stages[name].data[field] = c.data.get_ref(field)
    c.stages.real = {"num_crops": 2_000, "num_scored": 100}  # crops of training scans, for a U-Net; of scans unseen, for the scores
    c.stages.database = {"num_images": 2_000, "max_similarity": 0.0, "back_projections": 0}
    c.stages.scores = {"num_images": 100, "features": "768", "weights": "cached", "draws": 0, "repeats": 20}
    for name in ("unet_database", "unet_real"):
        c.stages[name] = segmentation(preset)
    c.stages.unet_database.data.update({"source": "stage:database/images", "masks": "stage:database/labels"})
    c.stages.unet_real.data.update({"source": "stage:real/train/images", "masks": "stage:real/train/masks", "group_by": "^([0-9]+)_"})
    c.stages.downstream = {"checkpoint": "last"}  # of both U-Nets; best would choose on images like those trained on
    c.order = tuple(("dcgan", "superres_before", "superres", "real", "database", "scores", "unet_database", "unet_real", "downstream"))
    for name in c.order:
        if "train" in c.stages[name]:
            c.stages[name].name, c.stages[name].seed = c.name, c.get_ref("seed")
    PRESETS[preset](c)
    return c.lock()


def upscaler(phase: str, low: int, preset: str) -> ml_collections.ConfigDict:
    """Returns the config of one phase of the upscaler, from `low` px to SIZE, the phase's crops whole."""
    c = srgan.config("stm_database", SIZE)
    c.model.update({"first_kernel": 9, "low_sizes": (low,), "reduction": "area"})
    srgan.PRESETS[preset](c)
    c.data.update({"height": SIZE, "width": SIZE})
    c.train.phase = phase
    return c


def segmentation(preset: str) -> ml_collections.ConfigDict:
    """Returns the config of a U-Net on images of SIZE px."""
    c = unet.config("stm_database", SIZE)
    c.data.update({"boundary_weight": 5.0, "boundary_sigma": 3.0, "rotation": "quarter", "levelling": "none", "test": 0.0})
    unet.PRESETS[preset](c)
    c.data.update({"crop": SIZE})
    return c
