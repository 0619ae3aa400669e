"""Scores two folders of images: as sets (fid, kid, is, prdc, surface), or pair by pair of equal stem (psnr ... pq).

python -m metrics.score REAL_DIR GENERATED_DIR --metrics=fid,kid,prdc,surface --features=768 --weights=FILE|auto --json=OUT
python -m metrics.score TRUE_DIR OTHER_DIR --metrics=psnr,ssim
python -m metrics.score TRUE_DIR OTHER_DIR --metrics=iou,dice,percent,module,squaring,v_rand,v_info,ap50,pq

A set is a folder of scans or images, or a .npy file of features (n, d). docs/metrics.md has every definition.
"""

import argparse
import json
import sys

from metrics import image_sets, paired_scores, set_scores
from microscopy import atomic
from microscopy.scan import DataError

SETS, PAIRS = ("fid", "kid", "is", "prdc", "surface"), paired_scores.NAMES


class _Wrong(Exception):
    """A flag that cannot be."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Wrong(f"{message}. python -m metrics.score --help lists the flags.")


def main(argv: list[str]) -> int:
    """Returns the exit code after the scores are printed and, with --json=OUT, written: 0 done, 1 data or weights, 2 flags."""
    try:
        flags = _parse(argv)
        names = tuple(name.strip() for name in flags.metrics.split(","))
        unknown = [name for name in names if name not in SETS + PAIRS]
        if unknown:
            raise _Wrong(f"--metrics={flags.metrics}: {unknown[0]!r} is none of {', '.join(SETS + PAIRS)}.")
        if set(names) & set(SETS) and set(names) & set(PAIRS):
            raise _Wrong(f"--metrics={flags.metrics}: {', '.join(SETS)} compare sets, the others pairs; ask for them in two commands.")
        scores = _of_sets(names, flags) if names[0] in SETS else _of_pairs(names, flags)
        if flags.json:
            atomic.write_json(flags.json, scores)
        return 0
    except _Wrong as error:
        print(error, file=sys.stderr)
        return 2
    except (DataError, OSError) as error:
        print("\n".join(str(error).splitlines()[:5]), file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="python -m metrics.score", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real")
    parser.add_argument("other")
    parser.add_argument("--metrics", default="fid,kid,prdc,surface")
    parser.add_argument("--features", default="2048", choices=("2048", "768", "192", "64"), help="Inception layer of fid, kid and prdc")
    parser.add_argument("--weights", default="auto", help="file of Inception weights, or auto: the cache folder, else the public release")
    parser.add_argument("--resize", default="tf1", choices=("tf1", "clean"), help="to 299 x 299: the FID's own bilinear, or antialiased")
    parser.add_argument("--nm_per_pixel", type=float, default=None, help="of both sets, where the files do not say (surface)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default="", help="file the scores are written to")
    return parser.parse_args(argv)


def _of_sets(names: tuple[str, ...], flags) -> dict:
    sets = [image_sets.read(place) for place in (flags.real, flags.other)]
    options = set_scores.Options(flags.features, flags.weights, flags.resize, flags.nm_per_pixel, flags.seed)
    scores = set_scores.score(names, *sets, options)
    for name, found in scores.items():
        for line in set_scores.lines(name, found):
            print(line)
    return scores


def _of_pairs(names: tuple[str, ...], flags) -> dict:
    pairs = image_sets.read_pairs(flags.real, flags.other)
    scores = paired_scores.score(names, pairs)
    for name, found in scores.items():
        value, std = ("infinite" if number is None else f"{number:.6g}" for number in (found["value"], found["std"]))
        print(f"{name}: {value} (std {std}) over {found['n']} pairs. {found['protocol']}")
    return json.loads(json.dumps(scores))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
