"""What a run says of itself: crops are called reduced where they are."""

import pytest

import input_pipeline
from configs import dcgan32, srgan, unet_emulsion
from training import beginning


@pytest.mark.parametrize(
    ("settings", "line"),
    [(srgan, "Crops 32 x 32 px; "), (dcgan32, "px, reduced to 32 x 32; ")],
)
def test_crops_are_called_reduced_only_where_they_are(settings, line, scans, capsys):
    config = settings.get_config("tiny")
    with config.unlocked():
        config.data.source = f"folder:{scans}"
    beginning.introduce(config, input_pipeline.prepare(config))
    (found,) = [text for text in capsys.readouterr().out.splitlines() if text.startswith("Crops ")]
    assert line in found and ("reduced" in found) == ("reduced" in line)


def test_lengths_of_thousands_of_nanometres_are_written_out(capsys):
    config = unet_emulsion.get_config("tiny")
    beginning.introduce(config, input_pipeline.prepare(config))
    assert "Crops 32 x 32 px = 4,800 x 4,800 nm; " in capsys.readouterr().out


def test_what_was_told_once_is_not_told_again(scans, capsys):
    config = dcgan32.get_config("tiny")
    with config.unlocked():
        config.data.update({"source": f"folder:{scans}", "held_out": 0.0})
    prepared = input_pipeline.prepare(config)
    told = []
    for warned in (False, True):
        beginning.introduce(config, prepared, warned=warned)
        told.append(capsys.readouterr().out)
    assert "warning: no scan is held out" in told[0] and "warning: " not in told[1] and told[0].startswith(told[1])
