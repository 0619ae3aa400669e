"""What the pages promise: links lead somewhere, and the printed commands do what the page says."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_links_between_pages_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:\s]+)", page.read_text(encoding="utf-8"))]
    assert links, "no page links to another"
    lost = [f"{page.relative_to(ROOT)}: {link}" for page, link in links if not (page.parent / link).exists()]
    assert not lost, "\n".join(lost)


def test_the_documented_selection_gives_the_53_bright_round_images(real_data, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "data.md").read_text()
    (code,) = re.findall(r"python - <<'END'\n(.*?)END\n", page, re.DOTALL)
    monkeypatch.setenv("SCANFORGE_TEST_DATA", str(real_data))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=60)
    names = (tmp_path / "runs" / "bright_round.txt").read_text().splitlines()
    assert len(names) == len(set(names)) == 53
    assert names == re.findall(r"^[0-9a-f]{10}$", page, re.MULTILINE)
    assert all((real_data / "np-emps" / "images" / f"{name}.png").is_file() for name in names)
