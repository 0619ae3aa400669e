"""Brings the four micrographs of etched fission tracks and their masks to one form: grey images, binary masks of the same size.

python -m tools.prepare_fission_tracks --input=fission-tracks --output=runs/fission-tracks

--input: holds image/figN.png and mask/figN.png, N = 1, 2, 4, 5, tracks white in the masks (docs/data.md).
--output: gets images/figN.png and images/masks/figN.png (0 and 255), which --config.data.source=folder:OUTPUT reads.

Colours become luma. A mask that is a grey scan of another size with a bright frame is laid on its image by the frame's inner edge, found
to a fraction of a pixel on each side, interpolated and cut at 128. The same command again writes what is missing; files in --output that
differ from those it would write are refused before anything is written.
"""

import pathlib
import sys

import cv2
import numpy as np
from absl import flags

from microscopy import atomic, pictures
from microscopy.flaws import luma
from microscopy.folder import existing_folder
from microscopy.formats import read_image
from microscopy.masks import read_mask
from microscopy.scan import DataError
from training import command
from training.errors import ConfigError, RunError

NAMES = ("fig1", "fig2", "fig4", "fig5")
MAX_PIXELS = 2**24
FRAME = 8
"""Lines at a border among which a frame ends."""
DARK = 16
"""Grey levels up to which the median of a mask's line is background: where a frame's blur has faded out."""
ASPECT = 0.02
"""Share by which a mask's aspect ratio may differ from its image's."""


def main(argv: list[str]) -> int:
    """Returns the exit code after the pairs are written."""
    values = command.new_flags(argv)
    flags.DEFINE_string("input", None, "Folder that holds image/ and mask/.", flag_values=values)
    flags.DEFINE_string("output", None, "Folder for images/ and images/masks/.", flag_values=values)
    return command.run(argv, values, _run, __doc__)


def _run(values, stop) -> None:
    del stop
    if not values.input or not values.output:
        raise ConfigError("--input=DIR and --output=DIR are needed: the folder of image/ and mask/, and the one to write.")
    source, output, wanted = existing_folder(values.input), pathlib.Path(values.output), {}
    for name in NAMES:
        image, mask = pair(source / "image" / f"{name}.png", source / "mask" / f"{name}.png")
        wanted |= {output / "images" / f"{name}.png": image, output / "images" / "masks" / f"{name}.png": mask}
        print(f"{name}: {image.shape[1]} x {image.shape[0]} px, tracks on {(mask > 0).mean():.1%}")
    missing = [path for path, pixels in wanted.items() if not _stands(path, pixels)]
    foreign = sorted({file for folder in {path.parent for path in wanted} for file in folder.glob("*.*")} - wanted.keys())
    if foreign:
        raise RunError(f"{foreign[0]}: is none of the prepared files; name a new folder by --output.")
    try:
        for path in missing:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_bytes(path, pictures.encode_png(wanted[path]))
    except OSError as error:
        raise RunError(f"--output={output} cannot be written: {error.strerror or error}.") from error
    print(f"{output}: {len(missing)} files written, {len(wanted) - len(missing)} were there.")


def _stands(path: pathlib.Path, pixels: np.ndarray) -> bool:
    """Whether the file is there with these pixels; RunError for one that is there with others."""
    if not path.exists():
        return False
    try:
        same = np.array_equal(read_image(path, max_pixels=MAX_PIXELS), pixels)
    except DataError:
        same = False
    if not same:
        raise RunError(f"{path}: exists and is another; remove it, or name a new folder by --output.")
    return True


def pair(image_file: pathlib.Path, mask_file: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns the grey image uint8 (h, w) and its mask uint8 (h, w), 255 on tracks and 0 elsewhere.

    DataError, naming the file, for one that is missing, damaged or not of 8 bits, for a mask of another aspect ratio and for one that is
    white on half of its image or more, or nowhere.
    """
    image, scan = read_image(image_file, max_pixels=MAX_PIXELS), read_mask(mask_file, max_pixels=MAX_PIXELS)
    if image.dtype != np.uint8:
        raise DataError(f"{image_file}: holds {image.dtype}; 8 bits are expected")
    if scan.max() > 255:
        raise DataError(f"{mask_file}: holds values up to {scan.max()}; 8 bits, 0 to 255, are expected")
    image, scan = luma(image), scan.astype(np.uint8)
    try:
        widths, clean = frame(scan)
    except DataError as error:
        raise DataError(f"{mask_file}: {error}") from None
    (height, width), (top, right, bottom, left) = scan.shape, widths
    inner = (height - top - bottom) / (width - left - right)
    if abs(inner * image.shape[1] / image.shape[0] - 1) > ASPECT:
        raise DataError(f"{mask_file}: height / width {inner:.3f}, its image's {image.shape[0] / image.shape[1]:.3f}; it is another's mask")
    rows = places(image.shape[0], height, (top, bottom), (clean[0], clean[2]))
    columns = places(image.shape[1], width, (left, right), (clean[3], clean[1]))
    laid = cv2.remap(scan.astype(np.float32), *np.meshgrid(columns, rows), cv2.INTER_LINEAR)
    mask = np.where(laid >= 128, 255, 0).astype(np.uint8)
    share = (mask > 0).mean()
    if not 0 < share < 0.5:
        raise DataError(f"{mask_file}: white on {share:.0%} of it; tracks are expected in white on black")
    return image, mask


def frame(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns a bright frame's width in px at the top, right, bottom and left of a grey mask (h, w), float64 (4,), and the number of
    lines until its blur has faded, int (4,); 0 where there is none.

    The width is that of a sharp frame of 255 with as much light, the median along the border taken for each line, so that tracks which
    cross the frame do not count. DataError for a frame that does not end.
    """
    sides = (mask, mask.T[::-1], mask[::-1], mask.T)
    profiles = np.array([np.median(side[:FRAME], axis=1) for side in sides])
    if mask.shape[0] < 4 * FRAME or mask.shape[1] < 4 * FRAME or (profiles[:, -1] > DARK).any():
        raise DataError(f"bright {FRAME} px from its border; tracks are expected in white on black, of at least {4 * FRAME} px")
    return (profiles / 255).sum(1), (profiles > DARK).sum(1)


def places(num: int, side: int, widths: tuple[float, float], clean: tuple[int, int]) -> np.ndarray:
    """Returns where in a mask of `side` px the centres of `num` px of its image lie, float32 (num,), the frame's `widths` taken off.

    Places in the frame's blur, `clean` lines at both ends, are moved to the next line inside it.
    """
    scale = (side - sum(widths)) / num
    found = widths[0] + (np.arange(num) + 0.5) * scale - 0.5
    return np.clip(found, clean[0], side - 1 - clean[1]).astype(np.float32)


if __name__ == "__main__":
    command.leave(main(sys.argv))
