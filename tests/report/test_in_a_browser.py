"""Reports in a real Chromium: they fit, they ask nothing of a network, nothing in them runs, they can be read, used by keys and printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
PAGES = ("hostile_page", "pictured_page", "comparison_page")

# The contrast of every element that holds text of its own with what is painted behind it: the lowest, and where.
CONTRAST = """() => {
  const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  const pixel = () => Array.from(pen.getImageData(0, 0, 1, 1).data).slice(0, 3);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const paint = colour => { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); };
  const found = [];
  for (const one of document.querySelectorAll('body *')) {
    if (![...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    if (['STYLE', 'title', 'desc'].includes(one.tagName)) continue;
    paint(matchMedia('(prefers-color-scheme: dark)').matches ? '#000' : '#fff');
    const chain = []; for (let at = one; at; at = at.parentElement) chain.unshift(at);
    for (const at of chain) paint(getComputedStyle(at).backgroundColor);
    const behind = light(pixel());
    paint(one.closest('svg') ? getComputedStyle(one).fill : getComputedStyle(one).color);
    const own = light(pixel());
    const contrast = (Math.max(behind, own) + 0.05) / (Math.min(behind, own) + 0.05);
    found.push([contrast, one.tagName + '.' + one.getAttribute('class') + ': ' + one.textContent.trim().slice(0, 40)]);
  }
  return [found.length, ...found.sort((a, b) => a[0] - b[0])[0]];
}"""
TOUCH_ALL = """() => { for (const one of document.querySelectorAll('*')) {
  for (const kind of ['mouseover', 'focus', 'load', 'error', 'click', 'toggle']) one.dispatchEvent(new Event(kind));
  if (one.tagName === 'DETAILS') one.open = true;
} }"""


@pytest.fixture
def opened(chromium: Any) -> Iterator[Any]:
    """Return the function that opens a page, and what came of that: the page, requests, and what ran or was complained of."""
    contexts = []

    def opened(file: Path, width: int = 1280, scheme: str = "light", **options: Any) -> tuple[Any, list[str], list[str]]:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        contexts.append(context)
        page, asked, ran = context.new_page(), list[str](), list[str]()
        page.on("request", lambda request: asked.append(request.url))
        page.on("dialog", lambda dialog: (ran.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: ran.append(str(error)))
        page.on("popup", lambda other: ran.append(other.url))
        page.goto(file.as_uri())
        return page, asked, ran

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_and_nothing_is_fetched_and_nothing_runs(name, width, opened, request):
    file = request.getfixturevalue(name)
    page, asked, ran = opened(file, width)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = (
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, .skip') && e.getBoundingClientRect().right > innerWidth)"
    )
    assert page.evaluate(f"{outside}.map(e => e.outerHTML.slice(0, 80))") == []
    assert page.locator("h1").is_visible() and page.locator("svg.plot").first.bounding_box()["height"] > 50
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    assert ran == []


@pytest.mark.parametrize("bypass", [False, True], ids=["as it is", "without its own policy"])
def test_what_means_harm_does_nothing_whatever_is_touched(bypass, hostile_page, opened):
    page, asked, ran = opened(hostile_page, bypass_csp=bypass)
    page.evaluate(TOUCH_ALL)
    page.wait_for_timeout(200)
    assert ran == [] and [url for url in asked if not url.startswith("data:")] == [hostile_page.as_uri()]
    assert page.evaluate("document.querySelectorAll('script, iframe, form, link, object, embed, base').length") == 0
    assert (
        page.evaluate("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => a.name.startsWith('on')).length")
        == 0
    )
    assert page.evaluate("[...document.links].every(a => a.getAttribute('href').startsWith('#'))")


def test_its_own_policy_stops_a_script_and_a_connection(hostile_page, tmp_path, opened):
    html = hostile_page.read_text(encoding="utf-8")
    bad = tmp_path / "bad.html"
    bad.write_text(html.replace("</main>", "<script>alert(1)</script><img src='https://example.com/x.png'></main>"), encoding="utf-8")
    page, _, ran = opened(hostile_page)
    failed = list[tuple[str, str]]()
    page.on("requestfailed", lambda request: failed.append((request.url, request.failure)))
    page.goto(bad.as_uri())
    page.wait_for_timeout(200)
    assert ran == [] and failed == [("https://example.com/x.png", "csp")]  # stopped by the page itself, before it was sent


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(name, scheme, opened, request):
    page, _, _ = opened(request.getfixturevalue(name), scheme=scheme)
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    count, lowest, where = page.evaluate(CONTRAST)
    assert count > 50
    assert lowest >= 4.5, where
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


def test_keys_alone_reach_all_of_it(hostile_page, opened):
    page, _, _ = opened(hostile_page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.locator("summary").first.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")


def test_it_prints_light_whatever_the_screen(hostile_page, tmp_path, opened):
    page, _, _ = opened(hostile_page, scheme="dark")
    page.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
