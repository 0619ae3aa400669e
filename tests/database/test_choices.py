"""Two sizes decide those of all stages; what cannot be is refused in a line."""

import pytest

from configs import stm_database
from database import choices
from training.errors import ConfigError

STAGES = ("dcgan", "superres_before", "superres", "unet_database", "unet_real")


def config(preset="", **sizes):
    found = stm_database.get_config(preset)
    with found.unlocked():
        found.update(sizes)
    return found


def sized(preset="", **sizes):
    """The sizes of every stage after it was filled in, the DCGAN's filters, the upscaler's low size."""
    found = config(preset, **sizes)
    choices.check(found)
    found = found.copy_and_resolve_references().unlock()
    choices.fit_sizes(found)
    assert all(found.stages[name].data.height == found.stages[name].data.width for name in STAGES)
    assert found.stages.unet_database.data.crop == found.stages.unet_real.data.crop == found.size
    low = {found.stages[name].model.low_sizes for name in STAGES[1:3]}
    return [found.stages[name].data.height for name in STAGES], found.stages.dcgan.model.base_filters, *low


@pytest.mark.parametrize(
    ("preset", "sizes", "heights", "filters", "low"),
    [
        ("", {}, [96, 256, 256, 256, 256], 128, 96),
        ("", {"dcgan_size": 64}, [64, 256, 256, 256, 256], 256, 64),
        ("", {"size": 128}, [96, 128, 128, 128, 128], 128, 96),
        ("cpu", {"dcgan_size": 64}, [64, 128, 128, 128, 128], 16, 32),
        ("cpu", {"size": 128}, [48, 64, 64, 64, 64], 16, 24),
        ("tiny", {}, [16, 32, 32, 32, 32], 4, 8),
    ],
)
def test_all_stages_follow_two_sizes(preset, sizes, heights, filters, low):
    assert sized(preset, **sizes) == (heights, filters, (low,))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages.dcgan.data.height": 64, "stages.dcgan.data.width": 64}, r"stages.dcgan.data.height=64: set config.dcgan_size"),
        ({"stages.superres.data.width": 64}, r"stages.superres.data.width=64: as config.stages.superres.data.height"),
        ({"stages.downstream.checkpoint": "lst"}, r"config.stages.downstream.checkpoint='lst': choose last or best"),
        ({"stages.downstream.checkpoint": "3"}, r"config.stages.downstream.checkpoint='3': choose last or best"),
        (
            {"stages.downstream.checkpoint": "best", "stages.unet_real.data.held_out": 0.0},
            r"downstream.checkpoint='best': with config.stages.unet_real.data.held_out=0 none is scored",
        ),
        ({"stages.scores.draws": 5000}, r"config.stages.scores.draws=5000: 0 for none, or 2 to 100"),
        ({"stages.scores.draws": 1}, r"config.stages.scores.draws=1: 0 for none, or 2 to 100"),
        ({"stages.scores.draws": -1}, r"config.stages.scores.draws=-1: 0"),
        ({"stages.scores.draws": 50, "stages.real.num_scored": 40}, r"config.stages.scores.draws=50: 0 for none, or 2 to 40"),
        ({"stages.scores.repeats": 1}, r"config.stages.scores.repeats=1: 2 to 10,000"),
        ({"stages.scores.weights": "nowhere.pth"}, r"stages.scores.weights=nowhere.pth: no such file"),
        ({"dcgan_size": 512}, r"config.dcgan_size=512: 1 to config.size=256"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(change, words):
    found = config()
    with found.unlocked():
        found.update_from_flattened_dict(change)
    with pytest.raises(ConfigError, match=words) as told:
        choices.check(found)
    assert len(str(told.value).splitlines()) == 1
