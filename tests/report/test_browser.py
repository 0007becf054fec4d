"""The page in a real browser, from file://."""

import base64
import json
import shutil
import tempfile

import numpy as np
import pytest
from commands import compose
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from synthetic import Grid

from fdseg.report.__main__ import run

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
EVIL = "<img src=x onerror=document.title='owned'>"


def program(*names):
    return next((path for name in names if (path := shutil.which(name))), None)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of real and phantom runs, with pictures, a left-out run and a spiteful case name."""
    root = tmp_path_factory.mktemp("runs")
    pictures = []
    for rank in ("worst", "best"):
        pictures.append(root / f"{rank}.png")
        Image.fromarray(np.full((300, 200, 3), 90, np.uint8)).save(pictures[-1])
    real, phantom = (Grid(root / "runs", "heart", p, pictures=pictures) for p in (False, True))
    for fusion in ("none", "early", "late"):
        real.cell(fusion, 4, 2)
    real.cell("early", 12, 1)
    real.cell("early", 4, 1, "split=as_released", "scores.neighbours=26")
    for fusion in ("none", "early"):
        phantom.cell(fusion, 4, 1)
    cases = real.written[0] / "cases.csv"
    cases.write_text(cases.read_text().replace("heart_00", EVIL))
    (real.add("late", 12, 7) / "result.json").unlink()
    run(compose("report", f"runs={root}/runs"))
    return root / "runs" / "report" / "report.html"


@pytest.fixture(scope="module")
def chromium():
    browser, driver = (
        program("chromium", "chromium-browser", "google-chrome"),
        program("chromedriver"),
    )
    if not browser or not driver:
        pytest.skip("no Chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = webdriver.Chrome(options, Service(driver))
        yield chrome
        chrome.quit()


@pytest.fixture
def page(chromium, report):
    """The page, freshly opened at 1200 pixels; nothing may stand in the console afterwards."""
    resize(chromium, 1200)
    chromium.get(report.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []


def resize(chromium, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_it_opens_and_nothing_that_a_file_says_runs(page):
    assert page.title == "fdseg report: heart, PHANTOM heart"
    assert page.find_element(By.TAG_NAME, "h1").text == "fdseg report"
    text = page.execute_script("return document.body.textContent")
    assert EVIL in text
    assert not page.find_elements(By.CSS_SELECTOR, "img[src=x]")


def test_it_asks_for_nothing_but_itself(page, report):
    page.get_log("performance")  # of what was opened before
    page.refresh()
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    urls = {
        event["params"]["request"]["url"].partition(",")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert report.as_uri() in urls
    assert all(url.startswith("data:image/") for url in urls - {report.as_uri()})


def test_every_picture_is_there(page):
    page.execute_script("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
    decoded = page.execute_async_script(
        "const done = arguments[0];"
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth)))"
        ".then(done, e => done(String(e)))"
    )
    assert len(decoded) > 20
    assert min(decoded) > 100


CLICK_ALL = """
return [...document.querySelectorAll("table.sortable")].map((table) => {
  const heads = [...table.tHead.rows[0].cells];
  const values = (c) => [...table.tBodies[0].rows].map((row) => row.cells[c].dataset.value);
  return heads.flatMap((head, column) => ["ascending", "descending"].map((direction) => {
    const before = values(column);
    head.querySelector("button").click();
    const states = heads.map((h) => h.ariaSort);
    return { column, direction, before, after: values(column), states };
  }));
});
"""


def numbers(texts):
    """As numbers, or nothing where one is a word."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        return []


def test_every_column_of_every_table_sorts_both_ways(page):
    tables = page.execute_script(CLICK_ALL)
    assert len(tables) == 2 * 4 + 1 + 2
    sorted_numbers = 0
    for clicks in tables:
        for click in clicks:
            assert sorted(click["after"]) == sorted(click["before"])
            known = [value for value in click["after"] if value]
            assert click["after"] == known + [""] * (len(click["after"]) - len(known))
            down = click["direction"] == "descending"
            assert numbers(known) == sorted(numbers(known), reverse=down)
            sorted_numbers += len(set(numbers(known))) > 1
            states = [click["direction"] if place == click["column"] else None
                      for place in range(len(click["states"]))]  # fmt: skip
            assert click["states"] == states
    assert sorted_numbers > 40


def test_words_sort_by_letters(page):
    table = page.find_elements(By.CSS_SELECTOR, "table.sortable")[3]
    table.find_elements(By.CSS_SELECTOR, "th button")[1].click()
    arms = column(table, 1)
    assert arms[0].startswith("early")
    assert arms[-1] == "none"


def column(table, place):
    """The values of a column from top to bottom."""
    script = (
        "return [...arguments[0].tBodies[0].rows].map(r => r.cells[arguments[1]].dataset.value)"
    )
    return table.parent.execute_script(script, table, place)


def test_a_column_sorts_from_the_keyboard(page):
    table = page.find_element(By.CSS_SELECTOR, "table.sortable")
    seeds = table.find_elements(By.CSS_SELECTOR, "th button")[-1]
    seeds.send_keys(Keys.ENTER)
    assert column(table, 9) == ["0", "0", "1", "2", "2", "2"]
    seeds.send_keys(Keys.SPACE)
    assert column(table, 9) == ["2", "2", "2", "1", "0", "0"]


class Overlays:
    """The overlay browser of the first study."""

    def __init__(self, page):
        self.region = page.find_element(By.CSS_SELECTOR, ".browser")
        self.back, self.forth = self.region.find_elements(By.TAG_NAME, "button")
        self.arms = Select(self.region.find_element(By.TAG_NAME, "select"))

    @property
    def place(self):
        return self.region.find_element(By.TAG_NAME, "output").text

    @property
    def caption(self):
        (caption,) = (c.text for c in self.region.find_elements(By.TAG_NAME, "figcaption")
                      if c.is_displayed())  # fmt: skip
        return caption

    @property
    def dice(self):
        return float(self.caption.split("Dice ")[1].split(",")[0])


def test_overlays_go_from_the_worst_to_the_best_with_buttons(page):
    overlays = Overlays(page)
    assert overlays.place == "1 of 16"
    assert not overlays.back.is_enabled()
    dice = [overlays.dice]
    while overlays.forth.is_enabled():
        overlays.forth.click()
        dice.append(overlays.dice)
    assert len(dice) == 16
    assert dice == sorted(dice)
    overlays.back.click()
    assert overlays.place == "15 of 16"


def test_overlays_move_with_the_keyboard(page):
    overlays = Overlays(page)
    for keys, place in (
        (Keys.ARROW_RIGHT, 2), (Keys.ARROW_RIGHT, 3), (Keys.ARROW_LEFT, 2), (Keys.END, 16),
        (Keys.ARROW_RIGHT, 16), (Keys.HOME, 1), (Keys.ARROW_LEFT, 1),
    ):  # fmt: skip
        overlays.region.send_keys(keys)
        assert overlays.place == f"{place} of 16"


def test_overlays_of_one_arm(page):
    overlays = Overlays(page)
    overlays.region.send_keys(Keys.END)
    overlays.arms.select_by_visible_text("late, n = 4")
    assert overlays.place == "1 of 4"
    assert "late, n = 4" in overlays.caption
    overlays.arms.select_by_index(0)
    assert overlays.place == "1 of 16"


def test_phantom_tables_figures_and_pictures_are_marked(page):
    section = page.find_elements(By.CSS_SELECTOR, "main > section")[1]
    assert "PHANTOM" in section.find_element(By.TAG_NAME, "h2").text
    for table in section.find_elements(By.TAG_NAME, "table"):
        assert "PHANTOM" in table.find_element(By.TAG_NAME, "caption").text
        cell = table.find_element(By.TAG_NAME, "td")
        assert cell.value_of_css_property("background-color") == "rgba(255, 243, 214, 1)"
    for caption in section.find_elements(By.TAG_NAME, "figcaption"):
        assert "PHANTOM" in (caption.text or caption.get_attribute("textContent"))
    assert not page.find_elements(By.CSS_SELECTOR, "main > section:first-child .badge")


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_nothing_scrolls_sideways_but_tables_and_figures_within_themselves(page, width):
    resize(page, width)
    page.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    size = page.execute_script(
        "return parseFloat(getComputedStyle(document.querySelector('td')).fontSize)"
    )
    assert size >= 13


def test_on_a_phone_a_row_keeps_its_name_while_its_numbers_scroll(page):
    resize(page, 390)
    scroll = page.find_elements(By.CSS_SELECTOR, ".scroll")[1]
    names = scroll.find_elements(By.CSS_SELECTOR, "td:nth-child(2)")
    page.execute_script("arguments[0].scrollLeft = 500", scroll)
    for name in names:
        box = page.execute_script("return arguments[0].getBoundingClientRect().toJSON()", name)
        assert 0 <= box["left"] <= box["right"] < 250


def test_it_prints_with_everything_unfolded(page):
    options = {"printBackground": True, "preferCSSPageSize": True}
    pdf = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", options)["data"])
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 50_000
    page.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert not page.find_elements(By.CSS_SELECTOR, "details:not([open])")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        resize(page, 1060)  # A4 across, without its margins
        assert not page.find_element(By.TAG_NAME, "nav").is_displayed()
        assert not Overlays(page).forth.is_displayed()
        widths = page.execute_script(
            "return [...document.querySelectorAll('table')].map(t => t.scrollWidth)"
        )
        assert max(widths) <= 1060
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_controls_have_names(page):
    names = page.execute_script(
        "return [...document.querySelectorAll('button, select, [role=region], .browser')]"
        ".map(e => e.ariaLabel || e.textContent.trim())"
    )
    assert all(names)
    assert page.execute_script("return document.documentElement.lang") == "en"
