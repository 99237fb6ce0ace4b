"""The front matter of a card: the YAML that the Hub reads tags, base model, licence and scores from.

text = front_matter(manifest, reports)     # between two lines of `---`

Written by a YAML library; what others wrote is always quoted, so that it stays text to every
reader (`no`, `1e3`, `0o14`), and spelt with escapes where it is not visible.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapter_hub.base_model.families import family_of_architecture
from adapter_hub.errors import AdapterHubError
from adapter_hub.escaping import escaped_json
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.claims import EvaluationReport
from adapter_hub.formats.licences import spdx_or_none
from adapter_hub.formats.manifest import Manifest
from adapter_hub.formats.reference import is_repository_id

if TYPE_CHECKING:
    import yaml

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
_BCP_47 = r"[A-Za-z]{1,8}(?:[-_][A-Za-z0-9]{1,8})*"
_RETIRED = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro"}  # codes that ISO 639 has no more
MAXIMUM_CARD = 2**20  # bytes, and characters of the metadata in it
METADATA_DEPTH = 50
HUB_LICENCES = {spdx.lower(): hub for spdx, hub in SPDX_LICENCES}


class Foreign(str):
    """Text that others wrote; it is always quoted."""

    __slots__ = ()


def front_matter(manifest: Manifest, reports: Sequence[EvaluationReport]) -> str:
    """Return the YAML between the two `---`, with a newline at its end; equal records give equal text.

    Args:
        manifest: of the version.
        reports: evaluations of it, in the order of the card.
    """
    family = family_of_architecture(manifest.base_model.architecture)
    base = manifest.base_model.id
    fields: dict[str, Any] = {
        **language_fields([language.tag for language in manifest.languages]),
        **licence_fields(manifest.license),
        **({"base_model": Foreign(base)} if is_model_id(base) else {}),
        "base_model_relation": "adapter",
        "library_name": "adapter-hub" if manifest.method == "expert-pair" else "peft",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": list(dict.fromkeys(("adapter-hub", family.partition("_")[0], "lora", manifest.method))),
    }
    if reports:
        fields["model-index"] = [{"name": Foreign(manifest.name), "results": [_result(r) for r in reports]}]
    return as_yaml(fields)


def licence_fields(licence: str) -> dict[str, str]:
    """Return a licence as the Hub takes it: one that it knows, or `other` with a name.

    Args:
        licence: SPDX expression.
    """
    known = HUB_LICENCES.get(licence.lower())
    return {"license": known} if known else {"license": "other", "license_name": Foreign(licence)}


def language_fields(tags: Sequence[str]) -> dict[str, list[Foreign]]:
    """Return the languages as the Hub takes them: codes of ISO 639, and beside them what tags say more.

    Args:
        tags: BCP 47.
    """
    codes = [Foreign(code) for code in dict.fromkeys(map(iso_639, tags)) if code]
    more = [Foreign(tag) for tag in tags if iso_639(tag) != tag and re.fullmatch(_BCP_47, tag)]
    return {**({"language": codes} if codes else {}), **({"language_bcp47": more} if more else {})}


def iso_639(tag: str) -> str:
    """Return the code of ISO 639 in a BCP 47 tag; empty if it has none.

    Args:
        tag: as a manifest has it.

    >>> iso_639("da-DK"), iso_639("zh-Hant-TW"), iso_639("mdw"), iso_639("iw"), iso_639("x-elvish")
    ('da', 'zh', 'mdw', 'he', '')
    """
    part = tag.replace("_", "-").partition("-")[0].lower()
    return _RETIRED.get(part, part) if re.fullmatch("[a-z]{2,3}", part) else ""


def is_model_id(text: str) -> bool:
    """Tell whether the Hub takes a text as a model's id: `namespace/name`, or a name alone, like `gpt2`.

    Args:
        text: what a base model is called.
    """
    return is_repository_id(text if "/" in text else f"models/{text}")


def as_yaml(fields: dict[str, Any]) -> str:
    r"""Return plain data as YAML of lines that are all ours.

    Args:
        fields: plain data; what others wrote is `Foreign`.

    >>> as_yaml({"license": Foreign("no\x85: # \u202e")})
    'license: "no\\N: # \\u202e"\n'
    """
    import yaml  # noqa: PLC0415  # `list` need not pay for it

    text = yaml.dump(
        fields,
        Dumper=_dumper(),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=float("inf"),
    )
    assert isinstance(text, str)
    return escaped_json(text)  # marks of direction, too: in quotes both spell them alike


def spdx_licence(hub_licence: str | None) -> str:
    """Return the SPDX id of a licence in the Hub's spelling; `LicenseRef-unknown` if there is none.

    Args:
        hub_licence: the `license` of a repository's card.

    >>> spdx_licence("apache-2.0"), spdx_licence("other")
    ('Apache-2.0', 'LicenseRef-unknown')
    """
    found = [spdx for spdx, hub in SPDX_LICENCES if hub == hub_licence]
    return found[0] if found else "LicenseRef-unknown"


def licence_in_card(path: Path) -> str | None:
    """Return the licence in the front matter of a card, as SPDX writes it; None if it names none of SPDX's.

    Args:
        path: of a README.md, which need not exist.
    """
    try:
        text = read_bounded(path, MAXIMUM_CARD).decode("utf-8", "replace")
    except (AdapterHubError, OSError):
        return None
    front = re.match(r"---\r?\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:[ \t]*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return spdx_or_none(found[1]) if found else None


def describe_decoding(report: EvaluationReport) -> str:
    """Return how a report's text was searched for and compared, in a few words."""
    search = "greedy" if report.decoding.beams == 1 else f"beam {report.decoding.beams}"
    fallback = ", fallback" if report.decoding.temperatures else ""
    return f"{search}{fallback}, {report.normaliser}"


def read_front_matter(text: str) -> dict[str, Any]:
    """Return the metadata at the top of somebody's card; empty if it cannot be read, or not in a few seconds.

    Args:
        text: of the card.
    """
    import yaml  # noqa: PLC0415 - the Hub's client brings it

    matter = text.removeprefix("---").split("\n---", 1)[0]
    if not text.startswith("---") or len(matter) > MAXIMUM_CARD:
        return {}
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        depth = 0
        for event in yaml.parse(matter, Loader=loader):  # its recursion in C would crash on deep nesting
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > METADATA_DEPTH:
                return {}
        found = yaml.load(matter, Loader=loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # dates and numbers out of range, keys that cannot be keys
    return found if isinstance(found, dict) else {}


def _result(report: EvaluationReport) -> dict[str, Any]:
    data = Foreign(report.data)
    metric = {
        "type": report.primary,
        "value": round(100 * report.value, 2),
        "name": Foreign(f"{report.primary.upper()} (%), {describe_decoding(report)}"),
    }
    dataset = {
        "name": data,
        "type": data,
        "split": Foreign(report.split),
        "revision": Foreign(report.data_sha256),
    }
    return {"task": {"type": "automatic-speech-recognition"}, "dataset": dataset, "metrics": [metric]}


def _dumper() -> type[yaml.SafeDumper]:
    import yaml  # noqa: PLC0415

    class Dumper(yaml.SafeDumper):  # type: ignore[misc] # yaml has no types
        def ignore_aliases(self, data: Any) -> bool:
            return True  # the same text twice is written twice

    Dumper.add_representer(
        Foreign,
        lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:str", str(data), style='"'),
    )
    return Dumper
