"""Scanforge's command line: flags only. Trains, inspects, generates, predicts or evaluates.

python main.py --config=configs/dcgan48.py:cpu --workdir=runs/first                             trains, or goes on training
python main.py --mode=inspect --config=configs/dcgan48.py --config.data.source=folder:scans     shows what would be trained on
python main.py --mode=generate --workdir=runs/first --num_images=1000 --output=images           writes images
python main.py --mode=predict --workdir=runs/first --input=scans --output=enlarged              applies a network to scans
python main.py --mode=evaluate --workdir=runs/first                                             scores a checkpoint
python main.py --mode=export --workdir=runs/first --output=first.safetensors                    one file that predict accepts by --weights
"""

import functools
import os
import signal
import sys

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the flags are read there is nothing to lose, and no traceback worth reading
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags

from training import command
from training.errors import ConfigError

USED = {
    "train": ("workdir", "distributed"),
    "inspect": ("workdir",),
    "generate": ("workdir", "checkpoint", "num_images", "labels", "seed", "output", "format"),
    "predict": ("workdir", "checkpoint", "input", "output", "format", "smoothing", "size", "back_projections", "tile", "watch", "weights"),
    "evaluate": ("workdir", "checkpoint", "input", "nm_per_pixel", "weights", "num_searched", "features"),
    "export": ("workdir", "checkpoint", "output"),
}
"""Mode to the flags that it uses, besides --config and --debug; another one is refused."""
MODES = tuple(USED)


def run(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 data or numbers, 2 flags or config, 130 Ctrl-C, 143 SIGTERM."""
    return command.run(argv, define(argv), functools.partial(dispatch, words=command.config_words(argv)), __doc__)


def define(argv: list[str]) -> flags.FlagValues:
    """Returns the flags, not yet parsed."""
    values = command.new_flags(argv)
    flags.DEFINE_enum("mode", "train", MODES, f"What to do: {', '.join(MODES)}.", flag_values=values)
    flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, log, samples, report.", flag_values=values)
    flags.DEFINE_string(
        "checkpoint", "last", "generate, predict, evaluate, export: last, best (by held-out scans) or a step.", flag_values=values
    )
    text = "evaluate: folder of scans to score against instead of the held-out ones. predict: a file or a folder of scans."
    flags.DEFINE_string("input", "", text, flag_values=values)
    text = "evaluate: nm per pixel of --input's files, where they state none."
    flags.DEFINE_float("nm_per_pixel", 0.0, text, lower_bound=0.0, flag_values=values)
    text = (
        "evaluate: Inception weights, a file or auto, instead of config.eval.weights. predict: a file of --mode=export, without --workdir."
    )
    flags.DEFINE_string("weights", "", text, flag_values=values)
    text = "predict: wait for files in --input and segment them as they arrive, until Ctrl-C."
    flags.DEFINE_bool("watch", False, text, flag_values=values)
    flags.DEFINE_integer("num_searched", 100, "evaluate: images searched for copies of the training scans.", flag_values=values)
    flags.DEFINE_string("features", "", "evaluate: Inception layer, 2048, 768, 192 or 64.", flag_values=values)
    text = "generate: how many; of a run on classes, how many of each class."
    flags.DEFINE_integer("num_images", 64, text, flag_values=values)
    text = "generate: classes, all or NAME:COUNT,NAME:COUNT,...; a NAME alone has --num_images. Each has its own folder."
    flags.DEFINE_string("labels", "", text, flag_values=values)
    flags.DEFINE_integer("seed", 0, "generate: image i, of its class if there are classes, depends on (seed, i) alone.", flag_values=values)
    flags.DEFINE_string("output", None, "generate, predict: folder the images are written to. export: the file.", flag_values=values)
    text = "generate: png (8 bit), tiff or npy (float32; heights in nm where the scans had units), gwy (heights, for Gwyddion)."
    text += " predict: unless given, as what was read."
    flags.DEFINE_string("format", "png", text, flag_values=values)
    text = "predict: standard deviation, in pixels of the output, of a Gaussian that smooths what the network gives; 0 none."
    flags.DEFINE_float("smoothing", 0.0, text, flag_values=values)
    text = "predict: pixels of the enlarged image's longer side; 0 the network's scale."
    flags.DEFINE_integer("size", 0, text, flag_values=values)
    text = "predict: steps of back-projection, by which the enlarged image, reduced again, is the one given; 0 none, 10 is enough."
    flags.DEFINE_integer("back_projections", 0, text, flag_values=values)
    flags.DEFINE_integer("tile", 0, "predict: pixels to a side of what the network is given at a time; 0 by memory.", flag_values=values)
    text = "train: join the processes of several hosts, see docs/architecture.md."
    flags.DEFINE_bool("distributed", False, text, flag_values=values)
    return values


def dispatch(values: flags.FlagValues, stop, words: str = "") -> None:
    """Runs the mode the flags ask for; what it needs is imported then, so that a wrong flag is told at once.

    `words`, --config and what was set in it, are kept in a config that has the field `command`.
    """
    _refuse_unused(values)
    if values.mode in ("train", "inspect") and values.config is None:
        raise ConfigError(f"--config=configs/NAME.py is missing: the experiment to {values.mode}; see configs/.")
    one_file = values.mode == "predict" and values.weights
    if one_file and values.workdir:
        raise ConfigError("--weights and --workdir: give one of them, the file of a model or the folder of a run.")
    if values.mode != "inspect" and not values.workdir and not one_file:
        raise ConfigError("--workdir=DIR is missing: the folder of the run.")
    if values.mode == "inspect":
        import input_pipeline
        from training import pseudonyms

        staged = "stages" in values.config  # all of them train on one set
        config = values.config.stages[values.config.order[0]] if staged else values.config
        kept = lambda config, prepared: pseudonyms.in_workdir(config, values.workdir, prepared)  # noqa: E731 - the one of two
        input_pipeline.inspect(config, values.workdir, kept if values.workdir else pseudonyms.unsaved)
        return
    from training import devices, loop, weights, workdir

    if values.mode == "train":
        if values.distributed:
            devices.join()
        method = loop.method(values.config)
        if "command" in values.config:
            values.config.command = words
        (method.run if hasattr(method, "run") else loop.train)(values.config, values.workdir, stop)
        return
    if values.config is not None:
        place = f"--weights={values.weights}" if one_file else f"--workdir={values.workdir}"
        raise ConfigError(f"--mode={values.mode} takes the config of {place}; leave --config out.")
    config = weights.config_of(values.weights) if one_file else workdir.read_config(values.workdir)
    if "stages" in config:
        places = ", ".join(f"{values.workdir}/{name}" for name in config.order)
        raise ConfigError(f"--workdir={values.workdir} is a run over stages; name one of them: {places}.")
    if values.mode == "evaluate":
        for name in ("weights", "features", "num_searched"):
            if name in config.eval:
                config.eval[name] = values[name].value if values[name].present or name == "num_searched" else config.eval[name]
            elif values[name].present:
                raise ConfigError(f"--{name}: {config.task}, which {values.workdir} was trained with, has no config.eval.{name}.")
        loop.print_scores(loop.evaluate(config, values.workdir, values.checkpoint, values.input, values.nm_per_pixel))
        return
    method = loop.method(config)
    if not hasattr(method, values.mode) or one_file and not hasattr(method, "export"):
        place = values.weights if one_file else values.workdir
        raise ConfigError(f"--mode={values.mode}: {config.task}, which {place} was trained with, does not {values.mode}.")
    getattr(method, values.mode)(config, values.workdir, _request(values, stop))


def _request(values: flags.FlagValues, stop):
    """What generate, predict and export are asked for."""
    from training import generation, prediction, pseudonyms

    output, checkpoint = values.output or "", values.checkpoint
    if values.mode == "generate":
        return generation.Request(values.num_images, values.seed, output, values.format, checkpoint, stop, values.labels)
    kind = values.format if values["format"].present else ""
    options = {name: values[name].value for name in ("smoothing", "tile", "watch", "weights", "size", "back_projections")}
    renamed = pseudonyms.renaming(values.workdir, output) if values.workdir and output else None
    return prediction.Request(values.input, output, checkpoint, kind, stop=stop, renamed=renamed, **options)


def _refuse_unused(values: flags.FlagValues) -> None:
    for name in sorted(set().union(*USED.values()) - set(USED[values.mode])):
        if values[name].present:
            modes = " or ".join(f"--mode={mode}" for mode in MODES if name in USED[mode])
            raise ConfigError(f"--{name} is not used by --mode={values.mode}: leave it out; {modes} uses it.")


if __name__ == "__main__":
    command.leave(run(sys.argv))
