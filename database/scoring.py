"""scores.json of a database: its images against crops of scans that no stage was trained on, by the scores of metrics.score."""

import collections
import pathlib
from collections.abc import Iterable

from metrics import image_sets, inception, set_features, set_scores, weights
from metrics.image_sets import ImageSet
from microscopy import folder as folders
from microscopy.atomic import finite, write_json
from microscopy.scan import Scan
from training.errors import ConfigError, RunError

MOST_REPEATS = 10_000
NAMES = ("fid", "kid", "is", "prdc")
NO_WEIGHTS = (
    "No Inception weights, so no FID, KID or IS: the surface card alone compares the sets. "
    "--config.stages.scores.weights=auto downloads the public ones, or name a file."
)


def weights_file(section) -> pathlib.Path | None:
    """Returns the file of Inception weights that `config.stages.scores.weights` names, None where there is none.

    For auto it is fetched first, so that what scores are made with is known before; DataError where it cannot be.
    """
    if section.weights == "auto":
        return weights.fetched(weights.URL, weights.SHA256_PREFIX, "the FID network")
    if section.weights == "cached":
        file = weights.cached_file()
        return file if file.is_file() else None
    return None if section.weights == "none" else pathlib.Path(section.weights)


def check(section, available: int) -> None:
    """Raises ConfigError for a section of the config that cannot be where each set has `available` images."""
    if section.features not in ("2048", "768", "192", "64"):
        raise ConfigError(f"config.stages.scores.features={section.features!r}: choose 2048, 768, 192 or 64.")
    if section.num_images < 6:
        raise ConfigError(f"config.stages.scores.num_images={section.num_images}: 6 or more.")
    most = min(section.num_images, available)
    if section.draws and not 2 <= section.draws <= most:
        raise ConfigError(f"config.stages.scores.draws={section.draws}: 0 for none, or 2 to {most}, the images that a draw is taken from.")
    if not 2 <= section.repeats <= MOST_REPEATS:
        raise ConfigError(f"config.stages.scores.repeats={section.repeats}: 2 to {MOST_REPEATS:,}.")
    if section.weights not in ("cached", "auto", "none") and not pathlib.Path(section.weights).is_file():
        raise ConfigError(f"config.stages.scores.weights={section.weights}: no such file; name one, or say auto, cached or none.")


def write(path: pathlib.Path, real: pathlib.Path, database: pathlib.Path, section, seed: int) -> None:
    """Writes the scores of `section.num_images` images of a database against as many of `real`/images, in heights the surface card.

    Of the database's images the first are taken, of the real crops as many of each scan.

    FID, KID, IS and precision ... coverage only where Inception weights are there, IS only where these reach its logits; `note` says what
    is missing. DataError for weights or images that cannot be read, RunError where the disk refuses.
    """
    found, notes = {}, []
    file = weights_file(section)
    wanted, source = file is not None, "auto" if section.weights == "auto" else str(file or section.weights)
    options = set_features.Options(section.features, source, "", None, seed, None, section.draws, section.repeats)
    names = NAMES if wanted else ()
    if wanted and "logits" not in inception.reached(weights.load(source)):
        names = tuple(name for name in names if name != "is")
        notes.append("These weights do not reach Inception's logits, so no IS.")
    if names:
        measured, facts = set_features.measure(names, _sets(real, database, "images", section.num_images), options)
        found |= set_scores.score(names, *measured, facts, options)
        if section.features != "2048":
            notes.append(f"FID and KID are of {section.features}-d features, and cannot be compared with published 2048-d ones.")
    else:
        notes.append(NO_WEIGHTS)
    kind = "heights" if (real / "heights").is_dir() else "images"
    measured, facts = set_features.measure(("surface",), _sets(real, database, kind, section.num_images), options)
    found |= set_scores.score(("surface",), *measured, facts, options)
    try:
        write_json(path, finite({**found, "note": " ".join(notes)}))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error


def spread(ids: Iterable[str]) -> list[str]:
    """Returns the ids with the first of each scan before the second of any: a crop's id is its scan's number, _ and its own."""
    counted: collections.Counter[str] = collections.Counter()
    placed = []
    for id in sorted(ids):
        scan = id.partition("_")[0]
        placed.append((counted[scan], id))
        counted[scan] += 1
    return [id for _, id in sorted(placed)]


def _sets(real: pathlib.Path, database: pathlib.Path, kind: str, num: int) -> list[ImageSet]:
    return [_set(real / kind, num), _set(database / kind, num)]


def _set(place: pathlib.Path, num: int) -> ImageSet:
    files = folders.list_scans(place)
    scans: list[Scan] = [folders.read_scan(id, files[id], max_pixels=image_sets.MAX_PIXELS) for id in spread(files)[:num]]
    return ImageSet(str(place), scans, None)
