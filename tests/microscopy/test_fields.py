"""Every field of the data section that cannot be is told by its name, before any file is opened."""

import pytest

from configs import dcgan
from microscopy import fields, preparation
from microscopy.scan import FieldError


def config_of(**changes):
    config = dcgan.get_config("tiny").unlock()
    config.data = {**config.data.to_dict(), "source": "folder:scans", **changes}
    return config


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("height", 0, "a whole number, 1 or more"),
        ("width", 96.0, "a whole number, 1 or more"),
        ("channels", 2, "1 or 3"),
        ("channels", True, "1 or 3"),
        ("crop", -1, "a whole number, 0 or more"),
        ("num_simulated", -3, "a whole number, 1 or more"),
        ("max_pixels", 0, "a whole number, 1 or more"),
        ("window", -1, "a whole number, 0 or more"),
        ("window_steps", 0, "a whole number, 1 or more"),
        ("simulator_seed", -1, "a whole number, 0 or more"),
        ("simulator_seed", 2**32, "0 to 4294967295"),
        ("mirror", 1, "true or false"),
        ("use_masks", "yes", "true or false"),
        ("skip_bad", None, "true or false"),
        ("source", None, "a text"),
        ("levels", "Patient", "write up to 6 different words"),
        ("levels", "day", "call one patient, sample or group, or class"),
        ("pad", "edge", 'border, or one value such as "255"'),
        ("pad", "nan", 'border, or one value such as "255"'),
        ("canvas", -1, "a whole number of px"),
        ("labels", 3, "a text"),
        ("names", "no", "true or false"),
        ("value_range", "255,0", "the lower value first"),
        ("value_range", "0..255", 'write "0,255"'),
        ("source", "scans", "write simulated, emulsion, cells, folder:PATH or tfds:NAME"),
        ("source", "simulated:5", "write simulated, emulsion, cells, folder:PATH or tfds:NAME"),
        ("source", "folder:", "write simulated, emulsion, cells, folder:PATH or tfds:NAME"),
        ("masks", 3, "a text"),
        ("held_out", 1.0, "a share, 0 up to below 1"),
        ("test", -0.1, "a share, 0 up to below 1"),
        ("test", float("nan"), "a share, 0 up to below 1"),
        ("rotation", "half", "choose free, quarter or none"),
        ("levelling", "plain", "levelling 'plain' is unknown; the nearest is plane."),
        ("levelling", "plane+row", "levelling 'row' in 'plane+row' is unknown; the nearest is rows."),
        ("margins", (1, 2, 3), "four whole numbers"),
        ("margins", (0, 0, 0, -1), "four whole numbers"),
        ("margins", (True, 0, 0, 0), "four whole numbers"),
        ("nm_per_pixel", -0.5, "a positive number"),
        ("nm_per_pixel", float("inf"), "a positive number"),
        ("nm_per_pixel", (0.5, 0.0), "a positive number"),
        ("nm_per_pixel", (0.5, 0.5, 0.5), "a positive number"),
        ("resample_nm", -1.0, "a positive number"),
        ("resample_nm", float("nan"), "a positive number"),
        ("channel", 3, "a text"),
        ("label_field", "signed", "choose none, distance or mask"),
        ("label_reach", 0.0, "px of a scan, above 0"),
        ("label_weight", 0.0, "above 0; 0.3 is usual"),
        ("group_by", "patient", "has 0 groups in brackets; write one"),
        ("group_by", "(a)(b)", "has 2 groups in brackets; write one"),
        ("group_by", "(a", "no regular expression"),
    ],
)
def test_a_field_that_cannot_be_is_told_by_name_and_value(name, value, match, monkeypatch):
    monkeypatch.setattr(preparation, "load_scans", lambda data: pytest.fail("files were opened"))
    config = config_of(**{name: value})
    with pytest.raises(FieldError) as error:
        preparation.prepare(config)
    assert str(error.value).startswith(f"config.data.{name}=") and match in str(error.value)
    assert len(str(error.value).splitlines()) <= 2 and error.value.exit_code == 2


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_cannot_be(seed):
    config = config_of()
    config.seed = seed
    with pytest.raises(FieldError, match=f"config.seed={seed}: 0 to 4294967295"):
        fields.check(config)


def test_what_can_be_passes_and_a_missing_field_is_named():
    for changes in (
        {},
        {"nm_per_pixel": 0.5},
        {"nm_per_pixel": (0.5, 1)},
        {"margins": [0, 0, 64, 0]},
        {"group_by": "^(p[0-9]+)_"},
        {"levelling": "facet+terraces"},
    ):
        fields.check(config_of(**changes))
    for source in ("simulated", "emulsion", "tfds:mnist"):
        fields.check(config_of(source=source))
    config = config_of()
    del config.data.group_by
    with pytest.raises(FieldError, match="config.data.group_by is missing"):
        fields.check(config)


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("tfds:mnist", "margins", (0, 0, 1, 0)),
        ("tfds:mnist", "select", "names.txt"),
        ("tfds:mnist", "masks", "segmaps"),
        ("tfds:mnist", "channel", "Z"),
        ("simulated", "channel", "Z"),
        ("simulated", "margins", (0, 0, 1, 0)),
        ("simulated", "select", "names.txt"),
        ("simulated", "masks", "segmaps"),
        ("simulated", "nm_per_pixel", 0.5),
        ("emulsion", "masks", "segmaps"),
        ("emulsion", "nm_per_pixel", 0.5),
    ],
)
def test_a_field_that_the_source_would_not_look_at_is_refused(source, name, value):
    with pytest.raises(FieldError, match=rf"config\.data\.{name}=.*: has no effect with source {source}"):
        fields.check(config_of(source=source, **{name: value}))
