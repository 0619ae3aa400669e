"""What generated images add to a classifier (configs/augmentation_gain_cytology.py): trainings, then the tables of what is finished."""

import hashlib
import json
import pathlib
import re

import jax
import numpy as np

import input_pipeline
from classification import classifier, judged
from gan import wgan
from metrics import calibration
from microscopy import inspection
from microscopy.atomic import write_bytes, write_json
from microscopy.normalisation import ValueMap
from microscopy.pictures import write_png
from microscopy.preparation import Prepared
from microscopy.scan import DataError, Scan
from studies import gain_table, image_sets, set_quality, stages
from studies.image_sets import Images
from training import beginning, checkpoints, generation, lineage, pseudonyms
from training import workdir as workdirs
from training.errors import ConfigError
from training.signals import Stop

SETS = {
    "real_affine": ("real", True),
    "real": ("real", False),
    "generated": ("generated", False),
    "real_affine_generated": ("real_generated", True),
    "real_affine_selected": ("real_selected", True),
}
"""Classifier to its training set and whether that is moved about."""
CONTROLS = {"": tuple(SETS), "copies": ("real", "generated"), "shuffled": ("real_affine", "real")}
"""What `config.control` trains: everything, or what it must not change."""
MIXTURES = ("half", "files")
"""What `config.mixture` draws of real images where generated ones are added: half of each class, or every file alike."""
CANDIDATES = "images/candidates"
RANGE = ValueMap(0.0, 255.0, "grey", (0.0, 0.0), dtype="uint8")


def run(config, workdir, stop: Stop) -> None:
    """Trains the stages of `config.order` that `config.control` has, the WGAN and what the selection rests on first; writes the tables.

    ConfigError for a field that cannot be or a workdir of other images, DataError or RunError for scans that cannot be classified.
    """
    check(config)
    workdir = pathlib.Path(workdir)
    prepared = scans_of(config)
    check_depth(prepared, config.source)
    lineage.refuse_leaks(prepared.splits)
    refuse_other_numbers(config, workdir)
    sets = real_sets(config, workdir, prepared)  # claims the workdir, before anything is written to it
    beginning.open_folder(workdir)
    prepared = pseudonyms.in_workdir(config.stages.classifier, workdir, prepared)
    lost = untested(prepared)
    for line in [*inspection.warnings(prepared), *([lost] if lost else [])]:
        print(f"warning: {own_fields(config, line)}", flush=True)
    lineage.write(workdir, prepared.splits, [])
    order = [name for name in config.order if _wanted(config, name)]
    early = [name for name in order if name == "gan" or kind_of(name) in ("real_affine", "real")]
    whole, chosen = concrete(config, workdir, order), []
    for names in (early, order):
        if stop.signal is None:
            stages.run(whole, workdir, stop, names, rests(order), warned=True)
        if names is early and stop.signal is None:
            chosen = generated_sets(config, workdir, sets, prepared.classes, stop)
    write_png(workdir / "images.png", image_sets.overview(workdir / "images", prepared.classes))
    quality = set_quality.measured(config, workdir, sets, prepared.classes) if stop.signal is None and not config.control else {}
    tables = gain_table.tables(config, prepared.classes, sets["test"].labels, told(config, workdir, order, sets["test"]))
    tables["protocol"] = " ".join(filter(None, (tables["protocol"], lost, *remarks(tables["scores"]))))
    tables |= {"mixture": gain_table.mixture(config, chosen), "selection": chosen, **quality}
    write_json(workdir / "table.json", tables)
    write_bytes(workdir / "table.md", gain_table.text(tables).encode())
    print(gain_table.text(tables))


def _wanted(config, name: str) -> bool:
    if name == "gan":
        return not config.control
    return kind_of(name) in CONTROLS[config.control] and int(name.rpartition("_seed")[2]) < config.num_seeds


def check(config) -> None:
    """Raises ConfigError, naming the field, for what the study itself cannot be; its stages are checked by their methods."""
    if config.control not in CONTROLS:
        raise ConfigError(f"config.control={config.control!r}: copies, shuffled, or empty for the study itself.")
    if config.mixture not in MIXTURES:
        raise ConfigError(f"config.mixture={config.mixture!r}: choose {' or '.join(MIXTURES)}.")
    for name, least in {"num_generated": 3, "num_candidates": config.num_generated, "num_searched": 0, "num_bootstrap": 1}.items():
        if config[name] < least:
            raise ConfigError(f"config.{name}={config[name]}: {least} or more.")
    for name in config.order:
        if name != "gan" and (kind_of(name) not in SETS or not name.rpartition("_seed")[2].isdecimal()):
            raise ConfigError(f"config.order: {name!r} is no stage; gan, or {', '.join(SETS)} with _seed0 and so on.")
    if config.num_seeds < 1 or not any(name.endswith(f"_seed{config.num_seeds - 1}") for name in config.order):
        raise ConfigError(
            f"config.num_seeds={config.num_seeds}: config.order names no stage of seed {config.num_seeds - 1}; change either."
        )
    kinds = set(map(kind_of, config.order)) & {"generated", "real_affine_generated", "real_affine_selected"}
    needed = {"gan"} if kinds else set()
    needed |= {"real_affine_seed0"} if "real_affine_selected" in kinds else set()
    if not config.control and needed - set(config.order):
        raise ConfigError(
            f"config.order: {', '.join(sorted(kinds))} rest on {' and '.join(sorted(needed - set(config.order)))}; name it too."
        )
    gan, judge = config.stages.gan.data, config.stages.classifier.data
    for name in ("height", "width", "channels"):
        if not config.control and gan[name] != judge[name]:
            raise ConfigError(
                f"config.stages.gan.data.{name}={gan[name]}, config.stages.classifier.data.{name}={judge[name]}: set both alike."
            )
    if judge.height != judge.width:
        raise ConfigError(f"config.stages.classifier.data.height={judge.height}, width={judge.width}: the study compares squares.")
    if config.stages.classifier.data.held_out != config.held_out or config.stages.classifier.data.test:
        raise ConfigError("config.stages.classifier.data.held_out and test: the study tests on config.held_out; set that.")


def refuse_other_numbers(config, workdir: pathlib.Path) -> None:
    """Raises ConfigError where stages were begun on other numbers or mixtures of generated images, before their images are replaced."""
    path = workdir / "config.json"
    if config.control or not path.exists():
        return
    old, added = workdirs.read_object(path), {"real_affine_generated", "real_affine_selected"}
    rest = {"num_generated": {"generated", *added}, "num_candidates": {"real_affine_selected"}, "mixture": added}
    for field, kinds in rest.items():
        stale = [name for name in config.order if kind_of(name) in kinds and checkpoints.steps(workdir / name)]
        if stale and old.get(field, config[field]) != config[field]:
            raise ConfigError(
                f"config.{field}: {old[field]} there, {config[field]} now, so stale are: {', '.join(stale)}.\n"
                f"Give {old[field]}, delete {' and '.join(str(workdir / name) for name in stale)} to train anew, or take another --workdir."
            )


def scans_of(config) -> Prepared:
    """Returns the study's scans, split; the errors of reading and of the classifier by the names of the study's fields.

    DataError where fewer than two classes have test scans, which no score could be made of.
    """
    try:
        prepared = input_pipeline.prepare(config.stages.classifier)
        classifier.check_scans(prepared, config.source)
    except (DataError, ConfigError) as error:
        raise type(error)(own_fields(config, str(error))) from error
    tested = sorted({scan.label for scan in prepared.splits["held_out"]})
    if len(tested) < 2:
        found = (
            f"all {len(prepared.splits['held_out'])} test scans are of the class {tested[0]}" if tested else "no scan is left to test on"
        )
        remedy = "Only a class of two scans, or groups of them, is tested: add scans, or give other groups (docs/data.md)."
        remedy = remedy if config.held_out > 0 else "It is the share of each class to test on: give one above 0, such as 0.5."
        raise DataError(f"config.held_out={config.held_out}: {found}; scores need test scans of two classes.\n{remedy}")
    return prepared


def own_fields(config, text: str) -> str:
    """Returns a text about the classifier's data with the study's names of its fields: config.held_out for config.data.held_out."""
    name = lambda found: f"config.{found[1]}" if found[1] in config else f"config.stages.classifier.data.{found[1]}"  # noqa: E731
    return re.sub(r"config\.data\.(\w+)", name, text)


def untested(prepared: Prepared) -> str:
    """Returns a sentence that names the classes without test scans, "" where there is none."""
    tested = {scan.label for scan in prepared.splits["held_out"]}
    lost = [name for name in prepared.classes if name not in tested]
    return f"No test scan is of the class{'es' if lost[1:] else ''} {', '.join(lost)}, which macro-F1 and AUC leave out." if lost else ""


def check_depth(prepared: Prepared, source: str) -> None:
    """Raises DataError unless the scans are stored in 8 bit, as the study's one map of 0 .. 255 takes them."""
    value_map = prepared.value_map
    if value_map.dtype != "uint8":
        held = value_map.dtype or value_map.unit
        raise DataError(f"config.source={source}: its scans hold {held}; this study maps 0 .. 255, so store them as 8-bit images.")


def kind_of(name: str) -> str:
    """Returns the classifier that a stage NAME_seedN is a training of."""
    return name.rpartition("_seed")[0]


def rests(order: list[str]) -> dict[str, tuple[str, ...]]:
    """Returns what the candidates, and the stages of `order` that are trained on some of them, are made of (`studies.stages.run`)."""
    below = {"generated": (CANDIDATES,), "real_affine_generated": (CANDIDATES,), "real_affine_selected": (CANDIDATES, "real_affine_seed0")}
    found = {name: below[kind_of(name)] for name in order if kind_of(name) in below}
    return {CANDIDATES: ("gan",), **found} if "gan" in order else {}


def real_sets(config, workdir: pathlib.Path, prepared: Prepared) -> dict[str, Images]:
    """Returns {"real", "test"} (`image_sets.of_scans`; with the control "shuffled" other labels), written to WORKDIR/images."""
    sets = image_sets.of_scans(prepared, config.stages.classifier.data)
    if config.control == "shuffled":
        sets["real"] = image_sets.shuffled(sets["real"], prepared.classes, config.seed)
    sums = {name: hashlib.sha256(one.pixels.tobytes() + one.labels.tobytes()).hexdigest() for name, one in sets.items()}
    facts = {"control": config.control, "classes": list(prepared.classes), "sha256": sums}
    generation.claim(workdir / "images", "images.json", facts, "*/*/*.png")
    for name, one in sets.items():
        image_sets.write(workdir / "images" / name, one)
    return sets


def generated_sets(config, workdir: pathlib.Path, sets: dict[str, Images], classes: tuple[str, ...], stop: Stop) -> list[dict]:
    """Returns the rows of `image_sets.select` after all sets of generated images, and the mixtures, stand in WORKDIR/images."""
    folder, real, rows = workdir / "images", sets["real"], []
    kinds = set(map(kind_of, config.order)) & set(CONTROLS[config.control])
    if config.control == "copies":
        image_sets.write(folder / "generated", real)
    elif not config.control and "gan" in config.order:
        request = generation.Request(config.num_candidates, config.seed, str(workdir / CANDIDATES), stop=stop, labels="all")
        wgan.generate(workdirs.read_config(workdir / "gan"), workdir / "gan", request)
        if stop.signal is not None:
            return rows
        candidates = image_sets.first(image_sets.read(workdir / CANDIDATES, classes), config.num_candidates)
        chosen = {"generated": image_sets.first(candidates, config.num_generated)}
        if "real_affine_selected" in kinds:
            sure = probabilities(config, workdir / "real_affine_seed0", candidates)
            indices, rows = image_sets.select(candidates, sure, real, config.num_generated)
            chosen["selected"] = image_sets.taken(candidates, indices)
        for name, one in chosen.items():
            image_sets.write(folder / name, one)
            beside = image_sets.repeated(real, one.labels) if config.mixture == "half" else real
            image_sets.write(folder / f"real_{name}", image_sets.mixed({"real": beside, name: one}))
    for row in (row for row in rows if not row["selected"]):
        print(f"warning: no candidate of the class {classes[row['class']]} is selected: all are copies or strangers.", flush=True)
    return [{**row, "class": classes[row["class"]]} for row in rows]


def concrete(config, workdir: pathlib.Path, names: list[str]):
    """Returns the config with the stages `names`, each of images in WORKDIR/images: what `studies.stages.run` trains."""
    made = config.copy_and_resolve_references().unlock()
    made.order = tuple(names)
    made.stages = {name: stage_of(config, workdir, name).to_dict() for name in names}
    return made.lock()


def stage_of(config, workdir: pathlib.Path, name: str):
    """Returns the config of one training."""
    stage = config.stages["gan" if name == "gan" else "classifier"].copy_and_resolve_references().unlock()
    folder, affine = ("real", True) if name == "gan" else SETS[kind_of(name)]
    own = {"source": f"folder:{workdir / 'images' / folder}", "nm_per_pixel": 0.0, "resample_nm": 0.0}
    own |= dict.fromkeys(("labels", "classes", "levels", "group_by", "select", "masks", "channel", "fold", "pad"), "")
    stage.data.update(own | {"canvas": 0, "crop": max(stage.data.height, stage.data.width), "held_out": 0.0, "margins": (0, 0, 0, 0)})
    stage.seed = config.seed if name == "gan" else config.seed + int(name.rpartition("_seed")[2])
    if not affine:
        stage.data.update({"rotation": "none", "mirror": False})
        stage.train.update({"shift": 0.0, "zoom": 0.0, "turn": 0.0})
    return stage.lock()


def probabilities(config, folder: pathlib.Path, images: Images) -> np.ndarray:
    """Returns the probability of each class, float64 (n, k), that a stage's last checkpoint gives to images."""
    stage = workdirs.read_config(folder)
    state, classes, _ = classifier.restored(stage, folder)
    variables, logits = jax.device_put(classifier.inference(state)), classifier.make_logits(stage, len(classes))
    pixels = images.pixels if images.pixels.ndim == 4 else images.pixels[..., None]
    scans = [
        Scan(file, picture, "", label=classes[label]) for file, picture, label in zip(images.files, pixels, images.labels, strict=True)
    ]
    view = lambda several: RANGE.to_unit(np.stack([scan.pixels for scan in several]))  # noqa: E731 - they have the training size
    found = judged.judged(scans, view, lambda image: logits(*variables, image), classes)
    return np.exp(calibration.log_probabilities(found.logits, 1.0))


def remarks(rows: list[dict]) -> list[str]:
    """Returns what the protocol must say besides: the rows whose gains rest on fewer seeds than were trained on either side."""
    most = max((row["seeds"] for row in rows if "seeds" in row and "seeds_compared" not in row), default=0)
    fewer = [f"{row['by']} {row['seeds_compared']}" for row in rows if row.get("seeds_compared", most) < max(most, row.get("seeds", 0))]
    return [f"Gains are of the seeds that both have, here fewer than were trained: {', '.join(fewer)}."] if fewer else []


def told(config, workdir: pathlib.Path, order: list[str], test: Images) -> dict[str, dict[int, np.ndarray]]:
    """Returns {classifier: {seed: probabilities of the test images}} of the finished trainings."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for name in order:
        status = workdir / name / "status.json"
        if name != "gan" and status.exists() and json.loads(status.read_text())["state"] == "finished":
            found.setdefault(kind_of(name), {})[int(name.rpartition("_seed")[2])] = probabilities(config, workdir / name, test)
    return found
