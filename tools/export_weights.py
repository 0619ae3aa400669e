"""Writes the networks of a trained workdir to one file, for `--config.init_from=FILE.npz` of another run.

python -m tools.export_weights --workdir=runs/mine --output=mine.npz [--checkpoint=last|STEP]

The file holds the parameters, the moving average and the normalisation statistics, float32 as trained, without the optimiser's
moments, and the hashes and splits of the scans behind them, so that lineage.json of the next run can refuse leaks.
"""

import pathlib
import sys

from absl import flags

from training import checkpoints, command, lineage, weights
from training.errors import ConfigError, RunError


def main(argv: list[str]) -> int:
    """Returns the exit code after the file is written."""
    values = command.new_flags(argv)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=values)
    flags.DEFINE_string("checkpoint", "last", "last or a step.", flag_values=values)
    flags.DEFINE_string("output", None, "The .npz file to write.", flag_values=values)
    return command.run(argv, values, _export, __doc__)


def _export(values, stop) -> None:
    del stop
    for name in ("workdir", "output"):
        if not values[name].value:
            raise ConfigError(f"--{name} is missing. python -m tools.export_weights --workdir=W --output=FILE.npz")
    output = pathlib.Path(values.output)
    if output.suffix != ".npz":
        raise ConfigError(f"--output={output}: a name that ends in .npz.")
    step = checkpoints.choose(values.workdir, values.checkpoint)
    arrays = checkpoints.restore_arrays(values.workdir, str(step))
    kept = {name: array for name, array in arrays.items() if "/opt_state" not in name and name != "step"}
    try:
        size = weights.write(output, kept, lineage.behind(lineage.read(values.workdir)))
    except OSError as error:
        raise RunError(f"--output={output} cannot be written: {error.strerror or error}.") from error
    print(f"{output}: {len(kept)} arrays of step {step:,}, {size / 2**20:.1f} MiB.")


if __name__ == "__main__":
    command.leave(main(sys.argv))
