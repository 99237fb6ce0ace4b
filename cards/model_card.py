"""The card of an adapter: Markdown with the Hub's front matter, from manifest, reports and status.

    Path("README.md").write_text(render_card(artifact.manifest, reports), encoding="utf-8")

Why a template and own quoting: everything in a record was written by somebody else, so text is quoted
for YAML, escaped in Markdown cells, and a recipe's fence is longer than any run of backticks in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_hub.base_model import EMBEDDED_ID
from adapter_hub.cards.curve import curve_rows, loss_lines
from adapter_hub.hub import is_hub
from adapter_hub.manifest import Manifest
from adapter_hub.report import EvaluationReport, StatusEntry

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
METHODS = {
    "lora": "a LoRA trained from scratch",
    "warm-start": "a LoRA warm-started from its parent",
    "expert-pair": "a frozen parent and a trained child behind a gate",
    "average": "a weighted average of adapters",
    "imported": "a LoRA made elsewhere and taken in as it was",
}
FOLDED = "another adapter's function as one LoRA"
GATES = {
    "token": "weighs parent and child for every token and adapted linear",
    "static": "one learned pair of weights for every adapted linear",
}
# SPDX ids that the Hub knows, in its own spelling; any other expression becomes `other` with its name
SPDX_LICENCES = [
    (spdx, hub)
    for hub, spellings in {
        "apache-2.0": ["Apache-2.0"],
        "mit": ["MIT"],
        "bsd-3-clause": ["BSD-3-Clause"],
        "cc0-1.0": ["CC0-1.0"],
        "cc-by-4.0": ["CC-BY-4.0"],
        "cc-by-3.0": ["CC-BY-3.0"],
        "cc-by-sa-4.0": ["CC-BY-SA-4.0"],
        "cc-by-nc-4.0": ["CC-BY-NC-4.0"],
        "cc-by-nc-sa-4.0": ["CC-BY-NC-SA-4.0"],
        "gpl-3.0": ["GPL-3.0-only", "GPL-3.0-or-later"],
        "agpl-3.0": ["AGPL-3.0-only", "AGPL-3.0-or-later"],
        "openrail": ["OpenRAIL"],
    }.items()
    for spdx in spellings
]
HUB_LICENCES = {spdx.lower(): hub for spdx, hub in SPDX_LICENCES}


def render_card(
    manifest: Manifest,
    reports: Sequence[EvaluationReport] = (),
    status: StatusEntry | None = None,
    *,
    store: str = "",
) -> str:
    """Return the README.md of an adapter version.

    Args:
        manifest: the version.
        reports: evaluations of it; reports of others are left out.
        status: the version's last status entry; None means active.
        store: where the card is read, as a registry names the store; on the Hub (`hf://namespace`) its
            examples load from there.

    Returns:
        Markdown that ends in one newline; equal records give equal text.
    """
    own = [report for report in reports if report.subject.function_digest == manifest.function_digest]
    own.sort(key=lambda report: (report.data, report.split, report.decoding.beams, report.created))
    template = _environment().get_template("card.md.j2")
    return template.render(
        manifest=manifest,
        reports=own,
        status=status,
        front_matter=front_matter(manifest, own),
        method=FOLDED if _is_folded(manifest) else METHODS[manifest.method],
        on_hub=is_hub(store),
        folder=manifest.name.partition("/")[2],
        base_is_embedded=manifest.base_model.id == EMBEDDED_ID,
        base=_base_argument(manifest),
        plain_peft=manifest.method != "expert-pair",
        ranks=sorted({module.rank for section in manifest.lora for module in section.modules}),
        gate=manifest.gate and f"{GATES[manifest.gate.kind]}; {manifest.gate.parameters} parameters",
        fence=_fence(manifest.recipe or ""),
        losses=loss_lines(manifest.training) if manifest.training else [],
        curve=curve_rows(manifest.training) if manifest.training else [],
    )


def front_matter(manifest: Manifest, reports: Sequence[EvaluationReport]) -> list[str]:
    """Return the YAML lines between the two `---` that the Hub reads."""
    licence = HUB_LICENCES.get(manifest.license.lower())
    lines = [
        "language:",
        *(f"- {_quoted(language.tag)}" for language in manifest.languages),
        f"license: {licence or 'other'}",
        *([] if licence else [f"license_name: {_quoted(manifest.license)}"]),
        f"base_model: {_quoted(manifest.base_model.id)}",
        "base_model_relation: adapter",
        f"library_name: {'adapter-hub' if manifest.method == 'expert-pair' else 'peft'}",
        "pipeline_tag: automatic-speech-recognition",
        "tags:",
        *(f"- {tag}" for tag in dict.fromkeys(("adapter-hub", "whisper", "lora", manifest.method))),
    ]
    if reports:
        lines += ["model-index:", f"- name: {_quoted(manifest.name)}", "  results:"]
        for report in reports:
            lines += _result(report)
    return lines


def spdx_licence(hub_licence: str | None) -> str:
    """Return the SPDX id of a licence in the Hub's spelling; `LicenseRef-unknown` if there is none.

    >>> spdx_licence("apache-2.0"), spdx_licence("other")
    ('Apache-2.0', 'LicenseRef-unknown')
    """
    found = [spdx for spdx, hub in SPDX_LICENCES if hub == hub_licence]
    return found[0] if found else "LicenseRef-unknown"


def _result(report: EvaluationReport) -> list[str]:
    return [
        "  - task:",
        "      type: automatic-speech-recognition",
        "    dataset:",
        f"      name: {_quoted(report.data)}",
        f"      type: {_quoted(report.data)}",
        f"      split: {_quoted(report.split)}",
        f"      revision: {_quoted(report.data_sha256)}",
        "    metrics:",
        f"    - type: {report.primary}",
        f"      value: {round(100 * report.value, 2)}",
        f"      name: {_quoted(f'{report.primary.upper()} (%), {describe_decoding(report)}')}",
    ]


def describe_decoding(report: EvaluationReport) -> str:
    """Return how a report's text was searched for and compared, in a few words."""
    search = "greedy" if report.decoding.beams == 1 else f"beam {report.decoding.beams}"
    return f"{search}, {report.normaliser}"


def cell(value: Any) -> str:
    """Return text that cannot break out of a Markdown table's cell."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")


def code(value: Any) -> str:
    """Return text as a code span that it cannot end."""
    text = " ".join(str(value).split()).replace("`", "'").replace("|", "\\|")
    return f"`{text}`"


def percent(value: float) -> str:
    """Return a fraction as percent with one digit.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * value:.1f} %"


def _is_folded(manifest: Manifest) -> bool:
    return manifest.method == "average" and [parent.weight for parent in manifest.parents] == [1.0]


def _base_argument(manifest: Manifest) -> str:
    """Return what `from_pretrained` takes to load the base model, as Python."""
    base = manifest.base_model
    if base.id == EMBEDDED_ID:
        return f"find_base_model({json.dumps(base.id)})[0]"
    revision = f", revision={json.dumps(base.revision)}" if base.revision else ""
    return json.dumps(base.id) + revision


def _quoted(text: str) -> str:
    """Return a YAML double-quoted scalar; JSON's strings are a subset of it (`no` stays a string)."""
    return json.dumps(text, ensure_ascii=False)


def _fence(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    return "`" * max(3, longest + 1)


def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415  # 0.05 s that `list` need not pay

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown; `cell` escapes what is not ours
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(cell=cell, code=code, percent=percent, decoding=describe_decoding)
    return environment
