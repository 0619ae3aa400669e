"""Stages are finished only while config and inputs are as they were; what is stale is listed, and made anew on request."""

import json

import pytest

from database import stages
from training.errors import ConfigError, RunError
from training.signals import Stop


def chain(folder, made, **changes):
    """A dictionary's worth of stages: b and c read a, d reads c; each writes its config and what it read to a file."""
    values = {"a": 1, "b": 1, "c": 1, "d": 1} | changes
    reads = {"a": (), "b": ("a",), "c": ("a",), "d": ("c",)}

    def stage(name):
        path = folder / name

        def make(stop):
            made.append(name)
            above = "".join((folder / other).read_text() for other in reads[name])
            path.write_text(f"{name}{values[name]}({above})")
            stop.signal = stop.signal or (15 if values.get("stopped") == name else None)

        config = {"train": {"rate": values[name], "num_steps": values.get("steps", 4)}, "eval": {"num": values.get("num", 1)}}
        config["train"] |= {"schedule": values["schedule"]} if "schedule" in values else {}
        trains = name == "a"
        config = config if trains else {"rate": values[name]}
        outputs = lambda: stages.digests([path])  # noqa: E731 - one line beside what it belongs to
        return stages.Stage(name, config, reads[name], {"scans": values.get("scans", "x")}, make, outputs, (path,), trains)

    return [stage(name) for name in reads]


def run(folder, rebuild=False, stop=None, **changes):
    made = []
    done = stages.run(chain(folder, made, **changes), folder, stop or Stop(), rebuild, summary=folder / "summary")
    return made, done


@pytest.fixture
def finished(tmp_path):
    assert run(tmp_path) == (list("abcd"), list("abcd"))
    return tmp_path


def test_finished_stages_are_left(finished, capsys):
    assert run(finished) == ([], [])
    assert [line for line in capsys.readouterr().out.splitlines() if line][-4:] == [
        f"Stage {n} of 4, {s}: finished." for n, s in enumerate("abcd", 1)
    ]
    status = json.loads((finished / "status.json").read_text())
    assert status["state"] == "finished" and {one["state"] for one in status["stages"].values()} == {"finished"}


@pytest.mark.parametrize(
    ("changes", "first", "others"),
    [
        ({"a": 2}, "a", "b, c, d"),
        ({"c": 2}, "c", "d"),
        ({"d": 2}, "d", ""),
        ({"scans": "y"}, "a", "b, c, d"),
        ({"steps": 3}, "a", "b, c, d"),
    ],
)
def test_a_change_lists_what_is_stale_and_rebuild_makes_just_that(finished, changes, first, others):
    before = {name: (finished / name).read_bytes() for name in "abcd"}
    with pytest.raises(ConfigError) as told:
        run(finished, **changes)
    lines = str(told.value).splitlines()
    assert lines[0].startswith(f"stage {first} has changed: ") and "--config.resume=rebuild" in lines[2]
    assert lines[1] == (f"Stale with it: {others}." if others else "No other stage is stale.")
    assert before == {name: (finished / name).read_bytes() for name in "abcd"}
    stale = [first, *others.split(", ")] if others else [first]
    assert run(finished, rebuild=True, **changes)[0] == stale
    assert run(finished, **changes) == ([], [])


def test_the_line_of_a_change_names_field_and_values(finished):
    with pytest.raises(ConfigError, match=r"stage a has changed: train.rate: 1 there, 7 now."):
        run(finished, a=7)


def test_a_longer_training_goes_on_but_what_reads_it_is_stale(finished):
    with pytest.raises(ConfigError, match=r"stage b has changed: it reads a.\nStale with it: c, d\."):
        run(finished, steps=8)
    kept = (finished / "a").stat().st_ino
    assert run(finished, rebuild=True, steps=8)[0] == list("abcd") and (finished / "a").stat().st_ino == kept


def test_a_training_whose_rate_ends_with_the_run_cannot_be_longer(tmp_path):
    run(tmp_path, schedule="cosine")
    with pytest.raises(ConfigError, match=r"stage a has changed: train.num_steps: 4 there, 8 now.\nStale with it: b, c, d\."):
        run(tmp_path, schedule="cosine", steps=8)
    kept = (tmp_path / "a").stat().st_ino
    (tmp_path / "held").hardlink_to(tmp_path / "a")  # so that the number is not given again
    assert run(tmp_path, rebuild=True, schedule="cosine", steps=8)[0] == list("abcd") and (tmp_path / "a").stat().st_ino != kept


def test_what_tells_of_all_stages_goes_before_one_is_made_and_stays_where_none_is(finished):
    (finished / "summary").touch()
    assert run(finished) == ([], []) and (finished / "summary").exists()
    with pytest.raises(ConfigError):
        run(finished, d=2)
    assert (finished / "summary").exists()
    assert run(finished, rebuild=True, stopped="c", c=2) == (["c"], None) and not (finished / "summary").exists()
    (finished / "summary").touch()
    assert run(finished, c=2)[0] == list("cd") and not (finished / "summary").exists()


def test_another_evaluation_touches_only_its_own_stage(finished):
    assert run(finished, num=2)[0] == ["a"]  # the same output again: what reads it stays


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    assert run(tmp_path, stopped="b") == (["a", "b"], None)
    assert stages.read(tmp_path, "b")["state"] == "begun" and json.loads((tmp_path / "status.json").read_text())["state"] == "interrupted"
    assert run(tmp_path) == (list("bcd"), list("bcd"))
    twin = tmp_path / "twin"
    twin.mkdir()
    run(twin)
    assert all((twin / name).read_bytes() == (tmp_path / name).read_bytes() for name in "abcd")


def test_a_stage_that_was_deleted_by_hand_is_made_and_the_others_stay_if_it_comes_out_the_same(finished):
    (finished / "a").unlink()
    assert run(finished)[0] == ["a"]


def test_an_output_that_comes_out_otherwise_is_told_when_it_is_known(finished):
    (finished / "stages" / "a.json").unlink()
    record = stages.read(finished, "c")
    stages.write(finished, "c", record | {"inputs": record["inputs"] | {"a/a": "0" * 64}})
    with pytest.raises(ConfigError, match=r"stage c has changed: it was made with other a/a.\nStale with it: d"):
        run(finished)
    assert run(finished, rebuild=True)[0] == ["c", "d"] and run(finished) == ([], [])


def test_a_stage_that_leaves_nothing_whole_and_a_damaged_record_are_told(tmp_path):
    broken = chain(tmp_path, [])[0]
    broken = stages.dataclasses.replace(broken, outputs=dict)
    with pytest.raises(RunError, match="stage a: .* is not whole after it was made"):
        stages.run([broken], tmp_path, Stop(), False)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "failed"
    (tmp_path / "stages" / "a.json").write_text("{}")
    with pytest.raises(RunError, match="no record of a stage"):
        stages.read(tmp_path, "a")


def test_files_changed_by_hand_list_only_what_reads_them_and_leave_the_summary(finished):
    (finished / "summary").touch()
    plan = chain(finished, [])
    plan[0] = stages.dataclasses.replace(plan[0], make=lambda stop: None)  # as a database that stands: it is left
    plan[2] = stages.dataclasses.replace(plan[2], reads=())
    stages.write(finished, "c", stages.read(finished, "c") | {"inputs": {"scans": "x"}})
    (finished / "a").write_text("by hand")
    for _ in range(2):
        with pytest.raises(ConfigError) as told:
            stages.run(plan, finished, Stop(), False, summary=finished / "summary")
        lines = str(told.value).splitlines()
        assert lines[:2] == ["stage b has changed: it was made with other a/a.", "No other stage is stale."]
        assert (finished / "summary").exists() and (finished / "b").exists()
    assert stages.run(plan, finished, Stop(), True, summary=finished / "summary") == ["b"] and not (finished / "summary").exists()
    assert (finished / "b").read_text() == "b1(by hand)"


def test_what_a_stage_keeps_is_moved_before_it_is_deleted(finished):
    plan, moved = chain(finished, [], c=2), []
    plan[2] = stages.dataclasses.replace(plan[2], keep=lambda: moved.append((finished / "c").read_text()))
    stages.run(plan, finished, Stop(), True)
    assert moved == ["c1(a1())"]
    stages.run(plan, finished, Stop(), True)
    assert len(moved) == 1
