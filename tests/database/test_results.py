import pytest

from configs import dcgan96
from database import page, results
from database.evidence import Chain
from microscopy.atomic import write_json
from tests.database.fake_chain import downstream


def chain(workdir, **parts):
    """A chain that holds nothing but these parts."""
    empty = {"rows": [], "facts": {}, "scores": {}, "downstream": {}, "status": {}, "config": None, "value_map": None}
    return Chain(workdir, **empty | parts)


def test_nothing_known_is_no_verdict(tmp_path):
    assert results.verdicts(chain(tmp_path)) == ""


@pytest.mark.parametrize(("ratio", "kind", "words"), [(0.21, "warn", "by 21 % of what"), (0.9, "good", "differ by 90 % of what")])
def test_without_the_databases_own_measure_the_generators_tells_collapse(tmp_path, ratio, kind, words):
    (tmp_path / "dcgan").mkdir()
    write_json(tmp_path / "dcgan" / "evaluation.json", {"scalars": {"diversity/ratio": ratio}})
    found = results.verdicts(chain(tmp_path))
    assert f'<li class="{kind}">' in found and words in found and ("collapsed" in found) == (kind == "warn")


def test_copies_that_nobody_looked_for_are_said_not_to_be_searched(tmp_path):
    facts, words = {"gate": None, "refused": []}, "The images were not searched for in the training scans"
    found = results.verdicts(chain(tmp_path, facts=facts))
    assert f'<li class="warn">{words}' in found and "near enough" not in found
    assert words in results.refused(chain(tmp_path, facts=facts)) and "not searched" not in results.refused(chain(tmp_path))
    lead, *parts = page._copies(chain(tmp_path, facts=facts))
    assert lead == "" and len(parts) == 1 and words in parts[0]


def test_a_database_that_helps_is_said_to(tmp_path):
    judged = downstream()
    judged["rows"][0]["dice"] = 0.95
    found = results.verdicts(chain(tmp_path, downstream=judged))
    words = "On 2 unseen real scans the U-Net of the database reaches a Dice of 0.950, the one of real crops 0.921."
    assert found == f'<ul class="verdicts"><li class="good">{words}</li></ul>'
    judged["rows"][0]["dice"] = 0.915
    assert "less apart than their standard errors" in results.verdicts(chain(tmp_path, downstream=judged))
    judged["rows"][0]["dice"] = 0.3
    judged["rows"].append({"by": "Otsu's threshold", "dice": 0.7})
    found = results.verdicts(chain(tmp_path, downstream=judged))
    assert '<li class="warn">' in found and "Otsu&#x27;s threshold has 0.700: this U-Net has not learned to read them." in found
    judged["rows"][0]["dice"] = None
    assert results.verdicts(chain(tmp_path, downstream=judged)) == ""


def test_scores_that_do_not_differ_are_said_apart_from_those_that_do(tmp_path):
    shared = {"n_real": 40, "n_generated": 50}
    scores = {"fid": {"differs": True, "p_value": 0.005, **shared}, "surface": {"differs": False, "p_value": 0.4, **shared}}
    found = results.verdicts(chain(tmp_path, scores=scores))
    assert '<li class="warn">50 generated images can be told from real ones by FID (p = 0.005) against 40 real ones.</li>' in found
    assert '<li class="good">50 generated images cannot be told from real ones by the surface card (p = 0.4) against 40 real ones.' in found


def test_the_published_scores_stand_apart_and_only_for_their_size(tmp_path):
    scores = {"fid": {"value": 87.0, "features": "768", "n_real": 40, "n_generated": 50, "interval": [80.0, 95.0]}}
    found = results.scores(chain(tmp_path, scores=scores, config=dcgan96.get_config(), facts={"upscaler": "bilinear"}))
    assert "fid-768" in found and "80 to 95 *" in found and found.index("FID 335.39 ± 17.53, KID 0.44 ± 0.13") > found.index("</table>")
    assert "Published" not in results.scores(chain(tmp_path, scores=scores, config=dcgan96.get_config()))


def test_a_row_names_its_standard_errors_beside_the_values(tmp_path):
    found = results.downstream(chain(tmp_path, downstream=downstream()))
    assert "<td>0.921 ± 0.008</td><td>0.74</td><td>0.04</td>" in found and "dice_error" not in found
    assert '<th scope="col">diameter error</th>' in found and "trained on real crops: Dice 0.921, AP50 0.74, diameter error 0.04" in found
