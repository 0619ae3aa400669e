"""What the benchmarks' command lines share: flags with short errors, and the JSON they leave."""

import os
import sys
from collections.abc import Callable

from absl import flags, logging
from ml_collections import config_flags

from microscopy.atomic import write_json
from training import workdir as workdirs
from training.errors import EXPECTED, ConfigError


def declare(argv: list[str], default_config: str | None = None) -> flags.FlagValues:
    """Returns flags of their own (not absl's global ones) with --config, --json and --help; not parsed yet."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config", default_config, "Experiment: configs/NAME.py or configs/NAME.py:PRESET.", flag_values=values, sys_argv=argv
    )
    flags.DEFINE_string("json", "", "File the figures are written to.", flag_values=values)
    flags.DEFINE_bool("help", False, "Show this.", flag_values=values)
    return values


def run(argv: list[str], values: flags.FlagValues, about: str, measure: Callable[[flags.FlagValues], dict]) -> int:
    """Returns the exit code after parsing and measuring: 0 done, 1 data, 2 flags or config, with one short message.

    `measure(values)` prints its figures and returns them; --json=FILE receives them with the surroundings they hold for.
    """
    logging.set_verbosity(logging.ERROR)
    try:
        _parse(argv, values)
        if values.help:
            print(f"{about}\n{values.get_help(include_special_flags=False)}")
            return 0
        if values.config is None:
            raise ConfigError("--config=configs/NAME.py is missing: the experiment to measure; see configs/.")
        figures = measure(values)
        if values.json:
            write_json(values.json, {"command": argv[1:], **workdirs.environment(), "num_cores": os.cpu_count(), **figures})
    except EXPECTED as error:
        print("\n".join(str(error).splitlines()[:5]), file=sys.stderr)
        return error.exit_code if hasattr(error, "exit_code") else 1
    except OSError as error:
        print(f"--json={values.json} cannot be written: {error}.", file=sys.stderr)
        return 1
    return 0


def _parse(argv, values) -> None:
    try:
        rest = values(argv)
        getattr(values.config, "task", None)  # a file that cannot be read is only reported when it is used
    except (OSError, flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"--config or another flag is wrong: {str(error).strip().splitlines()[-1].strip()}") from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not a flag; write --name=value.")


def at_least(name: str, value: int, least: int) -> int:
    """Returns `value`; ConfigError where it is below `least`."""
    if value < least:
        raise ConfigError(f"--{name}={value}: {least} or more.")
    return value
