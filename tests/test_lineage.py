"""What came from what, walked through registries and through folders alone."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from making import make_artifact, make_child, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, publish, retire
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.lineage import Graph, Node, lineage_graph, lineage_json, render_mermaid, render_tree


@pytest.fixture
def family(tmp_path: Path) -> tuple[Artifact, Artifact, Artifact]:
    parent = make_artifact(tmp_path / "a", "test/pl")
    child = make_child(tmp_path / "b", parent, "test/cs")
    return parent, child, make_child(tmp_path / "c", child, "test/sk")


@pytest.fixture
def registry(tmp_path: Path, family: tuple[Artifact, ...]) -> FileRegistry:
    registry, store = make_places(tmp_path)
    for artifact in family:
        publish(artifact.path, Places(registry, store))
    retire(AdapterRef.parse("test/pl@1.0.0"), "yanked", "bad", Places(registry, store))
    return registry


def test_ancestors_and_descendants_come_nearest_first(
    registry: FileRegistry, family: tuple[Artifact, Artifact, Artifact]
) -> None:
    graph = lineage_graph([registry])
    assert [node.label for node in graph.ancestors(family[2].digest)] == ["test/cs@1.0.0", "test/pl@1.0.0"]
    assert [node.label for node in graph.descendants(family[0].digest)] == ["test/cs@1.0.0", "test/sk@1.0.0"]
    assert graph.ancestors(family[0].digest) == []


def test_the_tree_shows_roles_methods_and_statuses(
    registry: FileRegistry, family: tuple[Artifact, ...]
) -> None:
    graph = lineage_graph([registry])
    assert render_tree(graph, family[2].digest) == (
        "test/sk@1.0.0 (warm-start, da)\n"
        "└─ seed: test/cs@1.0.0 (warm-start, da)\n"
        "   └─ seed: test/pl@1.0.0 (lora, da) [yanked]\n"
    )
    assert render_tree(graph, family[0].digest, descendants=True).splitlines()[1:] == [
        "└─ seed: test/cs@1.0.0 (warm-start, da)",
        "   └─ seed: test/sk@1.0.0 (warm-start, da)",
    ]


def test_a_folder_alone_knows_its_ancestors(family: tuple[Artifact, ...]) -> None:
    artifact = family[2]
    manifests = {**artifact.ancestors(), artifact.digest: artifact.manifest}
    graph = lineage_graph([], manifests)
    assert [node.label for node in graph.ancestors(artifact.digest)] == ["test/cs@1.0.0", "test/pl@1.0.0"]
    assert {node.status for node in graph.nodes.values()} == {"unlisted"}


def test_a_parent_that_nobody_describes_is_shown_by_its_digest(
    family: tuple[Artifact, ...], tmp_path: Path
) -> None:
    registry, store = make_places(tmp_path / "other")
    publish(family[1].path, Places(registry, store))
    tree = render_tree(lineage_graph([registry]), family[1].digest)
    assert f"└─ seed: {family[0].digest[:19]}… [unlisted]" in tree


def test_json_and_mermaid_hold_the_same_edges(registry: FileRegistry, family: tuple[Artifact, ...]) -> None:
    graph = lineage_graph([registry])
    value = lineage_json(graph, family[2].digest)
    assert value["edges"] == [
        {"child": family[2].digest, "parent": family[1].digest, "role": "seed"},
        {"child": family[1].digest, "parent": family[0].digest, "role": "seed"},
    ]
    assert [node["ref"] for node in value["nodes"]] == ["test/sk@1.0.0", "test/cs@1.0.0", "test/pl@1.0.0"]
    mermaid = render_mermaid(graph, family[2].digest)
    assert mermaid.startswith("flowchart TD\n")
    assert "    n1 -->|seed| n0\n    n2 -->|seed| n1\n" in mermaid


def chain(length: int) -> Graph:
    """Return versions that were each made from the next, and the last one from the first."""
    graph = Graph()
    for i in range(length):
        graph.add(
            Node(f"d{i}", f"test/a{i}@1.0.0", "lora", ("da",), "active"), [("seed", f"d{(i + 1) % length}")]
        )
    return graph


@pytest.mark.parametrize("descendants", [False, True])
def test_a_chain_of_thousands_that_closes_is_a_line_for_each(descendants: bool) -> None:
    graph = chain(3000)
    tree = render_tree(graph, "d0", descendants=descendants)
    assert len(tree.splitlines()) == 3001
    assert tree.splitlines()[-1].endswith("test/a0@1.0.0 (lora, da) (see above)")
    assert "…3000 └─ seed: " in tree
    assert len(tree) < 300 * 3001  # no indentation that grows for ever
    assert len(lineage_json(graph, "d0", descendants=descendants)["nodes"]) == 3000
    assert len(render_mermaid(graph, "d0", descendants=descendants).splitlines()) == 1 + 3000 + 3000


def test_a_dense_graph_is_a_line_for_every_edge() -> None:
    graph = Graph()
    for i in range(60):
        graph.add(Node(f"d{i}", f"test/a{i}@1.0.0"), [("component", f"d{j}") for j in range(i + 1, 60)])
    assert len(render_tree(graph, "d0").splitlines()) == 1 + 60 * 59 // 2


@pytest.mark.parametrize(
    "text",
    [
        'x"]\n    click n0 "javascript:alert(1)"',
        '%%{init: {"securityLevel": "loose"}}%%',
        "<img src=x onerror=alert(1)>",
        "`**bold**`",
        "a\\nb; n0 --> n1",
        "x#quot;] --> n9[y",
        "fa:fa-ban :::class $$x$$",
        "}}}]])))",
    ],
)
def test_a_chart_has_one_inert_node_for_every_adapter(text: str) -> None:
    graph = Graph()
    graph.add(Node("d0", "test/a@1.0.0", "lora", (text,), "active"), [("seed", "d1")])
    lines = render_mermaid(graph, "d0").splitlines()
    assert len(lines) == 4
    label = lines[1].removeprefix('    n0["').removesuffix('"]')
    assert re.fullmatch(r"(?:#\d+;|[\w ,.@/()…-])+", label)
    assert html.unescape(re.sub(r"#(\d+);", r"&#\1;", label)).startswith("test/a@1.0.0 (lora, ")
