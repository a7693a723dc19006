"""The HTML report in a real browser: nothing is asked of the network, nothing is logged, columns sort on click."""

import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.render import report
from tests.made_up import AWKWARD, two_protocols

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (it is in the extra `test`)")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium is not installed (Debian: chromium, chromium-driver)"
)
INJECTED = "<img src=x onerror=\"document.title='taken over'\">"


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report on two protocols, with class names that HTML would misread."""
    store = tmp_path_factory.mktemp("store")
    two_protocols(store, [*AWKWARD[:4], INJECTED])
    report(store, formats=("html",), compare=True)
    return store / "reports" / "report.html"


@pytest.fixture(scope="module")
def open_browser():
    """Browsers of their own for each window size, in pixels, closed at the end."""
    opened = []

    def open_one(width: int, height: int):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        opened.append(browser)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        return browser

    yield open_one
    for browser in opened:
        browser.quit()


@pytest.fixture(scope="module")
def laptop(open_browser, page):
    browser = open_browser(1366, 768)
    browser.get(page.as_uri())
    return browser


def column(browser, table: int, place: int) -> list[str]:
    """The cells of a column as shown, from the top."""
    script = "return [...document.querySelectorAll('table.sortable')[arguments[0]].querySelectorAll('tbody tr')]"
    return browser.execute_script(f"{script}.map(row => row.cells[arguments[1]].textContent.trim())", table, place)


def test_nothing_is_logged_and_nothing_is_fetched(laptop, page):
    assert laptop.get_log("browser") == []
    requests = [entry["message"] for entry in laptop.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert any(page.as_uri() in request for request in requests)
    assert not [request for request in requests if '"url":"http' in request]


def test_what_a_user_names_is_text(laptop):
    assert laptop.title == "ciss-bench: pets_2-1, pets_2-2"
    shown = laptop.execute_script("return document.querySelector('main').textContent")
    assert AWKWARD[3] in shown and INJECTED in shown
    images = "return [...document.images].map(image => [image.src.slice(0, 16), image.naturalWidth])"
    for source, width in laptop.execute_script(images):
        assert source == "data:image/webp;" and width >= 990


def test_a_click_sorts_a_column_and_the_upper_bound_stays_last(laptop):
    head = laptop.execute_script("return document.querySelector('th[data-column=\"4\"]')")
    assert head.text.startswith("all") and head.get_attribute("aria-sort") == "none"
    button = head.find_element("css selector", "button")
    assert column(laptop, 0, 0) == ["Fine-tuning", "LBD", "MiB", "Joint"]
    button.click()
    assert head.get_attribute("aria-sort") == "descending"
    assert column(laptop, 0, 0) == ["LBD", "MiB", "Fine-tuning", "Joint"]
    values = [float(text.split(" ")[0]) for text in column(laptop, 0, 4)]
    assert values[:3] == sorted(values[:3], reverse=True)
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(laptop, 0, 0) == ["Fine-tuning", "MiB", "LBD", "Joint"]
    other = laptop.execute_script("return document.querySelector('th[data-column=\"0\"] button')")
    other.send_keys("\ue007")  # the enter key
    assert head.get_attribute("aria-sort") == "none"
    button.click()
    button.click()
    button.click()
    assert column(laptop, 0, 0) == ["Fine-tuning", "LBD", "MiB", "Joint"]


def test_holes_sort_last_whichever_way(laptop):
    script = """
        const table = document.querySelector("table.sortable").cloneNode(true);
        return table.querySelectorAll("th[data-column]").length
    """
    assert laptop.execute_script(script) == 8
    order = laptop.execute_script(
        "return [1, -1].map(sign => ['3.0 ± 1', '-', '-12.5', '7'].sort((a, b) => compare(a, b, true, sign)))"
    )
    assert order == [["-12.5", "3.0 ± 1", "7", "-"], ["7", "3.0 ± 1", "-12.5", "-"]]


@pytest.mark.parametrize("width", [1366, 420])
def test_the_page_itself_never_scrolls_sideways(open_browser, page, tmp_path, width):
    browser = open_browser(width, 800)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    picture = np.asarray(Image.open(BytesIO(browser.get_screenshot_as_png())).convert("L"))
    assert picture.shape == (800, width) and picture.min() < 64 and picture.max() == 255  # ink on paper
    for block in browser.find_elements("css selector", "details"):
        browser.execute_script("arguments[0].open = true", block)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_it_prints(laptop):
    assert len(laptop.print_page()) > 50_000
