"""What can be said of a generator without a trained judge: signs of collapse, and the physics of the surface."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from gan import scores
from metrics import surface
from microscopy import label_field, particles
from training.task import Data, Evaluation

_CHUNK = 64
_PAIRED = 1_000


def evaluate(images: np.ndarray, data: Data, judge: Callable | None, inception_judge: scores.Judge | None = None) -> Evaluation:
    """Returns scalars of generated images (n, h, w, c) in [-1, 1] against crops of training and held-out scans.

    `judge(images) -> logits` is the discriminator, which alone sees a label field (`label_field.apart`); None asks no one. Scores of the
    surface, and with an `inception_judge` FID and KID, are against held-out crops, or training crops where nothing is held out, as many as
    there are images at most; the table says how many.
    """
    real = {split: gather(data, split, len(images)) for split in ("train", "held_out")}
    reference = "held_out" if len(real["held_out"]) else "train"
    scalars = {"evaluation/generated_images": float(len(images)), f"evaluation/{reference}_crops": float(len(real[reference]))}
    scalars.update(accuracies(real, images, judge) if judge else {})
    images, real = label_field.apart(images)[0], {split: label_field.apart(batch)[0] for split, batch in real.items()}
    scalars.update(diversities(images, real[reference]))
    grey = {split: luma(batch) for split, batch in real.items() if len(batch)}
    scalars.update(spectral_distances(grey["train"], grey[reference], luma(images)))
    rows = []
    for name, batch in (("generated", images), (reference, real[reference])):
        found = particles_per_image(luma(batch))
        scalars.update({f"particles/{key}_{'generated' if name == 'generated' else 'real'}": value for key, value in found.items()})
        rows.append({"images": name, "n": len(batch), **found})
    height, width = images.shape[1:3]
    judged, tables, notes, score = scores.score(images, real[reference], data.prepared.value_map, inception_judge)
    scalars.update(judged)
    against = f"{len(real[reference])} crops of {reference.replace('_', '-')} scans, {width} x {height} px"
    protocol = (
        f"{len(images)} generated images against {against}; log-PSD distance: RMS of log10 radial spectra; "
        f"diversity: mean pairwise RMS difference; particles: Otsu's threshold; {notes}."
    )
    tables = {"Particles by Otsu's threshold (count and coverage per image, diameter in px)": rows, **tables}
    return Evaluation(scalars, tables, protocol=protocol, score=score)


def spectral_distances(train: np.ndarray, reference: np.ndarray, images: np.ndarray) -> dict[str, float]:
    """Returns the log-PSD distance of images (n, h, w) to the reference crops, with what it is to be read against.

    `floor` is that of training crops (left out where these are the reference themselves), `blurred_noise` that of
    Gaussian-blurred white noise of the reference's mean and standard deviation, at the best of four blurs (1, 2, 3, 4 px): what
    an image of the right graininess without any particle in it would get.
    """
    noise = np.random.default_rng(0).normal(size=reference.shape)
    blurred = [scipy.ndimage.gaussian_filter(noise, (0, sigma, sigma), mode="wrap") for sigma in (1, 2, 3, 4)]
    matched = [reference.mean() + field * (reference.std() / field.std()) for field in blurred]
    return {
        "surface/log_psd_distance": surface.log_psd_distance(reference, images),
        **({} if reference is train else {"surface/log_psd_distance_floor": surface.log_psd_distance(reference, train)}),
        "surface/log_psd_distance_blurred_noise": min(surface.log_psd_distance(reference, field) for field in matched),
    }


def particles_per_image(images: np.ndarray) -> dict[str, float]:
    """Returns the mean `count` and `coverage` over images (n, h, w), and the median over images of `diameter` in px.

    By `microscopy.particles.summary`, Otsu's threshold image by image; diameter is 0 where no image has a particle.
    """
    summaries = [particles.summary(image) for image in images]
    diameters = [found["median_diameter"] for found in summaries if found["particles"]]
    return {
        "count": float(np.mean([found["particles"] for found in summaries])),
        "coverage": float(np.mean([found["coverage"] for found in summaries])),
        "diameter": float(np.median(diameters)) if diameters else 0.0,
    }


def gather(data: Data, split: str, num: int, name: str = "image") -> np.ndarray:
    """Returns at most `num` crops (n, h, w, c) of a split, or their "label" (n,), without the padding; none where the split is empty."""
    return gather_all(data, split, num, (name,))[0]


def gather_all(data: Data, split: str, num: int, names: tuple[str, ...]) -> list[np.ndarray]:
    """Returns the arrays of those names (n, ...) of at most `num` crops of a split, without the padding; (0, 1, 1, 1) of an empty split."""
    batches = [[np.asarray(batch[name])[np.asarray(batch["valid"])] for name in names] for batch in data.batches(split)]
    empty = [np.zeros((0, 1, 1, 1), np.float32)] * len(names)
    return [np.concatenate(parts)[:num] for parts in zip(*batches, strict=True)] or empty


def accuracies(real: dict[str, np.ndarray], generated: np.ndarray, judge: Callable) -> dict[str, float]:
    """Returns the share of crops the discriminator calls real, by split, and of generated images it calls generated.

    A training share far above the held-out share is a discriminator that knows its scans by heart.
    """

    def called_real(images):  # a few at a time, so that any number of images fits the device
        chunks = [images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)]
        return float(np.mean(np.concatenate([np.asarray(judge(jnp.asarray(chunk))) for chunk in chunks]) > 0))

    scalars = {f"discriminator/accuracy_{split}": called_real(batch) for split, batch in real.items() if len(batch)}
    return {**scalars, "discriminator/accuracy_generated": 1.0 - called_real(generated)}


def diversities(generated: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Returns the mean pairwise RMS difference of generated images, of real crops, and their ratio; near 0 is collapse."""
    made, there = pairwise_difference(generated), pairwise_difference(real)
    return {"diversity/generated": made, "diversity/real": there, "diversity/ratio": made / there if there else 0.0}


def pairwise_difference(images: np.ndarray) -> float:
    """Returns the mean over all pairs of the RMS pixel difference, images (n, ...); 0 for fewer than two.

    Of more than 1,000 images the first 1,000 are paired.
    """
    images = images[:_PAIRED]
    flat = images.reshape(len(images), -1).astype(np.float64)
    if len(flat) < 2:
        return 0.0
    square = (flat**2).sum(1)
    distance = np.maximum(square[:, None] + square[None] - 2.0 * flat @ flat.T, 0.0) / flat.shape[1]
    return float(np.sqrt(distance)[np.triu_indices(len(flat), 1)].mean())


def luma(images: np.ndarray) -> np.ndarray:
    """Returns (n, h, w): the only channel, or the mean of the channels."""
    return images.mean(-1)
