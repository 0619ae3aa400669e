"""The whole chain, from scans to a labelled database, its scores, the U-Nets and the report: `run` for configs/stm_database.py."""

import functools
import hashlib
import json
import pathlib
from typing import Any, NamedTuple

import numpy as np

import input_pipeline
from database import choices, downstream, gates, handmade, making, page, real, recipe, scoring, stages, trainings
from database.choices import SCAN_READERS
from database.stages import Stage
from microscopy.atomic import write_bytes, write_json
from microscopy.preparation import MasksMissing, Prepared
from microscopy.sources import NO_MASK
from training import lineage, pseudonyms
from training import workdir as workdirs
from training.errors import ConfigError, RunError
from training.lock import workdir_lock
from training.signals import Stop

WITHHELD = "The reason may name a scan or a patient and is withheld; the command printed it, and prints it again."
NUM_DIVERSE = 500
"""Crops of training scans that the database's variety is compared with."""


class Chain(NamedTuple):
    """A chain as it is run: its config, what was left to be chosen in it chosen; its folder, scans, and what its images are like.

    `told` are the same scans by the ids that what is written calls them by.
    """

    config: Any
    workdir: pathlib.Path
    prepared: Prepared
    like: real.Target
    told: Prepared


def run(config, workdir, stop: Stop) -> None:
    """Makes or finishes every stage in turn and writes report.html last; the same command again goes on where it stopped.

    ConfigError where a setting that decides a finished stage has changed, listing what is stale, unless `config.resume` is rebuild, which
    makes just that anew. RunError, naming the scan, where a scan that judges is behind what it judges.
    """
    workdir = pathlib.Path(workdir)
    chain = begun(config, workdir)
    gates.refuse_lookalikes(chain.prepared.splits["train"], real.unseen_scans(chain.prepared))
    with workdir_lock(workdir):
        chain = chain._replace(told=pseudonyms.in_workdir(chain.config.stages.dcgan, workdir, chain.prepared))
        plan = planned(chain)
        for stage in plan:
            record = stages.read(workdir, stage.name)
            if stage.trains and not (record and record["state"] == "finished"):
                trainings.refuse_unfit(stage.name, chain.config.stages[stage.name])
        report = workdir / "report.html"
        withheld = "" if chain.told is chain.prepared else WITHHELD
        made = stages.run(plan, workdir, stop, config.resume == "rebuild", lambda: _describe(chain), report, withheld)
        if made is None:
            print(f"{workdir}: interrupted; the same command goes on.")
            return
        if made or not report.exists():
            _stored(report, page.page(workdir).encode())
    _tell(workdir, [stage.name for stage in plan])
    print(f"Report: {report}")


def _tell(workdir: pathlib.Path, names: list[str]) -> None:
    """Prints what the chain came to: the scores, and how well both U-Nets read real scans."""
    scores = workdirs.read_object(workdir / "scores.json")
    values = {name: found["value"] for name, found in scores.items() if isinstance(found, dict) and found.get("value") is not None}
    some = scores["surface"]
    print(f"\n{some['n_generated']} generated images against {some['n_real']} crops of scans that no stage was trained on:")
    print(f"  {', '.join(f'{name} {value:.4g}' for name, value in values.items())}. {scores['note']}")
    if "downstream" in names:
        found = workdirs.read_object(workdir / "downstream.json")
        for row in found["rows"]:
            shown = {name: row[name] for name in ("dice", "ap50", "diameter_error") if row.get(name) is not None}
            words = f"U-Net of {row['by']} images" if row["by"] in downstream.SHOWN.values() else row["by"]
            print(f"  {words:28} {', '.join(f'{name} {value:.3f}' for name, value in shown.items())}")
        if found["note"]:
            print(f"  {found['note']}")


def begun(config, workdir: pathlib.Path) -> Chain:
    """Returns the Chain of a config, after its scans are read: whether they have masks, and the crop that all stages cut."""
    choices.check(config)
    config = config.copy_and_resolve_references().unlock()
    choices.fit_sizes(config)
    prepared, masks = _prepared(config)
    real.check(prepared)
    scans = {"crop": max(prepared.crop), "label_field": _label_field(config.labels, masks)}
    config.stages.dcgan.data.update(scans)
    if any(item.reason == NO_MASK for item in prepared.refused):
        for name in SCAN_READERS:
            config.stages[name].data.only_masked = True
    for name in SCAN_READERS[1:]:
        data = config.stages[name].data
        data.crop = round(max(prepared.crop) * data.height / config.size)
    like = real.target(prepared, config.size, masks)
    if like.value_map.unit == "nm":
        for name in ("unet_database", "unet_real"):
            data = config.stages[name].data
            data.source = f"{data.source.rpartition('/')[0]}/heights"
    return Chain(config.lock(), workdir, prepared, like, prepared)


def _prepared(config) -> tuple[Prepared, bool]:
    """(the scans, whether all have masks): where some have masks these alone, if they are enough to be learned from and judged by."""
    first = config.stages.dcgan.copy_and_resolve_references().unlock()
    first.data.use_masks = True
    try:
        return input_pipeline.prepare(first), True
    except MasksMissing as error:
        missing, masked = f"{error.missing} of {error.total} scans have no mask", error.total - error.missing
    few = ""
    if masked and config.labels != "none":
        first.data.only_masked = True
        prepared = input_pipeline.prepare(first)
        if real.unseen_scans(prepared):
            print(f"{missing} and are left out: the chain learns from the {masked} that have one and is judged by these.")
            print("--config.labels=none takes all scans, finds labels by a threshold, and judges no U-Net.")
            return prepared, True
        few = f"Too few have one ({masked}) to train on some and judge by others: label more scans"
    if config.labels in ("distance", "mask"):
        remedy = few or "Name the masks' folder by --config.data.masks=DIR"
        raise ConfigError(f"config.labels={config.labels!r}: {missing}.\n{remedy}, or say --config.labels=auto.")
    print(f"{missing}: images are labelled by a threshold, and nothing can be judged on real scans.")
    if few:
        print(f"{few}.")
    first.data.update({"use_masks": False, "only_masked": False})
    return input_pipeline.prepare(first), False


def _label_field(labels: str, masks: bool) -> str:
    return ("distance" if masks else "none") if labels == "auto" else labels


def _describe(chain: Chain) -> None:
    told = {**workdirs.plain(chain.config), "resume": ""}  # what the command was asked once is no setting
    _stored(chain.workdir / "config.json", lambda path: write_json(path, told))


def _stored(path: pathlib.Path, content) -> None:
    try:
        write_bytes(path, content) if isinstance(content, bytes) else content(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.\nFree space, and the same command goes on.") from error


def planned(chain: Chain) -> list[Stage]:
    """Returns the stages in `config.order`, without those that the upscaler or the lack of masks leaves no use for."""
    config, without = chain.config, set()
    if config.upscaler == "bilinear":
        without |= {"superres_before", "superres"}
    if not chain.like.masks:
        without |= {"unet_real"}
    names = [name for name in config.order if name not in without]
    make = {"real": _real, "database": _database, "scores": _scores, "downstream": _downstream}
    return [make[name](chain, names) if name in make else _training(chain, name) for name in names]


def scans_read(chain: Chain, masks: bool) -> dict[str, str]:
    """Returns the SHA-256 of which scans there are and how they are split, and with `masks` of their masks."""
    splits = chain.prepared.splits
    listed = [(scan.id, scan.sha256, name) for name, scans in splits.items() for scan in scans]
    found = {"scans": hashlib.sha256(json.dumps(listed).encode()).hexdigest()}
    if masks:
        digest = hashlib.sha256()
        for scan in (scan for scans in splits.values() for scan in scans):
            digest.update(np.ascontiguousarray(scan.mask).tobytes())
        found["masks"] = digest.hexdigest()
    return found


def _training(chain: Chain, name: str) -> Stage:
    config, folder = chain.config.stages[name], chain.workdir / name
    reads = {"superres": ("superres_before",), "unet_database": ("database",), "unet_real": ("real",)}.get(name, ())
    labelled = config.data.get("label_field", "none") != "none"
    inputs = scans_read(chain, labelled) if name in SCAN_READERS else {}

    def make(stop: Stop) -> None:
        if name in SCAN_READERS:
            pseudonyms.share(chain.workdir, folder)
        trainings.make(trainings.placed(config, chain.workdir), folder, stop, _behind(chain, name))
        if name in SCAN_READERS:
            lineage.compare(folder, chain.prepared.splits)

    train = config.train
    outputs = functools.partial(trainings.outputs, folder, train.num_steps)
    spent = functools.partial(trainings.spent, folder, train.num_steps * train.batch_size)
    return Stage(name, workdirs.plain(config), reads, inputs, make, outputs, (folder,), True, trainings.make_work(config), spent)


def _behind(chain: Chain, name: str) -> list[dict]:
    """Entries of lineage.json: the weights behind generated images, the scans behind real crops."""
    if name == "unet_database":
        stages_behind = [other for other in ("dcgan", "superres") if (chain.workdir / other / "lineage.json").exists()]
        facts = making.index.read_facts(chain.workdir / "database")
        steps = {"dcgan": facts["generator"]["step"]} | ({} if facts["upscaler"] == "bilinear" else {"superres": facts["upscaler"]["step"]})
        return [trainings.behind(chain.workdir / other, steps[other]) for other in stages_behind if other in steps]
    if name == "unet_real":
        scans = [one for one in lineage.record(chain.told.splits, [])["scans"] if one["split"] == "train"]
        sha256 = stages.digests([chain.workdir / "real" / real.RECORD])[real.RECORD]
        return [lineage.of_weights(str(chain.workdir / "real"), 0, sha256, scans)]
    return []


def _real(chain: Chain, names: list[str]) -> Stage:
    del names
    section, data, folder = chain.config.stages.real, chain.config.stages.dcgan.data, chain.workdir / "real"
    config = {**workdirs.plain(section), "data": workdirs.plain(data), "size": chain.config.size, "seed": chain.config.seed}
    config["data"].pop("label_field")

    def make(stop: Stop) -> None:
        real.write(folder, chain.told, _left_out(chain), data, chain.like, section, chain.config.seed, stop)

    return Stage("real", config, (), scans_read(chain, chain.like.masks), make, lambda: _sum(folder, real.files(folder)), (folder,))


def _left_out(chain: Chain) -> dict:
    """What real.json says of scans that were not taken: how many for want of a mask, and which others, by told ids, and why."""
    found = list(zip(chain.prepared.refused, chain.told.refused, strict=True))
    refused = [{"file": told.file, "reason": told.reason} for item, told in found if item.reason != NO_MASK]
    without = len(found) - len(refused)
    return ({"left_out_without_mask": without} if without else {}) | ({"refused": refused} if refused else {})


def _sum(folder: pathlib.Path, files: list[pathlib.Path]) -> dict[str, str]:
    """One SHA-256 over names and contents of files; {} where one is missing."""
    digest = hashlib.sha256()
    for path in files:
        if not path.is_file():
            return {}
        digest.update(str(path.relative_to(folder)).encode() + hashlib.sha256(path.read_bytes()).digest())
    return {"files": digest.hexdigest()}


def _database(chain: Chain, names: list[str]) -> Stage:
    section, folder = chain.config.stages.database, chain.workdir / "database"
    upscaler = chain.workdir / "superres" if "superres" in names else None
    config = {**workdirs.plain(section), "size": chain.config.size, "seed": chain.config.seed, "masks": chain.like.masks}
    config["upscaler"] = chain.config.upscaler

    def make(stop: Stop) -> None:
        generator, size = chain.workdir / "dcgan", (chain.config.size, chain.config.size)
        gates.refuse_upstream([generator, *([upscaler] if upscaler else [])], real.unseen_scans(chain.prepared))
        gate = gates.calibrate(chain.told, folder) if section.refuse_copies else None
        labels = "auto" if chain.config.stages.dcgan.data.label_field != "none" else "prelabelled"
        facts = recipe.describe(
            folder, generator, upscaler, num_images=section.num_images, seed=chain.config.seed, size=size, labels=labels, gate=gate
        )
        judge = gates.make_judge(chain.told, gate) if gate else None
        crops = gates.real_crops(chain.prepared, min(NUM_DIVERSE, section.num_images))
        folder.mkdir(parents=True, exist_ok=True)  # the facts name the other stages by their way from it
        making.make(folder, facts, recipe.load(folder, facts), judge=judge, real=crops, stop=stop)

    tables = [folder / name for name in ("database.json", "index.parquet", "index.csv")]
    reads = ("dcgan", "superres") if upscaler else ("dcgan",)
    keep = functools.partial(handmade.set_aside, folder)
    inputs = scans_read(chain, chain.like.masks)
    return Stage("database", config, reads, inputs, make, lambda: stages.digests(tables), (folder,), keep=keep)


def _scores(chain: Chain, names: list[str]) -> Stage:
    del names
    section, path = chain.config.stages.scores, chain.workdir / "scores.json"
    file = scoring.weights_file(section)
    inputs = {"weights": stages.digests([file]).get(file.name, "none") if file else "none"}

    def make(stop: Stop) -> None:
        stop.gentle = False  # nothing is lost by beginning again
        scoring.write(path, chain.workdir / "real" / real.SCORED, chain.workdir / "database", section, chain.config.seed)

    reads = ("real", "database")
    return Stage("scores", workdirs.plain(section), reads, inputs, make, lambda: stages.digests([path]), (path,))


def _downstream(chain: Chain, names: list[str]) -> Stage:
    nets = tuple(name for name in downstream.SHOWN if name in names)
    section, files = chain.config.stages.downstream, downstream.files(chain.workdir, nets)

    def make(stop: Stop) -> None:
        stop.gentle = False
        gates.refuse_upstream([chain.workdir / name for name in nets], real.unseen_scans(chain.prepared))
        downstream.write(chain.workdir, nets, chain.told, section.checkpoint)
        downstream.export(chain.workdir, chain.config.data, chain.prepared, chain.like, section.checkpoint)

    return Stage("downstream", workdirs.plain(section), ("real", *nets), {}, make, lambda: stages.digests(files), files)
