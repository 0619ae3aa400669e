"""One-file models: a trained U-Net, how scans are prepared for it, and the hashes of the scans behind it, in one .safetensors file.

The tensors are the float32 parameters (params/...) and statistics (stats/...) that scans are segmented with; `__metadata__` holds texts:
`format`, `config` (JSON), `value_map` (JSON), `scans` (JSON: sha256 and split of each), `step`. Nothing in such a file is ever run:
the config may only name methods of this folder, and arrays must be exactly those of its network.
"""

import functools
import hashlib
import importlib
import json
import math
import pathlib
import struct
from collections.abc import Callable

import jax
import numpy as np

from metrics.safetensors_file import read_safetensors
from microscopy import fields
from microscopy.folder import checked_scale
from microscopy.normalisation import ValueMap
from microscopy.scan import DataError, Scan
from segmentation import inference, networks
from training import checkpoints, generation, lineage, prediction, weights
from training import workdir as workdirs
from training.errors import ConfigError, RunError

FORMAT = "scanforge segmentation 1"
SUFFIX = ".safetensors"
TASKS = ("segmentation.supervised", "segmentation.metric_critic")
PIXELS = ("uint8", "uint16", "float32")


def write(config, workdir, request: prediction.Request, value_map: ValueMap | None = None) -> None:
    """Writes the network of a workdir's checkpoint `request.checkpoint` to the file `request.output`; prints what it wrote.

    `config` and `value_map`, the workdir's where it is None, say how scans are brought to the network: others than the run's for one whose
    training images were prepared before.

    ConfigError where that is no .safetensors file, RunError where it cannot be written or the workdir cannot be read.
    """
    path = pathlib.Path(request.output)
    if path.suffix != SUFFIX:
        raise ConfigError(f"--output={request.output}: the name of a {SUFFIX} file is needed.")
    method = _method(config)
    state, step = checkpoints.restore_for_inference(workdir, method.make_task(config), request.checkpoint)
    params, stats = method.inference(state)
    scans = [{"sha256": scan["sha256"], "split": scan["split"]} for scan in lineage.behind(lineage.read(workdir))]
    texts = {"config": _placeless(config), "value_map": (value_map or workdirs.read_value_map(workdir)).__dict__, "scans": scans}
    metadata = {"format": FORMAT, "step": str(step)} | {name: json.dumps(value) for name, value in texts.items()}
    content = encode_safetensors(_named({"params": params, "stats": stats}), metadata)
    if not path.parent.is_dir():
        raise ConfigError(f"--output={path}: {path.parent} is no folder.")
    generation.write(path, content)
    print(f"{path}: step {step} of {workdir}, {len(content) / 1e6:.3g} MB.")


def _placeless(config) -> dict:
    """The config without the places of the machine that it was trained on: a model is handed on, and reads none of them."""
    told = workdirs.plain(config)
    told |= {"init_from": ""} if "init_from" in told else {}
    told["data"] |= dict.fromkeys(told["data"].keys() & {"masks", "labels", "select", "tfds_dir"}, "")
    if told["data"]["source"].startswith("folder:"):
        told["data"]["source"] = "folder:scans"
    return told


def _method(config):
    if config.task not in TASKS:
        raise ConfigError(f"config.task={config.task!r}: one of {', '.join(TASKS)} is needed.")
    return importlib.import_module(config.task)


def _named(tree) -> dict[str, np.ndarray]:
    """Name such as params/last/kernel to float32 array."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf, np.float32) for path, leaf in leaves}


def encode_safetensors(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """Returns a .safetensors file of float32 arrays, ordered by name, and texts.

    Source: github.com/huggingface/safetensors, README, "Format".
    """
    header, start = {"__metadata__": metadata}, 0
    for name in sorted(arrays):
        end = start + 4 * arrays[name].size
        header[name] = {"dtype": "F32", "shape": list(arrays[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(np.ascontiguousarray(arrays[name], "<f4").tobytes() for name in sorted(arrays))
    return struct.pack("<Q", len(text)) + text + body


def opened(config, workdir, request: prediction.Request) -> tuple[inference.Network, prediction.Request, dict]:
    """Returns what `segmentation.prediction.predict` takes: the network of `request.weights`, else of the workdir's checkpoint."""
    if request.weights:
        network, facts = load(request.weights)
        return network, request, facts | prediction.options(request)
    network, step = of_workdir(config, workdir, request.checkpoint)
    return network, request, prediction.facts(workdir, request, step)


def of_workdir(config, workdir, checkpoint: str = "last") -> tuple[inference.Network, int]:
    """Returns (the network of a trained workdir, its step); RunError or ConfigError where there is none."""
    method = _method(config)
    state, step = checkpoints.restore_for_inference(workdir, method.make_task(config), checkpoint)
    return _network(config, method, *method.inference(state), workdirs.read_value_map(workdir)), step


def _network(config, method, params, stats, value_map: ValueMap) -> inference.Network:
    probability = functools.partial(method.make_probability(config), *jax.device_put((params, stats)))
    return inference.network_of(method.make_network(config), probability, config.data, value_map, min_area=config.eval.min_area)


def load(path) -> tuple[inference.Network, dict]:
    """Returns (the network of a one-file model, what prediction.json says of it); RunError naming the file where it cannot be used."""
    try:
        content = pathlib.Path(path).read_bytes()
        arrays = read_safetensors(content)
        metadata = weights.read_metadata(path)
        config, value_map = weights.config_of(path), _value_map(json.loads(metadata["value_map"]))
        if metadata.get("format") != FORMAT or not metadata["step"].isdecimal():
            raise ValueError(f"its format is {str(metadata.get('format'))[:40]!r}, {FORMAT!r} is read; or its step is none")
        fields.check(config)
        method = _method(config)
        method.make_task(config)  # refuses what the fields of a config cannot be
        network = _network(config, method, *_trees(arrays, method.make_network(config), config.data.channels), value_map)
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except RunError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError, DataError, ConfigError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise RunError(f"{path}: no model of --mode=export, or a damaged one ({reason}).") from error
    return network, {"workdir": str(path), "step": int(metadata["step"]), "weights_sha256": hashlib.sha256(content).hexdigest()}


def _value_map(stored) -> ValueMap:
    value_map = workdirs.as_value_map(stored)
    numbers = (value_map.low, value_map.high, *(value_map.nm_per_pixel or ()))
    sound = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers) and value_map.low < value_map.high
    if not sound or not isinstance(value_map.unit, str):
        raise ValueError("its value map is none")
    checked_scale(value_map.nm_per_pixel)
    return value_map


def _trees(arrays: dict[str, np.ndarray], network, channels: int):
    """(params, stats) of the arrays; ValueError unless they are exactly the network's, float32 and finite."""
    made = jax.eval_shape(lambda image: network.init(jax.random.key(0), image, False), networks.example(network, channels))
    like = {"params": made["params"], "stats": made.get("batch_stats", {})}
    wanted = jax.tree_util.tree_leaves_with_path(like)
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in wanted]
    if differing := sorted(arrays.keys() ^ set(names)):
        raise ValueError(f"{differing[0][:60]} is in {'the file' if differing[0] in arrays else 'the network'} alone")
    for name, (_, leaf) in zip(names, wanted, strict=True):
        if arrays[name].shape != leaf.shape or arrays[name].dtype != np.float32:
            raise ValueError(f"{name} is {arrays[name].dtype} {arrays[name].shape}, float32 {leaf.shape} is needed")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{name} holds values that are not finite")
    filled = jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(like), [arrays[name] for name in names])
    return filled["params"], filled["stats"]


def load_predictor(path) -> Callable[..., np.ndarray]:
    """Returns predict(image, nm_per_pixel=None, unit="") -> probability of foreground, float32 (h, w) in [0, 1], of a one-file model.

    `image` is (h, w) or (h, w, c) as stored, uint8, uint16 or float32, not yet levelled or scaled: the model prepares it as the scans that
    it was trained on were prepared, and gives what `--mode=predict` gives, bit for bit. `nm_per_pixel` is the image's, a number or (y, x);
    without one it is taken to have the model's own pixels. `unit` "" is the model's; heights are in nm. Raises RunError where the file
    cannot be used, DataError for an image that is of another kind.

        predict = load_predictor("particles.safetensors")
        mask = predict(image, nm_per_pixel=0.5) > 0.5
    """
    network, _ = load(path)
    if network.stacks:
        raise RunError(f"{path}: its network is of stacks; --mode=predict --weights={path} applies it to TIFF files of several pages.")

    def predict(image: np.ndarray, nm_per_pixel: float | tuple[float, float] | None = None, unit: str = "") -> np.ndarray:
        pixels = np.asarray(image)
        if pixels.ndim not in (2, 3) or not pixels.size or str(pixels.dtype) not in PIXELS:
            raise DataError(f"image {pixels.dtype} {pixels.shape}: (h, w) or (h, w, c) of {', '.join(PIXELS)} is needed.")
        if not np.isfinite(pixels).all():
            raise DataError(f"image: {int((~np.isfinite(pixels)).sum())} values are NaN or infinite; fill or cut them off first.")
        scan = Scan("image", pixels, "", "image", unit or network.value_map.unit, checked_scale(nm_per_pixel))
        return inference.segment(network, scan).probability

    return predict
