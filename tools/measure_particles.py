"""Measures the particles of every scan: position, size, shape, height and volume, in nm where the scans say how large they are.

python -m tools.measure_particles --config=configs/dcgan96.py --config.data.source=folder:SCANS --output=measured

Scans are read and levelled as for training (any field of config.data may be given), not resampled. Heights: particles are found by
their footprint, and `--split` cuts touching ones apart; photographs: by Otsu's threshold. Masks of the scans are used where
`--config.data.use_masks=true`. `--tip_radius=NM` adds the diameter without the tip's broadening (docs/levelling.md).

The folder holds particles.csv (a row a particle), scans.csv (a row a scan: coverage, density per um2, spacing) and outlines/ID.png.
"""

import pathlib
import sys

import numpy as np
from absl import flags
from tqdm import tqdm

from microscopy import fields, flaws, levelling, particle_table, particles, pictures, preparation, thresholds
from training import command
from training.errors import ConfigError, RunError


def main(argv: list[str]) -> int:
    """Returns the exit code after the tables and pictures are written."""
    values = command.new_flags(argv)
    flags.DEFINE_string("output", None, "Folder for particles.csv, scans.csv and outlines/.", flag_values=values)
    flags.DEFINE_bool("split", True, "Cut touching particles apart.", flag_values=values)
    flags.DEFINE_integer("min_area", 12, "Least area of a particle in px.", flag_values=values)
    flags.DEFINE_float("tip_radius", None, "Apex radius of the tip in nm, to take its broadening off.", flag_values=values)
    return command.run(argv, values, _run, __doc__)


def _run(values, stop) -> None:
    if values.config is None or not values.output:
        raise ConfigError("--config=configs/NAME.py and --output=DIR are needed: where the scans are, and the folder for the tables.")
    if values.min_area < 1:
        raise ConfigError(f"--min_area={values.min_area}: 1 or more.")
    fields.check(values.config)
    data, output = values.config.data, pathlib.Path(values.output)
    scans, refused = preparation.load_scans(data)
    for item in refused:
        print(f"refused: {item.file}: {item.reason}")
    tables, sets = [], []
    for scan in tqdm(scans, desc="particles", unit="scan"):
        rows, outlines = measured(scan, data, values.split, values.min_area, values.tip_radius)
        tables += [{"scan": scan.id, **row} for row in rows]
        sets.append({"scan": scan.id, **particle_table.describe(rows, scan.pixels.shape[:2], scan.nm_per_pixel)})
        _written(pictures.write_png, output / "outlines" / f"{scan.id.replace('/', '_')}.png", outlines)
        if stop.signal is not None:
            return
    _written(particle_table.write_table, output / "particles.csv", particle_table.same_columns(tables))
    _written(particle_table.write_table, output / "scans.csv", particle_table.same_columns(sets))
    for row in sets:
        unit = "_nm" if "median_diameter_nm" in row else ""
        size = f"{row[f'median_diameter{unit}']:.4g} {'nm' if unit else 'px'}" if row["whole"] else "of none: all are cut by the border"
        density = f", {row['density_per_um2']:.4g} per um2" if "density_per_um2" in row else ""
        print(f"{row['scan']}: {row['particles']} particles, median diameter {size}, coverage {row['coverage']:.3f}{density}")
    doubtful = [row["scan"] for row in sets if row["coverage"] > 0.5 or not row["whole"]]
    if doubtful:
        print(f"warning: {', '.join(doubtful[:5])}: half the frame or more, or nothing whole: perhaps no particles; look at outlines/.")
    print(f"{len(tables)} particles of {len(scans)} scans: {output / 'particles.csv'}, scans.csv and outlines/.")


def measured(scan, data, split: bool, min_area: int, tip_radius_nm: float | None) -> tuple[list[dict], np.ndarray]:
    """Returns (rows as `particles.measure`, RGB uint8 picture of the levelled scan with the outlines drawn in) of one scan."""
    method = levelling.auto(scan.unit) if data.levelling == "auto" else data.levelling
    grey = flaws.luma(scan.pixels) if scan.pixels.ndim == 3 else scan.pixels
    image = levelling.level(grey, method)[0] if method != "none" else grey.astype(np.float32)
    heights = image if scan.unit == "nm" else None
    mask = scan.mask if data.use_masks else None
    found = mask is None
    if found:
        mask = thresholds.footprint_mask(image) if heights is not None else thresholds.otsu_mask(image)
    labels = thresholds.split_touching(mask, scan.nm_per_pixel) if split and found else thresholds.instances(mask)
    what = {"height": heights} if heights is not None else {"intensity": image}
    rows = particles.measure(labels, nm_per_pixel=scan.nm_per_pixel, min_area=min_area, tip_radius_nm=tip_radius_nm, **what)
    return rows, pictures.outlined(image, np.where(np.isin(labels, [row["label"] for row in rows]), labels, 0))


def _written(write, path: pathlib.Path, content) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, content)
    except OSError as error:
        raise RunError(f"--output: {path} cannot be written: {error.strerror or error}.") from error


if __name__ == "__main__":
    command.leave(main(sys.argv))
