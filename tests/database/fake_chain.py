"""A chain's workdir written by hand: a DCGAN that was never trained, images of the simulator's scans, made-up scores."""

import csv
import json

import jax
import numpy as np

from configs import dcgan32
from gan import dcgan
from metrics import surface_card
from microscopy import pictures, preparation, writing
from microscopy.atomic import write_json
from training import checkpoints, lineage
from training import workdir as workdirs

SIZE, NUM, SEED = 64, 8, 5
HOSTILE = '<img src=x onerror="1">&\'"</td>'


def small_config():
    """Returns the config of the generator: 32 px, the narrowest network, five simulated scans."""
    config = dcgan32.get_config("tiny").copy_and_resolve_references().unlock()
    config.data.update({"crop": 64, "rotation": "none", "num_simulated": 5})
    return config.lock()


def write(workdir, prepared, config) -> dict:
    """Returns the row 0 of the index after all that a finished chain leaves for its report stands in `workdir`."""
    run, nm = workdir / "dcgan", 64 * 0.25 / SIZE
    workdirs.describe(run_folder(run), config, prepared.value_map)
    lineage.write(run, prepared.splits, [])
    task = dcgan.make_task(config)
    checkpoints.save(run, 8, task.init(jax.random.key(0), None))
    labels = [{"images": "generated", "n": 16, "f1": 0.91, "shift": 0.2}, {"images": "real", "n": 16, "f1": 0.94, "shift": 0.1}]
    tables = {"Labels (F1 at an IoU of 0.5)": labels, "Surface card": [{"quantity": "not shown twice"}]}
    write_json(run / "evaluation.json", {"step": 8, "protocol": "", "scalars": {"diversity/ratio": 0.9}, "tables": tables})
    pictures.write_png(run / "evaluation" / "generated_images_and_real_crops_with_labels.png", np.full((40, 80, 3), 120, np.uint8))
    write_json(run / "status.json", {"state": "finished", "step": 8, "num_steps": 8})
    stacks = {"train": real(workdir, prepared, "train"), "scored": real(workdir, prepared, "scored")}
    rows = [row(workdir, stacks["train"][index % 3], index, prepared, nm) for index in range(NUM)]
    write_index(workdir, rows)
    facts = {"format_version": 1, "state": "finished", "unit": "nm", "upscaler": {"workdir": "../superres", "step": 10}}
    facts |= {
        "refused": [{"index": 3, "scan": "simulated_001", "similarity": 0.97}],
        "labels": {"origin": "generated field", "kind": "distance"},
    }
    facts |= {"gate": {"threshold": 0.8, "sensitivity": 0.95, "why": ""}, "diversity": diversity()}
    write_json(workdir / "database" / "database.json", facts)
    write_json(workdir / "scores.json", scores(stacks["scored"], stacks["train"]))
    write_json(workdir / "downstream.json", downstream())
    pictures.write_png(workdir / "downstream_database.png", np.full((40, 120, 3), 90, np.uint8))
    stages = {
        name: {"state": "finished", "seconds": 60.0} for name in ("dcgan", "real", "database", "scores", "unet_database", "downstream")
    }
    write_json(workdir / "status.json", {"state": "finished", "stages": stages})
    return rows[0]


def run_folder(run):
    """Returns the folder after it was made."""
    run.mkdir(parents=True)
    return run


def prepared_scans(config):
    """Returns the simulated scans as a run prepares them."""
    return preparation.prepare(config)


def real(workdir, prepared, kind) -> np.ndarray:
    """Returns four crops (4, SIZE, SIZE) in nm after they stand in W/real/`kind`."""
    scans = prepared.splits["train"] if kind == "train" else [*prepared.splits["held_out"], *prepared.splits["test"]]
    found = []
    for number in range(4):
        index = number % len(scans)
        crop = scans[index].pixels[64 * number : 64 * number + SIZE, 100 : 100 + SIZE]
        name = f"{index:04d}_{number:06d}"
        folder = workdir / "real" / kind
        pictures.write_png(folder / "images" / f"{name}.png", pictures.to_uint8(prepared.value_map.to_unit(crop)))
        (folder / "heights").mkdir(exist_ok=True)
        (folder / "heights" / f"{name}.tiff").write_bytes(writing.encode_tiff(crop, (0.25, 0.25), "nm"))
        found.append(crop)
    known = {f"{index:04d}": {"id": scan.id} for index, scan in enumerate(scans)}
    write_json(workdir / "real" / "real.json", {"scans": known})
    return np.stack(found)


def row(workdir, heights, index, prepared, nm) -> dict:
    """Returns a row of the index after its image, heights and label stand."""
    id, folder = f"{index:06d}", workdir / "database"
    for name in ("heights", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    pictures.write_png(folder / "images" / f"{id}.png", pictures.to_uint8(prepared.value_map.to_unit(heights)))
    (folder / "heights" / f"{id}.tiff").write_bytes(writing.encode_tiff(heights, (nm, nm), "nm"))
    label = np.zeros((SIZE, SIZE), np.uint16)
    label[8:20, 8:20], label[30:50, 30:50] = 1, 2
    pictures.write_png(folder / "labels" / f"{id}.png", label)
    train = [scan.id for scan in prepared.splits["train"]]
    found = {
        "id": id,
        "image": f"images/{id}.png",
        "heights": f"heights/{id}.tiff",
        "label": f"labels/{id}.png",
        "seed": SEED,
        "index": index,
    }
    found |= {"checkpoint": "dcgan@8", "upscaler": "superres@10", "sources": json.dumps(train), "nm_per_pixel": nm, "split": "train"}
    found |= {"particles": 2, "mean_diameter": 4.0, "coverage": 0.13, "roughness": 1.5, "label_origin": "generated field"}
    return found | {"nearest": train[index % len(train)], "nearest_similarity": 0.3 + 0.01 * index}


def write_index(workdir, rows) -> None:
    """Writes index.csv."""
    with open(workdir / "database" / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def diversity() -> dict:
    """Returns what the gate against collapse says of a set that did."""
    return {"images": NUM, "distinct": 3.2, "distinct_real": 7.9, "ratio": 0.41, "alike": 0.9, "collapsed": True}


def scores(real_heights, generated_heights) -> dict:
    """Returns scores.json: the true surface card of two sets, and an invented KID."""
    card = surface_card.card(real_heights, generated_heights, 0.25, repeats=20)
    facts = {
        "n_real": 4,
        "n_generated": 4,
        "interval_calibrated": False,
        "differs": False,
        "floor": 1.0,
        "protocol": "quantities over floor",
    }
    surface = {**card, **facts, "value": card["score"], "interval": [card["score_low"], card["score_high"]]}
    kid = {
        "value": 0.31,
        "std": 0.02,
        "floor": 0.0,
        "p_value": 0.001,
        "differs": True,
        "interval": [0.28, 0.34],
        "interval_calibrated": True,
    }
    kid |= {"features": "768", "resize": "bilinear 299", "n_real": 4, "n_generated": 4, "protocol": "unbiased, cubic kernel"}
    return {"kid": kid, "surface": surface, "note": "These weights do not reach Inception's logits, so no IS."}


def downstream() -> dict:
    """Returns downstream.json of two U-Nets that were never trained."""
    rows = [{"by": "database", "dice": 0.871, "dice_error": 0.01, "ap50": 0.61, "diameter_error": 0.08}]
    rows += [{"by": "real", "dice": 0.921, "dice_error": 0.008, "ap50": 0.74, "diameter_error": 0.04}]
    rows += [{"by": "everything foreground", "dice": 0.3, "ap50": 0.0, "diameter_error": None}]
    facts = {"protocol": "2 whole scans", "scans": ["a", "b"], "rows": rows, "note": ""}
    return facts | {"pictures": {"database": "downstream_database.png", "real": "absent.png"}}
