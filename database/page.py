"""report.html of a chain: what it was trained on, what came of it and whether to trust it, one file with nothing to download or run."""

import pathlib
import shlex
from collections.abc import Callable

from database import evidence, figures, markup, page_style, results
from database.evidence import Chain
from training import checkpoints
from training.errors import EXPECTED
from training.workdir import read_object

MOST_SCANS = 500
TITLE = "A labelled database of generated scans"
FOOTER = "<footer>Scanforge. This page is one file: it loads nothing and runs nothing.</footer>"


def page(workdir) -> str:
    """Returns the HTML of the whole chain in `workdir`, self-contained, from what stands there; what does not is said in words.

    Reads the index, scores, lineage and pictures of the workdir and the scans they name, and draws as many images from the generator as
    stand beside their upscaled ones; writes nothing. RunError where database.json, index.csv, scores.json or another record is damaged.
    """
    chain = evidence.read(workdir)
    sections = {
        "scans": ("What it was trained on", _scans),
        "images": ("Real and generated", _images),
        "upscaled": ("Low resolution and upscaled", _upscaled),
        "relief": ("Relief", _relief),
        "scores": ("Scores", _scores),
        "labels": ("Labels", _labels),
        "unets": ("What a U-Net learns from it", _unets),
        "copies": ("Copies", _copies),
        "lineage": ("Lineage", _lineage),
        "again": ("How to make it again", _again),
    }
    body = "\n".join(markup.section(name, title, *_parts(draw, chain)) for name, (title, draw) in sections.items())
    links = "".join(f'<a href="#{name}">{markup.escaped(title)}</a>' for name, (title, _) in sections.items())
    name = chain.workdir.resolve().name
    head = f'<h1>{TITLE}</h1>{_source(chain)}{_numbers(chain)}{results.verdicts(chain)}<nav aria-label="Sections">{links}</nav>'
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{markup.escaped(name)}: {TITLE.lower()}</title><style>{page_style.STYLE}</style></head>\n"
        f"<body><main>\n{head}\n{body}\n{FOOTER}\n</main></body></html>\n"
    )


def _parts(draw: Callable[[Chain], tuple[str, ...]], chain: Chain) -> tuple[str, ...]:
    try:
        return draw(chain)
    except EXPECTED as error:
        return "", markup.missing(f"This part could not be drawn: {error}")


def _source(chain: Chain) -> str:
    if chain.config is None:
        words = "No run of the generator is in this folder, so nothing tells what was trained on."
    elif chain.simulated:
        name = {"simulated": "the built-in microscope simulator"}.get(
            chain.config.data.source, f"built-in scans ({chain.config.data.source})"
        )
        words = f"Trained on {name}, not on scans of yours: what is called real below is simulated, too, and says nothing about any sample."
    else:
        kind, _, place = chain.config.data.source.partition(":")
        place = "whose name is withheld" if evidence.withheld(chain) else place
        words = f"Trained on the scans of {'the folder' if kind == 'folder' else 'the data set'} {place}."
    return f'<p class="source">{markup.escaped(words)}</p>'


def _numbers(chain: Chain) -> str:
    """The few numbers that say what it is."""
    scans, found = evidence.stage(chain.workdir, "dcgan")["lineage"].get("scans"), {}
    first = evidence.picture(chain, chain.rows[0]) if chain.rows else None
    nm = evidence.nm_per_pixel(chain)
    if chain.rows:
        size = f"{first.shape[1]} x {first.shape[0]} px" if first is not None else ""
        size += f", {first.shape[1] * nm:.4g} nm wide" if size and nm else ""
        found["generated images"] = (f"{len(chain.rows):,}", size)
        count = sum(bool(row.get("label")) for row in chain.rows)
        origins = ", ".join(sorted({row["label_origin"] for row in chain.rows if row.get("label_origin")}))
        found["labelled"] = (f"{count:,}", origins or "no labels")
    if isinstance(scans, list):
        train = sum(isinstance(scan, dict) and scan.get("split") == "train" for scan in scans)
        found["training scans"] = (f"{train:,}", f"{len(scans) - train:,} never trained on")
    for name in ("kid", "fid", "surface"):
        of = chain.scores.get(name)
        if isinstance(of, dict) and isinstance(of.get("value"), int | float):
            title = "surface card" if name == "surface" else f"{name.upper()}-{of.get('features', '')}"
            found[title] = (
                markup.cell(float(of["value"])),
                f"{of.get('n_generated')} against {of.get('n_real')} real; floor {markup.cell(of.get('floor'))}",
            )
            break
    rows = results.downstream_rows(chain)
    if isinstance(rows.get("database", {}).get("dice"), float):
        real = rows.get("real", {}).get("dice")
        found["Dice on real scans"] = (
            f"{rows['database']['dice']:.3f}",
            f"trained on real crops: {real:.3f}" if isinstance(real, float) else "",
        )
    cells = (
        f"<div><dt>{markup.escaped(name)}</dt><dd>{value}<small>{markup.escaped(more)}</small></dd></div>"
        for name, (value, more) in found.items()
    )
    inside = "".join(cells)
    return f'<dl class="numbers">{inside}</dl>' if inside else ""


def _scans(chain: Chain) -> tuple[str, ...]:
    if chain.config is None:
        return "", markup.missing("The generator has not been trained in this folder.")
    data, nm = chain.config.data, evidence.nm_per_pixel(chain)
    scans = evidence.stage(chain.workdir, "dcgan")["lineage"].get("scans") or []
    splits = [scan.get("split", "") for scan in scans if isinstance(scan, dict)]
    source = f"{data.source.partition(':')[0]} (names withheld)" if evidence.withheld(chain) else data.source
    facts = {"source": source, "config": chain.config.name, "seed": chain.config.seed}
    facts["scans"] = ", ".join(f"{splits.count(name)} {name.replace('_', ' ')}" for name in dict.fromkeys(splits))
    facts["left out"] = _left_out(chain)
    facts["held back"] = "split by scan before any crop is cut; scores and tests use only scans that no stage was trained on"
    facts["crop"] = f"{data.crop} px of a scan" if data.crop else "up to 256 px of a scan, as fits at every angle"
    facts["generator's size"] = f"{data.width} x {data.height} px, {data.channels} channel{'s' if data.channels > 1 else ''}"
    facts["upscaler"] = chain.upscaler or "not known"
    facts["levelling"] = data.levelling
    if chain.value_map is not None:
        unit = "grey levels" if chain.value_map.unit == "grey" else chain.value_map.unit
        facts["values"] = f"{chain.value_map.low:.4g} to {chain.value_map.high:.4g} {unit} become black to white, one map for all scans"
    facts["pixels of an image"] = f"{nm:.4g} nm" if nm else "of unknown size: the scans state no scale, so nothing here is in nm"
    return "", markup.facts(facts), _refused(chain)


def _refused(chain: Chain) -> str:
    rows = evidence.real_record(chain).get("refused")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    shown = [{"file": str(row.get("file", "")), "why it is left out": str(row.get("reason", ""))} for row in rows[:MOST_SCANS]]
    more = f"; {len(rows) - MOST_SCANS:,} more are in real/real.json" if len(rows) > MOST_SCANS else ""
    return markup.table(f"Files left out: {len(rows):,}{more}", shown)


def _left_out(chain: Chain) -> str:
    without = evidence.real_record(chain).get("left_out_without_mask")
    if not isinstance(without, int):
        return ""
    return f"{without} scan{'s' if without != 1 else ''} without a mask: only those with one are learned from and judge"


def _images(chain: Chain) -> tuple[str, ...]:
    return "", figures.real_images(chain), figures.generated_images(chain)


def _upscaled(chain: Chain) -> tuple[str, ...]:
    if chain.upscaler == "bilinear":
        return "What the generator drew, and its bilinear enlargement that stands in the database (no SRGAN was trained).", figures.pairs(
            chain
        )
    return "What the generator drew, the same enlarged bilinearly, and as it stands in the database.", figures.pairs(chain)


def _relief(chain: Chain) -> tuple[str, ...]:
    return "One real and one generated surface, lit from the left.", figures.reliefs(chain)


def _scores(chain: Chain) -> tuple[str, ...]:
    return "", results.scores(chain), results.surface_card(chain), figures.statistics(chain)


def _labels(chain: Chain) -> tuple[str, ...]:
    origins = {row.get("label_origin", "") for row in chain.rows}
    words = {
        "generated field": "Drawn by the generator itself as a second channel, as it learned from masks; nobody labelled these images.",
        "hand": "Drawn by hand.",
        "prelabelled": "Proposed by a program, to be corrected by hand.",
    }
    lead = " ".join(words[origin] for origin in words if origin in origins)
    told = chain.facts.get("labels")
    if isinstance(told, dict) and told.get("kind") not in (None, "none"):
        lead += f" The channel is the {'signed distance to the outline' if told['kind'] == 'distance' else told['kind']}; its zero level"
        lead += " and a watershed give the instances."
    return lead, figures.labelled(chain), results.label_scores(chain), figures.label_fields(chain), results.particles(chain)


def _unets(chain: Chain) -> tuple[str, ...]:
    lead = "One U-Net trained on the database and one on crops of the real training scans, both on whole real scans that neither has seen."
    return lead, results.downstream(chain), figures.segmented(chain)


def _copies(chain: Chain) -> tuple[str, ...]:
    if not results.searched(chain):
        return "", results.refused(chain)
    lead = "Every image was searched for in the training scans. Those found there are refused; these are the most alike of those kept."
    return lead, figures.nearest(chain), results.refused(chain)


def _lineage(chain: Chain) -> tuple[str, ...]:
    told = chain.status.get("stages")
    told = told if isinstance(told, dict) else {}
    rows = []
    for name in told or [name for name in evidence.STAGES if (chain.workdir / name).is_dir()]:
        status = evidence.stage(chain.workdir, name)["status"]
        found = told[name] if isinstance(told.get(name), dict) else status
        seconds = found.get("seconds")
        row = {"stage": name, "what": evidence.STAGES.get(name, ""), "state": str(found.get("state", "")), "steps": status.get("step")}
        row["weights, SHA-256"] = _weights(chain.workdir / name) if name in evidence.TRAINED else ""
        used = chain.facts.get({"dcgan": "generator", "superres": "upscaler"}.get(name, ""))
        if isinstance(used, dict) and used.get("weights_sha256"):  # those the images were made with
            row |= {"steps": used.get("step"), "weights, SHA-256": str(used["weights_sha256"])}
        rows.append(row | {"minutes": seconds / 60 if isinstance(seconds, int | float) else None})
    scans = evidence.stage(chain.workdir, "dcgan")["lineage"].get("scans") or []
    counted: dict[str, int] = {}
    for id in (id for row in chain.rows for id in set(evidence.source_ids(row))):
        counted[id] = counted.get(id, 0) + 1
    known = [scan for scan in scans if isinstance(scan, dict)]
    sources = [
        {
            "scan": scan.get("id"),
            "split": str(scan.get("split", "")).replace("_", " "),
            "images it is behind": counted.get(str(scan.get("id")), 0),
            "file": pathlib.PurePath(str(scan.get("file") or "")).name,
            "SHA-256": scan.get("sha256"),
        }
        for scan in known
    ]
    more = f"; {len(sources) - MOST_SCANS:,} more are in dcgan/lineage.json" if len(sources) > MOST_SCANS else ""
    stages = markup.table("Stages", rows) or markup.missing("No stage has been trained here.")
    return "", stages, markup.table(f"Source scans: {len(sources):,}{more}", sources[:MOST_SCANS])


def _weights(folder: pathlib.Path) -> str:
    try:
        steps = checkpoints.steps(folder)
        return checkpoints.verify(folder, steps[-1])["sha256"] if steps else ""
    except EXPECTED as error:
        return str(error).splitlines()[0]


def _again(chain: Chain) -> tuple[str, ...]:
    work = shlex.quote(str(chain.workdir))
    known = chain.config and not evidence.withheld(chain)
    source = shlex.quote(f"--config.data.source={chain.config.data.source if known else 'folder:SCANS'}")
    main, unet = "python main.py", f"--workdir={work}/unet_database"
    if (chain.workdir / "unet_database.safetensors").exists():
        unet = f"--weights={work}/unet_database.safetensors"
    words = _command(chain) or f"--config=configs/stm_database.py {source}"
    commands = {
        "The same command again goes on after an interruption": f"{main} {words} --workdir={work}",
        "Make rows again from seed and weights, and find changed files": f"python -m database.catalogue verify {work}/database",
        "What depends on a scan, should it have to go": f"python -m database.catalogue retract SCAN {work}/database",
        "More images of the same generator": f"{main} --mode=generate --workdir={work}/dcgan --num_images=1000 --seed=1 --output=MORE",
        "Segment scans of your own": f"{main} --mode=predict {unet} --input=SCANS --output=SEGMENTED",
    }
    parts = [f"<p>{markup.escaped(words)}:</p>{markup.command(line)}" for words, line in commands.items()]
    lead = (
        "From the root of the source." if _command(chain) else "From the root of the source, with the preset and options of the first run."
    )
    return f"{lead} config.json of each stage holds every value.", *parts, markup.facts(_environment(chain))


def _command(chain: Chain) -> str:
    """The words that the chain was made by, "" where it was not begun by a command and where they tell names that are withheld."""
    path = chain.workdir / "config.json"
    return str(read_object(path).get("command") or "") if path.exists() and not evidence.withheld(chain) else ""


def _environment(chain: Chain) -> dict[str, str]:
    path = chain.workdir / "dcgan" / "environment.json"
    starts = read_object(path).get("starts") if path.exists() else None
    last = starts[-1] if isinstance(starts, list) and starts and isinstance(starts[-1], dict) else {}
    return {name: str(value) for name, value in last.items() if name not in ("host", "time") and isinstance(value, str | int | float)}
