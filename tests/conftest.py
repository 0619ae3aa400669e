"""The same strict surroundings for every test: two virtual CPU devices, no silent rank promotion, a compilation cache.

Programs are compiled without LLVM's optimisations: most tests run each of theirs once, and compiling is most of their time.
Child processes that tests start inherit all but the rank promotion. Set before jax is imported, because jax reads them then.
"""

import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[1]
FLAGS = ("--xla_force_host_platform_device_count=2", "--xla_backend_optimization_level=0")

os.environ.setdefault("JAX_PLATFORMS", "cpu")
for flag in FLAGS if os.environ["JAX_PLATFORMS"] == "cpu" else FLAGS[:1]:
    if flag.partition("=")[0] not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".jax_cache"))
if worker := os.environ.get("PYTEST_XDIST_WORKER"):  # JAX does not write its cache atomically: test processes side by side have one each
    os.environ["JAX_COMPILATION_CACHE_DIR"] += f"/{worker}"
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import cv2
import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
LONGEST = ("test_resume_methods", "test_resume", "test_distributed", "test_dcgan", "test_reference_scores", "test_metric_critic")
LONGEST += ("test_build", "test_stages", "test_throughput", "test_isbi2012", "test_augmentation_gain", "test_wasserstein", "test_wgan")


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that processes side by side end at about the same time (`--no-loadscope-reorder`)."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Returns the folder of the public test sets (docs/data.md); skips where there is none, fails where the one named is missing."""
    named = os.environ.get("SCANFORGE_TEST_DATA")
    folder = pathlib.Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        (pytest.fail if named else pytest.skip)(f"no public test sets at {folder}: see docs/data.md, or set SCANFORGE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of five 8-bit pictures of smooth noise, 64 x 70 px; tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("scans")
    for index in range(5):
        noise = np.random.default_rng(index).normal(size=(70, 64)).astype(np.float32)
        image = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
        cv2.imwrite(str(folder / f"scan{index}.png"), image)
    return folder
