"""Scores sets of images against a real one (fid, kid, is, prdc, mifid, surface, memorisation), or pairs of equal stem (psnr ... pq).

python -m metrics.score REAL GENERATED [GENERATED ...] --metrics=fid,kid,prdc,surface --features=768 --weights=FILE|auto --json=OUT
python -m metrics.score HELD_OUT_DIR GENERATED --metrics=memorisation --training=TRAINING_DIR --pitch=2.67
python -m metrics.score TRUE_DIR OTHER_DIR --metrics=psnr,ssim
python -m metrics.score TRUE_DIR OTHER_DIR --metrics=iou,dice,percent,module,squaring,v_rand,v_info,ap50,pq

A set is a folder of scans or images, a TIFF stack, or a .npy or .npz file of images (n, h, w) or (n, h, w, 3) or of features (n, d).
With several generated sets a verdict is given for each two. docs/metrics.md has every definition.
"""

import argparse
import difflib
import json
import os
import pathlib
import signal
import sys
import threading

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the flags are read there is nothing to lose, and no traceback worth reading

from metrics import feature_cache, image_sets, paired_scores, score_lines, score_page, set_copies, set_features, set_scores
from microscopy import atomic
from microscopy.scan import DataError

SETS, PAIRS = (*set_scores.NAMES, "memorisation"), paired_scores.NAMES


class _Wrong(Exception):
    """A flag that cannot be."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Wrong(f"{message}. python -m metrics.score --help lists the flags.")


def main(argv: list[str]) -> int:
    """Returns the exit code after the scores are printed and, with --json=OUT, written: 0 done, 1 data or weights, 2 flags, 130 Ctrl-C."""
    try:
        flags = _parse(argv)
        names = _names(flags)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        (_of_sets if names[0] in SETS else _of_pairs)(names, flags)
        return 0
    except _Wrong as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (DataError, OSError) as error:
        print("\n".join(str(error).splitlines()[:5]), file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _parse(argv: list[str]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="python -m metrics.score", description=__doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("real")
    parser.add_argument("other", nargs="+")
    parser.add_argument("--metrics", default="fid,kid,prdc,surface")
    parser.add_argument(
        "--features", default="2048", choices=("2048", "768", "192", "64"), help="Inception layer of fid, kid, prdc and mifid"
    )
    parser.add_argument("--weights", default="auto", help="file of Inception weights, or auto: the cache folder, else the public release")
    text = "to 299 x 299: tf1 (the FID network's own bilinear), clean (antialiased), bilinear (ImageNet's); empty: the network's own"
    parser.add_argument("--resize", default="", choices=("", "tf1", "clean", "bilinear"), help=text)
    parser.add_argument("--nm_per_pixel", type=float, default=None, help="of all sets, where the files do not say (surface)")
    parser.add_argument("--training", default="", help="memorisation: the scans the generator was trained on; REAL are scans it was not")
    parser.add_argument("--pitch", type=float, default=None, help="memorisation: px of a scan per px of an image, where files do not say")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=0, help="also mean and std of fid, kid and is over draws of so many images")
    parser.add_argument("--repeats", type=int, default=20, help="number of such draws")
    parser.add_argument("--cache", default="auto", help="folder features are kept in; auto: the user's cache folder; none")
    parser.add_argument("--json", default="", help="file the scores are written to")
    parser.add_argument("--page", default="", help="PNG of nearest neighbours, spectra and height histograms")
    return parser.parse_args(argv)


def _names(flags) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in flags.metrics.split(",")))
    unknown = [name for name in names if name not in SETS + PAIRS]
    if unknown:
        near = difflib.get_close_matches(unknown[0], SETS + PAIRS, 1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise _Wrong(f"--metrics={flags.metrics}: {unknown[0]!r} is none of {', '.join(SETS + PAIRS)}.{hint}")
    if set(names) & set(SETS) and set(names) & set(PAIRS):
        raise _Wrong(f"--metrics={flags.metrics}: {', '.join(SETS)} compare sets, the others pairs; ask for them in two commands.")
    if names[0] in PAIRS and (len(flags.other) > 1 or flags.page or flags.draws):
        raise _Wrong(f"--metrics={flags.metrics}: pairs take two folders, and neither --page nor --draws.")
    if len(set(flags.other)) < len(flags.other):
        raise _Wrong("one generated set is named twice; name each once.")
    if flags.draws < 0 or flags.draws == 1 or not 2 <= flags.repeats <= 10_000:
        raise _Wrong(f"--draws={flags.draws} --repeats={flags.repeats}: 2 to 10,000 draws of at least 2 images are needed.")
    if flags.nm_per_pixel is not None and not 0 < flags.nm_per_pixel < float("inf"):
        raise _Wrong(f"--nm_per_pixel={flags.nm_per_pixel}: a positive number is needed.")
    if ("memorisation" in names) != bool(flags.training):
        raise _Wrong("--metrics=memorisation and --training=DIR, the scans the generator was trained on, belong together.")
    if flags.pitch is not None and not 0.01 <= flags.pitch <= 100:
        raise _Wrong(f"--pitch={flags.pitch}: px of a scan per px of an image, 0.01 to 100.")
    if flags.seed < 0:
        raise _Wrong(f"--seed={flags.seed}: 0 or more.")
    for name in ("json", "page"):
        path = pathlib.Path(getattr(flags, name) or "unset")
        above = next((folder for folder in path.absolute().parents if folder.exists()), path)
        if path.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
            reason = "is a folder" if path.is_dir() else f"nothing can be written in {above}"
            raise _Wrong(f"--{name}={path}: {reason}; name another file.")
    if flags.page and pathlib.Path(flags.page).suffix.lower() != ".png":
        raise _Wrong(f"--page={flags.page}: name a file that ends in .png.")
    return names


def _of_sets(names: tuple[str, ...], flags) -> None:
    folder = {"none": None, "auto": feature_cache.default_folder()}.get(flags.cache, pathlib.Path(flags.cache).expanduser())
    scale = (flags.nm_per_pixel, flags.seed, folder, flags.draws, flags.repeats)
    options = set_features.Options(flags.features, flags.weights, flags.resize, *scale)
    sets = [image_sets.read(place, flags.features) for place in (flags.real, *flags.other)]
    if flags.page and not all(each.scans for each in sets):
        raise DataError(f"--page={flags.page}: shows images; the sets hold features.")
    others = tuple(name for name in names if name != "memorisation")
    measured, facts = set_features.measure(others, sets, options)
    if kept := [each.images.place for each in measured if each.cached]:
        print(f"features of {', '.join(kept)} came from the cache {folder}")
    labels = image_sets.names(flags.other)
    scores = {label: set_scores.score(others, measured[0], each, facts, options) for label, each in zip(labels, measured[1:], strict=True)}
    if flags.training:
        training = image_sets.read(flags.training)
        for label, each in zip(labels, sets[1:], strict=True):
            print(f"searching {len(each)} images of {label} in {len(training)} scans ...", file=sys.stderr, flush=True)
            scores[label]["memorisation"] = set_copies.score(sets[0], each, training, flags.pitch, flags.seed)
    found = set_scores.verdicts(scores)
    lines = score_lines.table(scores)
    for label, of in scores.items():
        lines += [f"{label}:"] * (len(scores) > 1) + [line for name in names for line in score_lines.notes(name, of[name])]
    lines += [score_lines.verdict_line(verdict) for verdict in found]
    print("\n".join(lines))
    if flags.json:
        _write(flags.json, {"sets": scores, "verdicts": found} if len(scores) > 1 else scores[labels[0]])
    if flags.page:
        score_page.write(flags.page, measured, [flags.real, *flags.other], scores, found, options)


def _of_pairs(names: tuple[str, ...], flags) -> None:
    scores = paired_scores.score(names, image_sets.read_pairs(flags.real, flags.other[0]))
    for name, found in scores.items():
        std = "" if found["std"] is None else f" (std {found['std']:.6g})"
        print(f"{name}: {_value(found)}{std} over {found['n']} pair{'s' * (found['n'] != 1)}. {found['protocol']}")
    if flags.json:
        _write(flags.json, json.loads(json.dumps(scores)))


def _value(found: dict) -> str:
    if found["value"] is not None:
        return f"{found['value']:.6g}"
    return "infinite (equal images)" if found["without"] == "infinite" else f"undefined (no foreground in {found['without']})"


def _write(path: str, scores: dict) -> None:
    try:
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, atomic.finite(scores))
    except OSError as error:
        raise DataError(f"--json={path}: cannot be written ({error.strerror or error}); name another file.") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
