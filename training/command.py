"""What every command line here shares: flags read with short errors and nearest matches, --help, exit codes."""

import contextlib
import difflib
import os
import pathlib
import re
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Callable

import ml_collections
from absl import flags, logging
from ml_collections import config_flags

from training.errors import EXPECTED, ConfigError
from training.signals import Stop, stop_flag

CONFIGS = pathlib.Path(__file__).resolve().parents[1] / "configs"
_HELP = ("-h", "--help", "-help", "--helpfull", "--helpshort")
_REASONS = (
    ("invalid literal for int", "write a whole number"),
    ("could not convert string to float", "write a number"),
    ("Non-boolean", "write true or false"),
    ("as tuple", 'write a tuple in quotes, such as "(1, 2)"'),
    ("as a ConfigDict", "it holds fields; name one of them"),
)


def new_flags(argv: list[str]) -> flags.FlagValues:
    """Returns flags with --config (a locked config) and --debug, for a command to add its own to; `argv` is what `run` will parse.

    They are the command's own, not absl's global ones, so that several commands live in one process.
    """
    values = flags.FlagValues()
    text = "Experiment: configs/NAME.py or configs/NAME.py:PRESET (tiny, cpu); any field by --config.SECTION.FIELD=VALUE."
    config_flags.DEFINE_config_file("config", None, text, flag_values=values, sys_argv=argv, lock_config=True)
    flags.DEFINE_bool("debug", False, "Show the traceback of an error.", flag_values=values)
    return values


def run(argv: list[str], values: flags.FlagValues, body: Callable[[flags.FlagValues, Stop], None], about: str) -> int:
    """Returns the exit code of `body(values, stop)`: 0 done, 1 data or numbers, 2 flags or config, 130 Ctrl-C, 143 SIGTERM.

    What a user can mend is told in at most five lines on stderr. With --help prints `about` and the flags instead.
    """
    logging.set_verbosity(logging.ERROR)
    if any(word in _HELP for word in argv[1:]):
        print(help_text(about, values))
        return 0
    with stop_flag() as stop:
        try:
            with warnings.catch_warnings():  # of ml_collections, which loads config files in the old way
                warnings.filterwarnings("ignore", r"the load_module\(\) method is deprecated", DeprecationWarning)
                parse(argv, values)
            body(values, stop)
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 128 + (stop.signal or signal.SIGINT)
        except Exception as error:
            return explain(error, debug=values.is_parsed() and values.debug)
        return 0 if stop.signal is None else 128 + stop.signal


def config_words(argv: list[str]) -> str:
    """Returns --config and what was set in it, as a shell reads them; without `config.resume`, which is asked once."""
    words = list(argv[1:])
    given = [place for place, word in enumerate(words) if re.match(r"--?(no)?config(\.|=|$)", word)]
    kept = []
    for place in given:
        found = words[place : place + 1]
        if "=" not in words[place] and words[place + 1 : place + 2] and not words[place + 1].startswith("-"):
            found = words[place : place + 2]
        kept += [] if re.match(r"--?config\.resume(=|$)", words[place]) else found
    return shlex.join(kept)


def leave(code: int) -> None:
    """Ends the program with the exit code of `run`; after a signal without waiting for, or hearing from, threads that it cut short."""
    if code < 128:
        sys.exit(code)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def help_text(about: str, values: flags.FlagValues) -> str:
    """Returns `about` and a line a flag: name, default, what it is."""
    lines = []
    for name in values:
        default = values[name].default
        shown = f"--{name}" if values[name].boolean else f"--{name}={'...' if default is None else default}"
        lines.append(f"  {shown:24} {values[name].help}")
    return "\n".join([about.strip(), "", *lines])


def parse(argv: list[str], values: flags.FlagValues) -> None:
    """Reads the flags; ConfigError for an unknown or malformed flag, config file or config field, with the nearest match."""
    config = _load(argv)
    if config is not None:
        _check_fields(config, argv)
    try:
        rest = values(argv)
    except flags.UnrecognizedFlagError as error:
        name = error.flagname
        if name.startswith("config."):
            raise ConfigError(f"--{name} needs --config=configs/NAME.py, the experiment it changes.") from error
        near = difflib.get_close_matches(name, list(values), 1)
        raise ConfigError(f"--{name} is not a flag. {f'Did you mean --{near[0]}?' if near else '--help lists them.'}") from error
    except (flags.Error, LookupError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(_reason(str(error))) from error
    if len(rest) > 1:
        raise ConfigError(f"{rest[1]!r} is not a flag; write --name=value.")


def _reason(text: str) -> str:
    """absl's "flag --name=value: reason", the reason in words for the usual ones."""
    flag, _, _ = text.removeprefix("flag ").partition(": ")
    return next((f"{flag}: {remedy}." for found, remedy in _REASONS if found in text), text.removeprefix("flag "))


def _load(argv: list[str]) -> ml_collections.ConfigDict | None:
    """The config file alone, so that what is wrong with it is not told in the words of the flags behind it."""
    words = [f"{word}={after}" if word in ("-config", "--config") else word for word, after in zip(argv, [*argv[1:], ""], strict=True)]
    given = [word.partition("=")[2] for word in words[1:] if re.match("--?config=", word)]
    if not given:
        return None
    file = given[-1].partition(":")[0]
    if not pathlib.Path(file).is_file():
        known = sorted(path.name for path in CONFIGS.glob("*.py") if path.stem != "__init__")
        near = difflib.get_close_matches(pathlib.Path(file).name, known, 1)
        hint = f" Did you mean configs/{near[0]}?" if near else ""
        raise ConfigError(f"--config={file}: no such file.{hint}\nThe configs here are configs/: {', '.join(known)}.")
    sys.modules.pop("config_config", None)  # ml_collections would run the file on top of the one read before
    probe, word = flags.FlagValues(), f"--config={given[-1]}"
    config_flags.DEFINE_config_file("config", None, "", flag_values=probe, sys_argv=["", word])
    try:
        probe(["", word])
        config = probe.config
        getattr(config, "task", None)  # an OSError in the file is only raised when the config is used
    except Exception as error:  # the file is a program of the user's: anything may come out of it
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        for prefix in ("ValueError: ", "Configuration is not available because of an earlier failure to load: "):
            reason = reason.removeprefix(prefix)
        raise ConfigError(f"{word}: {reason}.") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(f"{word}: get_config() returns {type(config).__name__}, not an ml_collections.ConfigDict.")
    return config


def _check_fields(config: ml_collections.ConfigDict, argv: list[str]) -> None:
    for word in argv[1:]:
        found = re.match(r"--?(?:no)?config\.([^=]+)", word)
        section, path = config, "config"
        for field in found[1].split(".") if found else ():
            field, _, index = field.partition("[")
            known = list(section) if isinstance(section, ml_collections.ConfigDict) else []
            if field not in known:
                near = difflib.get_close_matches(field, known, 1)
                listed = f"It has {', '.join(known)}." if known else "It is a value itself."
                deeper = [] if near else _fields_called(config, field)
                near = near and f"{path}.{near[0]}" or (deeper[0] if deeper else "")
                hint = f"Did you mean --{near}?" if near else listed
                raise ConfigError(f"{path} has no field {field!r}. {hint}")
            section, path = section[field], f"{path}.{field}"
            if index:
                raise ConfigError(f"{path}[{index[:-1]}]: write the whole value, --{path}=...")


def _fields_called(section: ml_collections.ConfigDict, name: str, path: str = "config") -> list[str]:
    """The dotted names of all fields called `name`, wherever they are."""
    found = [f"{path}.{name}"] if name in section else []
    inner = [(field, value) for field, value in section.items() if isinstance(value, ml_collections.ConfigDict)]
    return found + [text for field, value in inner for text in _fields_called(value, name, f"{path}.{field}")]


def explain(error: Exception, debug: bool = False) -> int:
    """Returns the exit code after at most five lines on stderr; the traceback too with `debug` and for what is our mistake."""
    told = isinstance(error, EXPECTED)
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # the machine's refusal, wherever it was met
        told, text = True, f"{error.filename or 'the disk'}: {error.strerror}."
    if not told and type(error).__name__ == "JaxRuntimeError" and _is_one_of_several():
        told, text = True, f"Another process of this run has ended or cannot be reached; see what it says.\n({text.splitlines()[0][:200]})"
    if debug or not told:
        traceback.print_exception(error)
    if told:
        print("\n".join(text.splitlines()[:5]), file=sys.stderr)
    return getattr(error, "exit_code", 1)


def _is_one_of_several() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.process_count() > 1
