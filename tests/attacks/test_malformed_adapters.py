"""Somebody else's adapter, malformed: refused at once in one line, and never in the way of the others."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from audit_defects import Home, make_home
from making import (
    MODULES,
    lora_tensors,
    make_artifact,
    manifest_fields,
    peft_config,
    write_safetensors,
    write_weights,
)

from adapter_hub.artifact.folder import Artifact, seal
from adapter_hub.artifact.peft import read_peft
from adapter_hub.artifact.peft_config import read_peft_config
from adapter_hub.artifact.safetensors_file import read_header
from adapter_hub.audit import audit
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError
from adapter_hub.exchange.importing import Identity, base_model_pin, import_peft, languages_of
from adapter_hub.exchange.places import Places
from adapter_hub.formats.manifest import MAXIMUM_RANK, Manifest

Q_PROJ, FC1 = MODULES


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.perf_counter()
    yield
    taken = time.perf_counter() - started
    assert taken < seconds, f"took {taken:.1f} s"


def take_in(source: Path, target: Path, base_model: Path) -> Artifact:
    identity = Identity("test/theirs", "1.0.0", languages_of(["da"]))
    return import_peft(source, target, identity, base_model_pin(base_model, "test/tiny"), base_model)


DEEP = "[" * 60 + "]" * 60
MALFORMED: dict[str, tuple[dict[str, str], str]] = {
    "an alpha of 400 digits": (
        {"lora_alpha": "1" + "0" * 400},
        "lora_alpha is too large, expected a positive",
    ),
    "an alpha of 5000 digits": ({"lora_alpha": "1" + "0" * 5000}, "digits"),
    "an alpha of 1e308": ({"lora_alpha": "1e308"}, "lora_alpha is 1e.308, expected a positive number below"),
    "an alpha of 1e12": ({"lora_alpha": "1000000000000"}, "lora_alpha is 1000000000000, expected"),
    "an alpha that overflows": ({"lora_alpha": "1e999"}, "1e999 overflows"),
    "an alpha that is no number": ({"lora_alpha": '"16"'}, "lora_alpha is '16', expected a positive number"),
    "an alpha that is true": ({"lora_alpha": "true"}, "lora_alpha is True, expected"),
    "no alpha": ({"lora_alpha": "null"}, "lora_alpha is None, expected"),
    "a dropout that is a text": (
        {"lora_dropout": '"x"'},
        "lora_dropout is 'x', expected a number from 0 to 1",
    ),
    "a dropout that is a list": ({"lora_dropout": "[0.1]"}, "lora_dropout is .0.1., expected a number"),
    "a dropout that is an object": ({"lora_dropout": '{"p":1}'}, "lora_dropout is .'p': 1., expected"),
    "a dropout of 2": ({"lora_dropout": "2"}, "lora_dropout is 2, expected a number from 0 to 1"),
    "a dropout of 400 digits": ({"lora_dropout": "1" * 400}, "lora_dropout is too large, expected"),
    "a rank of 400 digits": ({"r": "1" * 400}, "r is too large, expected a whole number from 1 to 512"),
    "a rank of 513": ({"r": "513"}, "r is 513, expected a whole number from 1 to 512"),
    "a rank that is true": ({"r": "true"}, "r is True, expected a whole number"),
    "a rank that is a list": ({"r": "[2]"}, "r is .2., expected a whole number"),
    "a base model that is a number": (
        {"base_model_name_or_path": "7"},
        "base_model_name_or_path is 7, expected a text or null",
    ),
    "a base model that is a list": ({"base_model_name_or_path": '["a"]'}, "base_model_name_or_path is .'a'."),
    "a base model of a million characters": (
        {"base_model_name_or_path": f'"{"a" * 900_000}"'},
        "base_model_name_or_path is 'aaa.*…, expected a text",
    ),
    "a revision that is an object": (
        {"revision": '{"a":1}'},
        "revision is .'a': 1., expected a text or null",
    ),
    "a revision that is a number": ({"revision": "1"}, "revision is 1, expected"),
    "targets that are a number": ({"target_modules": "5"}, "target_modules is 5, expected a list of module"),
    "targets that are numbers": (
        {"target_modules": "[5]"},
        "target_modules is .5., expected a list of module",
    ),
    "no targets": ({"target_modules": "[]"}, "target_modules is .., expected a list of module names"),
    "targets nested deep": ({"target_modules": DEEP}, "target_modules is .*, expected a list of module"),
    "a pattern's rank of 1e9": (
        {"rank_pattern": '{"fc1":1000000000}'},
        "rank_pattern at 'fc1' is 1000000000",
    ),
    "a pattern's alpha that is a text": ({"alpha_pattern": '{"fc1":"8"}'}, "alpha_pattern at 'fc1' is '8'"),
    "a pattern's alpha of 400 digits": (
        {"alpha_pattern": '{"fc1":%s}' % ("9" * 400)},
        "alpha_pattern at 'fc1' is too large, expected literal module paths with numbers",
    ),
    "a pattern that is code": ({"alpha_pattern": '{"(a+)+$":8}'}, r"alpha_pattern at '\(a\+\)\+\$'"),
    "a pattern that is a list": ({"rank_pattern": "[1]"}, "rank_pattern is .1., expected literal"),
    "a dot that is any character": (
        {"alpha_pattern": '{"q.proj":80}'},
        "alpha_pattern: 'q.proj' means any character by its dots",
    ),
    "rank-stabilised by a text": ({"use_rslora": '"yes"'}, "use_rslora is 'yes', expected true or false"),
    "an init that is a list": ({"init_lora_weights": "[1]"}, "init_lora_weights is .*, expected one that"),
    "a feature nested deep": ({"corda_config": DEEP}, "corda_config is .*: only plain LoRA"),
    "a feature with escapes": ({"a\\u001b[2J\\n": "1"}, r"a\\x1b\[2J\\n is 1: only plain LoRA"),
    "a transposed layer": ({"fan_in_fan_out": "true"}, "fan_in_fan_out is True: only plain LoRA"),
    "a scaling of a million": ({"lora_alpha": "4000000"}, "scaling 2e.06, below 1e.06 expected"),
}


def malformed(folder: Path, changes: dict[str, str]) -> Path:
    """Write an adapter whose config has these fields, spelt so."""
    write_weights(folder)
    config = {name: json.dumps(value) for name, value in peft_config().items()} | changes
    text = ",".join(f'"{name}":{value}' for name, value in config.items())
    (folder / "adapter_config.json").write_text("{" + text + "}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_config_is_refused_in_one_line_that_names_the_field(tmp_path: Path, what: str) -> None:
    changes, message = MALFORMED[what]
    with within(2), pytest.raises(AdapterHubError, match=message) as caught:
        read_peft(malformed(tmp_path / "theirs", changes))
    assert len(str(caught.value)) < 1500
    assert str(caught.value).isprintable()


def test_a_config_that_is_no_object_is_refused(tmp_path: Path) -> None:
    for text in ("[]", "7", '"x"', "null"):
        (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInputError, match="expected a JSON object"):
            read_peft_config(tmp_path)


def test_fields_of_a_newer_peft_that_are_off_and_neutral_ones_are_let_pass(tmp_path: Path) -> None:
    changes = {"use_warp": "false", "warp_config": "null", "eva_config": '{"rho":2}', "peft_version": '"9"'}
    adapter = read_peft(malformed(tmp_path / "theirs", changes | {"lora_dropout": "0"}))
    assert [module.scaling for module in adapter.modules] == [2.0, 2.0]


def many_tensors(path: Path, modules: list[str]) -> None:
    write_safetensors(path / "adapter_model.safetensors", lora_tensors(rank=1, modules=modules))


@pytest.mark.parametrize("field", ["target_modules", "rank_pattern", "alpha_pattern"])
def test_thousands_of_names_for_thousands_of_modules_take_no_product_of_both(
    tmp_path: Path, field: str
) -> None:
    many_tensors(tmp_path, [f"m.{n}.fc" for n in range(4000)])
    names = [f"x{n}.y{n}.fc" for n in range(8000)]
    config = peft_config(1, ["fc"])
    config |= {field: names if field == "target_modules" else dict.fromkeys(names, 1)}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with within(4), pytest.raises(IntegrityError, match="has no tensors; .*… and|8000 paths of") as caught:
        read_peft(tmp_path)
    assert len(str(caught.value)) < 3000


def test_the_first_of_several_patterns_for_a_module_counts_as_in_peft(tmp_path: Path) -> None:
    for number, order in enumerate((["fc1", FC1], [FC1, "fc1"])):
        values = {"fc1": 8, FC1: 32}
        folder = tmp_path / str(number)
        write_weights(folder, alpha_pattern={name: values[name] for name in order})
        scaling = {module.path: module.scaling for module in read_peft(folder).modules}
        assert scaling == {Q_PROJ: 2.0, FC1: values[order[0]] / 2}


def with_header(header: bytes, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def entry(name: str, shape: str = "[1]", dtype: str = "F32", offsets: str = "[0,4]") -> str:
    return f'"{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}'


def header_of(*entries: str) -> bytes:
    return ("{" + ",".join(entries) + "}").encode()


FOUR = b"\0" * 4
HEADERS: dict[str, tuple[bytes, str]] = {
    "a name twice": (with_header(header_of(entry("a"), entry("a")), FOUR), "duplicate key 'a'"),
    "overlapping tensors": (with_header(header_of(entry("a"), entry("b")), FOUR), "leaves a gap or overlaps"),
    "a gap": (with_header(header_of(entry("a", offsets="[4,8]")), FOUR * 2), "leaves a gap or overlaps"),
    "an unknown dtype": (with_header(header_of(entry("a", dtype="F4")), FOUR), "tensor 'a' is not sound"),
    "a dtype that is a list": (
        with_header(b'{"a":{"dtype":[],"shape":[],"data_offsets":[0,4]}}'),
        "not sound",
    ),
    "a shape that is a text": (with_header(header_of(entry("a", shape='"1"')), FOUR), "is not sound"),
    "a shape of true": (with_header(header_of(entry("a", shape="[true]")), FOUR), "is not sound"),
    "a shape whose product is huge": (
        with_header(header_of(entry("a", shape=f"[{','.join(['9007199254740991'] * 5000)}]"))),
        "is not sound",
    ),
    "nothing in a huge shape": (
        with_header(header_of(entry("a", shape="[0,99999999999999999999]", offsets="[0,0]"))),
        "is not sound",
    ),
    "offsets below zero": (with_header(header_of(entry("a", offsets="[-4,0]")), FOUR), "is not sound"),
    "offsets of 4000 digits": (
        with_header(header_of(entry("a", offsets=f"[0,{'9' * 4000}]")), FOUR),
        "not sound",
    ),
    "three offsets": (with_header(header_of(entry("a", offsets="[0,4,4]")), FOUR), "is not sound"),
    "a name with escapes": (
        with_header(header_of(entry("\\u001b[2J\\na", dtype="F4")), FOUR),
        r"tensor '\\x1b\[2J\\na' is not sound",
    ),
    "a name of a million characters": (
        with_header(header_of(entry("a" * 10**6)), FOUR),
        "'aaa.*…' is not sound",
    ),
    "an entry that is a list": (with_header(b'{"a":[1,2]}'), "tensor 'a' is not sound"),
    "a header that is a list": (with_header(b"[]"), "not a JSON object"),
    "a metadata bomb": (
        with_header(b'{"__metadata__":{%s}}' % b",".join(b'"%d":""' % n for n in range(1_100_000))),
        "more than 1000000 values",
    ),
    "metadata nested deep": (with_header(b'{"__metadata__":' + b"[" * 10**5 + b"]" * 10**5 + b"}"), "deeply"),
    "300 000 tensors of nothing": (
        with_header(header_of(*(entry(str(n), "[0]", offsets="[0,0]") for n in range(200_000)))),
        "more than 1000000 values",
    ),
    "a header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}", "header of 9223372036854775808 bytes"),
    "a header longer than the file": (struct.pack("<Q", 10**6) + b"{}", "truncated inside its header"),
    "bytes after the last tensor": (with_header(header_of(entry("a")), FOUR * 2), "truncated or padded"),
    "no bytes at all": (b"", "0 bytes, too short"),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_malformed_header_is_refused_at_once_in_one_line(tmp_path: Path, what: str) -> None:
    raw, message = HEADERS[what]
    path = tmp_path / "x.safetensors"
    path.write_bytes(raw)
    with within(4), pytest.raises(IntegrityError, match=message) as caught:
        read_header(path)
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def forged(artifact: Artifact, change: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads((artifact.path / "adapter.json").read_bytes())
    change(value)
    return json.dumps(value).encode()


def listing(size: int) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        for item in value["files"]:
            item["size"] = size

    return change


@pytest.mark.parametrize(
    ("size", "message"),
    [(2**40, "files.0.size: Input should be less than"), (2**30, "expected at most")],
    ids=["a terabyte", "a gigabyte for a few parameters"],
)
def test_a_file_larger_than_what_the_manifest_says_is_in_it_is_never_read(
    home: Home, size: int, message: str
) -> None:
    folder = home.place("test/pl")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        with (folder / name).open("r+b") as file:
            file.truncate(size)  # a sparse file, which takes no room on the disk
    (folder / "adapter.json").write_bytes(forged(Artifact.open(folder), listing(size)))
    with within(2), pytest.raises(InvalidInputError, match=message):
        Artifact.open(folder)
    with within(4):
        findings = home.audit()
    assert {"manifest-unreadable"} <= {finding.code for finding in findings}


def test_a_sparse_file_of_another_size_than_listed_is_not_read(home: Home) -> None:
    with (home.place("test/pl") / "adapter_model.safetensors").open("r+b") as file:
        file.truncate(2**40)
    with within(4):
        findings = home.audit("test/pl")
    assert [finding.code for finding in findings if finding.severity == "error"] == ["files-differ"]
    assert "1099511627776 bytes, expected" in findings[0].message


def test_thousands_of_missing_files_are_told_at_once(home: Home, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "many", "test/many", base_model=home.pin)

    def change(value: dict[str, Any]) -> None:
        gone = [{"path": f"notes/{n:05}.txt", "size": 1, "sha256": "0" * 64} for n in range(4000)]
        value["files"] = sorted([*value["files"], *gone], key=lambda item: item["path"])

    manifest = Manifest.parse(forged(artifact, change), "adapter.json")
    (tmp_path / "many" / "adapter.json").write_bytes(manifest.to_bytes())
    with within(2), pytest.raises(IntegrityError, match="missing; … and 3990 more") as caught:
        Artifact.open(tmp_path / "many").verify()
    assert len(str(caught.value)) < 2000
    assert len(audit([str(tmp_path / "many")], Places(()))) < 60


def test_a_rank_that_cannot_be_loaded_is_refused_wherever_an_adapter_comes_from(
    tmp_path: Path, home: Home
) -> None:
    rank = MAXIMUM_RANK + 1
    write_weights(tmp_path / "theirs", rank=rank)
    for give in (
        lambda: take_in(tmp_path / "theirs", tmp_path / "out", home.base_model),
        lambda: seal(tmp_path / "theirs", manifest_fields(base_model=home.pin)),
    ):
        with pytest.raises(AdapterHubError, match=f"r is {rank}, expected a whole number from 1 to"):
            give()
    config = peft_config(2, rank_pattern={}, lora_alpha=4)
    (tmp_path / "theirs" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(IntegrityError, match=f"rank {rank}, at most {MAXIMUM_RANK} can be loaded"):
        read_peft(tmp_path / "theirs")
