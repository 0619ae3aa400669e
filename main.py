"""Scanforge's command line: flags only. Train, inspect, generate or evaluate; `python main.py --help` lists the flags."""

import os
import pathlib
import re
import sys
import traceback

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from absl import flags, logging
from ml_collections import config_flags

MODES = ("train", "inspect", "generate", "evaluate")
FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "Experiment: configs/NAME.py or configs/NAME.py:PRESET (tiny, cpu).", lock_config=True)
flags.DEFINE_enum("mode", "train", MODES, "What to do.")
flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, log, samples, report.")
flags.DEFINE_string("checkpoint", "last", "generate, evaluate: last or a step.")
flags.DEFINE_integer("num_images", 64, "generate: how many.")
flags.DEFINE_integer("seed", 0, "generate: image i depends on (seed, i) alone.")
flags.DEFINE_string("output", None, "generate: folder the images are written to.")
flags.DEFINE_string("format", "png", "generate: png (8 bit), tiff or npy (float32; heights in nm where the scans had units).")
flags.DEFINE_bool("debug", False, "Show the traceback of an error.")


def run(argv: list[str]) -> int:
    """Returns the exit code: 0 done, 1 data or numbers, 2 flags or config, 130 Ctrl-C, 143 SIGTERM."""
    from training.signals import stop_flag

    with stop_flag() as stop:
        try:
            parse(argv)
            dispatch(stop)
        except KeyboardInterrupt:
            return 130
        except Exception as error:
            return explain(error)
        return 0 if stop.signal is None else 128 + stop.signal


def parse(argv: list[str]) -> None:
    """Reads the flags; ConfigError for an unknown or malformed one, with the nearest match."""
    from training.errors import ConfigError

    try:
        rest = FLAGS(argv)
        getattr(FLAGS.config, "task", None)  # a file that cannot be read is only reported when it is used
    except OSError as error:
        known = ", ".join(sorted(path.name for path in pathlib.Path(__file__).parent.glob("configs/*.py") if path.stem != "__init__"))
        raise ConfigError(f"--config: {short(str(error))}\nThe configs here are configs/: {known}.") from error
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(short(str(error))) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not a flag; write --name=value.")


def short(text: str) -> str:
    """Returns the reason in a message of absl or ml_collections: after its traceback, or the field and its nearest match."""
    field = re.search(r"'(\w+)\\?'.*Did you mean \"(\w+)\"", text, re.DOTALL)
    if field:
        return f"config has no field {field[1]!r}. Did you mean {field[2]!r}?"
    return text.strip().splitlines()[-1].strip() if "parsing config file" in text or "Attempted" in text else text


def dispatch(stop) -> None:
    """Runs the mode the flags ask for."""
    from training import loop, workdir
    from training.errors import ConfigError
    from training.generation import Request

    logging.set_verbosity(logging.ERROR)
    if FLAGS.mode in ("train", "inspect") and FLAGS.config is None:
        raise ConfigError(f"--config=configs/NAME.py is missing: the experiment to {FLAGS.mode}; see configs/.")
    if FLAGS.mode != "inspect" and not FLAGS.workdir:
        raise ConfigError("--workdir=DIR is missing: the folder of the run.")
    if FLAGS.mode == "train":
        loop.train(FLAGS.config, FLAGS.workdir, stop)
    elif FLAGS.mode == "inspect":
        import input_pipeline

        input_pipeline.inspect(FLAGS.config, FLAGS.workdir)
    else:
        config = workdir.read_config(FLAGS.workdir)
        if FLAGS.mode == "evaluate":
            for name, value in loop.evaluate(config, FLAGS.workdir, FLAGS.checkpoint).items():
                print(f"{name}: {value:.4g}")
        else:
            request = Request(FLAGS.num_images, FLAGS.seed, FLAGS.output or "", FLAGS.format, FLAGS.checkpoint, stop)
            loop.method(config).generate(config, FLAGS.workdir, request)


def explain(error: Exception) -> int:
    """Returns the exit code after at most five lines on stderr; the traceback too with --debug or for what is our mistake."""
    from training.errors import EXPECTED

    expected = isinstance(error, EXPECTED)
    if not expected or (FLAGS.is_parsed() and FLAGS.debug):
        traceback.print_exception(error)
    if expected:
        print("\n".join(str(error).splitlines()[:5]), file=sys.stderr)
    return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(run(sys.argv))
