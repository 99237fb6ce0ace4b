"""Cards and the catalogue, with whatever somebody wrote into a record: inert Markdown, sound front matter."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from making import make_artifact, make_report

from adapter_hub.cards import render_card, render_catalogue, with_catalogue
from adapter_hub.cards.catalogue import BEGIN, END
from adapter_hub.cards.front_matter import Foreign, as_yaml
from adapter_hub.cards.markdown import code, fenced, inline
from adapter_hub.formats.claims import StatusEntry
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.stores.contract import Claims
from adapter_hub.stores.summary import version_block

markdown_it = pytest.importorskip("markdown_it")

MARKDOWN = [
    "[click](http://evil.example)",
    "![image](http://evil.example/x.png)",
    "[click](javascript:alert(1))",
    "[a]: http://evil.example",
    "[a][b]",
    "<https://evil.example>",
    "https://evil.example/x",
    "www.evil.example",
    "evil.com",
    "a@evil.example",
    "@everybody",
    "#1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<!-- hidden",
    "-->",
    f"{END}\nx",
    BEGIN,
    "&lt;b&gt; &#60;",
    "**bold** _it_ ~~gone~~",
    "`code`",
    "a `` b",
    "```\n# out",
    "| new | cell |",
    "\\| a \\\\| b \\",
    "a\\",
    "\n# heading\n",
    "\n\n---\nbase_model: evil\n---\n",
    "$x^2$ \\(y\\)",
    "{{ 7 * 7 }} {% raw %} {# x #}",
    "- item",
    "1. item",
    "1) item",
    "> quote",
    "===",
    ":smile: [^1]",
    " leading and trailing ",
    "\x1b[2J\u202e\u2028",
]


def tokens(text: str) -> Iterator[Any]:
    """Yield every token of a renderer that makes links of all that it can."""
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for token in parser.parse(text):
        yield token
        yield from token.children or ()


def acting(text: str) -> set[str]:
    """Return what of a text acts: links, images and HTML."""
    kinds = ("link_open", "image", "html_inline", "html_block", "s_open", "em_open", "heading_open")
    return {token.type for token in tokens(text) if token.type in kinds}


def headings(text: str) -> list[str]:
    found = list(tokens(text))
    return [after.content for token, after in pairwise(found) if token.type == "heading_open"]


@pytest.mark.parametrize("text", MARKDOWN)
def test_a_value_in_a_line_is_one_run_of_letters(text: str) -> None:
    assert acting(f"| a | b |\n|---|---|\n| {inline(text)} | x |\n") == set()
    assert acting(f"\n{inline(text)} and more\n") == set()
    assert acting(f"made by {code(text)} here\n") == set()
    cells = [
        token for token in tokens(f"| a | b |\n|--|--|\n| {inline(text)} | x |\n") if token.type == "td_open"
    ]
    assert len(cells) == 2
    assert "\n" not in inline(text)


@pytest.mark.parametrize("text", MARKDOWN)
def test_only_what_cannot_be_an_address_stands_outside_of_code(text: str) -> None:
    shown = inline(text)
    assert shown.startswith("`")
    assert shown.endswith("`")


@pytest.mark.parametrize(
    "text", ["Apache-2.0", "A. Tester", "x86_64 CPU, 2 cores", "Århus 北京", "100 %", "pt-BR"]
)
def test_ordinary_words_stand_as_they_are(text: str) -> None:
    assert inline(text) == text


@pytest.mark.parametrize("text", MARKDOWN)
def test_a_block_of_code_ends_where_we_end_it(text: str) -> None:
    block = fenced(f'name = "x"\n{text}\n```\n~~~\n', "toml")
    fences = [token for token in tokens(f"{block}\n\nafter\n") if token.type == "fence"]
    assert len(fences) == 1
    assert acting(block) == set()


def hostile_manifest(folder: Path, text: str) -> Manifest:
    digest = "0" * 64
    value = {
        **json.loads(make_artifact(folder, "test/pl").manifest.to_bytes()),
        "license": f"L{text}",
        "authors": [f"A{text}", text],
        "recipe": f'name = "x"\n# {text}\n',
        "data": [
            {"id": text, "split": text, "license": text, "hours": 1.0, "utterances": 1, "sha256": digest}
        ],
        "training": {
            "steps": 1,
            "random_seed": 1,
            "hardware": text,
            "wall_seconds": 1.0,
            "packages": {},
        },
    }
    value["languages"][0]["tag"] = f"pl{text}"  # the base model's id may be a name only
    return Manifest.parse(json.dumps(value).encode(), "a test's manifest")


@pytest.mark.parametrize("text", MARKDOWN)
def test_a_whole_card_has_our_headings_and_nothing_that_acts(text: str, tmp_path: Path) -> None:
    manifest = hostile_manifest(tmp_path / "pl", text)
    report = make_report(make_artifact(tmp_path / "again", "test/pl"), data=text, split=text, normaliser=text)
    status = StatusEntry(
        version="1.0.0",
        digest=manifest.digest,
        status="yanked",
        reason=text,
        time="2026-01-01T00:00:00Z",
    )
    card = render_card(manifest, [report], status)
    front, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert acting(body) == {"heading_open"}
    assert headings(body) == [
        "test/pl",
        "Use",
        "Results",
        "Forgetting",
        "Where it comes from",
        "Recipe",
        "Identity",
    ]
    assert yaml.safe_load(front)["license_name"] == f"L{text}"


@pytest.mark.parametrize("text", MARKDOWN)
def test_the_catalogue_stays_between_its_marks(text: str, tmp_path: Path) -> None:
    manifest = hostile_manifest(tmp_path / "pl", text)
    block = version_block(manifest, manifest.digest, Claims(), [])
    table = render_catalogue({"test/pl": {"1.0.0": block}})
    assert acting(table) == set()
    assert len(table.splitlines()) == 3
    readme = with_catalogue(f"before\n{BEGIN}\n{END}\nafter\n", {"test/pl": {"1.0.0": block}})
    assert with_catalogue(readme, {"test/pl": {"1.0.0": block}}) == readme
    assert isinstance(block, VersionBlock)


def every_kind_of_character() -> Iterator[str]:
    """Yield some of every category of Unicode, the lowest ones and all that YAML treats in its own way."""
    seen: dict[str, int] = {}
    for number in range(sys.maxunicode + 1):
        category = unicodedata.category(chr(number))
        seen[category] = seen.get(category, 0) + 1
        if number < 0x300 or seen[category] <= 5 or number & 0xFFFE == 0xFFFE:
            yield chr(number)


def test_front_matter_gives_back_every_character() -> None:
    shapes = ("a{}b", "{}", " {} ", "{}: #", "{}\n---\n{}")
    for character in every_kind_of_character():
        values = [shape.format(character, character) for shape in shapes]
        text = as_yaml({"license": [Foreign(value) for value in values]})
        assert yaml.safe_load(text) == {"license": values}, hex(ord(character))
        assert len(text.splitlines()) == 1 + len(values)


@pytest.mark.parametrize(
    "word", ["no", "null", "~", "1e3", "0o14", "0x1F", "12:30:00", "2026-01-01", "", "&a", "*a", "!x"]
)
def test_words_that_mean_something_in_yaml_stay_text(word: str) -> None:
    assert as_yaml({"language": [Foreign(word)]}) == f'language:\n- "{word}"\n'


@pytest.mark.parametrize(
    "text", ["\x7f", "\x85", "\x9b2J", "\u2028", "\ufffe", "\ufeff", "\u202e", "a: b # c", "'\"\\"]
)
def test_the_hub_s_client_reads_the_same_tags(text: str, tmp_path: Path) -> None:
    manifest = hostile_manifest(tmp_path / "pl", text)
    report = make_report(make_artifact(tmp_path / "again", "test/pl"), data=f"d{text}")
    data = ModelCard(render_card(manifest, [report])).data
    assert data.language is None  # only codes of ISO 639 get there, so nothing of others
    assert data.license_name == f"L{text}"
    assert data.eval_results is not None
    assert data.eval_results[0].dataset_name == f"d{text}"
