"""One bad item never stops the others, whatever is wrong with it: audit, mirror, pull, lock, sync, cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from audit_defects import Home, make_home
from command_line import Run
from making import make_artifact

from adapter_hub.audit import audit
from adapter_hub.audit.checks import CHECKS, Check, Subject
from adapter_hub.errors import AdapterHubError, NotFoundError, UnreachableError
from adapter_hub.exchange import Places, lock, mirror, sync
from adapter_hub.isolation import UnexpectedError, isolated
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

BAD_CONFIGS = {
    "alpha": '"lora_alpha":%s' % ("9" * 400),
    "dropout": '"lora_dropout":"x"',
    "nesting": '"r":' + "[" * 5000 + "]" * 5000,
    "rank": '"r":{"a":1}',
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def spoil(home: Home, what: str) -> None:
    """Give one of two published adapters a config that nothing can be made of, with digests that fit."""
    path = home.place("test/pl") / "adapter_config.json"
    text = path.read_text(encoding="utf-8").strip()
    path.write_text(text[:-1] + "," + BAD_CONFIGS[what] + "}", encoding="utf-8")


def failing(kind: type[Exception]) -> Callable[[], None]:
    def fail() -> None:
        raise kind("\x1b[2Jwhat\nnobody foresaw")

    return fail


@pytest.mark.parametrize(
    "kind", [KeyError, TypeError, OverflowError, RecursionError, MemoryError, AssertionError]
)
def test_whatever_an_item_raises_becomes_one_harmless_line_with_its_type_and_place(
    kind: type[Exception],
) -> None:
    errors: list[AdapterHubError] = []
    done = []
    for item, work in (("first\n", failing(kind)), ("second", lambda: done.append("second"))):
        with isolated(item, errors.append):
            work()
    (error,) = errors
    assert isinstance(error, UnexpectedError)
    assert str(error).startswith(rf"first\n: unexpected {kind.__name__} at test_one_bad_item.py:")
    assert str(error).isprintable()
    assert done == ["second"]


def test_what_a_user_can_act_on_stays_as_it_is_and_a_dead_hub_is_everybodys() -> None:
    errors: list[AdapterHubError] = []
    with isolated("x", errors.append):
        raise NotFoundError("x: not there")
    with isolated("x", errors.append):
        Path("/nowhere/at/all").read_bytes()
    assert [str(error) for error in errors] == [
        "x: not there",
        "x: /nowhere/at/all: no such file or directory",
    ]
    with (
        pytest.raises(UnreachableError, match="down"),
        isolated("x", errors.append, through=UnreachableError),
    ):
        raise UnreachableError("down")
    with pytest.raises(KeyboardInterrupt, match="enough"), isolated("x", errors.append):
        raise KeyboardInterrupt("enough")


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_malformed_adapter_is_one_finding_of_an_audit_of_everything(home: Home, what: str) -> None:
    spoil(home, what)
    findings = home.audit()
    assert "files-differ" in {finding.code for finding in findings if finding.ref == "test/pl@1.0.0"}
    assert not [f for f in findings if f.ref == "test/da@1.0.0" and f.severity == "error"]


def test_a_check_that_breaks_down_is_a_finding_and_the_other_checks_are_made(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(subject: Subject) -> object:
        """Break down in the middle."""
        yield "one"
        raise ZeroDivisionError("oh")

    sound = home.audit()
    monkeypatch.setitem(CHECKS, "breaks", Check("breaks", "info", "nothing", "no hint", breaks))  # type: ignore[arg-type]
    findings = home.audit()
    assert [f.code for f in findings if f.code not in ("breaks", "check-failed")] == [f.code for f in sound]
    broken = [f.message for f in findings if f.code == "check-failed"]
    assert len(broken) == 2
    assert broken[0].startswith(
        "breaks: test/da@1.0.0: unexpected ZeroDivisionError at test_one_bad_item.py:"
    )


def test_an_adapter_that_cannot_even_be_opened_is_a_finding(home: Home) -> None:
    path = home.place("test/pl") / "adapter.json"
    path.unlink()
    path.mkdir()
    findings = audit((), Places((FileRegistry(home.registry.path),)))
    assert {f.severity for f in findings if f.ref == "test/pl@1.0.0"} >= {"error"}
    assert "test/da@1.0.0" in {f.ref for f in findings}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_mirror_of_everything_brings_the_others(home: Home, tmp_path: Path, what: str) -> None:
    home.publish(make_artifact(tmp_path / "more", "test/more", base_model=home.pin).path)
    spoil(home, what)
    found = {item.ref: item for item in mirror(source=home.store, target=FolderStore(tmp_path / "target"))}
    assert found["test/pl@1.0.0"].outcome == "failed"
    assert found["test/more@1.0.0"].outcome == "copied"
    assert len(found["test/pl@1.0.0"].problem) < 2000


def test_a_pull_of_several_brings_the_others_and_fails(home: Home, run: Run) -> None:
    spoil(home, "alpha")
    outcome = run("--registry", home.registry.path, "pull", "test/pl", "test/nothing", "test/da", "--json")
    assert outcome.code == 1
    assert [row["ref"] for row in outcome.json] == ["test/da@1.0.0"]
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "test/pl@1.0.0 cannot be fetched" in errors[0]


def test_a_sync_installs_the_others(home: Home, tmp_path: Path) -> None:
    registries, path = [FileRegistry(home.registry.path)], tmp_path / "adapters.lock"
    lock(["test/pl", "test/da"], Places(registries, cache=Cache(tmp_path / "one")), path=path)
    spoil(home, "dropout")
    failed: dict[str, AdapterHubError] = {}
    installed = sync(path, Places(registries, cache=Cache(tmp_path / "other")), failed=failed.__setitem__)
    assert [artifact.ref for artifact in installed] == ["test/da@1.0.0"]
    assert list(failed) == ["test/pl@1.0.0"]


def test_verifying_a_cache_tells_every_damaged_adapter(home: Home, tmp_path: Path, run: Run) -> None:
    cache = Cache(tmp_path / "cache")
    for name in ("test/pl", "test/da"):
        cache.add(home.store.fetch(name, "1.0.0", tmp_path / name.replace("/", "-"), digest=None))
    for entry in cache.entries():
        value = json.loads((entry.path / "adapter_config.json").read_bytes())
        (entry.path / "adapter_config.json").write_text(json.dumps(value | {"r": 10**400}), encoding="utf-8")
    assert set(cache.verify()) == {"test/da@1.0.0", "test/pl@1.0.0"}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_check_and_a_rebuild_of_a_registry_go_through_the_others(home: Home, run: Run, what: str) -> None:
    spoil(home, what)
    (home.place("test/pl") / "adapter.json").write_bytes(b'{"schema":"adapter/1","created":[[1e400]]}')
    for command in ("check", "rebuild"):
        places = ("--registry", home.registry.path, "--store", home.store.path)
        outcome = run(*places, "registry", command)
        assert outcome.code == 1
        assert "test/pl@1.0.0" in outcome.out + outcome.err
        assert "Traceback" not in outcome.err
    assert set(FileRegistry(home.registry.path).adapters) == {"test/da", "test/pl"}
