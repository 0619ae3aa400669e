"""The rules of the house (docs/architecture.md), walked over every file of the tree.

A rule is a function of (path relative to the root, the file's text) that returns offences, "path:line: what, the line".
Every rule is first shown a source that breaks it, so that none can pass by never looking.
"""

import ast
import pathlib
import re
import sys

import jax
import pytest
from packaging.markers import Marker

ROOT = pathlib.Path(__file__).resolve().parents[1]
FUNCTION_LINES, FILE_LINES, TEST_FILE_LINES = 60, 320, 400

# Who may import whom. "training.loop" is a house of its own: the other files of training and the rooms may not import it.
ANYTHING = ("",)
LIBRARY = ("training", "input_pipeline", "metrics", "microscopy", "resize", "gan.losses")
MAY_IMPORT = {
    "main": ("training", "input_pipeline"),
    "training.loop": ("training", "input_pipeline"),
    "training": ("training", "microscopy"),
    "gan": ("gan", *LIBRARY),
    "superres": ("superres", *LIBRARY),
    "segmentation": ("segmentation", *LIBRARY),
    "classification": ("classification", *LIBRARY),
    "input_pipeline": ("training.task", "microscopy", "resize"),
    "metrics": ("metrics", "microscopy", "resize"),
    "microscopy": ("microscopy",),
    "resize": (),
    "configs": ("configs",),
    "studies": ANYTHING,
    "database": ANYTHING,
    "benchmarks": ANYTHING,
    "tools": ANYTHING,
    "tests": ANYTHING,
}
NOBODY_IMPORTS = ("main", "benchmarks", "tools", "tests")
MAY_IMPORT_LOOP = ("main", "training.loop", "studies", "database", "benchmarks", "tools", "tests")
LOCAL = {name.partition(".")[0] for name in MAY_IMPORT}
OFFSTAGE = ("benchmarks", "tools", "tests")

DISTRIBUTIONS = {"cv2": "opencv-python", "skimage": "scikit-image", "orbax": "orbax-checkpoint", "PIL": "pillow", "absl": "absl-py"}
PEERS = ("torch", "torchvision")  # what benchmarks compare with; the user installs them

# Put together here so that this file does not break its own rule.
WORKPLACE = re.compile("(?<![\\w.])/(?:" + "|".join(("work", "root", "tmp")) + ")/|" + "bash" + "_jobs")


def tree_files(*suffixes: str) -> list[pathlib.PurePath]:
    """Returns the checkout's files with these suffixes, relative to the root; environments, caches and runs are left out."""
    found = []
    for entry in sorted(ROOT.iterdir()):
        hidden = entry.name.startswith(".") and entry.name != ".ci"
        if hidden or entry.name == "runs" or (entry / "pyvenv.cfg").exists():
            continue
        found.extend([entry] if entry.is_file() else sorted(entry.rglob("*")))
    kept = (path for path in found if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts)
    return [path.relative_to(ROOT) for path in kept]


def house(path: pathlib.PurePath) -> str:
    """Returns the key of MAY_IMPORT that a file falls under: its top-level name, or "training.loop"."""
    name = path.with_suffix("").parts
    return "training.loop" if name == ("training", "loop") else name[0]


def under(name: str, parents) -> bool:
    """Returns whether the dotted name is one of `parents` or lies inside one; "" holds everything."""
    return any(parent == "" or name == parent or name.startswith(parent + ".") for parent in parents)


def offence(path, source: str, line: int, what: str) -> str:
    """Returns "path:line: what, the line"."""
    return f"{path}:{line}: {what}: {source.splitlines()[line - 1].strip()}"


def imports(path, tree):
    """Yields (line, dotted name) of every import, relative ones and import_module("constant") included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.parts[: -node.level] if node.level else ()
            module = (*package, node.module) if node.module else package
            yield from ((node.lineno, ".".join((*module, alias.name))) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            yield from ((node.lineno, str(name.value)) for name in node.args[:1] if isinstance(name, ast.Constant))


def functions(tree):
    """Yields every function and method, nested ones included."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def own_nodes(function):
    """Yields the nodes of a function's body, without those of the functions and classes inside it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def check_imports(path, source):
    """Imports within the house follow MAY_IMPORT."""
    importer, found = house(path), []
    if importer not in MAY_IMPORT:
        return [f"{path}:1: {importer} has no place in MAY_IMPORT: say whom it may import"]
    for line, name in imports(path, ast.parse(source)):
        if name.partition(".")[0] not in LOCAL or importer == "tests":
            continue
        outside = under(name, NOBODY_IMPORTS) and name.partition(".")[0] != importer
        loop = under(name, ("training.loop",)) and importer not in MAY_IMPORT_LOOP
        if outside or loop or not under(name, MAY_IMPORT[importer]):
            found.append(offence(path, source, line, f"{importer} may not import {name}"))
    return found


def check_foreign(path, source):
    """TensorFlow and pickle only offstage, torch only in benchmarks, private jax nowhere."""
    tree, room = ast.parse(source), house(path)
    found = []
    for line, name in imports(path, tree):
        offstage = under(name, ("tensorflow", "pickle", "dill", "cloudpickle", "joblib")) and room not in OFFSTAGE
        if offstage or (under(name, PEERS) and room != "benchmarks") or under(name, ("jax._src",)):
            found.append(offence(path, source, line, f"{name} may not be imported here"))
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and getattr(node.value, "value", True) and room not in OFFSTAGE:
            found.append(offence(path, source, node.value.lineno, "pickled data is never loaded"))
    return found


def requirements(name: str) -> dict[str, list[tuple[str, str]]]:
    """Returns distribution -> [(version, marker)] of a requirements file and of those it includes; an unpinned line has version ""."""
    pins: dict[str, list[tuple[str, str]]] = {}
    for line in (ROOT / name).read_text().splitlines():
        requirement, _, marker = (part.strip() for part in line.partition("#")[0].partition(";"))
        if requirement.startswith("-r "):
            pins |= requirements(requirement[3:].strip())
        elif requirement:
            pinned = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", requirement)
            distribution, version = pinned.groups() if pinned else (requirement, "")
            pins.setdefault(distribution.lower().replace("_", "-"), []).append((version, marker))
    return pins


def check_pinned_imports(path, source):
    """Whatever is imported from outside is a direct, pinned requirement (requirements-dev.txt for tests)."""
    room, found = house(path), []
    allowed = requirements("requirements-dev.txt" if room == "tests" else "requirements.txt")
    for line, name in imports(path, ast.parse(source)):
        root = name.partition(".")[0]
        if root in LOCAL or root in sys.stdlib_module_names or (room == "benchmarks" and root in PEERS):
            continue
        if DISTRIBUTIONS.get(root, root.lower().replace("_", "-")) not in allowed:
            found.append(offence(path, source, line, f"{root} is not pinned in the requirements"))
        elif room == "configs" and root != "ml_collections":
            found.append(offence(path, source, line, "a config imports ml_collections only"))
    return found


def check_sizes(path, source):
    """No function over 60 lines, no file over 320 (a test file 400)."""
    num_lines, limit = len(source.splitlines()), TEST_FILE_LINES if house(path) == "tests" else FILE_LINES
    found = [f"{path}:{num_lines}: file of {num_lines} lines, {limit} at most"] if num_lines > limit else []
    for node in functions(ast.parse(source)):
        length = node.end_lineno - node.lineno + 1
        if length > FUNCTION_LINES:
            found.append(offence(path, source, node.lineno, f"function of {length} lines, {FUNCTION_LINES} at most"))
    return found


def check_docstrings(path, source):
    """Every public function, class and method says what comes back; test functions are named for it instead."""
    if house(path) == "tests":
        return []
    tree = ast.parse(source)
    nodes = list(tree.body)
    nodes += [member for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") for member in node.body]
    public = (n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not n.name.startswith("_"))
    # `setup` is Flax's own hook: its name says all there is to say.
    missing = (node for node in public if not ast.get_docstring(node) and node.name != "setup")
    return [offence(path, source, node.lineno, f"{node.name} has no docstring") for node in missing]


def check_arguments(path, source):
    """No argument is called `rng` (a jax key is `key`) and no public function takes a `**` catch-all, tests excepted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.arg) and node.arg == "rng":
            found.append(offence(path, source, node.lineno, "call it key"))
        if isinstance(node, ast.FunctionDef) and node.args.kwarg and not node.name.startswith("_") and house(path) != "tests":
            found.append(offence(path, source, node.lineno, "name the arguments, no ** catch-all"))
    return found


def check_makers(path, source):
    """A function named make_* returns something to call: where the code shows another thing, that is an offence."""
    plain = ("None", "str", "bytes", "int", "float", "bool", "list", "dict", "set", "np.ndarray", "jax.Array", "pathlib.Path")
    literal = ast.Constant | ast.List | ast.Dict | ast.Set | ast.JoinedStr | ast.Compare | ast.ListComp | ast.DictComp | ast.BinOp
    found = []
    for node in functions(ast.parse(source)):
        if not node.name.startswith("make_"):
            continue
        returned = [inner.value for inner in own_nodes(node) if isinstance(inner, ast.Return)]
        annotated = node.returns is not None and ast.unparse(node.returns).partition("[")[0] in plain
        if annotated or not returned or any(value is None or isinstance(value, literal) for value in returned):
            found.append(offence(path, source, node.lineno, f"{node.name} does not return a function"))
    return found


def check_names(path, source):
    """No attic (utils.py), no top-level name of a standard module, empty __init__.py."""
    found = []
    if re.fullmatch(r"(\w+_)?(utils?|helpers?|misc)", path.stem):
        found.append(f"{path}:1: name a file after what it knows")
    if path.with_suffix("").parts[0] in sys.stdlib_module_names:
        found.append(f"{path}:1: {path.with_suffix('').parts[0]} is a standard module's name")
    if path.name == "__init__.py" and source.strip():
        found.append(offence(path, source, 1, "__init__.py stays empty"))
    return found


def check_paths(path, source):
    """No absolute path of the machine something was written on."""
    lines = enumerate(source.splitlines(), 1)
    return [offence(path, source, number, "absolute path") for number, line in lines if WORKPLACE.search(line)]


RULES = [check_imports, check_foreign, check_pinned_imports, check_sizes, check_docstrings, check_arguments, check_makers, check_names]

BROKEN = [
    (check_imports, "microscopy/x.py", "import numpy\nimport training.task", 2),
    (check_imports, "training/loop.py", "from gan import dcgan", 1),
    (check_imports, "training/loop.py", "def f():\n    from microscopy import scan", 2),
    (check_imports, "training/loop.py", "import importlib\nimportlib.import_module('gan.dcgan')", 2),
    (check_imports, "training/report.py", "from . import loop", 1),
    (check_imports, "training/report.py", "import input_pipeline", 1),
    (check_imports, "gan/dcgan.py", "import training.loop as loop", 1),
    (check_imports, "superres/srgan.py", "from gan import losses\nfrom gan import networks", 2),
    (check_imports, "input_pipeline.py", "from training.task import Data\nfrom training import checkpoints", 2),
    (check_imports, "metrics/fid.py", "from ..gan import losses", 1),
    (check_imports, "resize.py", "import microscopy.scan", 1),
    (check_imports, "configs/x.py", "import resize", 1),
    (check_imports, "studies/x.py", "import main", 1),
    (check_imports, "tools/x.py", "import tests.conftest", 1),
    (check_imports, "benchmarks/x.py", "from tools import make_crops", 1),
    (check_imports, "main.py", "from gan.dcgan import make_task", 1),
    (check_imports, "attic/x.py", "import numpy", 1),
    (check_foreign, "gan/x.py", "import numpy\nimport pickle", 2),
    (check_foreign, "microscopy/x.py", "import tensorflow as tf", 1),
    (check_foreign, "tools/x.py", "from torch import nn", 1),
    (check_foreign, "tests/x.py", "from jax._src import core", 1),
    (check_foreign, "metrics/x.py", "import numpy as np\nnp.load('a.npz', allow_pickle=True)", 2),
    (check_pinned_imports, "gan/x.py", "import jax\nimport pandas as pd", 2),
    (check_pinned_imports, "gan/x.py", "import packaging.markers", 1),
    (check_pinned_imports, "tools/x.py", "import torch", 1),
    (check_pinned_imports, "configs/x.py", "import jax", 1),
    (check_sizes, "gan/x.py", "\n\ndef f():\n" + "    1\n" * 60, 3),
    (check_sizes, "gan/x.py", "x = 1\n" * 321, 321),
    (check_sizes, "tests/test_x.py", "x = 1\n" * 401, 401),
    (check_docstrings, "gan/x.py", "def f():\n    return 1", 1),
    (check_docstrings, "gan/x.py", "class A:\n    '''One.'''\n    def b(self):\n        return 1", 3),
    (check_arguments, "gan/x.py", "def _f(x, *, rng):\n    return x", 1),
    (check_arguments, "tests/x.py", "y = 1\nf = lambda rng: rng", 2),
    (check_arguments, "gan/x.py", "def f(**options):\n    return options", 1),
    (check_makers, "gan/x.py", "def make_a():\n    def b():\n        return print\n    return 3", 1),
    (check_makers, "gan/x.py", "def make_a():\n    print()", 1),
    (check_makers, "gan/x.py", "def make_a(x) -> np.ndarray:\n    return x", 1),
    (check_names, "gan/utils.py", "", 1),
    (check_names, "metrics/image_utils.py", "", 1),
    (check_names, "statistics/x.py", "", 1),
    (check_names, "queue.py", "", 1),
    (check_names, "gan/__init__.py", "from gan import dcgan", 1),
    (check_paths, "docs/x.md", "fine\nsee /" + "work/shared for more", 2),
    (check_paths, ".ci/run", "cp '/" + "root/.cache' .", 1),
]

SOUND = [
    (check_imports, "gan/x.py", "from training.task import Net\nfrom . import losses\nimport gan.networks, resize, cv2"),
    (check_imports, "superres/x.py", "from gan import losses\nfrom gan.losses import hinge"),
    (check_imports, "input_pipeline.py", "from training import task\nfrom training.task import Data"),
    (check_imports, "database/x.py", "from training import loop\nfrom segmentation import tiling"),
    (check_imports, "tests/x.py", "import main\nfrom tools import make_crops"),
    (check_foreign, "benchmarks/x.py", "import torch, pickle"),
    (check_foreign, "microscopy/x.py", "import tensorflow_datasets as tfds\nnp.load('a', allow_pickle=False)"),
    (check_pinned_imports, "tests/x.py", "import os.path, cv2, scipy.ndimage, skimage.measure, orbax.checkpoint"),
    (check_sizes, "gan/x.py", "def f():\n" + "    1\n" * 59 + "\n" * 260),
    (check_docstrings, "gan/x.py", "def _f():\n    return 1\nclass A:\n    '''One.'''\n    def setup(self):\n        pass"),
    (check_arguments, "gan/x.py", "rng = np.random.default_rng(0)\nmodel.apply(x, rngs=rng)\ndef _f(**of): pass"),
    (check_makers, "gan/x.py", "def make_a(f):\n    def b():\n        return 1\n    return jax.jit(b), f"),
    (check_names, "metrics/statistics.py", "import utils"),
    (check_paths, "docs/x.md", "`../shared/data`, a/work/b, https://x.org/tmp/y, $HOME/scans"),
]


@pytest.mark.parametrize(("rule", "path", "source", "line"), BROKEN)
def test_a_rule_finds_a_broken_source_and_names_its_line(rule, path, source, line):
    found = rule(pathlib.PurePath(path), source)
    assert len(found) == 1 and found[0].startswith(f"{path}:{line}: "), found


@pytest.mark.parametrize(("rule", "path", "source"), SOUND)
def test_a_rule_lets_a_sound_source_pass(rule, path, source):
    assert rule(pathlib.PurePath(path), source) == []


@pytest.mark.parametrize("rule", RULES)
def test_every_python_file_keeps_the_rule(rule):
    files = tree_files(".py")
    assert pathlib.PurePath("tests/test_house.py") in files
    found = [line for path in files for line in rule(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


def test_no_file_holds_a_path_of_the_machine_it_was_written_on():
    files = tree_files(".py", ".md", ".toml", ".txt", ".cff", ".json", "")
    assert {"Makefile", "run", "architecture.md"} <= {path.name for path in files}
    found = [line for path in files for line in check_paths(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not found, "\n" + "\n".join(found)


def test_every_requirement_has_exactly_one_exact_pin_on_each_python():
    pins = requirements("requirements-dev.txt")
    assert {"jax", "jaxlib", "flax", "pytest"} <= set(pins)
    for name, versions in pins.items():
        assert all(version for version, _ in versions), f"{name} is not pinned with =="
        for python in ("3.11", "3.12"):
            surroundings = {"python_version": python, "platform_system": "Linux"}
            held = [version for version, marker in versions if not marker or Marker(marker).evaluate(surroundings)]
            assert len(held) == 1, f"{name} has {held} on Python {python}"
    assert pins["jax"] == pins["jaxlib"]


def test_the_surroundings_are_strict():
    assert [device.platform for device in jax.devices()] == ["cpu", "cpu"]
    with pytest.raises(ValueError, match="rank_promotion"):
        jax.numpy.ones((2, 3)) + jax.numpy.ones(3)
