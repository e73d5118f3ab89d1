"""A run's page: what it holds, that it stands alone, and that nothing in it is obeyed."""

from __future__ import annotations

import json
import re
import shlex

import pytest

import maao
from maao.errors import StoreError
from maao.report.html import page as pages
from maao.report.html.page import write_page
from maao.report.html.run_view import Caps, Wanted, run_view
from tests.api.small_runs import config, write_data
from tests.report.pages import ESCAPES, HOSTILE, LABELS, TURNED, Page

SOURCES = {"src", "href", "srcset", "action", "formaction", "poster", "data", "xlink:href", "background", "ping"}


@pytest.fixture(scope="module")
def html(hostile_page):
    return hostile_page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html):
    return Page(html)


def test_every_element_is_closed_and_every_id_is_its_own(page):
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for _, attributes in page.elements if "href" in attributes}
    assert targets and targets <= {f"#{name}" for name in ids}


def test_nothing_in_it_is_fetched_and_nothing_runs(page, html):
    for name, attributes in page.elements:
        assert name not in ("script", "iframe", "object", "embed", "link", "form", "base", "audio", "video"), name
        for key, value in attributes.items():
            assert not key.startswith("on"), (name, key)
            if key in SOURCES:
                assert value.startswith(("#", "data:image/jpeg;base64,")), (name, key, value)
    policy = next(one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;") and "script" not in policy
    assert not re.search(r"url\((?!#)|@import|@font-face", html)


def test_what_means_harm_is_shown_as_text(page, html):
    for said in (*HOSTILE, *LABELS.values()):
        assert " ".join(said.split()) in page.text or said[:30] in page.text, said
    assert "\x1b" not in html and "\u202e" not in html and "\x07" not in html and "\x00" not in html
    assert "\ufffd[2J" in page.text and TURNED[1:] in page.text and ESCAPES[5:] not in html
    assert "49" not in page.text.split("onmouseover")[1][:40]  # a reply is no template


def test_its_words_come_first_and_in_order(page):
    heads = [name for name, _ in page.elements if name in ("h1", "h2", "h3", "h4")]
    assert heads[:2] == ["h1", "h2"] and heads.count("h1") == 1
    assert page.elements[0][0] == "html" and page.elements[0][1]["lang"] == "en"
    assert page.of("a")[0] == {"class": "skip", "href": "#content"}
    sections = [
        page.text.rindex(head) for head in ("In short", "How it went Loss", "The mentor Before", "Class by class On", "Have it again")
    ]
    assert sections == sorted(sections)


def test_a_hint_says_the_command_with_the_folder_as_it_is_typed(hostile):
    view = run_view(maao.load(hostile), "run", "not read", Wanted(), Caps(rounds=1, calls=1))
    folder = shlex.quote(str(hostile))
    assert view.rounds.cut.endswith(f"are left out here: maao show {folder}.")
    assert view.calls_cut.endswith(f"are left out here: maao show {folder} --calls.")


def test_every_drawing_says_in_words_what_it_shows(page):
    drawn = page.of("svg")
    assert len(drawn) == 2
    ids = {attributes.get("id"): name for name, attributes in page.elements}
    for one in drawn:
        assert one["role"] == "img"
        assert [ids[name] for name in one["aria-labelledby"].split()] == ["title", "desc"]


def test_restarts_are_marked_with_the_words_they_began_from(hostile, page):
    result = maao.load(hostile)
    jumps = [r for r in result.history if r.verdict.chosen is not None]
    marks = [attributes for _, attributes in page.elements if "-restart-" in attributes.get("id", "")]
    assert len(marks) == len(jumps) > 0
    for number, r in enumerate(jumps, start=1):
        assert f"Restart {number}, from: {r.advice.proposals[r.verdict.chosen].text[:20]}" in page.text


def test_every_proposal_every_call_and_every_refusal_stands_in_it(hostile, page):
    result = maao.load(hostile)
    assert page.text.count("Before round") == sum(r.leg.ask for r in result.history) == 2
    assert page.text.count("Answered") == len(result.calls) > 0
    for r in result.history:
        for rejected in r.advice.rejected:
            assert rejected.reason in page.text


def test_labels_are_judged_again_but_test_is_not_read(page, hostile):
    accuracy = maao.load(hostile).evaluate("select").accuracy
    assert f"accuracy {accuracy:.3f} 95 % interval" in page.text
    assert "test is read again" not in page.text


def test_examples_stay_out_where_that_is_wanted(hostile, page, tmp_path):
    result = maao.load(hostile)
    bare = Page(write_page([hostile], tmp_path / "page.html", Wanted(examples=False)).read_text(encoding="utf-8"))
    wrong = [mistake.example.fields["text"][:25] for mistake in result.evaluate("select").mistakes]
    sent = [example.fields["text"][:25] for example in result.judged("train").examples]
    for texts in (wrong, sent):  # what is read wrongly; what the mentor was shown
        assert any(text in page.text for text in texts)
        assert not any(text in bare.text for text in texts)
    assert "What was sent is not shown here." in bare.text and "What was sent is not shown here." not in page.text


def test_lines_that_came_with_the_data_stay_out_too(llama, tmp_path):
    data = write_data(tmp_path)
    (tmp_path / "lines.json").write_text(json.dumps({"sport": {"examples": ["a secret of the team"]}}), encoding="utf-8")
    data["lines"] = str(tmp_path / "lines.json")
    maao.run(config(llama, data, mentor={"name": "none"}, plan={"rounds": 1, "steps": 2}), tmp_path / "run")
    shown, hidden = (
        Page(write_page([tmp_path / "run"], tmp_path / "page.html", Wanted(examples=examples)).read_text(encoding="utf-8")).text
        for examples in (True, False)
    )
    assert "a secret of the team" in shown
    assert "a secret of the team" not in hidden and "Class lines that came with the data are not shown here: 1." in hidden


def test_equal_runs_give_equal_pages(hostile, hostile_page, tmp_path):
    again = write_page([hostile], tmp_path / "again.html", Wanted())
    assert again.read_bytes() == hostile_page.read_bytes()


def test_several_runs_stand_below_each_other_behind_an_overview(hostile, tmp_path):
    page = Page(write_page([hostile, hostile], tmp_path / "two.html", Wanted(split=None)).read_text(encoding="utf-8"))
    assert page.text.startswith("What became of 2 runs") and "All at a glance" in page.text
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids)) and {"run-1", "run-2"} <= set(ids)


def test_mistakes_on_pictures_are_small_pictures(pictured_page):
    page = Page(pictured_page.read_text(encoding="utf-8"))
    images = page.of("img")
    assert 0 < len(images) <= 12
    for one in images:
        assert one["src"].startswith("data:image/jpeg;base64,") and len(one["src"]) < 12_000
        assert one["alt"] in {f"A picture of the class {label}" for label in ("cat", "dog", "lion")}


def test_without_a_mentor_labels_or_test_it_says_so(llama, tmp_path):
    data = write_data(tmp_path)
    del data["test"]
    maao.run(config(llama, data, mentor={"name": "none"}, plan={"rounds": 1, "steps": 2}), tmp_path / "plain")
    text = Page(write_page([tmp_path / "plain"], tmp_path / "plain.html", Wanted()).read_text(encoding="utf-8")).text
    assert "No mentor was asked" in text
    function = config_of_function()
    maao.run(function, tmp_path / "function")
    text = Page(write_page([tmp_path / "function"], tmp_path / "f.html", Wanted()).read_text(encoding="utf-8")).text
    assert "Not shown: " in text and "Class by class" in text


def test_an_average_of_walks_and_what_filled_it_are_told(llama, tmp_path):
    made = config(llama, write_data(tmp_path), accept={"rule": "race", "steps": 2, "keep": "average"})
    result = maao.run(made, tmp_path / "average")
    page = Page(write_page([tmp_path / "average"], tmp_path / "a.html", Wanted(split=None)).read_text(encoding="utf-8"))
    assert result.history[-1].leg.closing and page.open == []
    assert result.history[-1].verdict.reason in page.text  # among all rounds
    assert "best walk alone" in page.text and "No examples were read for this page" in page.text


def config_of_function():
    from maao.config import make_config

    return make_config({"problem": "function", "mentor": {"name": "none"}, "plan": {"rounds": 1, "steps": 5}})


def test_a_folder_that_is_no_run_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"neither a run .* nor a comparison"):
        write_page([tmp_path], tmp_path / "page.html", Wanted())


def test_a_page_that_would_be_too_large_is_shortened(hostile, tmp_path, monkeypatch):
    whole = write_page([hostile], tmp_path / "whole.html", Wanted()).stat().st_size
    monkeypatch.setattr(pages, "MOST_BYTES", whole - 1000)
    text = write_page([hostile], tmp_path / "short.html", Wanted()).read_text(encoding="utf-8")
    assert len(text.encode()) < whole - 1000 and "Listings are shortened" in text
