"""docs/formats.md, followed by somebody who has the page and Python's standard library, and nothing of ours.

What the page lets one compute is compared with the embedded catalogue, and with what this project computes
of a base model whose settings were changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import formats_page
import pytest
from base_model_edits import OTHERS, edit

from adapter_hub.base_model.digest import base_model_digest as our_digest
from adapter_hub.errors import InvalidInputError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/formats.md").read_text(encoding="utf-8")
EMBEDDED = ROOT / "adapter_hub/embedded"
STORE, BASE_MODEL = EMBEDDED / "store", EMBEDDED / "base_model"
VERSIONS = sorted(path.parent for path in STORE.glob("*/*/*/adapter.json"))
every_version = pytest.mark.parametrize("folder", VERSIONS, ids=lambda path: path.parent.name)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """Return RFC 8785 bytes; keys here are ASCII, and numbers are neither huge nor tiny."""
    return json.dumps(whole(value), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def pretty(value: Any) -> bytes:
    return f"{json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)}\n".encode()


def example(what: str) -> str:
    """Return a worked example of the page."""
    found = re.search(rf"<!-- made: example {what} -->\n\n```text\n(.*)\n```", PAGE)
    assert found
    return found[1]


def table(title: str) -> dict[str, Any]:
    """Return the two columns of the table below a title."""
    text = PAGE.partition(f"**{title}")[2].partition("| --- | --- |\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", text, re.MULTILINE)
    assert len(rows) == text.count("\n") + 1
    return dict(rows)


def defaults(title: str) -> dict[str, Any]:
    return {name: json.loads(value) for name, value in table(title).items()}


def tensors(path: Path) -> Iterator[list[Any]]:
    """Yield `[tensor, dtype, shape, sha256]` of a safetensors file."""
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    for name, entry in json.loads(raw[8 : 8 + length]).items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            data = raw[8 + length + start : 8 + length + stop]
            yield [name, entry["dtype"], entry["shape"], sha256(data)]


def weights_digest(folder: Path) -> str:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.safetensors")}
    rows = sorted([label, *row] for label, path in files.items() for row in tensors(path))
    return f"sha256:{sha256(canonical(rows))}"


def function_digest(manifest: dict[str, Any]) -> str:
    record = {
        "schema": "function/1",
        "weights_digest": manifest["weights_digest"],
        "lora": [
            {
                "role": section["role"],
                "modules": [[item["path"], item["rank"], item["scaling"]] for item in section["modules"]],
            }
            for section in sorted(manifest["lora"], key=lambda section: section["role"])
        ],
        "task": manifest["task"],
        "decode_languages": sorted({language["decode_language"] for language in manifest["languages"]}),
        "timestamps": manifest["timestamps"],
    }
    if "gate" in manifest:
        record["gate"] = manifest["gate"]["kind"]
    return f"sha256:{sha256(canonical(record))}"


def data_sha256(rows: list[tuple[str, str]]) -> str:
    lines = [f"{audio}\t{unicodedata.normalize('NFC', text)}\n".encode() for audio, text in rows]
    return sha256(b"".join(sorted(lines)))


def read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    found: dict[str, Any] = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def base_model_digest(folder: Path) -> str:
    config = effective_config(read(folder, "config.json"))
    record = {
        "schema": "base-model/2",
        "config": config,
        "generation": generation(read(folder, "generation_config.json"), config),
        "features": features(folder),
        "tokenizer": tokenizer(folder),
        "weights": weights(folder),
    }
    return f"sha256:{sha256(canonical(record))}"


def weights(folder: Path) -> str:
    index = read(folder, "model.safetensors.index.json")
    single = folder / "model.safetensors"
    files = (
        [single] if single.exists() else [folder / name for name in sorted({*index["weight_map"].values()})]
    )
    rows = {row[0]: row[1:] for file in files for row in tensors(file)}
    if rows.get("proj_out.weight") == rows.get("model.decoder.embed_tokens.weight"):
        rows.pop("proj_out.weight", None)
    return f"sha256:{sha256(canonical([[name, *rows[name]] for name in sorted(rows)]))}"


def effective_config(given: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in given.items() if value is not None}
    for alias, field in table("Config aliases.").items():
        if alias in values:
            assert values.setdefault(field, values[alias]) == values[alias]
    out = {"model_type": values["model_type"]}
    for field, default in defaults("Config.").items():
        if not (field.endswith("_token_id") and field in given and given[field] is None):
            out[field] = values.get(field, default)
    return out


def generation(given: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    never = re.search(r"\*\*Generation, left out always:\*\* (.*)", PAGE)
    assert never
    names, usual = set(re.findall(r"`(\w+)`", never[1])), defaults("Generation, left out at this value:")
    out = {
        name: value
        for name, value in given.items()
        if name not in names
        and value not in (None, [], {})
        and not (name in usual and type(value) in (bool, int, float) and value == usual[name])
    }
    for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
        if name in config:
            out.setdefault(name, config[name])
    for name in {"suppress_tokens", "begin_suppress_tokens"} & out.keys():
        out[name] = sorted({*out[name]})
    if "alignment_heads" in out:
        out["alignment_heads"] = sorted(out["alignment_heads"])
    return out


def features(folder: Path) -> dict[str, Any]:
    processor = read(folder, "processor_config.json")
    given = processor.get("feature_extractor", processor.get("audio_processor"))
    given = read(folder, "preprocessor_config.json") if given is None else given
    return {name: given.get(name, default) for name, default in defaults("Features.").items()}


def content(token: Any) -> Any:
    return token["content"] if isinstance(token, dict) else token


NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def tokenizer(folder: Path) -> dict[str, Any]:
    file, settings = read(folder, "tokenizer.json"), read(folder, "tokenizer_config.json")
    if "added_tokens_decoder" not in settings:
        settings |= read(folder, "special_tokens_map.json")
    ids = file["model"]["vocab"]
    pieces = sorted(ids, key=lambda piece: ids[piece])
    numbers = [ids[piece] for piece in pieces]
    settings = {**dict.fromkeys(NAMES[:3], "<|endoftext|>"), **settings}
    names = {name: content(settings[name]) for name in NAMES if settings.get(name) is not None}
    return {
        "pieces": pieces,
        **({} if numbers == list(range(len(numbers))) else {"ids": numbers}),
        "merges": [m if isinstance(m, str) else " ".join(m) for m in file["model"]["merges"]],
        "names": names,
        "add_prefix_space": settings.get("add_prefix_space", False),
        "added": added_tokens(folder, file, settings, names),
    }


def added_tokens(
    folder: Path, file: dict[str, Any], settings: dict[str, Any], names: dict[str, str]
) -> list[list[Any]]:
    special = [*names.values()]
    special += [content(v) for k, v in settings.items() if k.endswith("_token") and k not in NAMES]
    special += map(content, settings.get("model_specific_special_tokens", {}).values())
    extra = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    special += map(content, extra.values() if isinstance(extra, dict) else extra)
    if "added_tokens_decoder" in settings:
        found = {int(number): token for number, token in settings["added_tokens_decoder"].items()}
    else:
        older = read(folder, "added_tokens.json").items()
        found = {number: {"content": text, "special": text in special} for text, number in older}
        found |= {token["id"]: token for token in file.get("added_tokens", [])}
    flags = ("special", "single_word", "lstrip", "rstrip")
    rows = [[n, token["content"], *(token.get(flag, False) for flag in flags)] for n, token in found.items()]
    for row in rows:
        row[2] = row[2] or row[1] in names.values()
    ids = file["model"]["vocab"]
    last = max([*found, *ids.values()])
    for text in dict.fromkeys(special):
        if text and text not in {row[1] for row in rows}:
            last += text not in ids
            rows.append([ids.get(text, last), text, True, False, False, False])
    return sorted(rows)


def test_what_the_page_shows_of_the_code_is_there_in_full() -> None:
    shown = {name for words in re.findall(r"<!-- made: fields (.*) -->", PAGE) for name in words.split()}
    left_out = {"Draft", "Manifest", "Uncertain"}  # shown by what extends them
    assert "Manifest" in shown
    assert set(formats_page.RECORDS) - left_out == shown - left_out


def test_every_field_of_every_record_has_a_meaning() -> None:
    for name, record in formats_page.RECORDS.items():
        _, meanings = formats_page.described(record)
        names = {field.alias or key for key, field in record.model_fields.items()}
        assert set(meanings) == names, name


@every_version
def test_a_manifest_s_bytes_are_canonical_and_its_digest_is_theirs(folder: Path) -> None:
    raw = (folder / "adapter.json").read_bytes()
    assert canonical(json.loads(raw)) == raw
    block = json.loads((ROOT / "registry.json").read_bytes())["adapters"]
    name = f"{folder.parent.parent.name}/{folder.parent.name}"
    assert block[name][folder.name]["digest"] == f"sha256:{sha256(raw)}"


@every_version
def test_weights_and_function_digests_are_what_the_page_says(folder: Path) -> None:
    manifest = json.loads((folder / "adapter.json").read_bytes())
    assert weights_digest(folder) == manifest["weights_digest"]
    assert function_digest(manifest) == manifest["function_digest"]


@every_version
def test_a_folder_is_what_its_manifest_lists(folder: Path) -> None:
    manifest = json.loads((folder / "adapter.json").read_bytes())
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "adapter.json"]
    rows = [
        {
            "path": path.relative_to(folder).as_posix(),
            "size": path.stat().st_size,
            "sha256": sha256(path.read_bytes()),
        }
        for path in files
    ]
    assert sorted(rows, key=lambda row: row["path"]) == manifest["files"]
    for path in (folder / "ancestors").glob("*"):
        assert path.name == f"{sha256(path.read_bytes())}.json"


def test_the_base_model_s_digest_is_what_the_page_says() -> None:
    digest = base_model_digest(BASE_MODEL)
    assert digest == example("base_model_digest")
    pins = {json.loads((folder / "adapter.json").read_bytes())["base_model"]["digest"] for folder in VERSIONS}
    assert pins == {digest}


@pytest.mark.parametrize("name", OTHERS)
def test_other_settings_give_the_digest_that_the_page_says(name: str, tmp_path: Path) -> None:
    folder = shutil.copytree(BASE_MODEL, tmp_path / "model")
    edit(folder, *OTHERS[name])
    try:
        expected = our_digest(folder)
    except InvalidInputError:
        pytest.skip("refused, so it has no digest")
    assert base_model_digest(folder) == expected


def test_the_worked_examples_come_out() -> None:
    folder = STORE / "mini/da/1.0.0"
    raw = (folder / "adapter.json").read_bytes()
    assert example("digest") == f"sha256:{sha256(raw)}"
    assert example("weights_digest") == weights_digest(folder)
    assert example("function_digest") == function_digest(json.loads(raw))
    assert example("data_sha256") == data_sha256([("f" * 64, "otte"), ("0" * 64, "to")])


@pytest.mark.parametrize(
    "path", sorted(STORE.glob("*/*/evaluations/*/*.json")), ids=lambda path: path.name[:12]
)
def test_a_report_is_where_the_page_says_and_adds_up(path: Path) -> None:
    raw = path.read_bytes()
    report = json.loads(raw)
    assert canonical(report) == raw
    assert path.stem == sha256(raw)
    assert report["subject"]["function_digest"] == f"sha256:{path.parent.name}"
    assert report["data_sha256"] == data_sha256([(r["audio_sha256"], r["reference"]) for r in report["rows"]])
    for unit in ("words", "characters"):
        for count, value in report[unit].items():
            assert value == sum(row[unit][count] for row in report["rows"])


def test_registry_and_statuses_are_pretty_bytes() -> None:
    for path in [ROOT / "registry.json", *STORE.glob("*/*/status.json")]:
        assert pretty(json.loads(path.read_bytes())) == path.read_bytes()
