"""The report's page in a real browser: it opens from the disk, asks for nothing, sorts, filters and prints."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microbench.report import write
from microbench.sources import load
from records import not_measured
from test_report import ODD, measured, run

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
pytest.importorskip("plotly", reason="plotly, of the extra report, is missing")

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    installed = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with sync_api.sync_playwright() as playwright:
        program = installed or playwright.chromium.executable_path
        if not Path(program).exists():
            pytest.skip("there is no Chromium here: install it, or run `playwright install chromium`")
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pages")
    plain = [
        measured(
            index=index,
            library=("onednn", "openblas")[index % 2],
            problem={"m": 100 + index, "n": 1, "k": 1, "a_transposed": False, "b_transposed": False},
            median_s=1.03e-3 * (1 + index),
            workspace_bytes=index * 1000,
        )
        for index in range(40)
    ]
    plain.append(not_measured("crashed", "signal 11", library="openblas", mode="hot"))
    write([run(place / "plain", *plain)], place / "plain.html")
    write([run(place / "hostile", *ODD["hostile"])], place / "hostile.html")
    write([load("deepbench:P100")], place / "published.html")
    write([run(place / "nothing", *ODD["nothing"])], place / "nothing.html")
    return place


PAPER, WIDE_PAPER = 718, 1032  # pixels of an A4 page between its margins, upright and on its side


class Opened:
    """A page that was opened from the disk, with all that it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, viewport: dict[str, int], **context: Any) -> None:
        self._context = browser.new_context(viewport=viewport, **context)
        self.page = self._context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-drawn=yes]", state="attached", timeout=60_000)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def column(self, table: str, number: int) -> list[str]:
        """The texts of the rows shown."""
        script = """([id, number]) => Array.from(document.getElementById(id).tBodies[0].rows)
            .filter(row => !row.hidden).map(row => row.cells[number].textContent)"""
        texts: list[str] = self.page.evaluate(script, [table, number])
        return texts


@pytest.fixture(scope="module")
def plain(browser: Any, folder: Path) -> Iterator[Opened]:
    """The page of 40 records and a failure, opened once for all tests; each leaves the search empty."""
    with Opened(browser, folder / "plain.html", DESKTOP, offline=True) as opened:
        yield opened


def check(opened: Opened, path: Path, width: int, *, drawn: bool) -> None:
    assert opened.complaints == []
    assert {url for url in opened.requests if not url.startswith(("data:", "blob:"))} == {path.as_uri()}
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width, "wider than the screen"
    assert bool(opened.page.locator(".plot[data-figure] .main-svg").count()) is drawn


@pytest.mark.parametrize("name", ["plain", "hostile", "nothing"])
def test_it_opens_alone_and_fits_a_phone(browser: Any, folder: Path, name: str) -> None:
    path = folder / f"{name}.html"
    phone: dict[str, Any] = {"color_scheme": "dark", "is_mobile": True, "has_touch": True, "offline": True}
    with Opened(browser, path, PHONE, **phone) as opened:
        check(opened, path, PHONE["width"], drawn=name != "nothing")


def test_it_opens_alone_and_fits_a_desktop(plain: Opened, folder: Path) -> None:
    check(plain, folder / "plain.html", DESKTOP["width"], drawn=True)


def test_plots_have_a_point_for_each_record(plain: Opened) -> None:
    assert plain.page.locator("#plot-throughput-gemm-hot .scatterlayer path.point").count() == 40


def test_hovering_names_the_problem(plain: Opened) -> None:
    point = plain.page.locator("#plot-throughput-gemm-hot .scatterlayer path.point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    plain.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = plain.page.wait_for_selector(".hovertext").text_content()
    assert "×1×1 NN" in text
    assert "ms ± 0.97 %, 200 samples" in text
    assert "GFLOP/s" in text


def test_a_click_shows_the_distribution_of_a_record(plain: Opened) -> None:
    name = plain.page.locator("#distribution-name")
    assert "100×1×1" in name.text_content()
    plain.page.locator("#records-table button[data-entry='7']").click()
    assert "107×1×1" in name.text_content()
    assert plain.page.locator("#distribution-plot .scatterlayer path.js-line").count() == 1
    plain.page.locator("#records-table button[data-entry='40']").click()
    assert "no samples" in plain.page.locator("#distribution-plot").text_content()


def test_tables_sort_by_value_and_keep_the_unknown_last(plain: Opened) -> None:
    heading = plain.page.locator("#records-table th[data-name=time_s]")
    place = heading.evaluate("heading => heading.cellIndex")
    for state, first, last in (("ascending", "1.030 ms", "41.20 ms"), ("descending", "41.20 ms", "1.030 ms")):
        heading.click()
        assert heading.get_attribute("aria-sort") == state
        times = plain.column("records-table", place)
        assert (times[0], times[-2], times[-1]) == (first, last, "n/a")


def test_tables_are_searched_and_chosen_from(plain: Opened) -> None:
    tools = plain.page.locator(".tools[data-table='records-table']")
    tools.locator("input").fill("OPENBLAS 103")
    count = tools.locator("output")
    sync_api.expect(count).to_have_text("1 of 41")
    assert plain.column("records-table", 0) == ["103×1×1 NN"]
    tools.locator("input").fill("")
    tools.locator("select[aria-label=library]").select_option("onednn")
    sync_api.expect(count).to_have_text("20 of 41")
    tools.locator("select[aria-label=status]").select_option("crashed")
    sync_api.expect(count).to_have_text("0 of 41")
    tools.locator("select[aria-label=library]").select_option("")
    tools.locator("select[aria-label=status]").select_option("")
    sync_api.expect(count).to_have_text("41 of 41")


def saved(opened: Opened, tmp_path: Path) -> list[list[str]]:
    with opened.page.expect_download() as download:
        opened.page.locator(".tools[data-table='records-table'] button").click()
    download.value.save_as(tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text(encoding="utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline="")))


def test_what_is_shown_is_saved_with_exact_values(plain: Opened, tmp_path: Path) -> None:
    choice = plain.page.locator(".tools[data-table='records-table'] select[aria-label=library]")
    choice.select_option("onednn")
    header, *rows = saved(plain, tmp_path)
    choice.select_option("")
    assert len(rows) == 20
    times = {row[header.index("problem")]: float(row[header.index("time_s")]) for row in rows}
    assert times["100×1×1 NN"] == 1.03e-3


def test_no_saved_cell_is_a_formula(browser: Any, folder: Path, tmp_path: Path) -> None:
    with Opened(browser, folder / "hostile.html", DESKTOP) as opened:
        cells = [cell for row in saved(opened, tmp_path) for cell in row]
        assert any(cell.startswith("'=cmd") for cell in cells)
        assert not any(cell.startswith(("=", "+", "@")) for cell in cells)


def test_published_figures_have_no_distribution_to_show(browser: Any, folder: Path) -> None:
    with Opened(browser, folder / "published.html", DESKTOP) as opened:
        opened.page.locator("#records-table button[data-entry='3']").click()
        assert opened.page.locator("#distribution").count() == 0
        assert opened.complaints == []


def test_it_prints_on_a_white_page(plain: Opened) -> None:
    assert plain.page.pdf(format="A4").startswith(b"%PDF")
    plain.page.emulate_media(media="print", color_scheme="dark")
    style = "getComputedStyle(document.{}).{}"
    assert plain.page.evaluate(style.format("body", "backgroundColor")) == "rgb(255, 255, 255)"
    assert plain.page.evaluate(style.format("querySelector('nav')", "display")) == "none"
    assert plain.page.evaluate(style.format("querySelector('.plot text')", "fill")) == "rgb(0, 0, 0)"
    for width, tables in ((PAPER, "section:not(#records) table"), (WIDE_PAPER, "#records table")):
        plain.page.set_viewport_size({"width": width, "height": 1000})
        widest = f"Math.max(...Array.from(document.querySelectorAll('{tables}'), each => each.scrollWidth))"
        assert plain.page.evaluate(widest) <= width
