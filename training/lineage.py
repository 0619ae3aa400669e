"""lineage.json: the SHA-256 of every scan, its split, and what weights a run was begun from."""

import pathlib
from collections.abc import Mapping, Sequence

from microscopy.atomic import write_json
from microscopy.scan import Scan
from training import checkpoints, pseudonyms
from training.errors import RunError
from training.workdir import read_object


def record(splits: Mapping[str, list[Scan]], upstream: list[dict]) -> dict:
    """Returns the lineage as it is written: one entry a scan (id, file, sha256, split) and one a source of weights."""
    scans = [{"id": scan.id, "file": scan.file, "sha256": scan.sha256, "split": name} for name, part in splits.items() for scan in part]
    return {"scans": scans, "upstream": upstream}


def write(workdir, splits: Mapping[str, list[Scan]], upstream: list[dict]) -> None:
    """Writes lineage.json at the start, and on a resume compares it.

    RunError where scans changed under the run, where two splits share a scan, and where a scan this run is evaluated
    on trained the weights it was begun from.
    """
    new = record(splits, upstream)
    refuse_leaks(splits, upstream)
    path = pathlib.Path(workdir) / "lineage.json"
    if path.exists() and checkpoints.steps(workdir):
        compare(workdir, splits)
    else:
        write_json(path, new)


def compare(workdir, splits: Mapping[str, list[Scan]]) -> None:
    """Raises RunError where the scans, by their ids or their salted ones, or their splits are not those of the workdir's lineage.json."""
    there, here, salt = _facts(read(workdir)), _facts(record(splits, [])), pseudonyms.salt_of(workdir)
    salted = {(pseudonyms.pseudonym(id, salt), *rest) for id, *rest in here} if salt else here
    changed = sorted(there ^ here) if there != salted else []
    if changed:
        raise RunError(
            f"{pathlib.Path(workdir) / 'lineage.json'}: the scans are not those the run was begun with; "
            f"{len({c[0] for c in changed})} differ, the first is {changed[0][0]}.\n"
            "Restore the files, or begin anew in another --workdir."
        )


def read(workdir) -> dict:
    """Returns the lineage of a workdir; RunError where it cannot be read."""
    path = pathlib.Path(workdir) / "lineage.json"
    lineage = read_object(path)
    if not all(isinstance(lineage.get(name), list) for name in ("scans", "upstream")):
        raise RunError(f"{path} cannot be read: it lists no scans and upstream.\nRestore it from a backup, or use another folder.")
    return lineage


def behind(lineage: dict) -> list[dict]:
    """Returns every scan that weights of a run have seen: its own, and those of the weights it was begun from."""
    return [*lineage["scans"], *(scan for source in lineage["upstream"] for scan in source.get("scans", []))]


def trained_on(workdir) -> set[str]:
    """Returns the SHA-256 of the scans that the weights of a run, or those it was begun with, were trained on."""
    return {scan["sha256"] for scan in behind(read(workdir)) if scan["split"] == "train"}


def refuse_trained_on(workdir, scans: list[Scan]) -> None:
    """Raises RunError where the weights of a run, or those it was begun with, were trained on one of the scans."""
    seen = trained_on(workdir)
    for scan in scans:
        if scan.sha256 in seen:
            raise RunError(
                f"{scan.file or scan.id}: {workdir} was trained on this scan, which so cannot judge it.\nLeave it out of --input."
            )


def _facts(lineage: dict) -> set:
    return {(scan["id"], scan["sha256"], scan["split"]) for scan in lineage["scans"]}


def refuse_leaks(splits: Mapping[str, list[Scan]], upstream: Sequence[dict] = ()) -> None:
    """Raises RunError where two splits share a scan, and where weights begun from (`upstream`) were trained on one that is evaluated on."""
    seen: dict[str, str] = {}
    for scan in record(splits, [])["scans"]:
        other = seen.setdefault(scan["sha256"], scan["split"])
        if other != scan["split"]:
            raise RunError(f"{scan['file'] or scan['id']}: the same bytes are in the splits {other} and {scan['split']}.\nDelete the copy.")
    for source in upstream:
        for scan in source.get("scans", []):
            if scan["split"] == "train" and seen.get(scan["sha256"]) in ("held_out", "test"):
                raise RunError(
                    f"config.init_from={source['source']}: it was trained on {scan['file'] or scan['id']}, which this run evaluates on "
                    f"(split {seen[scan['sha256']]}).\nUse the same scans, seed and shares, so that the splits agree."
                )


def of_weights(source: str, step: int, sha256: str, scans: list[dict]) -> dict:
    """Returns the upstream entry of a run begun from another workdir's weights; `scans` as `behind` gives them."""
    return {"source": source, "step": step, "sha256": sha256, "scans": scans}
