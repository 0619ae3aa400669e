"""Which file each prediction of a folder is of: a file keeps the id it was predicted by, one that has changed is predicted anew.

A method whose prediction of a scan has a part, a JSON file of its id and a suffix, says so in the part's `source`: the suffix of the scan's
file, which with the id gives its name, and the SHA-256 of its bytes. Parts of earlier versions have none and are taken as they are.
"""

import functools
import hashlib
import pathlib
from collections.abc import Callable, Collection, Iterable, Mapping

from tqdm import tqdm

from microscopy.scan import Refused, Scan
from training.errors import RunError
from training.workdir import read_object


def source(scan: Scan) -> dict[str, str]:
    """Returns what a part says of the file that its scan was read from."""
    return {"suffix": pathlib.Path(scan.file).suffix.rpartition(", page ")[0] or pathlib.Path(scan.file).suffix, "sha256": scan.sha256}


def digest(file: pathlib.Path) -> str:
    """Returns the SHA-256 of a file's bytes; "" where it cannot be read."""
    try:
        with open(file, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:
        return ""


def of(path: pathlib.Path) -> dict:
    """Returns the `source` of the part at `path`; {} where there is no part, or one without it. RunError where it is damaged."""
    found = read_object(path).get("source") if path.exists() else None
    return found if isinstance(found, dict) else {}


def assigned(
    files: Mapping[str, pathlib.Path], suffix_of: Callable[[str, pathlib.Path], str | None]
) -> tuple[dict[str, pathlib.Path], list[Refused]]:
    """Returns (id -> file, the refused): `files` (`listing.list_scans`), each by the id that it was predicted by, new ones by no other's.

    `suffix_of(id, file)` is that of the file that the predictions of an id are of, None where that is not known or there are none. A new
    file whose id is taken has its whole name as id, which is told in one line; refused is one whose whole name is taken too.
    """
    found, refused, moved = {}, [], []

    def has(id: str, file: pathlib.Path) -> bool:
        return suffix_of(id, file) == file.suffix

    for id, file in sorted(files.items(), key=lambda pair: not has(_within(pair[0], pair[1].stem), pair[1])):
        stem, whole = _within(id, file.stem), _within(id, file.name)
        wanted = [one for one in (stem, whole) if has(one, file)] + [one for one in (id, whole) if suffix_of(one, file) is None]
        chosen = next((one for one in wanted if one not in found), None)
        if chosen is None:
            refused.append(Refused(str(file), f"would have the same name as the scan {id} of another file; rename one"))
            continue
        found[chosen] = file
        if chosen == whole != stem and suffix_of(stem, file) is not None and not has(whole, file):
            moved.append(f"{file} is the scan {whole}: {stem} is that of another file")
    if moved:
        tqdm.write(f"{moved[0]}{_more(moved)}.")
    return dict(sorted(found.items())), refused


def _within(id: str, name: str) -> str:
    folder, slash, _ = id.rpartition("/")
    return f"{folder}{slash}{name}"


def forget_changed(folder: pathlib.Path, files: Mapping[str, pathlib.Path], parts: str) -> None:
    """Removes the parts, of the suffix `parts`, of the scans `files` (id -> file) whose file has changed, and tells them in one line.

    So they are predicted anew, and until that is done no table holds what is no longer true. RunError where that cannot be.
    """
    now, changed = functools.cache(digest), []
    for id, file in files.items():
        path = folder / f"{id}{parts}"
        before, content = of(path).get("sha256"), ""
        if before and (content := now(file)) and content != before:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise RunError(f"{path} cannot be removed, its scan has changed: {error.strerror or error}.") from error
            changed.append(str(file))
    if changed := list(dict.fromkeys(changed)):
        tqdm.write(f"{changed[0]}{_more(changed)}: changed since, predicted anew.")


def gone(folder: pathlib.Path, ids: Collection[str], parts: str) -> set[str]:
    """Returns the ids of the parts in the folder that are none of `ids`, and tells in one line that no table holds them."""
    found = sorted(set(standing(folder, parts)) - set(ids))
    if found:
        print(f"{folder}: left out of the tables, for the input has no such scan now: {found[0]}{_more(found)}. Their files stay.")
    return set(found)


def standing(folder: pathlib.Path, parts: str) -> dict[str, pathlib.Path]:
    """Returns id -> path, sorted by path, of the parts in a folder of predictions."""
    return {path.relative_to(folder).as_posix().removesuffix(parts): path for path in sorted(folder.rglob(f"*{parts}"))}


def _more(listed: Iterable[str]) -> str:
    count = len(list(listed)) - 1
    return f" and {count} more" if count else ""
