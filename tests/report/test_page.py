"""The page in a real browser: nothing is fetched, nothing fails, everything is drawn, in light and dark, wide and narrow."""

from __future__ import annotations

import re
import shutil
from functools import cache

import pytest

from prunus.core.results import Results, Row
from prunus.report import page
from prunus.report.data import MASKED, NO_CONTROL, ReportData
from report.reports import data_report, model_report, picture_report, selections_report

pytest.importorskip("matplotlib", reason="needs the extra `report`")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1180, 390)]


@cache
def rendered(make) -> str:
    """A page, drawn once for all tests."""
    return page.render(make())


def test_page_is_one_file_that_names_no_other():
    text = rendered(data_report)
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', text)
    assert "url(" not in re.sub(r"url\(#[^)]*\)", "", text)
    assert not re.search(r"https?://", text)


def test_equal_data_give_equal_bytes():
    assert page.render(data_report()) == rendered(data_report)


def test_ids_are_unique_and_references_hold():
    text = rendered(data_report)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', text)) | set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_every_colour_of_a_drawing_follows_the_page():
    drawings = "".join(re.findall(r"<svg aria-hidden.*?</svg>", rendered(data_report), flags=re.DOTALL))
    assert "var(--series-1)" in drawings
    assert not re.findall(r"#[0-9a-f]{6}\b", drawings)


def test_what_users_write_is_escaped():
    nasty = '<script>alert("x")</script>'
    rows = (
        Row("dense", "", "", 0, "accuracy", 0.9),
        Row(nasty, "rows/x", "30% rows", 0, "accuracy", 0.8, (0.7, 0.9), False, {}, nasty),
    )
    text = page.render(
        ReportData(title=nasty, summary=nasty, command=nasty, notes=(nasty,), results=Results(rows, {nasty: nasty}))
    )
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_masked_model_and_missing_control_are_said_in_words():
    text = page.render(model_report(masked=True, controls=False))
    assert MASKED.replace("'", "&#39;") in text
    assert NO_CONTROL in text
    plain = rendered(model_report)
    assert MASKED[:20] not in plain
    assert NO_CONTROL not in plain


def test_empty_report_still_stands():
    text = page.render(ReportData(title="Nothing yet"))
    assert "How this was made" in text
    assert 'id="results"' not in text


def test_many_methods_are_a_table_and_a_theory_is_no_control():
    text = rendered(picture_report)
    assert "▲" in text and "random_balanced" in text and "<details>" in text
    assert "expected by the perceptron theory" in text and "examples per parameter" in text
    assert "theory, hard end kept (control)" not in text


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: `make chromium` installs it on Debian")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET.split())
        yield opened
        opened.close()


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), VIEWS)
@pytest.mark.parametrize("make", [data_report, model_report, picture_report, selections_report])
def test_page_in_a_browser(browser, tmp_path, make, scheme, width):
    path = tmp_path / "report.html"
    path.write_text(rendered(make), "utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(path.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"
    shown = tab.evaluate(
        "[...document.querySelectorAll('.chart svg')].filter(s => s.getBoundingClientRect().width > 0)"
        ".map(s => [s.querySelectorAll('path').length, s.querySelectorAll('text').length, s.getBoundingClientRect().width])"
    )
    assert shown
    assert all(paths > 3 and texts > 3 and drawn > 250 for paths, texts, drawn in shown)
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    ink, paper = tab.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7
    small = tab.evaluate("[...document.querySelectorAll('.interval, .sub, .hint')].map(e => getComputedStyle(e).color)")
    assert all(contrast(colour, paper) > 4.5 for colour in set(small))
    tab.screenshot(path=str(tmp_path / f"{scheme}-{width}.png"), full_page=True)
    tab.close()


def contrast(first: str, second: str) -> float:
    """WCAG contrast ratio of two `rgb(...)` colours."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)
