"""Outlines to begin annotating with: every scan of a folder as a Labelme file, by Otsu's threshold and watershed or by a trained U-Net.

python -m tools.prelabel --input=SCANS --output=SCANS                                 baseline; the files lie beside the images
python -m tools.prelabel --input=SCANS --output=DIR --weights=FILE.safetensors       a model of --mode=export
python -m tools.prelabel --input=SCANS --output=DIR --workdir=W                      a run's last checkpoint

Correct the files in Labelme, then train on them: they are masks wherever a folder of masks is (docs/data.md). A file that exists is
never overwritten. Of scans that Labelme cannot open (instruments' files, 16 bits, floats), or would turn by their orientation tag, an
8-bit picture is written to .pictures/, which no folder of scans or masks is looked for in. A TIFF of several pages is refused.
"""

import os
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags
from tqdm import tqdm

from microscopy import flaws, levelling, orientation
from microscopy.folder import list_scans, read_scan
from microscopy.formats import read_content
from microscopy.labelme import BACKGROUND, IGNORE, write_labelme
from microscopy.pictures import encode_png, to_uint8
from microscopy.scan import DataError, Scan
from segmentation import exported, inference, instances
from training import command
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.generation import write

MAX_PIXELS = 100_000_000
PICTURES = ".pictures"
OPENED = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
"""Suffixes of what Labelme opens, where the file holds 8 bits."""


def main(argv: list[str]) -> int:
    """Returns the exit code after the files are written."""
    values = command.new_flags(argv)
    flags.DEFINE_string("input", "", "A file or a folder of scans.", flag_values=values)
    flags.DEFINE_string("output", "", "Folder for the Labelme files; may be the scans' own.", flag_values=values)
    flags.DEFINE_string("weights", "", "A .safetensors file of --mode=export, instead of the threshold.", flag_values=values)
    flags.DEFINE_string("workdir", "", "The workdir of a trained U-Net, instead of the threshold.", flag_values=values)
    flags.DEFINE_string("checkpoint", "last", "Of --workdir: last, best or a step.", flag_values=values)
    flags.DEFINE_enum("polarity", "auto", instances.POLARITIES, "Of the threshold: which side particles are on.", flag_values=values)
    text = f"Least area of a particle in px; default: that of the U-Net's run, {instances.MIN_AREA} for the threshold."
    flags.DEFINE_integer("min_area", None, text, lower_bound=1, flag_values=values)
    flags.DEFINE_string("label", "particle", "Name of the class that the outlines get.", flag_values=values)
    return command.run(argv, values, _run, __doc__)


def _run(values, stop) -> None:
    if not values.input or not values.output:
        raise ConfigError("--input=FILE_OR_DIR and --output=DIR are needed: the scans, and the folder for the Labelme files.")
    if values.weights and values.workdir:
        raise ConfigError("--weights and --workdir: give one of them, or neither for the threshold.")
    if values.label in ("", BACKGROUND, IGNORE):
        raise ConfigError(f"--label={values.label}: is no name of a class, or one that Labelme's files keep for themselves; give another.")
    network, output, num = _network(values), pathlib.Path(values.output), {"written": 0, "there": 0}
    find, channel = make_find(values, network), network.data.channel if network else ""
    stop.gentle, refused = True, []
    for id, file in tqdm(list_scans(values.input).items(), desc="prelabel", unit="scan"):
        if stop.signal is not None:
            break
        path = output / f"{id}.json"
        if os.path.lexists(path):
            num["there"] += 1
            continue
        try:
            prelabel(path, read_scan(id, file, max_pixels=MAX_PIXELS, channel=channel), find, values.label)
            num["written"] += 1
        except DataError as error:
            refused.append(f"{file}: {str(error).removeprefix(f'{file}: ')}")
        except OSError as error:
            raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error
    print(f"{output}: {num['written']} Labelme files written, {num['there']} were there and are left as they are.")
    if refused:
        more = [f"and {len(refused) - 3} more."] if len(refused) > 3 else []
        raise RunError("\n".join([f"{len(refused)} scans have none:", *refused[:3], *more]))


def _network(values) -> inference.Network | None:
    """The U-Net that the flags name."""
    if not values.weights and not values.workdir:
        return None
    if values.weights:
        network, _ = exported.load(values.weights)
    else:
        network, _ = exported.of_workdir(workdirs.read_config(values.workdir), values.workdir, values.checkpoint)
    if network.stacks:
        raise ConfigError("its network is of stacks; labels are made by networks of images.")
    return network


def make_find(values, network: inference.Network | None) -> Callable[[Scan], np.ndarray]:
    """Returns find(scan) -> int32 instance map (h, w): of a U-Net, or (None) of the threshold that the flags describe."""
    min_area = values.min_area or (network.min_area if network else instances.MIN_AREA)
    if network is None:
        return lambda scan: instances.otsu_watershed(shown_values(scan), values.polarity, min_area=min_area)

    def find(scan):
        probability = inference.segment(network, scan).probability
        return instances.from_probability(probability, network.threshold, min_area, scan.nm_per_pixel)

    return find


def shown_values(scan: Scan) -> np.ndarray:
    """Returns the scan in one channel (h, w): heights levelled, colours as luma."""
    if scan.pixels.ndim == 3:
        if scan.pixels.shape[2] != 3:
            raise DataError(f"has {scan.pixels.shape[2]} channels; 1 or 3 are needed")
        return flaws.luma(scan.pixels)
    method = levelling.auto(scan.unit)
    return scan.pixels if method == "none" else levelling.level(scan.pixels, method)[0]


def prelabel(path: pathlib.Path, scan: Scan, find: Callable[[Scan], np.ndarray], label: str) -> None:
    """Writes the Labelme file of one scan, and for what Labelme cannot open, or would turn, a picture of it in .pictures/ beside the file.

    `path` must not exist. The image is named as seen from the file's folder.
    """
    found, file = find(scan), pathlib.Path(scan.file)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pathlib.PurePath(os.path.relpath(file.resolve(), path.parent.resolve())).as_posix()
    opened = scan.pixels.dtype == np.uint8 and file.suffix.lower() in OPENED
    if not opened or orientation.orientation(read_content(file, max_pixels=MAX_PIXELS)) != 1:
        image = f"{PICTURES}/{path.stem}.png"
        write(path.parent / image, encode_png(scan.pixels if opened else _shown(scan)))
    write_labelme(path, found, labels=label, image=image)


def _shown(scan: Scan) -> np.ndarray:
    values = shown_values(scan)
    low, high = np.percentile(values, (0.5, 99.5))
    return to_uint8(2.0 * (values - low) / max(high - low, 1e-12) - 1.0)


if __name__ == "__main__":
    command.leave(main(sys.argv))
