"""The card's front matter: is it valid, and which tags does the Hub make of it."""

from __future__ import annotations

import re
from typing import Any

import yaml

from loopback_hub.repository import Commit, Repository

RELATIONS = ("adapter", "finetune", "merge", "quantized")
LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause cc cc-by-2.0
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0
    cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-2.0 creativeml-openrail-m gpl gpl-2.0 gpl-3.0 isc
    lgpl lgpl-2.1 lgpl-3.0 llama3 mit mpl-2.0 odbl openrail other pddl unknown unlicense wtfpl zlib
"""
ISO_639_1 = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz
    ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik
    io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml
    mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd
    se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve
    vi vo wa wo xh yi yo za zh zu
"""
NO_LANGUAGE = ("code", "multilingual")
MODEL_ID = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?(?:/[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?)?"
)
TEXTS = ("license", "library_name", "pipeline_tag", "base_model_relation", "license_name", "license_link")
LISTS = ("language", "language_bcp47", "tags", "datasets", "metrics", "base_model", "task_categories")


def front_matter(readme: str) -> dict[str, Any] | None:
    """Return the metadata at the head of a README, None without; ValueError if it cannot be read."""
    found = re.match(r"^\ufeff?---[ \t]*\r?\n(.*?)\r?\n?---[ \t]*(\r?\n|$)", readme, re.DOTALL)
    if found is None:
        return None
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        raise ValueError(f"Invalid YAML in the metadata: {error}".replace("\n", " ")) from error
    if data is not None and not isinstance(data, dict):
        raise ValueError("The metadata must be a mapping")
    return data or None


def errors_in(readme: str) -> list[str]:
    """Return what the Hub would refuse."""
    try:
        data = front_matter(readme)
    except ValueError as error:
        return [str(error)]
    found: list[str] = []
    for key in TEXTS:
        if data and data.get(key) is not None and not isinstance(data[key], str):
            found.append(f'"{key}" must be a string')
    for key in LISTS:
        value = (data or {}).get(key)
        values = value if isinstance(value, list) else [value]
        found += [f'"{key}" must hold strings' for one in values if not isinstance(one, str | None)]
    if not data:
        return found
    found += errors_in_languages(listed(data.get("language"))) + errors_in_bases(
        listed(data.get("base_model"))
    )
    if isinstance(license_name := data.get("license"), str) and license_name not in LICENSES.split():
        found.append(f'"license" must be one of [{", ".join(LICENSES.split())}]')
    if isinstance(relation := data.get("base_model_relation"), str) and relation not in RELATIONS:
        found.append(f'"base_model_relation" must be one of [{", ".join(RELATIONS)}]')
    return found + errors_in_results(data.get("model-index"))


def errors_in_languages(languages: list[str]) -> list[str]:
    return [
        f'"language" with value "{code}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code '
        '(two/three letters), or a special value like "code", "multilingual". If you want to use BCP-47 '
        "identifiers, you can specify them in language_bcp47."
        for code in languages
        if code not in (*ISO_639_1.split(), *NO_LANGUAGE) and re.fullmatch("[a-z]{3}", code) is None
    ]


def errors_in_bases(bases: list[str]) -> list[str]:
    return [
        f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.'
        for base in bases
        if MODEL_ID.fullmatch(base) is None or "--" in base or ".." in base
    ]


def errors_in_results(index: Any) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    found = []
    for i, model in enumerate(index):
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            found.append(f'"model-index[{i}].name" is required')
            continue
        for j, result in enumerate(model.get("results") or []):
            place = f"model-index[{i}].results[{j}]"
            if not (result.get("task") or {}).get("type"):
                found.append(f'"{place}.task.type" is required')
            found += [
                f'"{place}.dataset.{key}" is required'
                for key in ("type", "name")
                if result.get("dataset") is not None and not result["dataset"].get(key)
            ]
            for metric in result.get("metrics") or []:
                if not metric.get("type") or metric.get("value") is None:
                    found.append(f'"{place}.metrics" need type and value')
    return found


def card_of(repo: Repository, commit: Commit) -> dict[str, Any]:
    if "README.md" not in commit.files:
        return {}
    try:
        return front_matter(repo.read(commit, "README.md").decode("utf-8", "replace")) or {}
    except ValueError:
        return {}


def listed(value: Any) -> list[str]:
    return [str(one) for one in (value if isinstance(value, list) else [value]) if one is not None]


def relation_of(card: dict[str, Any], commit: Commit) -> str | None:
    """Return what the repository is to its base model, said by the card or seen in the files."""
    if (relation := card.get("base_model_relation")) in RELATIONS:
        return str(relation)
    if "adapter_config.json" in commit.files:
        return "adapter"
    return "merge" if len(listed(card.get("base_model"))) > 1 else "finetune"


def library_of(card: dict[str, Any], commit: Commit) -> str | None:
    if card.get("library_name"):
        return str(card["library_name"])
    if "adapter_config.json" in commit.files:
        return "peft"
    return "transformers" if "config.json" in commit.files else None


def model_tags(card: dict[str, Any], commit: Commit) -> list[str]:
    tags = listed(library_of(card, commit))
    if any(path.endswith(".safetensors") for path in commit.files):
        tags.append("safetensors")
    tags += listed(card.get("pipeline_tag")) + listed(card.get("tags")) + listed(card.get("language"))
    tags += [f"dataset:{name}" for name in listed(card.get("datasets"))]
    for base in listed(card.get("base_model")):
        tags += [f"base_model:{base}", f"base_model:{relation_of(card, commit)}:{base}"]
    tags += [f"license:{name}" for name in listed(card.get("license"))]
    tags += ["model-index"] if card.get("model-index") else []
    return list(dict.fromkeys([*tags, "region:us"]))


def dataset_tags(card: dict[str, Any]) -> list[str]:
    tags = []
    for key in ("task_categories", "language", "license"):
        tags += [f"{key}:{value}" for value in listed(card.get(key))]
    return list(dict.fromkeys([*tags, *listed(card.get("tags")), "region:us"]))
