"""The app in headless Chromium: upload, prediction, another topic, CSV, a corrupt file, and no request to elsewhere."""

import io
import shutil
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")
LOCAL = {"127.0.0.1", "localhost", "[::1]", "::1", "", None}


@pytest.fixture(scope="module")
def page(served):
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(30_000)
        page.asked = []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("websocket", lambda socket: page.asked.append(socket.url))
        page.goto(served[0])
        page.wait_for_selector("#predict-go")
        yield page
        browser.close()


def elsewhere(urls):
    """Requests that leave this machine; data: and blob: do not."""
    parts = [urlsplit(url) for url in urls]
    return [p.geturl() for p in parts if p.scheme in ("http", "https", "ws", "wss") and p.hostname not in LOCAL]


def shown(page, selector):
    """Pixels of a shown picture, as the browser paints them."""
    page.wait_for_selector(f"{selector} img")
    return np.asarray(Image.open(io.BytesIO(page.locator(f"{selector} img").first.screenshot())).convert("RGB"))


def test_upload_predict_and_download(page, image, tmp_path):
    page.set_input_files("#predict-image input[type=file]", image)
    page.wait_for_function("() => /[0-9.]+ %/.test(document.querySelector('#predict-summary').innerText)")
    page.wait_for_function("() => /glyph.png/.test(document.querySelector('#predict-table').innerText)")
    with page.expect_download() as download:
        page.click("#predict-csv")
    download.value.save_as(tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text().splitlines()
    assert text[0].startswith("file,class,confidence") and text[1].startswith("glyph.png,")


def test_corrupt_file_gets_a_message(page, tmp_path):
    bad = tmp_path / "broken.jpg"
    bad.write_bytes(b"<html>no image</html>")
    page.set_input_files("#predict-files input[type=file]", str(bad))
    page.wait_for_function("() => /broken/.test(document.querySelector('#predict-files').innerText)")
    page.click("#predict-go")
    page.wait_for_function("() => /text page/.test(document.querySelector('#predict-table').innerText)")
    assert "Traceback" not in page.inner_text("body")


def test_another_topic_changes_the_overlay(page, image, tmp_path):
    page.get_by_role("tab", name="Attention").click()
    page.set_input_files("#attention-image input[type=file]", image)
    page.wait_for_selector("#attention-image img")
    page.click("#attention-go")
    before = shown(page, "#attention-overlay")
    assert page.locator("#attention-number :is(input, textarea)").input_value() == ""  # all topics are drawn
    page.click("#attention-topic input")
    options = page.get_by_role("option")
    options.first.wait_for()
    assert options.count() == 4  # all, and three topics that speak for the class
    source = page.locator("#attention-overlay img").first.get_attribute("src")
    topic = options.nth(1).inner_text().split()[1]
    options.nth(1).click()
    page.wait_for_function(
        "old => document.querySelector('#attention-overlay img')?.getAttribute('src') !== old", arg=source
    )
    page.wait_for_timeout(300)
    after = shown(page, "#attention-overlay")
    assert before.shape != after.shape or (before != after).any()
    assert page.locator("#attention-number :is(input, textarea)").input_value() == topic
    other = tmp_path / "other.png"
    Image.fromarray(255 - np.asarray(Image.open(image).convert("RGB"))).save(other)
    page.locator("#attention-image").get_by_role("button", name="Remove Image").click()
    page.set_input_files("#attention-image input[type=file]", str(other))
    page.wait_for_selector("#attention-overlay img", state="detached")  # the old one's
    assert page.locator("#attention-number :is(input, textarea)").input_value() == ""


def test_all_tabs_open_and_nothing_is_asked_elsewhere(page):
    for name in ("Model", "Compare", "Predict"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        for box in page.get_by_role("tabpanel").locator("img:visible").all():  # whole, of its own shape
            width, height, wide, high = box.evaluate("i => [i.clientWidth, i.clientHeight, i.naturalWidth, i.naturalHeight]")
            assert width / height == pytest.approx(wide / high, rel=0.03) or name == "Predict"
    assert len(page.asked) > 20 and not elsewhere(page.asked)
