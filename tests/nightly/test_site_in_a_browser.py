"""The site in Chromium, opened as files: pages on a desk and on a phone, the search, the dark scheme, and the keyboard."""

import re
import shutil
import time
from pathlib import Path

import pytest

SITE = Path(__file__).parents[2] / "site"
BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` makes the site, and has not")
PAGES = ["index.html", "rules.html", "RESULTS.html", "experiments/accuracy.html", "api/slax_rules.html"]


def test_nothing_is_loaded_from_elsewhere():
    for file in SITE.rglob("*.html"):
        assert not re.search(r"""<(?:script|img|iframe)[^>]* (?:data-)?src=["']?https?:""", file.read_text()), file
        assert not re.search(r"""<link[^>]*rel=["']?(?:stylesheet|icon)[^>]*href=["']?https?:""", file.read_text()), (
            file
        )
    for file in SITE.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", file.read_text()), file


@pytest.fixture(scope="module")
def browser():
    if not (BROWSER and DRIVER):
        pytest.skip("there is no chromium with its chromedriver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    with webdriver.Chrome(options=options, service=Service(DRIVER)) as found:
        yield found


def opened(browser, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get((SITE / page).as_uri())


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("page", PAGES)
def test_page_fits_its_window_and_reports_no_error(browser, page, width):
    opened(browser, page, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.get_log("browser") == []


@pytest.mark.parametrize(("word", "found"), [("OTPE", "OTPE"), ("memory", "memory"), ("SHD", "shd")])
def test_search_finds_what_people_look_for(browser, word, found):
    opened(browser, "index.html", 1400)
    field = browser.find_element("css selector", "input.md-search__input")
    field.click()
    field.send_keys(word)
    deadline = time.monotonic() + 60
    while not (results := browser.find_elements("css selector", "a.md-search-result__link")):
        assert time.monotonic() < deadline, "the search found nothing in a minute"
        time.sleep(0.2)
    assert any(found.lower() in result.text.lower() for result in results)


def test_color_scheme_is_switched_and_kept(browser):
    opened(browser, "index.html", 1400)
    scheme = lambda: browser.execute_script("return document.body.dataset.mdColorScheme")  # noqa: E731
    before = scheme()
    browser.execute_script("document.querySelector('label[for^=__palette]:not([hidden])').click()")
    assert {before, scheme()} == {"default", "slate"}
    after = scheme()
    opened(browser, "rules.html", 1400)
    assert scheme() == after


def test_the_search_opens_by_key(browser):
    opened(browser, "rules.html", 1400)
    browser.find_element("css selector", "body").send_keys("/")
    assert browser.execute_script("return document.activeElement.matches('.md-search__input')")
