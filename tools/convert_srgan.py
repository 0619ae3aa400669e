"""Writes a published SRGAN generator as weights for `--config.init_from=FILE.npz`, and prints the config fields that fit them.

python -m tools.convert_srgan --weights=netG.pth --output=srgan.npz [--channels=1]

--weights: state dict of github.com/leftthomas/SRGAN's generator (.pth, .npz or .safetensors; nothing in it is run).
--channels: 1 (default) for scans, what the RGB network gives for a grey picture, mean of its three outputs; 3 for RGB.
"""

import pathlib
import sys

import flax.traverse_util
from absl import flags

from metrics.weights import read_with
from superres.conversion import convert
from training import command, weights
from training.errors import ConfigError, RunError


def main(argv: list[str]) -> int:
    """Returns the exit code after the file is written."""
    values = command.new_flags(argv)
    flags.DEFINE_string("weights", None, "State dict of the published generator.", flag_values=values)
    flags.DEFINE_string("output", None, "The .npz file to write.", flag_values=values)
    flags.DEFINE_enum("channels", "1", ["1", "3"], "Of the images the network takes and gives.", flag_values=values)
    return command.run(argv, values, _convert, __doc__)


def _convert(values, stop) -> None:
    del stop
    if not values.weights or not values.output:
        missing = "output" if values.weights else "weights"
        raise ConfigError(f"--{missing} is missing. python -m tools.convert_srgan --weights=FILE --output=OUT.npz")
    output, fields = pathlib.Path(values.output), {}
    if output.suffix != ".npz":
        raise ConfigError(f"--output={output}: a name that ends in .npz.")

    def arrays(state):
        made, params, stats = convert(state, int(values.channels))
        fields.update(made)
        return flax.traverse_util.flatten_dict({"generator": {"params": params, "stats": stats}}, sep="/")

    read = read_with(pathlib.Path(values.weights), arrays, "name a state dict by --weights")
    try:
        # The publisher names no scans: none can be held against a run that starts from here.
        size = weights.write(output, read.arrays, [])
    except OSError as error:
        raise RunError(f"--output={output} cannot be written: {error.strerror or error}.") from error
    print(f"{output}: {len(read.arrays)} arrays, {size / 2**20:.1f} MiB, of {read.file} (SHA-256 {read.sha256[:12]}).")
    print("Start a run of this network with:")
    channels = f"--config.data.channels={fields.pop('channels')}"
    print(" ".join([f"--config.init_from={output}", channels, *(f"--config.model.{name}={value}" for name, value in fields.items())]))


if __name__ == "__main__":
    command.leave(main(sys.argv))
