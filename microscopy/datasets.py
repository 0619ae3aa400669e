"""Scans from a prepared TensorFlow Datasets set, read without TensorFlow."""

import dataclasses
import difflib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from microscopy.folder import checked_scale
from microscopy.formats import as_pixels, decode_image
from microscopy.headers import check_size
from microscopy.masks import as_ids, as_instances, decode_mask
from microscopy.scan import AllRefused, DataError, Refused, Scan

_IMAGE_FEATURES = ("image", "hr")
_MASK_FEATURES = ("mask", "segmentation", "segmentation_mask")
_GROUP_FEATURES = ("patient", "patient_id", "sample", "sample_id", "group")
_NAME = re.compile(r"\w+(/[\w.+-]+)?(:[\d.*]+)?")


def read_tfds(
    name: str,
    *,
    split: str | None = None,
    data_dir: str | os.PathLike | None = None,
    max_pixels: int,
    nm_per_pixel: float | tuple[float, float] | None = None,
    masks: bool = True,
    skip_bad: bool = False,
) -> tuple[list[Scan], list[Refused]]:
    """Returns the examples of the data set `name` ("set", "set/config" or "set:1.0.0") as Scans, and those refused.

    Reads what has been prepared under `data_dir` (default: where tfds keeps its sets) as array_record or parquet;
    nothing is downloaded. `split` is one of the set's splits, slices included ("train[:50]"); None reads them all.
    Feature `image`, or where there is none `hr` (div2k's pictures before they were reduced), gives the pixels, `label` (where
    there is one) the label's name, and `mask`, `segmentation` or `segmentation_mask` the instance map (unless `masks` is False), by
    the rules of `decode_image`, `decode_mask` and `as_instances`.
    The first of `patient`, `patient_id`, `sample`, `sample_id` and `group` that there is gives the group.
    The id is "split/number", the number as stored; the SHA-256 is of the encoded image (of the pixel bytes
    where none is kept). `nm_per_pixel`: one number or (y, x), of every image.

    Raises DataError for an unknown set or split, one that is not prepared or has another format, one without images,
    and for the first example that cannot be read, unless `skip_bad`, which returns it as Refused.
    """
    scale = checked_scale(nm_per_pixel)
    builder = _prepared_builder(name, data_dir)
    scans, refused = [], []
    for part in [split] if split is not None else sorted(builder.info.splits):
        examples = _examples(builder, name, part)
        for number in range(len(examples)):
            file = f"tfds:{name}/{part}/{number:05d}"
            try:
                example = _example(examples, number, file)
                if not masks:
                    example = {key: value for key, value in example.items() if key not in _MASK_FEATURES}
                scan = _as_scan(example, builder.info.features, f"{part}/{number:05d}", file, max_pixels)
                scans.append(dataclasses.replace(scan, nm_per_pixel=scale))
            except DataError as error:
                if not skip_bad:
                    raise
                refused.append(Refused(file, str(error).removeprefix(f"{file}: ")))
    if not scans:
        first = f" (the first {refused[0].reason})" if refused else ""
        raise AllRefused(f"tfds:{name}: none of its {len(refused)} examples can be read{first}; choose another set or split", refused)
    return scans, refused


def _prepared_builder(name: str, data_dir: str | os.PathLike | None) -> Any:
    # Names with a namespace ("huggingface:x") would be fetched from the network.
    if not _NAME.fullmatch(name):
        raise DataError(f"tfds:{name}: is no name of a data set; give set, set/config or set:1.0.0")
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(f"tfds:{name}: tensorflow-datasets cannot be imported ({error}); pip install tensorflow-datasets") from None
    try:
        builder = tfds.builder(name, data_dir=None if data_dir is None else os.fspath(data_dir))
    except tfds.core.DatasetNotFoundError:
        close = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), n=1)
        nearest = f" (did you mean {close[0]}?)" if close else ""
        where = data_dir or "tfds's own folder"
        raise DataError(f"tfds:{name}: no such data set in {where}{nearest}; check the name and data_dir") from None
    except Exception as error:  # a set's own code or damaged metadata may raise anything
        raise DataError(f"tfds:{name}: cannot be opened ({_first_line(error)}); check its name and version") from None
    if not builder.info.splits:
        raise DataError(f"tfds:{name}: is not prepared in {builder.data_dir}; once, run in Python:\n  {_prepare_command(name, data_dir)}")
    if not set(_IMAGE_FEATURES) & set(builder.info.features):
        raise DataError(f"tfds:{name}: has no feature `image` (only {', '.join(builder.info.features)}); choose a set of images")
    return builder


def _prepare_command(name: str, data_dir: str | os.PathLike | None) -> str:
    where = "" if data_dir is None else f"data_dir={os.fspath(data_dir)!r}, "
    return f"import tensorflow_datasets as tfds; tfds.builder({name!r}, {where}file_format='array_record').download_and_prepare()"


def _examples(builder: Any, name: str, split: str) -> Sequence[Mapping[str, Any]]:
    import tensorflow_datasets as tfds

    # Images stay encoded: their headers are checked, and they are decoded here, as files are.
    features = builder.info.features
    encoded = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    try:
        examples = builder.as_data_source(split=split, decoders={key: tfds.decode.SkipDecoding() for key in encoded})
        declared = builder.info.splits[split].num_examples
    except NotImplementedError:
        stored = builder.info.file_format.value
        command = _prepare_command(name, "NEW_FOLDER")
        raise DataError(f"tfds:{name}: is stored as {stored}, which needs TensorFlow; prepare it anew in Python:\n  {command}") from None
    except Exception as error:
        splits = ", ".join(sorted(builder.info.splits))
        raise DataError(f"tfds:{name}: split {split!r} cannot be read ({_first_line(error)}); its splits are {splits}") from None
    if len(examples) != declared:  # tfds 4.9 reads a whole split where a slice of a parquet set is asked for
        advice = "take a whole split, or prepare the set as array_record, which can be sliced"
        raise DataError(f"tfds:{name}: split {split!r} has {declared} examples but {len(examples)} would be read; {advice}")
    return examples


def _example(examples: Sequence[Mapping[str, Any]], number: int, file: str) -> Mapping[str, Any]:
    try:
        return examples[number]
    except Exception as error:  # damaged records raise whatever their decoder raises
        raise DataError(f"{file}: cannot be read ({_first_line(error)}); prepare the set again") from None


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line.partition('}": ')[2][:200] or line[:200]  # without the arguments, which name every folder, that tfds begins with


def _as_scan(example: Mapping[str, Any], features: Mapping[str, Any], id: str, file: str, max_pixels: int) -> Scan:
    image = next(example[key] for key in _IMAGE_FEATURES if key in example)
    pixels = decode_image(image, file, max_pixels=max_pixels) if isinstance(image, bytes) else _pixels(image, file, max_pixels)
    key = next((key for key in _MASK_FEATURES if key in example), None)
    return Scan(
        id=id,
        pixels=pixels,
        sha256=hashlib.sha256(image if isinstance(image, bytes) else pixels.tobytes()).hexdigest(),
        file=file,
        mask=None if key is None else _instances(example[key], f"{file} ({key})", pixels.shape[:2], max_pixels),
        label=_label_name(example["label"], features["label"], file) if "label" in example else None,
        group=_group_name(example, features, file),
    )


def _pixels(image: Any, file: str, max_pixels: int) -> np.ndarray:
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] != 3):
        raise DataError(f"{file}: image has the shape {array.shape}; choose a set of grey or RGB images")
    try:
        check_size(array.shape[1], array.shape[0], max_pixels)
        return as_pixels(array)
    except DataError as error:
        raise DataError(f"{file}: {error}") from None


def _instances(mask: Any, name: str, shape: tuple[int, int], max_pixels: int) -> np.ndarray:
    try:
        ids = decode_mask(mask, name, max_pixels=max_pixels) if isinstance(mask, bytes) else as_ids(np.asarray(mask))
    except DataError as error:
        raise DataError(f"{name}: {str(error).removeprefix(f'{name}: ')}") from None
    if ids.shape != shape:
        raise DataError(f"{name}: mask has {ids.shape[1]} x {ids.shape[0]} px, the image {shape[1]} x {shape[0]}; prepare the set again")
    return as_instances(ids)


def _group_name(example: Mapping[str, Any], features: Mapping[str, Any], file: str) -> str | None:
    key = next((key for key in _GROUP_FEATURES if key in example), None)
    return None if key is None else _label_name(example[key], features[key], file) or None


def _label_name(label: Any, feature: Any, file: str) -> str | None:
    if np.ndim(label):
        raise DataError(f"{file}: has several labels or groups; choose a set with one an image")
    if hasattr(feature, "int2str"):
        return feature.int2str(int(label)) if label >= 0 else None  # tfds marks unlabelled examples by -1
    return label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
