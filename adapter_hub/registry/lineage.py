"""What came from what: the graph of adapters and their parents, by digest.

    graph = lineage_graph(registries, artifact.ancestors())
    graph.ancestors(digest), graph.descendants(digest)
    print(render_tree(graph, digest))

Registries know a version's parents; the manifests in an artifact's `ancestors/` fill in what no
registry lists, so that lineage can be walked from a folder alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapter_hub.escaping import shown
from adapter_hub.formats.manifest import Manifest
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.standing import Standings

DEEPEST = 40  # levels of a tree that are drawn by indentation: a chain of thousands stays a line each


@dataclass(frozen=True)
class Node:
    """A version in the graph; one without a description is known by its digest alone.

    Attributes:
        digest: of the manifest.
        ref: `namespace/name@version`, or None.
        method: how it was made, or None.
        languages: BCP 47 tags.
        status: the strictest that any registry gives it; `unlisted` if none lists it.
    """

    digest: str
    ref: str | None = None
    method: str | None = None
    languages: tuple[str, ...] = ()
    status: str = "unlisted"

    @property
    def label(self) -> str:
        """The name, or the beginning of the digest."""
        return self.ref or f"{self.digest[:19]}…"


@dataclass(frozen=True)
class Edge:
    """`child` was made from `parent`, in the given role."""

    child: str
    parent: str
    role: str


@dataclass
class Graph:
    """Versions by digest, and the edges from each to its parents and children."""

    nodes: dict[str, Node] = field(default_factory=dict)
    parents: dict[str, list[Edge]] = field(default_factory=dict)
    children: dict[str, list[Edge]] = field(default_factory=dict)

    def add(self, node: Node, parents: Sequence[tuple[str, str]]) -> None:
        """Add a version with `(role, digest)` of its parents, unless it is there already.

        Args:
            node: the version.
            parents: the role and the digest of each.
        """
        if node.digest in self.parents:
            return
        self.nodes[node.digest] = node
        self.parents[node.digest] = [Edge(node.digest, digest, role) for role, digest in parents]
        for edge in self.parents[node.digest]:
            self.nodes.setdefault(edge.parent, Node(edge.parent))
            self.children.setdefault(edge.parent, []).append(edge)

    def edges(self, digest: str, *, down: bool) -> list[Edge]:
        """Return the edges to children (`down`) or to parents, in a stable order.

        Args:
            digest: of the version.
            down: to its children; otherwise to its parents.
        """
        found = (self.children if down else self.parents).get(digest, [])
        return sorted(found, key=lambda edge: (edge.role, self.nodes[_far(edge, down)].label))

    def reachable(self, digest: str, *, down: bool) -> list[str]:
        """Return every version on the way, nearest first, without `digest` itself.

        Args:
            digest: of the version.
            down: its descendants; otherwise its ancestors.
        """
        seen = {digest: None}
        waiting = deque([digest])
        while waiting:
            for edge in self.edges(waiting.popleft(), down=down):
                far = _far(edge, down)
                if far not in seen:
                    seen[far] = None
                    waiting.append(far)
        return list(seen)[1:]

    def ancestors(self, digest: str) -> list[Node]:
        """Return the versions that this one was made from, nearest first."""
        return [self.nodes[item] for item in self.reachable(digest, down=False)]

    def descendants(self, digest: str) -> list[Node]:
        """Return the versions that were made from this one, nearest first."""
        return [self.nodes[item] for item in self.reachable(digest, down=True)]


def _far(edge: Edge, down: bool) -> str:
    return edge.child if down else edge.parent


def lineage_graph(registries: Sequence[Registry], manifests: Mapping[str, Manifest] | None = None) -> Graph:
    """Build the graph of everything that the registries list and `manifests` (by digest) describe.

    Args:
        registries: everything that they list.
        manifests: by digest, of versions that no registry may list.
    """
    graph, standings = Graph(), Standings(registries)
    for registry in registries:
        for digest, (name, version, block) in registry.by_digest.items():
            status = standings.of(digest)
            node = Node(
                digest,
                f"{name}@{version}",
                block.method,
                block.languages,
                status.status if status else block.status,
            )
            graph.add(node, [(parent.role, parent.digest) for parent in block.parents])
    add_manifests(graph, manifests or {})
    return graph


def add_manifests(graph: Graph, manifests: Mapping[str, Manifest]) -> None:
    """Add versions that their manifests describe, unless they are there already.

    Args:
        graph: that they are added to.
        manifests: by digest.
    """
    for digest, manifest in manifests.items():
        tags = tuple(language.tag for language in manifest.languages)
        node = Node(digest, manifest.ref, manifest.method, tags)
        graph.add(node, [(parent.role, parent.digest) for parent in manifest.parents])


def render_tree(graph: Graph, digest: str, *, descendants: bool = False) -> str:
    """Return the lineage as indented text, one version a line, parents (or children) below their child.

    Args:
        graph: with the version in it.
        digest: of the version at the root.
        descendants: draw what was made from it; by default what it was made from.
    """
    lines = [_line(graph.nodes[digest]), *_branches(graph, digest, descendants)]
    return "\n".join(lines) + "\n"


def _branches(graph: Graph, digest: str, down: bool) -> Iterator[str]:
    """Yield a line for every edge; what was expanded above is not expanded again."""
    seen = {digest}
    waiting = _below(graph, digest, down, _Branch())  # a stack: the next line is its last
    while waiting:
        edge, branch = waiting.pop()
        far = _far(edge, down)
        again = far in seen and bool((graph.children if down else graph.parents).get(far))
        text = f"{_line(graph.nodes[far])}{' (see above)' if again else ''}"
        yield f"{branch.start}{'└─' if branch.last else '├─'} {edge.role}: {text}"
        if not again:
            seen.add(far)
            waiting += _below(graph, far, down, branch)


def _below(graph: Graph, digest: str, down: bool, branch: _Branch) -> list[tuple[Edge, _Branch]]:
    edges = graph.edges(digest, down=down)
    return [(edge, branch.below(last=edge is edges[-1])) for edge in reversed(edges)]


@dataclass(frozen=True)
class _Branch:
    """Where a line of the tree stands.

    Attributes:
        indent: the lines of what is above it, drawn up to DEEPEST levels.
        depth: levels above it.
        last: whether it is the last one below its parent.
    """

    indent: str = ""
    depth: int = -1
    last: bool = True

    @property
    def start(self) -> str:
        """What the line starts with; a number stands for levels that are not drawn any more."""
        return self.indent if self.depth < DEEPEST else f"{self.indent}…{self.depth + 1} "

    def below(self, *, last: bool) -> _Branch:
        """Return the place of a line below this one."""
        if not 0 <= self.depth < DEEPEST:
            return _Branch(self.indent, self.depth + 1, last)
        return _Branch(f"{self.indent}{'   ' if self.last else '│  '}", self.depth + 1, last)


def _line(node: Node) -> str:
    about = ", ".join(part for part in (node.method, *node.languages) if part)
    status = "" if node.status == "active" else f" [{node.status}]"
    return shown(f"{node.label}{f' ({about})' if about else ''}{status}")


def lineage_json(graph: Graph, digest: str, *, descendants: bool = False) -> dict[str, Any]:
    """Return the part of the graph that hangs on `digest` as plain data.

    Args:
        graph: with the version in it.
        digest: of the version at the root.
        descendants: what was made from it; by default what it was made from.

    Returns:
        `root`, a list of `nodes` and a list of `edges`.
    """
    digests = [digest, *graph.reachable(digest, down=descendants)]
    return {
        "root": digest,
        "nodes": [
            {
                "digest": node.digest,
                "ref": node.ref,
                "method": node.method,
                "languages": list(node.languages),
                "status": node.status,
            }
            for node in (graph.nodes[item] for item in digests)
        ],
        "edges": [
            {"child": edge.child, "parent": edge.parent, "role": edge.role}
            for item in digests
            for edge in graph.edges(item, down=descendants)
        ],
    }


def render_mermaid(graph: Graph, digest: str, *, descendants: bool = False) -> str:
    """Return a Mermaid flowchart; arrows go from parent to child.

    Args:
        graph: with the version in it.
        digest: of the version at the root.
        descendants: draw what was made from it; by default what it was made from.
    """
    digests = [digest, *graph.reachable(digest, down=descendants)]
    names = {item: f"n{number}" for number, item in enumerate(digests)}
    lines = ["flowchart TD"]
    lines += [f'    {names[item]}["{_mermaid_text(_line(graph.nodes[item]))}"]' for item in digests]
    lines += [
        f"    {names[edge.parent]} -->|{edge.role}| {names[edge.child]}"
        for item in digests
        for edge in graph.edges(item, down=descendants)
    ]
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Return text in which nothing is Mermaid's, Markdown's or HTML's: signs as numbered entities."""
    kept = " -,.@/()…"
    return "".join(
        character if character.isalnum() or character in kept else f"#{ord(character)};"
        for character in text.replace("[", "(").replace("]", ")")
    )
