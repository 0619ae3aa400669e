"""What a chain's config leaves to be chosen, and what of it cannot be: told before anything is trained."""

import jax

from database import scoring
from training.errors import ConfigError

SCAN_READERS = ("dcgan", "superres_before", "superres")
"""Stages that are trained on the scans themselves: all split and cut them alike."""
CHOICES = {"resume": ("", "rebuild"), "labels": ("auto", "distance", "mask", "none"), "upscaler": ("superres", "bilinear")}
LARGEST_OF_256, FILTERS = 64, (256, 128)
"""CO-1144: n = 256 filters up to 64 px and 128 above."""


def check(config) -> None:
    """Raises ConfigError for a field of a chain's config that cannot be, whatever the scans are."""
    for name, known in CHOICES.items():
        if config[name] not in known:
            raise ConfigError(f"config.{name}={config[name]!r}: choose {' or '.join(word or 'nothing' for word in known)}.")
    for stage, name, least in (("real", "num_crops", 4), ("real", "num_scored", 6), ("database", "num_images", 4)):
        if config.stages[stage][name] < least:
            raise ConfigError(f"config.stages.{stage}.{name}={config.stages[stage][name]}: {least} or more.")
    scoring.check(config.stages.scores, min(config.stages.real.num_scored, config.stages.database.num_images))
    which = config.stages.downstream.checkpoint
    if which not in ("last", "best"):
        raise ConfigError(f"config.stages.downstream.checkpoint={which!r}: choose last or best; other steps are not all kept.")
    for name in ("unet_database", "unet_real") if which == "best" else ():
        if not config.stages[name].data.held_out:
            held = f"config.stages.{name}.data.held_out=0"
            raise ConfigError(f"config.stages.downstream.checkpoint='best': with {held} none is scored; choose last, or hold some out.")
    if jax.process_count() > 1:
        raise ConfigError("--distributed: a chain is run by one process, on all devices it sees; leave it out.")
    if config.data.channels != 1:
        raise ConfigError(f"config.data.channels={config.data.channels}: a database is of images of one channel; set it to 1.")
    _check_sizes(config)


def _check_sizes(config) -> None:
    """One size of generated images and one of the database's, in all stages."""
    if not 1 <= config.dcgan_size <= config.size:
        raise ConfigError(f"config.dcgan_size={config.dcgan_size}: 1 to config.size={config.size}; images are enlarged, not reduced.")
    trained = [name for name in config.order if "train" in config.stages[name]]
    for name, side in ((name, side) for name in trained for side in ("height", "width")):
        data, remedy = config.stages[name].data, f"as config.stages.{name}.data.height, or it is no square"
        if name == "dcgan":
            remedy = f"set config.dcgan_size={data[side]}, which all stages follow"
        if data[side] != (config.dcgan_size if name == "dcgan" else data.height):
            raise ConfigError(f"config.stages.{name}.data.{side}={data[side]}: {remedy}.")


def fit_sizes(config) -> None:
    """Sets what follows from `config.dcgan_size` and `config.size` and is not set: the DCGAN's filters, what the upscaler begins from.

    Of its crop, a part of a database image, the upscaler is given as many pixels as the generator's images have of that part.
    """
    if not config.stages.dcgan.model.base_filters:
        config.stages.dcgan.model.base_filters = FILTERS[config.dcgan_size > LARGEST_OF_256]
    for name in SCAN_READERS[1:]:
        model, height = config.stages[name].model, config.stages[name].data.height
        if not model.low_sizes:
            model.low_sizes = (round(config.dcgan_size * height / config.size),)
