"""Checks, withdraws, exports and labels a database of generated images (docs/database.md).

python -m database.catalogue verify DIR [--rows=N --seed=S] [--repair]     files against the index, N rows made again (default 16)
python -m database.catalogue retract SCAN [DIR]                            everything that depends on a scan: id, file name or SHA-256
python -m database.catalogue export DIR --format=coco|labelme|tfds|folder --output=OUT
python -m database.catalogue label DIR --labels=LABELME_DIR                takes labels drawn or corrected by hand into the database

Exit codes: 0 done, 1 something is wrong with the data, 2 wrong flags, 130 Ctrl-C.
"""

import argparse
import pathlib
import signal
import sys
import threading

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the flags are read there is nothing to lose, and no traceback worth reading

from database import exports, handmade, index, making, recipe, retracting, verifying
from training.errors import EXPECTED, ConfigError, RunError

SHOWN = 10


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ConfigError(f"{message}. python -m database.catalogue --help lists the commands.")


def main(argv: list[str]) -> int:
    """Returns the exit code after the command of `argv` is done: 0 done, 1 data, 2 flags, 130 Ctrl-C."""
    try:
        flags = _parse(argv)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return COMMANDS[flags.command](flags)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except EXPECTED as error:
        print("\n".join(str(error).splitlines()[:5]), file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _parse(argv: list[str]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="python -m database.catalogue", description=__doc__, formatter_class=form, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    verify = commands.add_parser("verify", allow_abbrev=False)
    verify.add_argument("dir")
    verify.add_argument("--rows", type=int, default=16, help="rows made again, drawn by --seed; 0: only the files' SHA-256")
    verify.add_argument("--seed", type=int, default=0)
    verify.add_argument("--repair", action="store_true", help="writes missing and changed files anew, where they come out as they were")
    retract = commands.add_parser("retract", allow_abbrev=False)
    retract.add_argument("scan")
    retract.add_argument("dir", nargs="?", default=".")
    export = commands.add_parser("export", allow_abbrev=False)
    export.add_argument("dir")
    export.add_argument("--format", required=True)
    export.add_argument("--output", required=True)
    label = commands.add_parser("label", allow_abbrev=False)
    label.add_argument("dir")
    label.add_argument("--labels", required=True, help="folder of Labelme files named as the images: 000000.json")
    flags = parser.parse_args(argv)
    if flags.command == "verify" and (flags.rows < 0 or flags.seed < 0):
        raise ConfigError(f"--rows={flags.rows} --seed={flags.seed}: 0 or more.")
    return flags


def _verify(flags) -> int:
    if flags.repair and index.mend(flags.dir):
        print(f"{index.TEXT} written again from {index.TABLE}.")
    database = index.read(flags.dir)
    found = verifying.files(database)
    _print(found)  # whatever becomes of the weights
    places = verifying.choose(database, flags.rows, flags.seed)
    broken = [finding for finding in found if finding.kind != "extra"] if flags.repair else []
    made_by, lost = _weights(database) if places or broken else (None, "")
    if broken and made_by:
        kept = verifying.repair(database, found, made_by)
        print(f"{len(found) - len(kept)} of {len(broken)} files made again and written.")
        found = kept
    exact = verifying.same_surroundings(database.facts)
    if places and made_by:
        differing = verifying.rows(database, places, made_by, exact)
        _print(differing)
        found = [*found, *differing]
    total = sum(len(index.files(row)) for row in database.rows)
    there, here = (" ".join(facts.values()) for facts in (database.facts["environment"], recipe.environment()))
    how = f"bit by bit ({here})" if exact else f"to within {verifying.LEVELS} grey level: made on {there}, this is {here}"
    again = f"; {len(places)} rows made again, compared {how}" if places and made_by else ""
    result = f"{len(found)} finding{'s' * (len(found) > 1)}" if found else "all as the index says"
    print(f"{total} files of {len(database.rows)} rows checked{again}: {result}.", flush=True)
    if lost:
        asked = " and ".join([f"{len(places)} rows"] * bool(places) + ["the files to repair"] * bool(broken))
        remedy = "Put the runs that database.json names in their places" + (", or ask for no rows with --rows=0" if places else "")
        raise RunError(f"{asked} could not be made again: {lost}\n{remedy}.")
    return 1 if found else 0


def _print(found: list[verifying.Finding]) -> None:
    for finding in found[:SHOWN]:
        print(f"{finding.kind}: {finding.file}{f': {finding.text}' if finding.text else ''}")
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more")
    sys.stdout.flush()


def _weights(database: index.Database) -> tuple[making.Recipe | None, str]:
    """(what makes the rows, ""), or (None, why it cannot be had)."""
    try:
        return recipe.load(database.folder, database.facts), ""
    except EXPECTED as error:
        return None, str(error).splitlines()[0]


def _retract(flags) -> int:
    database = index.read(flags.dir)
    found = retracting.dependents(database, flags.scan)
    file = found.scan["file"] or ("name withheld" if found.salted else "built in")
    print(f"{found.scan['id']} ({file}, SHA-256 {found.scan['sha256'][:16]}...), found by its {found.found_by}")
    if found.rows:
        print(f"rows made from it: {len(found.rows)} of {len(database.rows)}: {retracting.rows_text(found.rows)}")
    else:
        print("rows made from it: none")
    if found.nearest:
        print(f"rows whose nearest real neighbour it is: {len(found.nearest)}: {retracting.rows_text(found.nearest)}")
    for line in found.stages:
        print(f"run {line}")
    for folder in dict.fromkeys(path.parent for path in found.crops):
        names = [path.name for path in found.crops if path.parent == folder]
        print(f"shows it: {len(names)} file{'s' if names[1:] else ''} in {folder}, {names[0]}{' to ' + names[-1] if names[1:] else ''}")
    for path in found.results:
        print(f"result {path}")
    return 0


def _export(flags) -> int:
    database = index.read(flags.dir)
    written, num = exports.export(database, flags.format, flags.output), len(exports.exported(database).rows)
    print(f"{written}: {num} images as {flags.format}.")
    if num < len(database.rows):
        lost = len(database.rows) - num
        print(f"{lost} of {len(database.rows)} images have no label and were left out: label them first, or take them from {flags.dir}.")
    return 0


def _label(flags) -> int:
    database = index.read(flags.dir)
    taken = handmade.adopt(database, pathlib.Path(flags.labels))
    print(f"{flags.dir}: {taken} labels by hand taken in, {len(database.rows) - taken} rows left as they are.")
    return 0


COMMANDS = {"verify": _verify, "retract": _retract, "export": _export, "label": _label}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
