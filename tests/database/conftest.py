import pytest

from database.page import page
from tests.database.fake_chain import prepared_scans, small_config, write


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """(workdir of a whole fake chain, the text of its page)."""
    workdir = tmp_path_factory.mktemp("chain") / "W"
    config = small_config()
    write(workdir, prepared_scans(config), config)
    return workdir, page(workdir)
