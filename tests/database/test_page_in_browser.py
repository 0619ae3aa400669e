"""The page in headless Chromium: every picture drawn, nothing wider than the window, no message on the console."""

import html
import json
import re
import shutil
import subprocess

import pytest

from database import markup, page_style

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (390, 1280)

# The window's own width cannot go down to a phone's, so the page stands in frames of these widths; what they come to is written as text.
FRAMES = """<!DOCTYPE html><meta charset="utf-8"><pre id="found">nothing</pre>{frames}<script>
const canvas = document.createElement("canvas").getContext("2d");
function drawn(one) {{
  const seen = one.getBoundingClientRect();
  try {{ canvas.drawImage(one, 0, 0); }} catch (error) {{ return false; }}  // a picture that is broken cannot be drawn
  return seen.width > 20 && seen.height > 10;
}}
function look(page) {{
  const root = page.documentElement, all = [...page.querySelectorAll("img, image")];
  const beyond = one => one.getBoundingClientRect().right > root.clientWidth + 1 && !one.closest(".scroll, pre, svg");
  return {{
    width: root.clientWidth,
    pictures: all.length,
    drawn: all.filter(drawn).length,
    drawings: page.querySelectorAll("svg").length,
    narrowest: Math.min(...[...page.querySelectorAll("svg")].map(one => one.getBoundingClientRect().width)),
    sections: page.querySelectorAll("section").length,
    overflow: root.scrollWidth - root.clientWidth,
    wide: [...page.querySelectorAll("body *")].filter(beyond).map(one => one.outerHTML.slice(0, 80)),
    font: parseFloat(getComputedStyle(page.body).fontSize),
  }};
}}
addEventListener("load", () => {{
  const found = [...document.querySelectorAll("iframe")].map(frame => look(frame.contentDocument));
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script>"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser is installed: none of {', '.join(NAMES)} is on the path")


def seen(text, tmp_path, widths=WIDTHS):
    """(what each width of the page came to, the console's messages) of a page in headless Chromium."""
    frames = "".join(f'<iframe style="width:{width}px;height:4000px;border:0" srcdoc="{html.escape(text)}"></iframe>' for width in widths)
    path = tmp_path / "frames.html"
    path.write_text(FRAMES.format(frames=frames), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--hide-scrollbars", "--window-size=1800,4000", "--dump-dom"]
    done = subprocess.run([BROWSER, *flags, path.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    if not found:
        pytest.skip(f"{BROWSER} is installed but does not start here: {done.stderr.strip().splitlines()[-1:]}")
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(found[1])), messages


def test_the_page_is_drawn_whole_at_phone_and_desktop_width(made, tmp_path):
    found, messages = seen(made[1], tmp_path)
    assert messages == [] and [one["width"] for one in found] == list(WIDTHS)
    for one in found:
        assert one["drawn"] == one["pictures"] == 54 and one["drawings"] == 6 and one["sections"] == 10
        assert one["overflow"] <= 0 and one["wide"] == [] and one["font"] >= 15


def test_a_printed_table_of_many_columns_stays_on_the_paper_and_leaves_the_chart_its_room(tmp_path):
    """A4 is 718 px wide between margins of 1 cm; the style of a print is made that of the screen."""
    chart = markup.drawing('<svg viewBox="0 0 400 200"><rect width="400" height="200"/></svg>', "Chart", "as it is")
    rows = [{f"quantity_{i}": "0.8235 ± 0.0123" for i in range(18)}] * 4
    text = markup.group("halves", [chart, markup.table("Many", rows)]) + markup.group("halves", [chart, markup.table("Few", [{"a": 1.5}])])
    style = page_style.STYLE.replace("@media print", "@media all").replace("max-width: 560px", "max-width: 1px")
    found, _ = seen(
        f"<!DOCTYPE html><style>{style}</style><main>{text}{markup.command('python main.py --flag=' + 'x' * 300)}</main>", tmp_path, (718,)
    )
    assert found[0]["overflow"] <= 0 and found[0]["narrowest"] > 250


def test_a_broken_page_is_found(tmp_path):
    picture = '<img src="data:image/png;base64,AAAA" alt="" width="50" height="50">'
    text = f'<!DOCTYPE html><body style="font-size:9px"><script>nothing.there()</script>{picture}<p style="width:2000px">wide</p>'
    found, messages = seen(text, tmp_path)
    assert any("nothing is not defined" in line for line in messages)
    for one in found:
        assert one["pictures"] == 1 and one["drawn"] == 0 and one["overflow"] > 500 and len(one["wide"]) == 1 and one["font"] == 9
