"""Scans to training batches: read, split, normalise on the host; crop, rotate, mirror and reduce on the device.

A crop is one bilinear gather from a copy of its scan that was area-averaged once, when it was loaded, and never touches the
full scan again. With rotation none or quarter the copy has the training resolution: all pixels of a crop lie at one place between
grid points, which differs from crop to crop, and share one blur between those of an area and of a triangle filter. With free
rotation the copy has 1.5 times the resolution, a pixel's place between grid points is random and so is its blur, in the
same range. Where a crop is not reduced the copy is the scan, and whole-pixel crops without free rotation are exact.
"""

import functools
import math
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from microscopy import atomic, fields, inspection, label_field, native, overview, pictures, reduction
from microscopy.boundaries import boundary_weights
from microscopy.other_scans import with_held_out as with_held_out
from microscopy.preparation import Prepared, prepare
from microscopy.scan import DataError, Scan
from training.task import Batch, Data


def resident(scans: list[Scan], prepared: Prepared, data, masks: bool = False) -> dict[str, np.ndarray]:
    """Returns the host arrays that crops are cut from: one flat buffer of reduced copies, and each scan's place in it.

    `pixels` float32 (p, c) in [-1, 1], with config.data.label_field the label field as last channel; per scan `offset`, `height`, `width`
    of its copy, `size` (h, w) in px of the scan, `scale` (y, x) px of the copy for one of the scan, `label` where scans have classes (-1:
    this one has none); with config.data.class_balanced then `cumulative` float32, the probability of this scan or one before it; with
    config.data.use_masks, or `masks`, also `mask` int32 (q,) at full resolution and `mask_offset`; with config.data.boundary_weight
    `weight` float32 (q,), what each pixel counts in a loss. The planes of stacks are the channels c; their masks are (q, c).
    """
    plans, planes = [_plans(scan, prepared.crop, data) for scan in scans], fields.num_planes(data)
    copies = [reduction.reduced(_values(scan, prepared, data), *plan) for scan, plan in zip(scans, plans, strict=True)]
    sizes = np.array([[side.kept for side in plan] for plan in plans], np.int64)
    arrays = {
        "pixels": np.concatenate([copy.reshape(-1, planes or fields.num_channels(data)) for copy in copies]),
        "offset": _offsets(sizes.prod(1), "pixels"),
        "height": sizes[:, 0].astype(np.int32),
        "width": sizes[:, 1].astype(np.int32),
        "size": np.array([scan.pixels.shape[:2] for scan in scans], np.int32),
        "scale": np.array([[side.whole / side.padded for side in plan] for plan in plans], np.float32),
    }
    if prepared.classes:
        number = {name: index for index, name in enumerate(prepared.classes)}
        arrays["label"] = np.array([number.get(scan.label, -1) for scan in scans], np.int32)
        if data.get("class_balanced", False):
            arrays["cumulative"] = _balanced(arrays["label"])
    if data.use_masks or masks:
        flat = (-1, planes) if planes else -1
        arrays["mask"] = np.concatenate([scan.mask.reshape(flat) for scan in scans]).astype(np.int32)
        arrays["mask_offset"] = _offsets(np.array([math.prod(scan.mask.shape[:2]) for scan in scans]), "masks")
    if data.boundary_weight:
        weigh = functools.partial(boundary_weights, w0=data.boundary_weight, sigma=data.boundary_sigma)
        arrays["weight"] = np.concatenate([weigh(scan.mask).reshape(-1) for scan in scans])
    return arrays


def _values(scan: Scan, prepared: Prepared, data) -> np.ndarray:
    """The scan in [-1, 1], with its label field as last channel where the config asks for one."""
    values, kind = prepared.value_map.to_unit(scan.pixels), fields.label_kind(data)
    return values if kind == "none" else np.dstack([values, label_field.field(scan.mask, data.label_reach, kind)])


def _balanced(labels: np.ndarray) -> np.ndarray:
    """The cumulative probabilities of scans, float32, that make every class there is (and no class) equally likely."""
    _, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    cumulative = np.cumsum(1.0 / (len(counts) * counts[member]))
    return (cumulative / cumulative[-1]).astype(np.float32)


def _plans(scan: Scan, crop: tuple[int, int], data) -> tuple[reduction.Plan, reduction.Plan]:
    sides = zip(scan.pixels.shape[:2], crop, (data.height, data.width), strict=True)
    rows, columns = (reduction.plan(*side, data.rotation) for side in sides)
    return rows, columns


def _offsets(counts: np.ndarray, what: str) -> np.ndarray:
    ends = np.cumsum(counts)
    if ends[-1] >= 2**31:
        raise DataError(
            f"the scans hold {ends[-1]:.1e} {what}, more than one device array; set config.data.window to fewer scans at a time."
        )
    return np.concatenate([[0], ends[:-1]]).astype(np.int32)


def draw(key: jax.Array, arrays, num: int, crop: tuple[int, int], rotation: str, mirror: bool) -> dict[str, jax.Array]:
    """Returns `num` random placements, each an array (num,): scan index, centre y and x in px of the scan, angle, quarter, flip.

    Scans are equally likely, whatever their size, or as `arrays["cumulative"]` says where it is there. Free angles are a quarter
    turn 0..3 plus -45..45 degrees, so every placement is in the scan whole; without free rotation centres are such that the crop
    covers whole pixels.
    """
    scan_key, angle_key, quarter_key, flip_key, y_key, x_key = jax.random.split(key, 6)
    if "cumulative" in arrays:
        scan = jnp.searchsorted(arrays["cumulative"], jax.random.uniform(scan_key, (num,)), side="right").astype(jnp.int32)
    else:
        scan = jax.random.randint(scan_key, (num,), 0, arrays["size"].shape[0])
    turned, free = rotation != "none", rotation == "free"
    angle = jax.random.uniform(angle_key, (num,), minval=-jnp.pi / 4, maxval=jnp.pi / 4) if free else jnp.zeros((num,))
    quarter = jax.random.randint(quarter_key, (num,), 0, 4) if turned else jnp.zeros((num,), jnp.int32)
    flip = jax.random.bernoulli(flip_key, 0.5, (num,)) if mirror else jnp.zeros((num,), bool)
    odd = quarter % 2 == 1
    tall = jnp.where(odd, crop[1], crop[0]).astype(jnp.float32)
    wide = jnp.where(odd, crop[0], crop[1]).astype(jnp.float32)
    cos, sin = jnp.cos(angle), jnp.abs(jnp.sin(angle))
    room = arrays["size"][scan].astype(jnp.float32) - jnp.stack([cos * tall + sin * wide, cos * wide + sin * tall], axis=1)
    room = jnp.maximum(room, 0.0)
    place = jnp.stack([jax.random.uniform(y_key, (num,)), jax.random.uniform(x_key, (num,))], axis=1)
    offset = place * room if free else jnp.minimum(jnp.floor(place * (room + 1.0)), room)
    centre = offset + (arrays["size"][scan] - room) / 2.0 - 0.5
    return {"scan": scan, "y": centre[:, 0], "x": centre[:, 1], "angle": angle, "quarter": quarter, "flip": flip}


def crops(arrays, place, crop: tuple[int, int], height: int, width: int) -> Batch:
    """Returns `image` float32 (num, height, width, c) in [-1, 1], with `mask`, `weight` and `label` where the arrays hold them.

    `place` as from `draw`; `crop` is the (height, width) in px of the scan that becomes height x width. Images are
    bilinear, masks and weights nearest, by the same geometry. Quarter turns and mirrors of a crop are the same samples, bit for bit.
    """
    scan = place["scan"]
    copy = jnp.stack([arrays["height"][scan], arrays["width"][scan]], axis=1)
    pitch = (crop[0] / height, crop[1] / width)
    y, x = _positions(place, arrays["scale"][scan], pitch, height, width)
    batch = {"image": _bilinear(arrays["pixels"], arrays["offset"][scan], copy, y, x)}
    if "mask" in arrays:
        y, x = _positions(place, jnp.ones_like(arrays["scale"][scan]), pitch, height, width)
        row, column = (jnp.floor(value + 0.5).astype(jnp.int32) for value in (y, x))
        tall, wide = (arrays["size"][scan, axis][:, None, None] for axis in (0, 1))
        index = jnp.clip(row, 0, tall - 1) * wide + jnp.clip(column, 0, wide - 1)
        index = arrays["mask_offset"][scan][:, None, None] + index
        batch |= {name: arrays[name].at[index].get(mode="promise_in_bounds") for name in ("mask", "weight") if name in arrays}
    if "label" in arrays:
        batch["label"] = arrays["label"][scan]
    return batch


def stacked(batch: Batch) -> Batch:
    """Returns a batch of `crops` whose channels are planes as stacks: `image` (num, d, height, width, 1), `mask` without the 1."""
    planes_first = {name: jnp.moveaxis(batch[name], -1, 1) for name in ("image", "mask") if name in batch}
    return {**batch, **planes_first, "image": planes_first["image"][..., None]}


def _positions(place, scale, pitch, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Row and column (num, height, width) of every output pixel in a copy that is `scale` (num, 2) times its scan.

    One affine map a crop: the six coefficients are worked out per crop, a pixel costs two multiplications a coordinate.
    Turns and mirrors enter as signs and zeros of the coefficients, hence exactly.
    """
    cos, sin = jnp.cos(place["angle"]), jnp.sin(place["angle"])
    turn_cos = jnp.array([1.0, 0.0, -1.0, 0.0])[place["quarter"]]
    turn_sin = jnp.array([0.0, 1.0, 0.0, -1.0])[place["quarter"]]
    mirror = jnp.where(place["flip"], -1.0, 1.0)
    whole_cos, whole_sin = cos * turn_cos - sin * turn_sin, sin * turn_cos + cos * turn_sin
    v = (jnp.arange(height) - (height - 1) / 2)[None, :, None]
    u = (jnp.arange(width) - (width - 1) / 2)[None, None, :]

    def position(centre, of_v, of_u, factor):
        centre, of_v, of_u = (value[:, None, None] for value in ((centre + 0.5) * factor - 0.5, of_v * factor, of_u * factor))
        return centre + of_v * v + of_u * u

    y = position(place["y"], pitch[0] * whole_cos, pitch[1] * mirror * whole_sin, scale[:, 0])
    x = position(place["x"], -pitch[0] * whole_sin, pitch[1] * mirror * whole_cos, scale[:, 1])
    return y, x


def _bilinear(pixels, offset, copy, y, x):
    tall, wide = copy[:, :1, None], copy[:, 1:, None]
    y = jnp.clip(y, 0.0, (tall - 1).astype(jnp.float32))
    x = jnp.clip(x, 0.0, (wide - 1).astype(jnp.float32))
    row = jnp.minimum(y.astype(jnp.int32), jnp.maximum(tall - 2, 0))
    column = jnp.minimum(x.astype(jnp.int32), jnp.maximum(wide - 2, 0))
    down, right = y - row, x - column
    first = offset[:, None, None] + row * wide + column

    def channel(values):
        def at(index):
            return values.at[index].get(mode="promise_in_bounds")

        upper = at(first) * (1.0 - right) + at(first + 1) * right
        lower = at(first + wide) * (1.0 - right) + at(first + wide + 1) * right
        return upper * (1.0 - down) + lower * down

    return jnp.stack([channel(pixels[:, c]) for c in range(pixels.shape[1])], axis=-1)


def make_data(config, prepared: Prepared) -> Data:
    """Returns the `Data` the loop trains on. With `config.data.window` only that many scans are resident at a time.

    A batch is a function of (seed, step); its ids are drawn for the whole batch, so any number of devices sees the same.
    `batches(split)` are the same crops each time (with a label field also their masks): of all the split's scans or, where a window is set
    and they are more, of that many of them, drawn once from the seed.
    """
    data, batch_size = config.data, config.train.batch_size
    scans = prepared.splits["train"]
    windowed = 0 < data.window < len(scans)

    def sample(arrays, key, num=batch_size):
        place = draw(key, arrays, num, prepared.crop, data.rotation, data.mirror)
        batch = crops(arrays, place, prepared.crop, data.height, data.width)
        return stacked(batch) if fields.num_planes(data) else batch

    if windowed:
        refresh = make_refresh(scans, prepared, config)
        arrays = refresh(None, 0)
    else:
        refresh = lambda arrays, step: arrays  # noqa: E731 - the identity, said where it is chosen
        arrays = jax.tree.map(jnp.asarray, resident(scans, prepared, data))

    jitted = jax.jit(sample)

    def batches(split):
        index, num = list(prepared.splits).index(split), config.eval.num_images
        chosen = _subset(prepared.splits[split], data.window, [config.seed, index])
        if not chosen:
            return
        held = jax.tree.map(jnp.asarray, resident(chosen, prepared, data, masks=fields.label_kind(data) != "none"))
        key = jax.random.fold_in(jax.random.key(config.seed), index)
        for start in range(0, num, batch_size):
            batch = jitted(held, jax.random.fold_in(key, start))
            yield {**batch, "valid": jnp.arange(start, start + batch_size) < num}

    return Data(arrays, sample, refresh, batches, prepared)


def _subset(scans: list[Scan], window: int, seed: list[int]) -> list[Scan]:
    if not 0 < window < len(scans):
        return scans
    return [scans[i] for i in sorted(np.random.default_rng(seed).permutation(len(scans))[:window])]


def make_refresh(scans: list[Scan], prepared: Prepared, config):
    """Returns refresh(arrays, step): the resident window of that step, `config.data.window` scans for `window_steps` steps.

    Every pass over the set is a new order drawn from the seed; a last short window is filled from its beginning. Arrays
    keep their shapes (padded to the largest window possible), so a new window needs no new compilation.
    """
    data = config.data
    per_pass = -(-len(scans) // data.window)
    kept = [math.prod(side.kept for side in _plans(scan, prepared.crop, data)) for scan in scans]
    masks = [math.prod(scan.pixels.shape[:2]) for scan in scans]
    capacity = {name: sum(sorted(counts)[-data.window :]) for name, counts in (("pixels", kept), ("mask", masks), ("weight", masks))}

    def load(window):
        order = np.random.default_rng([config.seed, window // per_pass]).permutation(len(scans))
        start = window % per_pass * data.window
        chosen = [scans[order[i % len(scans)]] for i in range(start, start + data.window)]
        arrays = resident(chosen, prepared, data)
        for name in capacity.keys() & arrays.keys():
            missing = capacity[name] - len(arrays[name])
            arrays[name] = np.pad(arrays[name], [(0, missing)] + [(0, 0)] * (arrays[name].ndim - 1))
        return jax.tree.map(jnp.asarray, {**arrays, "window": np.int32(window)})

    def refresh(arrays, step):
        window = step // data.window_steps
        return arrays if arrays is not None and int(arrays["window"]) == window else load(window)

    return refresh


def inspect(config, workdir=None, rename: Callable = lambda config, prepared: prepared) -> list[dict]:
    """Returns and prints what `config` would train on, one object a scan and channel and one a refused file; nothing is trained.

    With a workdir, inspect.json holds the objects; inspect_scans.png shows the levelled scans, inspect_crops.png sixteen training
    crops as the network sees them, inspect_statistics.png the histogram of the values and the power spectrum. `rename(config, prepared)`
    gives the scans the names that they are told by.
    """
    whole = config.copy_and_resolve_references()
    with whole.unlocked():
        whole.data.skip_bad = True  # an inspection names all that cannot be read, training stops at the first
    prepared = rename(whole, prepare(whole))
    found = inspection.findings(prepared)
    rows = inspection.rows(prepared, found, functools.partial(native.list_channels, max_pixels=config.data.max_pixels))
    print(inspection.table(rows))
    for line in [*inspection.summary(prepared), *(f"warning: {text}" for text in inspection.shortened(found, most=10))]:
        print(line)
    unread = [item.file for item in prepared.refused if not item.misfit]
    if unread and not config.data.skip_bad:
        more = f" and {len(unread) - 1} more" if unread[1:] else ""
        print(f"Training would stop at {unread[0]}{more}: --config.data.skip_bad=true leaves out what cannot be read.")
    if workdir:
        folder = pathlib.Path(workdir)
        data = make_data(config, prepared)
        batch = jax.jit(data.sample, static_argnums=2)(data.arrays, jax.random.key(config.seed), 16)
        shown = {
            "inspect_crops.png": pictures.grid(label_field.shown(pictures.middle_plane(np.asarray(batch["image"])))),
            "inspect_scans.png": overview.scans_picture(prepared),
            "inspect_statistics.png": overview.statistics_picture(prepared),
        }
        for name, picture in shown.items():
            pictures.write_png(folder / name, picture)
        atomic.write_json(folder / "inspect.json", rows)
        print(f"{folder}: {', '.join([*shown, 'inspect.json'])} written.")
    return rows
