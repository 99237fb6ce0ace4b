"""The card of an adapter: Markdown with the Hub's front matter, from manifest, reports and status.

    Path("README.md").write_text(render_card(artifact.manifest, reports), encoding="utf-8")

Everything in a record was written by others, so every value goes through a filter of
`adapter_hub.cards.markdown`, and the front matter through a YAML library.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.base_model.families import FAMILIES, family_of_architecture
from adapter_hub.cards.comparison import comparison, forgetting_line
from adapter_hub.cards.curve import curve_rows, loss_lines
from adapter_hub.cards.front_matter import describe_decoding, front_matter
from adapter_hub.cards.markdown import code, fenced, inline
from adapter_hub.formats.claims import EvaluationReport, StatusEntry, few_speakers, sample_of
from adapter_hub.formats.manifest import ExtractionSection, Manifest
from adapter_hub.formats.reference import is_hub

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
EXTRACTED = "the nearest LoRA to a full fine-tune"
LARGEST = 5  # changes that no LoRA holds, shown of any number
FOLDED = "another adapter's function as one LoRA"
GATES = {
    "token": "weighs parent and child for every token and adapted linear",
    "static": "one learned pair of weights for every adapted linear",
}


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
    own = _latest(report for report in reports if report.subject.function_digest == manifest.function_digest)
    own.sort(key=lambda report: (report.data, report.split, report.decoding.beams, report.created))
    template = card_environment().get_template("card.md.j2")
    return template.render(
        manifest=manifest,
        reports=own,
        comparison=comparison(own),
        rough=_rough(own),
        forgetting=_forgetting(own),
        routed=_is_routed(manifest),
        status=status,
        front_matter=front_matter(manifest, own),
        method=_method(manifest),
        lost=_lost(manifest.extraction) if manifest.extraction else [],
        on_hub=is_hub(store),
        folder=manifest.name.partition("/")[2],
        base_is_embedded=manifest.base_model.id == EMBEDDED_ID,
        base=_base_argument(manifest),
        base_class=FAMILIES[family_of_architecture(manifest.base_model.architecture)].architecture,
        plain_peft=manifest.method != "expert-pair",
        ranks=sorted({module.rank for section in manifest.lora for module in section.modules}),
        gate=manifest.gate and f"{GATES[manifest.gate.kind]}; {manifest.gate.parameters} parameters",
        losses=loss_lines(manifest.training) if manifest.training else [],
        curve=curve_rows(manifest.training) if manifest.training else [],
    )


def percent(value: float) -> str:
    """Return a fraction as percent with one digit.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * value:.1f} %"


def _latest(reports: Iterable[EvaluationReport]) -> list[EvaluationReport]:
    """Return each evaluation once: one that was published again with more beside it replaces the first."""
    told: dict[tuple[object, ...], EvaluationReport] = {}
    for report in sorted(reports, key=lambda item: (item.forgetting is not None, len(item.beside or ()))):
        told[report.created, report.data, report.split, report.data_sha256, report.decoding] = report
    return list(told.values())


def _forgetting(reports: Sequence[EvaluationReport]) -> str:
    in_time = sorted(reports, key=lambda report: report.created)
    return forgetting_line([report.forgetting for report in in_time if report.forgetting])


def _over(report: EvaluationReport) -> str:
    """Return what a report's interval is over; the resampled ones of older reports are shown as they were."""
    if report.interval.method is None:
        return ""
    return f", over {sample_of(report.interval.unit, len(report.rows), report.speakers)}"


def _rough(reports: Sequence[EvaluationReport]) -> list[str]:
    """Return a sentence for each interval that rests on few speakers."""
    told = {
        f"On {inline(report.data)} {warning}."
        for report in reports
        if report.interval.method and (warning := few_speakers(report.speakers))
    }
    return sorted(told)


def _is_routed(manifest: Manifest) -> bool:
    """Tell whether an adapter is for speech of its own languages alone, and not an average of several."""
    return manifest.method != "average" or len(manifest.parents) == 1


def _method(manifest: Manifest) -> str:
    if manifest.extraction is not None:
        return EXTRACTED
    folded = manifest.method == "average" and [parent.weight for parent in manifest.parents] == [1.0]
    return FOLDED if folded else METHODS[manifest.method]


def _lost(extraction: ExtractionSection) -> list[tuple[str, float]]:
    """Return the largest changes that no LoRA holds, with the norm of each relative to the tensor's."""
    left_out = extraction.left_out or {}
    return sorted(left_out.items(), key=lambda item: (-item[1], item[0]))[:LARGEST]


def _base_argument(manifest: Manifest) -> str:
    """Return what `from_pretrained` takes to load the base model, as Python."""
    base = manifest.base_model
    if base.id == EMBEDDED_ID:
        return "base_model_path()"
    revision = f", revision={json.dumps(base.revision)}" if base.revision else ""
    name = json.dumps(base.id) if base.id.isascii() else ascii(base.id)  # a literal of Python, visible
    return name.replace("\x7f", "\\x7f") + revision


def card_environment() -> jinja2.Environment:
    """Return what renders the templates of cards."""
    import jinja2  # noqa: PLC0415  # 0.05 s that `list` need not pay

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # Markdown; `inline`, `code` and `fenced` keep in what is not ours
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        inline=inline, code=code, fenced=fenced, percent=percent, decoding=describe_decoding, over=_over
    )
    return environment
