"""The command line as a user meets it: every mode, and every mistake in at most five lines without a traceback."""

import dataclasses
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import cv2
import numpy as np
import pytest

import input_pipeline
import main
from training import command, loop, prediction
from training.signals import Stop

ROOT = pathlib.Path(__file__).resolve().parents[1]
TINY = "--config=configs/dcgan32.py:tiny"


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    """A workdir that `main.py` trained for two steps."""
    workdir = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert run(TINY, f"--config.data.source=folder:{scans}", f"--workdir={workdir}", *(f"--config.train.{n}=2" for n in PERIODS)) == 0
    return workdir


PERIODS = ("num_steps", "save_every", "eval_every")


def run(*words):
    return main.run(["main.py", *words])


def told(capsys):
    """What stands on stderr: at most five lines, no traceback."""
    text = capsys.readouterr().err
    assert "Traceback" not in text and 1 <= len(text.splitlines()) <= 5, text
    return text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([TINY, "--wrkdir=x"], "--wrkdir is not a flag. Did you mean --workdir?"),
        ([TINY, "--zzzzzz=1"], "--zzzzzz is not a flag. --help lists them."),
        ([TINY, "--workdir=x", "configs"], "'configs' is not a flag; write --name=value."),
        ([TINY, "--config.train.batchsize=4"], "config.train has no field 'batchsize'. Did you mean --config.train.batch_size?"),
        ([TINY, "--workdir=x", "--config.trian.batch_size=4"], "config has no field 'trian'. Did you mean --config.train?"),
        ([TINY, "--noconfig.data.miror"], "config.data has no field 'miror'. Did you mean --config.data.mirror?"),
        ([TINY, "--config.zzzzzz=4"], "config has no field 'zzzzzz'. It has data, eval,"),
        ([TINY, "--config.seed.x=4"], "config.seed has no field 'x'. It is a value itself."),
        (["--config.seed=4"], "--config.seed needs --config=configs/NAME.py"),
        ([TINY, "--config.train.batch_size=four"], "--config.train.batch_size=four: write a whole number."),
        ([TINY, "--config.train.beta1=half"], "--config.train.beta1=half: write a number."),
        ([TINY, "--config.data.mirror=maybe"], "--config.data.mirror=maybe: write true or false."),
        ([TINY, "--config.data.margins=(1,2"], "--config.data.margins=(1,2: write a tuple in quotes"),
        ([TINY, "--config.train=4"], "--config.train=4: it holds fields; name one of them."),
        ([TINY, "--mode=trian"], "--mode=trian: value should be one of <train|inspect|generate|predict|evaluate|export>"),
        ([TINY, "--num_images=many"], "--num_images=many: write a whole number."),
        (["--mode=predict", "--num_images=3"], "--num_images is not used by --mode=predict: leave it out; --mode=generate uses it."),
        ([TINY, "--workdir=x", "--seed=3"], "--seed is not used by --mode=train: leave it out; --mode=generate uses it."),
        (["--mode=evaluate", "--watch"], "--watch is not used by --mode=evaluate: leave it out; --mode=predict uses it."),
        (["--mode=export", "--input=s"], "--input is not used by --mode=export: leave it out; --mode=predict or --mode=evaluate uses it."),
        (["--mode=generate", "--nodistributed"], "--distributed is not used by --mode=generate: leave it out; --mode=train uses it."),
        ([TINY, "--debug=perhaps"], "--debug=perhaps: write true or false."),
        ([TINY, "--config.data.margins[9]=1", "--workdir=x"], "config.data.margins[9]: write the whole value, --config.data.margins=..."),
        (["--workdir=x"], "--config=configs/NAME.py is missing: the experiment to train"),
        (["--mode=inspect"], "--config=configs/NAME.py is missing: the experiment to inspect"),
        ([TINY], "--workdir=DIR is missing"),
        (["--mode=generate", "--output=x"], "--workdir=DIR is missing"),
        (["--mode=evaluate"], "--workdir=DIR is missing"),
        (["--config=configs/dcgan69.py", "--workdir=x"], "configs/dcgan69.py: no such file. Did you mean configs/dcgan96.py?\n"),
        (["--config=configs", "--workdir=x"], "--config=configs: no such file."),
        (["--config=configs/dcgan32.py:huge", "--workdir=x"], "--config=configs/dcgan32.py:huge: preset 'huge': choose"),
        (["--config", "configs/dcgan32.py:tiny", "--config.task=gan.nothing", "--workdir=x"], "config.task='gan.nothing': no such method"),
        ([TINY, "--config.train.log_every=3", "--workdir=x"], "config.train.log_every=3 is no positive multiple"),
        ([TINY, "--config.train.batch_size=7", "--workdir=x"], "batch_size=7 cannot be split over 2 devices"),
    ],
)
def test_wrong_flags_and_fields_are_told_with_the_nearest_match(words, match, capsys):
    assert run(*words) == 2
    assert match in told(capsys)
    assert not (ROOT / "x").exists()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("def get_config(preset=''):\n    return 3 +\n", "invalid syntax (mine.py, line 2)."),
        ("import no_such_module\n", "No module named 'no_such_module'."),
        ("x = 1\n", "has no attribute 'get_config'."),
        ("def get_config(preset=''):\n    return 3\n", "get_config() returns int, not an ml_collections.ConfigDict."),
        ("def get_config(preset=''):\n    raise RuntimeError('one\\ntwo\\nthree')\n", "three."),
        ("def get_config(preset=''):\n    open('no-such-file')\n", "No such file or directory: 'no-such-file'."),
    ],
)
def test_a_config_file_of_ones_own_that_fails_is_told_in_a_line(text, match, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(loop, "train", lambda *_: pytest.fail("trained"))
    (tmp_path / "mine.py").write_text(text)
    assert run(f"--config={tmp_path / 'mine.py'}", "--workdir=x") == 2
    line = told(capsys)
    assert line.startswith(f"--config={tmp_path / 'mine.py'}: ") and line.endswith(f"{match}\n") and len(line.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ([TINY, "--config.data.source=folder:DIR/none", "--workdir=DIR/w"], "DIR/none: no such folder"),
        ([TINY, "--config.data.source=folder:DIR", "--workdir=DIR/w"], "DIR: holds no image"),
        ([TINY, "--config.data.source=scans", "--workdir=DIR/w"], "config.data.source='scans': write simulated, emulsion, cells, folder:"),
        ([TINY, "--config.data.rotation=half", "--workdir=DIR/w"], "config.data.rotation='half': choose free, quarter or none."),
        (["--mode=inspect", TINY, "--config.data.source=folder:DIR/none"], "DIR/none: no such folder"),
        (["--mode=generate", "--workdir=DIR", "--output=DIR/o"], "DIR/config.json: not found, so DIR is not the workdir of a run."),
        (["--mode=evaluate", "--workdir=DIR"], "DIR/config.json: not found"),
    ],
)
def test_missing_data_and_workdirs_are_told(words, match, tmp_path, capsys):
    code = 2 if match.startswith("config.data.") else 1
    assert run(*(word.replace("DIR", str(tmp_path)) for word in words)) == code
    assert match.replace("DIR", str(tmp_path)) in told(capsys)
    assert not list(tmp_path.iterdir())


def test_a_workdir_that_cannot_be_written_is_told(scans, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for mode in ("train", "inspect"):
        assert run(TINY, f"--mode={mode}", f"--config.data.source=folder:{scans}", f"--workdir={tmp_path / 'file' / 'w'}") == 1
        assert f"{tmp_path / 'file' / 'w'}" in told(capsys)


def test_help_lists_every_flag_and_needs_no_config(capsys):
    for word in ("--help", "-h", "--helpfull"):
        assert run(word) == 0
        out = capsys.readouterr().out
        assert "python main.py --config=" in out
        assert all(f"  --{name}" in out for name in main.define([])) and "--format=png" in out


def test_every_flag_is_used_by_some_mode():
    used = set().union(*main.USED.values())
    assert {name for name in main.define([]) if not name.startswith("config")} == used | {"mode", "debug"}


def test_inspect_prints_a_line_a_scan_and_writes_what_it_says(scans, tmp_path, capsys):
    assert run("--mode=inspect", TINY, f"--config.data.source=folder:{scans}", f"--workdir={tmp_path}") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 5 + 1 + 1 and [line.split()[0] for line in lines[1:6]] == [f"scan{i}.png" for i in range(5)]
    assert lines[6].startswith("3 train, 1 held out, 1 test, 0 refused; crops 45 x 45 px to 32 x 32; ")
    assert {row["id"]: row["split"] for row in json.loads((tmp_path / "inspect.json").read_text())} == {
        line.split()[0].removesuffix(".png"): "_".join(line.split("none")[1].split()) for line in lines[1:6]
    }
    assert cv2.imread(str(tmp_path / "inspect_crops.png"), cv2.IMREAD_UNCHANGED).shape == (4 * 32 + 3 * 2, 4 * 32 + 3 * 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "inspect.json",
        "inspect_crops.png",
        "inspect_scans.png",
        "inspect_statistics.png",
    ]


def test_evaluate_writes_the_scores_that_training_ended_with(trained, capsys):
    path = trained / "evaluation.json"
    before = json.loads(path.read_text())
    path.unlink()
    assert run("--mode=evaluate", f"--workdir={trained}", "--num_searched=0") == 0
    protocol, *lines = capsys.readouterr().out.splitlines()
    printed = dict(line.split() for line in lines)
    after = json.loads(path.read_text())
    assert after["step"] == before["step"] == 2 and after["scalars"] == pytest.approx(before["scalars"], rel=1e-5)
    assert (
        protocol == after["protocol"] == before["protocol"]
        and "16 generated images against 16 crops of held-out scans, 32 x 32 px" in protocol
    )
    assert {name: float(value) for name, value in printed.items()} == pytest.approx(after["scalars"], rel=1e-3)


def test_generate_writes_images_of_the_checkpoint_asked_for(trained, tmp_path, capsys):
    words = ["--mode=generate", f"--workdir={trained}", "--num_images=3", "--format=npy"]
    assert run(*words, f"--output={tmp_path / 'last'}") == run(*words, f"--output={tmp_path / 'two'}", "--checkpoint=2") == 0
    assert "3 images written" in capsys.readouterr().out
    for i in range(3):
        last, two = (np.load(tmp_path / name / f"generated_{i:06d}.npy") for name in ("last", "two"))
        assert last.shape == (32, 32) and np.array_equal(last, two)
    wrong = {"--checkpoint=9": "last, best or one of 2", "--format=jpeg": "choose png, tiff, npy", "--output=": "--output=DIR is missing"}
    for word, match in wrong.items():
        assert run(*words, f"--output={tmp_path / 'other'}", word) == 2
        assert match in told(capsys)
    assert not (tmp_path / "other").exists()


def test_a_damaged_workdir_is_told(trained, tmp_path, capsys):
    (tmp_path / "config.json").write_bytes((trained / "config.json").read_bytes()[:-40])
    for words in (["--mode=generate", f"--output={tmp_path}"], ["--mode=evaluate"]):
        assert run(*words, f"--workdir={tmp_path}") == 1
        assert f"{tmp_path / 'config.json'} cannot be read: " in told(capsys)


def test_another_config_in_the_same_workdir_is_refused(trained, scans, capsys):
    words = [TINY, f"--config.data.source=folder:{scans}", f"--workdir={trained}", *(f"--config.train.{name}=2" for name in PERIODS)]
    assert run(*words, "--config.seed=5") == 2
    assert "config.seed: 0 there, 5 now" in told(capsys)


def test_exit_codes_of_signals_and_interrupts(trained, tmp_path, monkeypatch):
    def asked(number):
        return lambda config, workdir, stop: setattr(stop, "signal", number)

    def interrupted(config, workdir, stop):
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    for train, code in ((asked(signal.SIGTERM), 143), (asked(signal.SIGINT), 130), (interrupted, 130), (lambda *_: None, 0)):
        monkeypatch.setattr(loop, "train", train)
        assert run(TINY, f"--workdir={tmp_path}") == code
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_is_our_mistake_shows_its_traceback_and_a_users_only_with_debug(tmp_path, capsys, monkeypatch):
    words = ["--mode=evaluate", f"--workdir={tmp_path / 'none'}"]
    assert run(*words, "--debug") == 1
    text = capsys.readouterr().err
    assert "Traceback" in text and text.endswith(f"--workdir={tmp_path / 'none'}\n")

    def broken(config, workdir, stop):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(loop, "train", broken)
    assert run(TINY, f"--workdir={tmp_path}") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_anywhere_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    def full(config, workdir, rename):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "inspect.json"))

    monkeypatch.setattr(input_pipeline, "inspect", full)
    assert run("--mode=inspect", TINY) == 1
    assert told(capsys) == f"{tmp_path / 'inspect.json'}: No space left on device.\n"


def test_flags_are_each_runs_own(monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "train", lambda config, workdir, stop: seen.append((config.seed, config.train.batch_size, stop)))
    assert run(TINY, "--workdir=x", "--config.seed=5", "--config.train.batch_size", "16") == run(TINY, "--workdir=x") == 0
    assert [(seed, batch_size) for seed, batch_size, _ in seen] == [(5, 16), (0, 8)]
    assert seen[0][2] is not seen[1][2] and isinstance(seen[0][2], Stop)
    assert command.new_flags([])["config"].value is None


def test_the_program_itself_ends_with_these_codes_and_tells_a_wrong_flag_at_once():
    for words, code in ((["--workdr=x"], 2), (["--help"], 0), (["--mode=evaluate", "--workdir=no/such"], 1)):
        done = subprocess.run([sys.executable, "main.py", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == code and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 5
    light = "import sys, main; assert main.run(['main.py', '--workdr=x']) == 2; assert 'jax' not in sys.modules, 'slow to say no'"
    subprocess.run([sys.executable, "-c", light], cwd=ROOT, check=True, timeout=60)


def test_the_words_that_say_which_config_it_is_are_kept_in_the_config(tmp_path, monkeypatch):
    words = ["--config", "configs/stm_database.py:tiny", "--config.data.source=folder:my scans", "--noconfig.data.mirror", "--debug"]
    words += [
        "--config.data.skip_bad",
        "--config.resume=rebuild",
        "--config.resume",
        "rebuild",
        "--workdir",
        str(tmp_path),
        "--config.seed",
        "3",
    ]
    kept = "--config configs/stm_database.py:tiny '--config.data.source=folder:my scans' --noconfig.data.mirror --config.data.skip_bad"
    assert command.config_words(["main.py", *words]) == f"{kept} --config.seed 3"
    method, seen = types.SimpleNamespace(run=lambda config, workdir, stop: seen.append(config.command)), []
    monkeypatch.setattr(loop, "method", lambda config: method)
    assert main.run(["main.py", *words[:2], f"--workdir={tmp_path}"]) == 0
    assert seen == ["--config configs/stm_database.py:tiny"]


def test_predict_hands_its_flags_to_the_method_and_a_method_without_it_is_told(trained, tmp_path, capsys, monkeypatch):
    words = ["--mode=predict", f"--workdir={trained}", "--input=scans", f"--output={tmp_path / 'out'}"]
    assert run(*words) == 2
    assert "--mode=predict: gan.dcgan, which" in told(capsys)
    seen = []
    fake = types.SimpleNamespace(make_task=None, predict=lambda config, workdir, request: seen.append((config.task, workdir, request)))
    monkeypatch.setattr(loop, "method", lambda config: fake)
    assert run(*words) == run(*words, "--format=png", "--smoothing=1.5", "--tile=96", "--checkpoint=best") == 0
    plain, asked = (dataclasses.replace(request, stop=None) for _, _, request in seen)
    assert [entry[:2] for entry in seen] == [("gan.dcgan", str(trained))] * 2
    assert plain == prediction.Request("scans", str(tmp_path / "out"), stop=None)
    assert asked == prediction.Request("scans", str(tmp_path / "out"), "best", "png", 1.5, 96, None)
    assert run("--mode=generate", f"--workdir={trained}", "--output=x") == 2
    assert "does not generate." in told(capsys)
