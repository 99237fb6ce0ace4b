"""The report of an audit for people: one page in HTML or Markdown, with nothing to fetch and nothing to run.

    text = render_audit(record.to_json(), "md")

All values come from others: in HTML jinja2 escapes them, in Markdown the filters of
`adapter_hub.cards.markdown`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from adapter_hub.cards.markdown import code, fenced, inline
from adapter_hub.cards.model_card import TEMPLATES
from adapter_hub.escaping import escaped_lines

if TYPE_CHECKING:
    import jinja2


def render_audit(record: dict[str, Any], form: Literal["html", "md"]) -> str:
    """Return the report as a page.

    Args:
        record: plain data, see `adapter_hub.audit.record`.
        form: which language it is written in.
    """
    return _environment(form).get_template(f"audit.{form}.j2").render(record=record)


def _environment(form: str) -> jinja2.Environment:
    import jinja2  # noqa: PLC0415  # 0.05 s that a plain audit need not pay

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=form == "html",
        finalize=_seen if form == "html" else None,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(inline=inline, code=code, fenced=fenced, percent=lambda value: f"{value:.1%}")
    return environment


def _seen(value: object) -> object:
    """Spell what is not visible in a value of others; breaks of lines are the tree's own."""
    return escaped_lines(value) if type(value) is str else value
