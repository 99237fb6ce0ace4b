"""Rules between the fields of a manifest: what its method demands of its parents, and of its files' sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapter_hub.formats.manifest import FileEntry, GateSection, LoraSection, Parent

MAXIMUM_SLACK = 2**24  # bytes of a file of weights beside its tensors: its header
MAXIMUM_PLAIN = 2**26  # bytes of all other files: configs, ancestors, texts

# for every method: how many parents of each role, least and most
PARENT_RULES: dict[str, dict[str, tuple[int, int]]] = {
    "lora": {},
    "warm-start": {"seed": (1, 1)},
    "expert-pair": {"expert": (1, 1), "seed": (0, 1)},
    "average": {"component": (1, 1000)},
    "imported": {},
}


def weights_size_problems(
    files: Sequence[FileEntry], lora: Sequence[LoraSection], gate: GateSection | None
) -> Iterator[str]:
    """Yield which files are larger than what the manifest says is in them: nobody reads them to find out."""
    values = sum(section.parameters * (4 if section.dtype == "float32" else 2) for section in lora)
    values += 4 * gate.parameters if gate else 0
    room = values + MAXIMUM_SLACK * (len(lora) + 1)
    weights = sum(entry.size for entry in files if entry.path.endswith(".safetensors"))
    if weights > room:
        yield f"weights of {weights} bytes, expected at most {room} for so many parameters"
    plain = sum(entry.size for entry in files if not entry.path.endswith(".safetensors"))
    if plain > MAXIMUM_PLAIN:
        yield f"files beside the weights of {plain} bytes, expected at most {MAXIMUM_PLAIN}"


def parent_problems(method: str, parents: tuple[Parent, ...]) -> list[str]:
    """Return how number, roles and weights of `parents` break the rule of `method` (invariant 3)."""
    problems = []
    rules = PARENT_RULES[method]
    for role in sorted({parent.role for parent in parents} | set(rules)):
        least, most = rules.get(role, (0, 0))
        count = sum(parent.role == role for parent in parents)
        if not least <= count <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            problems.append(f"method {method} takes {wanted} parents of role {role}, got {count}")
    if method == "average":
        total = sum(parent.weight or 0.0 for parent in parents)
        if any(parent.weight is None for parent in parents) or total > 1.0 + 1e-9:
            problems.append("components of an average need weights above 0 with sum at most 1")
    elif any(parent.weight is not None for parent in parents):
        problems.append(f"parents of method {method} carry no weight")
    return problems
