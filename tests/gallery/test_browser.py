"""The page in a real browser: it loads nothing and complains of nothing, and works by keyboard, on a phone and in the dark."""

import json
import shutil
import warnings
from urllib.parse import urlparse

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER),
    reason="no chromium and chromedriver, which are packages of the system that no environment of Python has; CI installs "
    "them: apt-get install --no-install-recommends chromium chromium-driver",
)

OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READABLE = 4.5  # contrast of text, WCAG 2.2, 1.4.3

# By text and what is behind it, the least contrast in the page; white behind pictures is no text's.
CONTRAST = """
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = (color) => {
  const linear = (c) => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const [r, g, b] = channels(color).slice(0, 3).map((c) => linear(c / 255));
  return .2126 * r + .7152 * g + .0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if ((channels(color)[3] ?? 1) > 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const element of document.body.querySelectorAll("*")) {
  const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!text || !element.checkVisibility()) continue;
  const [one, other] = [luminance(getComputedStyle(element).color), luminance(behind(element))];
  found.push([(Math.max(one, other) + .05) / (Math.min(one, other) + .05), element.outerHTML.slice(0, 80)]);
}
return found.sort((a, b) => a[0] - b[0])[0];
"""


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
    media(started, "light")
    started.get(built.page.as_uri())
    unpacked = "return [...document.images].every((image) => image.complete && image.naturalWidth)"
    WebDriverWait(started, 30).until(lambda browser: browser.execute_script(unpacked))
    return started


def window(browser, width, height):
    sizes = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)


def media(browser, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def press(browser, *keys):
    ActionChains(browser).send_keys(*keys).perform()


def shown(browser, elements="article"):
    found = browser.find_elements(By.CSS_SELECTOR, elements)
    return [element.get_attribute("id") for element in found if element.is_displayed()]


def focused(browser):
    return browser.switch_to.active_element


def test_nothing_is_loaded_and_nothing_complained_of(browser):
    for log in ("performance", "browser"):
        browser.get_log(log)  # of what was before
    browser.refresh()
    browser.find_element(By.ID, "search").send_keys("speed")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"
    ]
    assert any(urlparse(url).path.endswith("/index.html") for url in asked)
    assert {urlparse(url).scheme for url in asked if not url.endswith("/index.html")} <= {"data", "blob"}
    assert browser.get_log("browser") == [] and browser.title == "Slax: figures and claims, scale quick"


def test_pictures_are_seen(browser):
    sizes = browser.execute_script(
        "return [...document.images].map((image) => [image.naturalWidth, image.naturalHeight])"
    )
    assert len(sizes) == 6 and all(width > 100 and height > 100 for width, height in sizes)


@pytest.mark.parametrize(
    "words, left",
    [
        ("", ["speed", "memory", "agreement"]),
        ("MEMORY", ["memory"]),
        ("otpe", ["speed", "memory"]),
        ("otpe faster", ["speed"]),
        ("similarity", ["agreement"]),
        ("does not hold", ["agreement"]),
        ("0123456789", ["speed", "memory", "agreement"]),
        ("nowhere", []),
    ],
)
def test_search_leaves_figures_that_have_all_words(browser, words, left):
    browser.find_element(By.ID, "search").send_keys(words)
    assert shown(browser) == left
    links = [
        element.get_attribute("href").partition("#")[2] for element in browser.find_elements(By.CSS_SELECTOR, "nav a")
    ]
    assert [
        link for link in links if browser.find_element(By.CSS_SELECTOR, f'nav a[href="#{link}"]').is_displayed()
    ] == left
    assert browser.find_element(By.ID, "found").text.startswith(f"{len(left)} of 3 figures")
    assert browser.find_element(By.ID, "nothing").is_displayed() == (left == [])


def test_verdicts_leave_their_claims(browser):
    found = browser.find_elements(By.CSS_SELECTOR, "button[data-verdict]")
    buttons = {button.get_attribute("data-verdict"): button for button in found}
    buttons["not run"].click()
    assert shown(browser, "tbody") == ["memory-on_paper"] and shown(browser) == ["memory"]
    buttons["not resolved"].click()
    assert shown(browser, "tbody") == ["speed-much_faster", "memory-on_paper"]
    pressed = {verdict: button.get_attribute("aria-pressed") for verdict, button in buttons.items()}
    assert pressed == {"holds": "false", "does not hold": "false", "not resolved": "true", "not run": "true"}
    assert browser.find_element(By.ID, "found").text == "2 of 3 figures, 2 claims"
    buttons["not run"].click()
    browser.find_element(By.ID, "search").send_keys("agreement")
    assert shown(browser) == []
    browser.find_element(By.ID, "clear").click()
    assert len(shown(browser, "tbody")) == 5 and browser.find_element(By.ID, "search").get_attribute("value") == ""


def test_keys_lead_to_search_and_from_figure_to_figure(browser):
    visited = []
    for key in "kjjjjkk":
        press(browser, key)
        visited.append(focused(browser).get_attribute("id"))
    assert visited == ["", "speed", "memory", "agreement", "agreement", "memory", "speed"]
    assert abs(browser.execute_script("return document.getElementById('speed').getBoundingClientRect().top")) < 300
    press(browser, "/")
    assert focused(browser).get_attribute("id") == "search"
    press(browser, "memory/jk")
    assert focused(browser).get_attribute("value") == "memory/jk" and shown(browser) == []
    press(browser, Keys.ESCAPE)
    assert len(shown(browser)) == 3 and browser.find_element(By.ID, "search").get_attribute("value") == ""


def test_keys_skip_what_is_filtered_out(browser):
    press(browser, "/", "otpe", Keys.TAB)
    press(browser, "j", "j", "j")
    assert focused(browser).get_attribute("id") == "memory"


def test_tab_reaches_everything_and_shows_where_it_is(browser):
    reached = []
    for _ in range(60):
        press(browser, Keys.TAB)
        element = focused(browser)
        if element.tag_name == "body":
            break
        assert browser.execute_script("return getComputedStyle(arguments[0]).outlineStyle", element) != "none"
        reached.append(element.get_attribute("outerHTML")[:60])
    assert reached[0].startswith('<a class="skip"')
    every = browser.execute_script(
        "return [...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')]"
        ".filter((element) => element.checkVisibility()).map((element) => element.outerHTML.slice(0, 60))"
    )
    assert reached == every


def test_first_link_skips_to_the_figures(browser):
    press(browser, Keys.TAB, Keys.ENTER)
    press(browser, Keys.TAB)
    assert browser.execute_script("return document.activeElement.closest('article').id") == "speed"


def test_click_on_a_download_saves_the_file(browser, built, tmp_path):
    """Each picture, with vectors, and each table has the bytes of its file."""
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    links = browser.find_elements(By.CSS_SELECTOR, "a[download]")
    expected = {path.name: path for path in built.figures if path.suffix != ".png"}
    assert {link.get_attribute("download") for link in links} == expected.keys()
    for link in links:
        link.click()
        browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert {path.name for path in tmp_path.iterdir()} == expected.keys()
    for name, path in expected.items():
        assert (tmp_path / name).read_bytes() == path.read_bytes()


def test_every_picture_has_a_thumbnail_in_the_contents(browser):
    pictures, thumbnails = (
        browser.execute_script(f"return [...document.querySelectorAll('{where} img')].map((image) => image.src)")
        for where in (".picture", "nav")
    )
    assert pictures == thumbnails and len(set(pictures)) == 3


@pytest.mark.parametrize("opened", [False, True])
def test_phone_has_nothing_to_scroll_sideways(browser, opened):
    window(browser, 375, 800)
    if opened:
        browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    widths = browser.execute_script(
        "return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
    )
    assert widths == [375, 375, 375]
    overflowing = browser.execute_script(
        "return [...document.querySelectorAll('.table, .table td, .table th')]"
        ".filter((element) => element.scrollWidth > element.clientWidth + 1).map((element) => element.outerHTML.slice(0, 80))"
    )
    assert [element for element in overflowing if not element.startswith('<th scope="col')] == []


def test_phone_shows_each_claim_as_a_list_with_the_names_of_the_columns(browser):
    window(browser, 375, 800)
    first = browser.find_element(By.ID, "speed-faster")
    cells = [cell for cell in first.find_elements(By.CSS_SELECTOR, "th, td") if cell.is_displayed()]
    names = [
        browser.execute_script("return getComputedStyle(arguments[0], '::before').content", cell) for cell in cells
    ]
    assert names == ["none", "none", *(f'"{name}: "' for name in ("ours", "expected", "difference", "source"))]
    assert len({cell.location["x"] for cell in cells}) == 1
    assert [cell.location["y"] for cell in cells] == sorted(cell.location["y"] for cell in cells)


def test_picture_in_full_size_scrolls_in_its_frame_as_all_do_on_a_phone(browser):
    button = browser.find_element(By.CSS_SELECTOR, "button.size")
    assert button.get_attribute("aria-pressed") == "false"
    window(browser, 375, 800)
    WebDriverWait(browser, 5).until(lambda _: button.get_attribute("aria-pressed") == "true")
    image = browser.find_element(By.CSS_SELECTOR, ".picture img")
    widths = []
    for pressed in ("true", "false", "true"):
        assert button.get_attribute("aria-pressed") == pressed
        widths.append(image.size["width"])
        assert browser.execute_script("return document.documentElement.scrollWidth") == 375
        browser.execute_script("arguments[0].click()", button)
    natural = browser.execute_script("return arguments[0].naturalWidth", image)
    assert widths[0] == widths[2] == natural > 375 > widths[1]


def test_phone_shows_each_claim_as_a_card_with_its_verdict_first(browser):
    window(browser, 375, 800)
    card = browser.find_element(By.ID, "speed-faster")
    color, back = (
        browser.execute_script("return getComputedStyle(arguments[0]).backgroundColor", element)
        for element in (card, browser.find_element(By.TAG_NAME, "body"))
    )
    assert color != back and card.text.startswith("✓ holds") and card.size["width"] > 300
    entry = browser.find_element(By.CSS_SELECTOR, "nav li")
    thumbnail, text = entry.find_element(By.TAG_NAME, "img"), entry.find_element(By.TAG_NAME, "div")
    assert text.location["x"] >= thumbnail.location["x"] + thumbnail.size["width"]


@pytest.mark.parametrize("scheme, dark", [("light", False), ("dark", True)])
def test_text_is_legible_in_both_color_schemes(browser, scheme, dark):
    media(browser, scheme)
    browser.execute_script("for (const part of document.querySelectorAll('details')) part.open = true")
    back = browser.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(back) < 3 * 128) == dark
    contrast, where = browser.execute_script(CONTRAST)
    assert contrast >= READABLE, where
