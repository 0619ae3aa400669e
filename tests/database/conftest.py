import shutil

import pytest

from configs import dcgan
from database import making, recipe
from database.page import page
from gan import dcgan as generator
from tests.database import fakes
from tests.database.fake_chain import prepared_scans, small_config, write


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """(workdir of a whole fake chain, the text of its page)."""
    workdir = tmp_path_factory.mktemp("chain") / "W"
    config = small_config()
    write(workdir, prepared_scans(config), config)
    return workdir, page(workdir)


@pytest.fixture(scope="session")
def chain(tmp_path_factory, scans):
    """A folder with a dcgan/ and a database/ of 130 images of 64 px from it, labels found by threshold."""
    folder = tmp_path_factory.mktemp("chain")
    config = dcgan.config("test", 32, 4, "tiny").unlock()
    config.data.update({"source": f"folder:{scans}", "crop": 32})
    fakes.saved(folder / "dcgan", config, generator.make_task(config))
    known = {"num_images": fakes.NUM, "seed": 11, "size": (64, 64), "labels": "prelabelled"}
    facts = recipe.describe(folder / "database", folder / "dcgan", **known)
    making.make(folder / "database", facts, recipe.load(folder / "database", facts))
    return folder


@pytest.fixture
def copy(chain, tmp_path):
    """The same folder to damage."""
    return shutil.copytree(chain, tmp_path / "chain")
