"""Every config loads in every preset, locked, with the same fields, and names a method that exists."""

import importlib
import json
import pathlib

import ml_collections
import pytest

CONFIGS = sorted(path.stem for path in (pathlib.Path(__file__).resolve().parents[2] / "configs").glob("*.py") if path.stem != "__init__")
PRESETS = ((), ("tiny",), ("cpu",))


def load(name: str, preset: tuple[str, ...]):
    """Returns the config as main.py gets it: get_config() or get_config("tiny")."""
    return importlib.import_module(f"configs.{name}").get_config(*preset)


def field_names(value, prefix: str = "") -> set[str]:
    """Returns the dotted names of all fields of a nested dict."""
    if not isinstance(value, dict):
        return {prefix}
    return {name for key, inner in value.items() for name in field_names(inner, f"{prefix}.{key}")}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_is_locked_repeatable_and_plain_json(name, preset):
    config = load(name, preset)
    assert isinstance(config, ml_collections.ConfigDict) and config.is_locked
    assert json.loads(config.to_json()) == json.loads(load(name, preset).to_json())


@pytest.mark.parametrize("preset", PRESETS[1:])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_preset_changes_values_never_fields(name, preset):
    small, full = (json.loads(load(name, given).to_json()) for given in (preset, ()))
    assert field_names(small) == field_names(full)
    assert small != full


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_says_what_it_is_and_names_a_method_that_exists(name):
    assert importlib.import_module(f"configs.{name}").__doc__, f"configs/{name}.py: say the command, its cost and what to expect"
    task = load(name, ()).task
    method = importlib.import_module(task)
    assert callable(getattr(method, "make_task", None) or getattr(method, "run", None)), f"{task} has neither make_task nor run"


@pytest.mark.parametrize("name", CONFIGS)
def test_an_unknown_preset_is_refused_by_name(name):
    with pytest.raises(ValueError, match="no_such_preset"):
        load(name, ("no_such_preset",))
