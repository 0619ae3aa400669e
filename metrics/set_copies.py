"""Memorisation of whole sets: which images of a set are copies of the scans that its generator was trained on."""

import numpy as np

from metrics.image_sets import ImageSet
from metrics.memorisation import memorisation
from metrics.set_scores import common_scale, surface_maps
from microscopy.flaws import luma
from microscopy.scan import DataError

MOST_ALIKE = 20


def score(real: ImageSet, generated: ImageSet, training: ImageSet, pitch: float | None, seed: int) -> dict:
    """Returns `value`, the share of the generated images that are copies, with what it rests on and the images most alike, as JSON.

    `real` holds whole scans that were not trained on, for calibration; `pitch` is px of a scan per px of an image, None where both state
    their nm per pixel. `sensitivity` is the share of planted copies found. Raises DataError where a scale is missing, and as
    `metrics.memorisation.memorisation`.
    """
    if not (real.scans and training.scans and generated.scans):
        raise DataError("memorisation: searches scans for images; give folders of scans and images, not features.")
    scales = [common_scale([training, real]), common_scale([generated])]
    if pitch is None and not all(scales):
        raise DataError("memorisation: the files do not state their nm per pixel; give --pitch, px of a scan per px of an image.")
    pitch = pitch or scales[1] / scales[0]
    scans, held_out = ([luma(scan.pixels).astype(np.float64) for scan in each.scans] for each in (training, real))
    found = memorisation(scans, held_out, surface_maps(generated), scale=pitch, seed=seed)
    rows = []
    for index in np.argsort(-found.similarity, kind="stable")[:MOST_ALIKE]:
        place = {"scan": training.scans[found.scan[index]].file, "y": float(found.place[index][0]), "x": float(found.place[index][1])}
        turn = {"angle": float(found.angle[index]), "mirrored": bool(found.mirrored[index])}
        said = {"similarity": float(found.similarity[index]), "copy": bool(found.copied[index]), "p_value": float(found.p_value[index])}
        rows.append({"image": generated.scans[index].file} | said | place | turn)
    facts = {"n_training": len(scans), "n_real": len(held_out), "n_generated": len(generated), "pitch": pitch, "seed": seed}
    found_out = {"value": float(found.copied_share), "threshold": float(found.threshold), "sensitivity": float(found.sensitivity)}
    protocol = f"threshold by {len(found.held_out)} crops of {len(held_out)} scans that were not trained on"
    return found_out | {"num_copies": int(found.copied.sum()), "most_alike": rows, "protocol": protocol} | facts
