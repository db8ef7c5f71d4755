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
