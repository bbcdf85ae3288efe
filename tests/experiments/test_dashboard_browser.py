"""The dashboard in a real headless browser, opened from the disk.

Needs playwright (requirements-dev.txt) and a Chromium: the system's, or the one of ``playwright install chromium``.
For the audit of accessibility ``npm install --no-save axe-core`` in the root of the checkout.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from opinionlm.experiments.dashboard.__main__ import main
from tests.experiments.run_folders import posts, write_prepared, write_run, write_similarity_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
HOSTILE = '<script>window.pwned = 1</script></script><img src="x" onerror="window.pwned = 2">'
SCORE = '#run-table th[data-column="test.macro_f1"]'


@pytest.fixture(scope="module")
def chromium() -> Iterator[playwright.Browser]:
    with playwright.sync_playwright() as driver:
        system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        program = system or driver.chromium.executable_path
        if not Path(program).is_file():
            pytest.skip("no Chromium here: install Debian's chromium, or run `playwright install chromium`")
        # Chromium's sandbox does not start for root, in containers for one; the page is our own.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory) -> Path:
    """A page over eleven runs of one data set, one of another task, and two without results."""
    root = tmp_path_factory.mktemp("outputs")
    rows = [("evil", "reddit", HOSTILE, "noise"), *posts(59)]
    for seed in range(1, 10):
        share = 0.0 if seed == 9 else 0.7
        write_run(root / f"full-seed{seed}", seed=seed, macro_f1=0.5 + seed / 100, rows=rows, share_right=share)
    write_run(root / "lora", seed=11, macro_f1=0.40, rows=rows, adaptation="lora", learning_rate=1e-5)
    write_run(root / "head", seed=12, macro_f1=0.30, rows=rows, adaptation="head_only")
    write_similarity_run(root / "pairs", pearson=0.99)
    (write_run(root / "stopped") / "metrics.json").unlink()
    (write_run(root / "torn") / "metrics.json").write_text("{")
    write_prepared(root / "data" / "tiny")
    main([str(root)])
    return root / "dashboard.html"


class Visit:
    """A page, what it asked for and what it complained about."""

    def __init__(self, browser: playwright.Browser, file: Path, **settings) -> None:
        self.page = browser.new_page(**settings)
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("#curves svg[role=img]")


@pytest.fixture
def visit(chromium, dashboard) -> Iterator[Visit]:
    visit = Visit(chromium, dashboard, viewport={"width": 1280, "height": 900})
    yield visit
    complaints, requests = visit.complaints, visit.requests
    visit.page.close()
    assert complaints == []
    assert requests == [dashboard.as_uri()], "the page asks for nothing from outside"


def names(page: playwright.Page) -> list[str]:
    return page.locator("#run-table tbody th").all_inner_texts()


def test_everything_is_drawn(visit) -> None:
    page = visit.page
    for section in ("curves", "levels", "classes", "cost"):
        assert page.locator(f"#{section} svg[role=img]").count() >= 1, section
    assert page.locator("#curves svg[role=img]").count() == 3
    assert page.locator("#cost svg .mark, #cost svg .other:not(.whisker)").count() == 11
    assert page.locator("#confusion table.matrix").count() == 2
    assert page.locator("main > section").first.get_attribute("id") == "methods"
    assert page.locator("#methods tbody th").all_inner_texts()[0].startswith("full")
    assert page.locator("#methods tbody tr").count() == 3
    assert "230 records = 220 kept + 10 rejected" in page.locator("#data-report").inner_text()
    assert "stopped" in page.locator("#unusable").inner_text() and "torn" in page.locator("#unusable").inner_text()
    assert page.locator("#classes svg .bar").count() == 3 * 3
    assert page.locator("#classes svg .interval").count() == 3 * 3
    parents = page.locator("#confusion .matrix").first.locator("th[scope=colgroup], th[scope=rowgroup]")
    assert parents.all_inner_texts() == ["subjective"] * 2


def test_the_table_sorts(visit) -> None:
    page = visit.page
    assert names(page)[0] == "full-seed9" and page.get_attribute(SCORE, "aria-sort") == "descending"
    page.click(f"{SCORE} button")
    assert names(page)[:2] == ["head", "lora"] and page.get_attribute(SCORE, "aria-sort") == "ascending"
    page.click('#run-table th[data-column="name"] button')
    assert names(page)[:2] == ["full-seed1", "full-seed2"] and names(page)[-1] == "lora"
    assert page.get_attribute(SCORE, "aria-sort") == "none"
    seconds = '#run-table th[data-column="cost.train_seconds"]'
    page.click(f"{seconds} button")
    assert names(page)[0] == "full-seed1" and page.get_attribute(seconds, "aria-sort") == "ascending"


def test_the_table_filters_and_marks_the_best_on_view(visit) -> None:
    page = visit.page
    assert page.locator("#run-table td.best").first.inner_text().startswith("0.590")
    page.get_by_label("Filter").fill("adaptation=lora")
    assert names(page) == ["lora"] and "1 of 11 runs" in page.locator("#run-count").inner_text()
    page.get_by_label("Filter").fill("no such run")
    assert "No run passes" in page.locator("#run-table").inner_text()
    page.get_by_label("Filter").fill("")
    page.locator("#runs").get_by_label("adaptation", exact=True).first.select_option(label="head_only")
    assert names(page) == ["head"]
    page.locator("#runs").get_by_label("adaptation", exact=True).first.select_option(label="all")
    page.get_by_label("Filter").fill("e")
    page.get_by_label("Filter").fill("full-seed1")
    assert page.locator("#run-table td.best").count() == 0, "one run alone is no best"


def test_columns_are_chosen(visit) -> None:
    page = visit.page
    column = page.locator('#run-table th[data-column="test.level1_macro_f1"]')
    assert column.count() == 0
    page.get_by_text("Columns", exact=True).click()
    page.locator("fieldset", has=page.get_by_text("test", exact=True)).get_by_label("level 1 macro-F1").check()
    assert column.count() == 1


def test_the_keyboard_is_enough(visit) -> None:
    page = visit.page

    def focused() -> str:
        return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText")

    page.keyboard.press("Tab")
    assert focused() == "Skip to the runs"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "runs"
    for _ in range(40):
        page.keyboard.press("Tab")
        if "macro-F1" in focused():
            break
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid", "the focus is visible"
    page.keyboard.press("Enter")
    assert names(page)[0] == "head"
    assert "macro-F1" in focused(), "the focus stays on the button that sorts"
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused() == "Compare full-seed1":
            break
    page.keyboard.press("Space")
    assert "full-seed1" in page.locator(".chips").inner_text() and focused() == "Compare full-seed1"
    page.focus("[aria-label='Stop comparing full-seed1']")
    page.keyboard.press("Enter")
    assert "full-seed1" not in page.locator(".chips").inner_text() and focused().startswith("Stop comparing")
    page.focus("#changes .segments button")
    for kind in ("right → wrong", "wrong → wrong otherwise"):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert focused().startswith(kind) and page.locator("#changes [aria-pressed=true]").inner_text() == focused()


def test_compared_runs_are_drawn_and_limited(visit) -> None:
    page = visit.page
    assert page.locator(".chips li > span").all_inner_texts() == ["full-seed9", "lora", "head"], "the best of a method"
    page.get_by_label("Compare the best run of lora").click()
    assert not page.get_by_label("Compare lora", exact=True).is_checked()
    page.get_by_label("Compare lora", exact=True).click()
    assert page.get_by_label("Compare the best run of lora").is_checked()
    for number in range(1, 7):
        box = page.get_by_label(f"Compare full-seed{number}", exact=True)
        box.click()
    assert page.locator(".chips li").count() == 8
    assert not page.get_by_label("Compare full-seed6", exact=True).is_checked()
    assert "At most 8 runs" in page.locator("#announcement").inner_text()
    assert page.locator("#classes svg .bar").count() == 8 * 3
    for button in page.locator(".chips button").all()[::-1]:
        button.click()
    assert "No run is compared" in page.locator(".chips").inner_text()
    assert page.locator("#curves svg[role=img]").count() == 0


def test_split_metric_and_cells_change(visit) -> None:
    page = visit.page
    page.get_by_role("button", name="validation", exact=True).click()
    assert "validation" in page.locator("#levels figcaption").first.inner_text()
    page.select_option("#metric", "accuracy")
    assert "accuracy (validation)" in page.locator("#cost figcaption").inner_text()
    cells = "#confusion td.cell:not(.zero)"
    assert all("%" in text for text in page.locator(cells).all_inner_texts())
    page.get_by_role("button", name="counts", exact=True).click()
    assert sum(int(text) for text in page.locator(cells).all_inner_texts()) == 2 * 60
    page.locator("#cost").get_by_label("Cost").select_option("cost.peak_memory_mb")
    assert "peak memory" in page.locator("#cost figcaption").inner_text()


def test_predictions_are_searched_and_posts_stay_text(visit) -> None:
    page = visit.page
    predictions = page.locator("#predictions")
    predictions.get_by_label("Run").select_option("full-seed9")
    predictions.get_by_label("Search").fill("window.pwned")
    assert predictions.locator(".posts li").count() == 1
    assert HOSTILE in predictions.locator(".posts .text").inner_text()
    assert page.evaluate("window.pwned") is None and page.locator("img").count() == 0
    predictions.get_by_label("Search").fill("")
    predictions.get_by_label("gold", exact=True).select_option("question")
    golds = predictions.locator(".verdict > span:first-child b").all_inner_texts()
    assert len(golds) == 10 and set(golds) == {"question"}
    predictions.get_by_label("platform").select_option("twitter")
    assert all("twitter" in facts for facts in predictions.locator(".facts").all_inner_texts())
    predictions.get_by_label("gold", exact=True).select_option("")
    predictions.get_by_label("platform").select_option("")
    predictions.get_by_role("button", name="Show more").click()
    assert predictions.locator(".posts li").count() == 20
    predictions.get_by_role("button", name="sample").click()
    assert predictions.locator(".posts li").count() == 10


def test_what_changed_between_two_runs(visit) -> None:
    page = visit.page
    changes = page.locator("#changes")
    changes.get_by_label("From").select_option("full-seed9")
    changes.get_by_label("To").select_option("lora")
    options = dict(zip(changes.locator("tbody th").all_inner_texts(), range(9), strict=False))
    assert {"adaptation", "learning_rate", "seed"} == set(options)
    row = changes.locator("tbody tr", has=page.locator("th", has_text="adaptation"))
    assert row.locator("td").all_inner_texts() == ["full", "lora"]
    gained, lost, other = (
        int(text.split("(")[1][:-1]) for text in changes.locator(".segments button").all_inner_texts()
    )
    # The first of the two is wrong everywhere.
    assert lost == 0 and gained > 30 and other > 0
    assert changes.locator(".posts li").count() == 10
    verdicts = changes.locator(".posts .verdict").all_inner_texts()
    assert all("✗ before" in text and "✓ after" in text for text in verdicts)
    changes.get_by_role("button", name="Show more").click()
    assert changes.locator(".posts li").count() == 20


def test_another_task_stands_alone(visit) -> None:
    page = visit.page
    page.select_option("#group", "1")
    assert names(page) == ["pairs"] and "0.990" in page.locator("#overview").inner_text()
    assert not page.locator("#confusion").is_visible() and not page.locator("#levels").is_visible()
    assert "Confusion" not in page.locator("nav").inner_text()
    page.get_by_text("Runs that are not compared with these").click()
    assert "full-seed1" in page.locator("#methods li").inner_text()
    page.select_option("#group", "0")
    assert len(names(page)) == 11 and page.locator("#confusion").is_visible()


def test_light_and_dark(chromium, dashboard) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    shades = {}
    for scheme in ("light", "dark"):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(dashboard.as_uri())
        shades[scheme] = page.evaluate(colour)
        page.click("#theme")
        shades[f"{scheme} switched"] = page.evaluate(colour)
        page.reload()
        assert page.evaluate(colour) == shades[f"{scheme} switched"], "the choice is kept"
        context.close()
    assert shades["light"] == shades["dark switched"] != shades["dark"] == shades["light switched"]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_small_screens_scroll_in_one_direction(chromium, dashboard, width) -> None:
    visit = Visit(chromium, dashboard, viewport={"width": width, "height": 800})
    page = visit.page
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.wait_for_timeout(100)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert visit.complaints == []
    page.close()


def test_runs_are_cards_on_a_phone(chromium, dashboard) -> None:
    page = chromium.new_page(viewport={"width": 390, "height": 800})
    page.goto(dashboard.as_uri())
    for table, score in (("#methods", "0.550 ±"), ("#run-table", "0.590")):
        card = page.locator(f"{table} tbody tr").first
        for part in (card.locator("th"), card.get_by_role("cell").filter(has_text=score).first):
            box = part.bounding_box()
            assert box["width"] > 200 and box["x"] + box["width"] <= 390
    assert page.locator("#run-table tbody tr").first.locator("th").inner_text().strip() == "full-seed9"
    page.get_by_label("Sort by").select_option("name")
    assert names(page)[0].strip() == "full-seed1" and page.evaluate("document.activeElement.tagName") == "SELECT"
    for table in page.locator("#confusion .scroll").all():
        assert table.evaluate("node => node.scrollWidth <= node.clientWidth"), "three labels fit"
    page.close()


AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"


@pytest.mark.slow
@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm install --no-save axe-core")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 768, 1400])
def test_axe_finds_nothing_serious(chromium, dashboard, width, scheme) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True)
    page = context.new_page()
    page.goto(dashboard.as_uri())
    page.wait_for_selector("#classes svg[role=img]")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found] == []
    context.close()


# Contrast of every text that is drawn with the nearest opaque background behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const seen = new Map();
  const rgba = (colour) => {
    if (!seen.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      seen.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return seen.get(colour);
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let one = node; one; one = one.parentElement) {
      const colour = rgba(getComputedStyle(one).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *:not(script):not(.zero)")) {
    const own = [...node.childNodes].filter((child) => child.nodeType === 3);
    const text = own.map((child) => child.data).join("").trim();
    if (!text || !node.checkVisibility() || node.closest(".visually-hidden, .skip")) continue;
    const style = getComputedStyle(node);
    const [a, b] = [light(rgba(node instanceof SVGElement ? style.fill : style.color)), light(behind(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${text.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_contrast(chromium, dashboard, scheme) -> None:
    page = chromium.new_page(color_scheme=scheme)
    page.goto(dashboard.as_uri())
    page.wait_for_selector("#classes svg[role=img]")
    assert page.evaluate(CONTRAST) == []
    page.close()
