"""The page of figures and the site in Chromium: nothing is loaded from elsewhere, and they work by keyboard and on a phone."""

import json
import shutil
import warnings
from pathlib import Path
from urllib.parse import urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.gallery.small_gallery import build, write_small_gallery

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="not installed: packages chromium and chromium-driver of the system"
)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
)
SITE = Path(__file__).parents[2] / "site"
PAGES = ("index.html", "rules.html", "RESULTS.html", "experiments/accuracy.html", "api/slax_rules.html")
site = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` makes the site, and has not")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(write_small_gallery(tmp_path_factory.mktemp("small")))


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in [*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # selenium's, of its own pipes
        browser = webdriver.Chrome(options=options, service=Service(DRIVER))
        yield browser
        browser.quit()


@pytest.fixture
def browser(started, built):
    """The page, just opened, in a window of a desk."""
    window(started, 1280, 900)
    started.get(built.page.as_uri())
    unpacked = "return [...document.images].every((image) => image.naturalWidth > 100)"
    WebDriverWait(started, 30).until(lambda browser: browser.execute_script(unpacked))
    return started


def window(browser, width, height):
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()
    return browser.switch_to.active_element


def shown(browser, elements="article"):
    found = browser.find_elements(By.CSS_SELECTOR, elements)
    return [element.get_attribute("id") for element in found if element.is_displayed()]


def loaded(browser):
    """The schemes of all that was loaded since the last call; nothing may have been complained of."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    assert browser.get_log("browser") == []
    return {urlparse(one["request"]["url"]).scheme for one in sent}


def test_search_and_verdicts_leave_what_they_say(browser):
    search = browser.find_element(By.ID, "search")
    for words, left in (("otpe", ["speed", "memory"]), (" faster", ["speed"]), (" nowhere", [])):
        search.send_keys(words)
        assert shown(browser) == left
    browser.find_element(By.ID, "clear").click()
    browser.find_element(By.CSS_SELECTOR, 'button[data-verdict="not run"]').click()
    assert shown(browser, "article tbody") == ["memory-on_paper"] and shown(browser) == ["memory"]
    assert browser.find_element(By.ID, "found").text == "1 of 3 figures, 1 claims"


def test_keys_lead_to_search_and_from_figure_to_figure(browser):
    visited = [press(browser, key).get_attribute("id") for key in "kjjjjk/"]
    assert visited == ["", "speed", "memory", "agreement", "agreement", "memory", "search"]
    assert press(browser, "memory/jk").get_attribute("value") == "memory/jk" and shown(browser) == []
    press(browser, Keys.ESCAPE)
    assert len(shown(browser)) == 3


def test_click_on_a_download_saves_the_file(browser, built, tmp_path):
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    for link in browser.find_elements(By.CSS_SELECTOR, "a[download]"):
        link.click()
        browser.execute_async_script("setTimeout(arguments[0], 300)")
    expected = {path.name: path.read_bytes() for path in built.figures if path.suffix != ".png"}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("width", [1400, 375])
@pytest.mark.parametrize("page", ["the gallery", *(pytest.param(page, marks=site) for page in PAGES)])
def test_page_loads_nothing_complains_of_nothing_and_fits_its_window(started, built, page, width):
    loaded(started)
    window(started, width, 900)
    started.get((built.page if page == "the gallery" else SITE / page).as_uri())
    started.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    assert started.execute_script("return document.documentElement.scrollWidth") <= width
    assert "file" in loaded(started) <= {"file", "data", "blob"}
