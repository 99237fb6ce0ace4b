"""Cards and the catalogue: the same records give the same bytes, and hostile text stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from making import make_artifact, make_child, make_report, manifest_bytes

from adapter_hub import embedded
from adapter_hub.cards import render_card, render_catalogue, with_catalogue
from adapter_hub.errors import InvalidInputError
from adapter_hub.formats.claims import EvaluationReport, StatusEntry
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.versions import sort_versions
from adapter_hub.registry.file import FileRegistry

POLISH = [{"tag": "pl", "decode_language": "pl"}]
GOLDEN = Path(__file__).parent / "golden" / "card.md"


def manifest_with(folder: Path, **changes: Any) -> Manifest:
    value = json.loads((folder / "adapter.json").read_bytes()) | changes
    return Manifest.parse(manifest_bytes(value), "a test's manifest")


def front_matter_of(card: str) -> dict[str, Any]:
    head, front, body = card.split("---\n", 2)
    assert head == ""
    assert body.startswith("# ")
    value = yaml.safe_load(front)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def seed(tmp_path: Path) -> Manifest:
    make_artifact(tmp_path / "seed", "test/pl")
    return manifest_with(
        tmp_path / "seed",
        recipe='name = "test/pl"\nversion = "1.0.0"\n',
        languages=POLISH,
        data=[
            {
                "id": "numbers",
                "split": "train",
                "license": "CC0-1.0",
                "hours": 0.5,
                "utterances": 300,
                "sha256": "0" * 64,
            }
        ],
        training={
            "steps": 100,
            "random_seed": 1,
            "hardware": "2 cores",
            "wall_seconds": 60.0,
            "packages": {"torch": "2.13.0"},
        },
    )


def report_on(folder: Path, **changes: Any) -> EvaluationReport:
    return make_report(make_artifact(folder, "test/pl", languages=POLISH), **changes)


def test_a_card_is_the_golden_text(seed: Manifest, tmp_path: Path) -> None:
    card = render_card(seed, [report_on(tmp_path / "again")])
    if not GOLDEN.exists():  # delete the file to accept a new rendering
        GOLDEN.write_text(card, encoding="utf-8")
        pytest.fail(f"{GOLDEN} was written again: read the difference, and run again")
    assert card == GOLDEN.read_text(encoding="utf-8")


def test_rendering_twice_gives_the_same_bytes(seed: Manifest, tmp_path: Path) -> None:
    report = report_on(tmp_path / "again")
    assert render_card(seed, [report]) == render_card(seed, [report])


def test_the_front_matter_is_what_the_hub_reads(seed: Manifest, tmp_path: Path) -> None:
    front = front_matter_of(render_card(seed, [report_on(tmp_path / "again", errors=2)]))
    assert front["language"] == ["pl"]
    assert front["license"] == "apache-2.0"
    assert front["base_model"] == "test/tiny"
    assert front["base_model_relation"] == "adapter"
    assert front["library_name"] == "peft"
    assert front["pipeline_tag"] == "automatic-speech-recognition"
    result = front["model-index"][0]["results"][0]
    assert result["metrics"][0]["type"] == "wer"
    assert result["metrics"][0]["value"] == 20.0
    assert result["dataset"]["split"] == "test"


def test_norwegian_stays_a_language(seed: Manifest) -> None:
    languages = [{"tag": "no", "decode_language": "no"}]
    norwegian = Manifest.parse(manifest_bytes(seed.to_json() | {"languages": languages}), "here")
    assert front_matter_of(render_card(norwegian))["language"] == ["no"]


def test_a_licence_that_the_hub_does_not_know_is_other_with_its_name(seed: Manifest) -> None:
    odd = seed.to_json() | {"license": "Apache-2.0 AND CC-BY-4.0"}
    front = front_matter_of(render_card(Manifest.parse(json.dumps(odd).encode(), "here")))
    assert front["license"] == "other"
    assert front["license_name"] == "Apache-2.0 AND CC-BY-4.0"


def test_reports_of_other_weights_are_left_out(seed: Manifest, tmp_path: Path) -> None:
    other = make_report(make_artifact(tmp_path / "other", "test/pl", "1.1.0", seed=5.0))
    assert "Not evaluated yet." in render_card(seed, [other])


def test_a_retired_version_says_so_with_the_reason(seed: Manifest) -> None:
    entry = StatusEntry(
        version=seed.version,
        digest=seed.digest,
        status="yanked",
        reason="wrong | data",
        time="2026-02-01T00:00:00Z",
    )
    card = render_card(seed, status=entry)
    assert "> **yanked** since 2026-02-01T00:00:00Z: `wrong \\| data`" in card


def test_hostile_text_breaks_neither_tables_nor_fences_nor_front_matter(seed: Manifest) -> None:
    value = seed.to_json() | {
        "license": 'x"\nbase_model: evil',
        "authors": ["| <script>alert(1)</script> |\n# owned"],
        "recipe": 'name = "x"\n```\n# out of the fence\n',
    }
    card = render_card(Manifest.parse(manifest_bytes(value), "here"))
    assert front_matter_of(card)["base_model"] == "test/tiny"
    assert "by `\\| <script>alert(1)</script> \\|\\n# owned` |" in card
    assert "````toml\n" in card


def test_a_warm_started_card_names_its_seed(tmp_path: Path) -> None:
    parent = make_artifact(tmp_path / "parent", "test/pl")
    child = make_child(tmp_path / "child", parent)
    assert f"| seed | test/pl@1.0.0 (`{parent.digest}`) |" in render_card(child.manifest)


def test_a_measured_similarity_is_told_nearest_first(seed: Manifest) -> None:
    similarity = {
        "measure": "argmax-share",
        "scores": {"it": 0.25, "pt": 0.75},
        "mean_probabilities": {"it": 0.3, "pt": 0.7},
        "segments": 40,
        "random_seed": 1,
        "data_sha256": "0" * 64,
        "base_model_digest": seed.base_model.digest,
    }
    value = seed.to_json() | {"similarity": [similarity]}
    card = render_card(Manifest.parse(manifest_bytes(value), "here"))
    assert "(argmax-share, 40 segments):\npt 75.0 %,\nit 25.0 %.\n" in card


def test_the_embedded_catalogue_is_rendered_with_one_row_for_every_version() -> None:
    adapters = FileRegistry(embedded.registry_path(), read_only=True).adapters
    versions = [f"`{name}@{v}`" for name in sorted(adapters) for v in sort_versions(adapters[name])]
    assert versions
    table = render_catalogue(adapters)
    assert len(table.splitlines()) == 2 + len(versions)
    assert re.findall(r"^\| (`[^`]+`)", table, flags=re.MULTILINE) == versions


@pytest.mark.parametrize("readme", ["no markers", "<!-- catalogue: begin -->", "<!-- catalogue: end -->"])
def test_a_readme_without_both_markers_is_refused(readme: str) -> None:
    with pytest.raises(InvalidInputError, match="needs one <!-- catalogue: begin -->"):
        with_catalogue(readme, {})
