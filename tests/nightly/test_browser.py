"""The page of figures and the site in Chromium: nothing is loaded from elsewhere, and they fit a phone."""

import json
import shutil
import warnings
from pathlib import Path
from urllib.parse import urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.gallery.small_gallery import build, write_small_gallery

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is no Python package: apt-get install chromium chromium-driver"
)
OPTIONS = ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "disable-background-networking")
SITE = Path(__file__).parents[2] / "site"
PAGES = ("index.html", "rules.html", "RESULTS.html", "experiments/accuracy.html", "api/rules.html")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(write_small_gallery(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in (*OPTIONS, f"user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # selenium's, of its own pipes
        browser = webdriver.Chrome(options=options, service=Service(DRIVER))
        yield browser
        browser.quit()


def window(browser, width, height):
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


def loaded(browser):
    """The schemes of all that was loaded since the last call; nothing may have been complained of."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    assert browser.get_log("browser") == []
    return {urlparse(one["request"]["url"]).scheme for one in sent}


# What checkers of accessibility find most often: each entry lists what is wrong.
WRONG = """
const visible = (one) => one.getClientRects().length > 0;
const luminance = (color) => {
  const parts = color.match(/[\\d.]+/g).slice(0, 3).map((part) => part / 255);
  const [r, g, b] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (one) => {
  for (; one; one = one.parentElement) {
    const color = getComputedStyle(one).backgroundColor;
    if (!/, 0\\)$/.test(color)) return color;
  }
  return "rgb(255, 255, 255)";
};
const contrast = (one) => {
  const [high, low] = [luminance(getComputedStyle(one).color), luminance(behind(one))].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const all = (selector) => [...document.querySelectorAll(selector)];
const text = (one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
const scrolls = (one) => one.scrollWidth > one.clientWidth && /auto|scroll/.test(getComputedStyle(one).overflowX);
return {
  "images without a text": all("img:not([alt]), img[alt='']").map((one) => one.outerHTML.slice(0, 80)),
  "scrolls, but takes no focus": all("body *").filter((one) => scrolls(one) && one.tabIndex < 0).map((one) => one.className),
  "faint text": all("body *").filter((one) => visible(one) && text(one) && contrast(one) < 4.5).map((one) => one.textContent),
};
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_gallery_is_accessible(started, built, scheme):
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    started.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for width in (1280, 390):
        window(started, width, 900)
        started.get(built.page.as_uri())
        started.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
        found = started.execute_script(WRONG)
        assert {name: wrong for name, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("page", ["the gallery", *PAGES])
def test_page_loads_nothing_complains_of_nothing_and_fits_its_window(started, built, page, width):
    loaded(started)
    window(started, width, 900)
    file = built.page if page == "the gallery" else SITE / page
    assert file.exists(), "`make docs` makes the site"
    started.get(file.as_uri())
    started.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    assert started.execute_script("return document.documentElement.scrollWidth") <= width
    assert "file" in loaded(started) <= {"file", "data", "blob"}
