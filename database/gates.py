"""What may not enter a database, or judge by it: near-copies of training scans, test scans upstream, and a collapsed generator."""

import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from database import index
from metrics.memorisation import memorisation, random_crops
from microscopy import duplicates, flaws
from microscopy.preparation import Prepared
from microscopy.scan import DataError, Scan
from training import lineage
from training.errors import RunError

SIDE, MAX_COMPARED = 32, 500
DIGITS = 6
"""Of similarities as they are stored: the last bits of a float32 are another machine's."""
LEAST_DISTINCT, VARIED = 0.1, 0.5
"""Of the effective number of distinct images that as many crops of the training scans have: below the first a set counts as collapsed,
below the second it is said to be less varied than the scans."""


class Judged(NamedTuple):
    """Of n images: `similarity` float (n) to the most similar place in the training scans, its `scan` id, `copied` bool (n)."""

    similarity: np.ndarray
    scan: list[str]
    copied: np.ndarray


def calibrate(prepared: Prepared, folder=None) -> dict:
    """Returns the facts of the gate against near-copies: threshold, sensitivity, held-out scans and crops behind it (`memorisation`).

    `threshold` is None where no scan is held out, or none is large enough: near-copies then cannot be told, and `why` says so. What the
    database in `folder` states already of the same scans and crops (`calibrated_on`) is taken from there: on a resume nothing is searched.
    """
    train, held_out = (seen(prepared, name) for name in ("train", "held_out"))
    facts = {"threshold": None, "sensitivity": None, "held_out_scans": len(held_out), "crops": 0, "why": ""}
    facts["calibrated_on"] = _fingerprint(prepared)
    if folder is not None and (pathlib.Path(folder) / index.FACTS).is_file():
        known = index.read_facts(folder).get("gate")
        if isinstance(known, dict) and known.keys() == facts.keys() and known["calibrated_on"] == facts["calibrated_on"]:
            return known
    if not held_out:
        return facts | {"why": "no scan is held out (config.data.held_out)"}
    try:
        found = memorisation(train, held_out, real_crops(prepared, 1), scale=_scale(prepared))
    except DataError as error:
        return facts | {"why": str(error).splitlines()[0][:200].rstrip(".")}
    return facts | {"threshold": round(found.threshold, DIGITS), "sensitivity": found.sensitivity, "crops": len(found.held_out)}


def _fingerprint(prepared: Prepared) -> str:
    scans = [(split, scan.id, scan.sha256) for split in ("train", "held_out") for scan in prepared.splits[split]]
    told = [scans, prepared.crop, prepared.size, prepared.value_map.low, prepared.value_map.high]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def make_judge(prepared: Prepared, gate: Mapping) -> Callable[[np.ndarray], Judged]:
    """Returns judge(images (n, h, w, 1) in [-1, 1]) -> `Judged` by the gate's threshold; without one nothing is called a copy.

    An image's judgement does not depend on the others. Without a threshold the nearest neighbour is told all the same.
    """
    train, scale = seen(prepared, "train"), _scale(prepared)
    ids = [scan.id for scan in prepared.splits["train"]]

    def judge(images: np.ndarray) -> Judged:
        try:
            found = memorisation(train, [], images, scale=scale)
        except DataError:  # scans smaller than a crop have no place to find; `calibrate` has said why
            return Judged(np.full(len(images), np.nan), [""] * len(images), np.zeros(len(images), bool))
        similarity = np.round(found.similarity, DIGITS)
        copied = similarity > (np.inf if gate["threshold"] is None else gate["threshold"])
        return Judged(similarity, [ids[number] for number in found.scan], copied)

    return judge


def seen(prepared: Prepared, split: str) -> list[np.ndarray]:
    """Returns the scans of a split as the generator saw them: one channel (h, w), float32 in [-1, 1]."""
    pixels = (scan.pixels for scan in prepared.splits[split])
    return [prepared.value_map.to_unit(flaws.luma(one) if one.ndim == 3 else one) for one in pixels]


def real_crops(prepared: Prepared, num: int, seed: int = 0) -> np.ndarray:
    """Returns `num` random crops of the training scans as the generator's images are, float32 (num, s, s) in [-1, 1]."""
    side = min(prepared.size)
    return random_crops(seen(prepared, "train"), num, side, _scale(prepared), np.random.default_rng(seed))


def _scale(prepared: Prepared) -> float:
    return prepared.crop[1] / prepared.size[1]


def diversity(images: Sequence[np.ndarray], real: np.ndarray) -> dict:
    """Returns how varied images (h, w) are beside crops (n, s, s) of the training scans: effective numbers, their ratio, collapsed or not.

    Of as many of each, `MAX_COMPARED` at most, `distinct` and `distinct_real` are `effective_number`; `collapsed` where their ratio is
    under `LEAST_DISTINCT`. `alike` is the largest correlation of two different images.
    """
    num = min(len(images), len(real), MAX_COMPARED)
    made, there = (_descriptors(part[:num]) for part in (images, real))
    distinct, distinct_real = effective_number(made), effective_number(there)
    pairs = made @ made.T - 2 * np.eye(num)
    found = {"images": num, "distinct": distinct, "distinct_real": distinct_real, "ratio": distinct / distinct_real}
    found = {name: round(value, DIGITS) for name, value in found.items()}
    found["alike"] = round(float(pairs.max()), DIGITS) if num > 1 else 0.0
    return found | {"collapsed": bool(found["ratio"] < LEAST_DISTINCT)}


def effective_number(directions: np.ndarray) -> float:
    """Returns the effective number of distinct rows of unit length (n, d), 1 for n equal ones to n for orthogonal ones.

    The Vendi score: exp of the Shannon entropy of the eigenvalues of K / n, K the cosines (Friedman and Dieng, TMLR 2023, definition 3.1).
    """
    values = np.linalg.eigvalsh(directions @ directions.T / len(directions))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def _descriptors(images: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of mean 0 and norm 1 of the images reduced to 32 x 32; flat images are all alike."""
    small = np.stack([cv2.resize(np.asarray(image, np.float32), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for image in images])
    rows = small.reshape(len(small), -1).astype(np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    flat = np.zeros(rows.shape[1])
    flat[0] = 1.0
    return np.where(norms > 1e-6, rows / np.maximum(norms, 1e-12), flat)


def diversity_text(found: Mapping) -> str:
    """Returns the line that tells of `diversity`, with what to do where the set is less varied than the scans."""
    text = f"{found['images']} images are as varied as {found['distinct']:.0f} distinct ones; as many crops of the scans as "
    text += f"{found['distinct_real']:.0f}."
    if found["ratio"] >= VARIED:
        return text
    what = "The generator has collapsed" if found["collapsed"] else "They are less varied than the scans"
    return f"warning: {text} {what}: train longer, or with config.train.augment, or take another step."


def trained_on(workdir) -> list[dict]:
    """Returns every scan behind the weights of a run (id, file, sha256, `via`): trained on by itself, by what it began from, or, where it
    was trained on the images of a database, by what made those. RunError where a lineage cannot be read."""
    found, folders = [], set()
    for scan in lineage.behind(lineage.read(workdir)):
        if scan["split"] == "train":
            found.append({**scan, "via": str(workdir)})
            folders.add(pathlib.Path(scan["file"]).parent.parent)
    for folder in sorted(folders):
        if (folder / index.FACTS).is_file():
            found += [{**scan, "split": "train", "via": f"the database {folder}"} for scan in behind_database(folder)]
    return found


def behind_database(folder) -> list[dict]:
    """Returns the training scans (id, file, sha256) behind the images of a database: those it states, and those of its stages."""
    facts = index.read_facts(folder)
    found = {scan["sha256"]: scan for scan in facts["sources"]}
    for stage in (facts["generator"], facts.get("upscaler")):
        place = index.stage_folder(folder, stage)
        if place is not None and (place / "lineage.json").is_file():
            scans = (scan for scan in lineage.behind(lineage.read(place)) if scan["split"] == "train")
            found = {scan["sha256"]: {name: scan[name] for name in ("id", "file", "sha256")} for scan in scans} | found
    return list(found.values())


def refuse_upstream(workdirs: Sequence, judged: Sequence[Scan]) -> None:
    """Raises RunError naming the first of the scans `judged` (held-out, test) that weights of one of the runs were trained on.

    By the bytes' SHA-256, through `config.init_from` at any depth and through databases; see `refuse_lookalikes` for copies of other bytes.
    """
    wanted = {scan.sha256: scan for scan in judged}
    for workdir in workdirs:
        for scan in trained_on(workdir):
            if scan["sha256"] in wanted:
                found, name = wanted[scan["sha256"]], pathlib.Path(workdir).name
                via = "" if scan["via"] == str(workdir) else f", by way of {scan['via']}"
                raise RunError(
                    f"{found.file or found.id}: {name} was trained on this scan{via}, which so cannot judge what comes of it.\n"
                    "Use the same scans, seed and shares in all stages, so that the splits agree, or leave the scan out."
                )


def refuse_lookalikes(training: Sequence[Scan], judged: Sequence[Scan]) -> None:
    """Raises RunError naming two scans, one trained on and one judged by, that show the same (`duplicates.near_duplicates`).

    Found are files saved again, mirrored, turned by quarters or rescaled in grey, whose bytes differ.
    """
    scans = [*training, *judged]
    if not training or not judged:
        return
    for i, j, value, _ in duplicates.near_duplicates(np.stack([duplicates.descriptor(scan.pixels) for scan in scans])):
        if i < len(training) <= j:
            one, other = scans[i], scans[j]
            raise RunError(
                f"{other.file or other.id}: shows what the training scan {one.file or one.id} shows (correlation {value:.2f}), so it "
                "cannot judge what was trained on that.\nDelete one of them, or keep them together with config.data.group_by."
            )
