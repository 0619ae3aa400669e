"""SRGAN as a run of its phases: SRResNet on pixels, then SRGAN from its best checkpoint, each in a folder of the workdir.

    python main.py --config=configs/srgan_div2k.py --config.data.source=folder:DIV2K_train_HR --workdir=runs/srgan
    python main.py --config=configs/srgan_div2k.py --config.data.source=tfds:div2k --workdir=runs/srgan
    python main.py --mode=predict --workdir=runs/srgan/adversarial --input=PHOTOS --output=LARGER

Both phases train on `config.data`; other fields by `--config.stages.pixels.train.num_steps=...`. 50 of the pictures are resident at a
time (1.7 GB in colour). Published and ours: see configs/srgan.py; the published 400 epochs of 800 pictures are 20,000 steps of 16.

Presets: `:tiny` seconds, for tests; `:cpu` minutes on a laptop, on the built-in simulator.
"""

import ml_collections

from configs import srgan


def get_config(preset: str = "") -> ml_collections.ConfigDict:
    """Returns the locked config for a preset: "" (the real thing), "cpu" or "tiny"."""
    if preset not in srgan.PRESETS:
        raise ValueError(f"preset {preset!r}: choose cpu or tiny, or write no preset for the real thing")
    c = ml_collections.ConfigDict()
    c.name, c.task = "configs/srgan_div2k.py", "studies.stages"
    c.order = ("pixels", "adversarial")
    c.stages = ml_collections.ConfigDict()
    for phase in c.order:
        stage = srgan.config("srgan_div2k", 96)
        srgan.PRESETS[preset](stage)
        stage.train.phase = phase
        c.stages[phase] = stage
    c.data = c.stages.pixels.data  # one section: what is said of it goes for both
    if not preset:
        c.data.update({"channels": 3, "source": "tfds:div2k", "window": 50, "window_steps": 200})
    c.stages.adversarial.data = c.data
    c.stages.adversarial.init_from = "stage:pixels"
    return c.lock()
