"""Lock: what is written down, when it changes, and that it never is half."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from application import Site
from making import make_artifact, make_report

from adapter_hub.cli import main
from adapter_hub.errors import ConflictError, IntegrityError, StatusError
from adapter_hub.exchange import Places, attach
from adapter_hub.formats.claims import Status
from adapter_hub.formats.lock_file import read_lock
from adapter_hub.registry.file import FileRegistry

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# lock


def test_a_lock_holds_files_base_model_ancestors_and_where_it_is_from(site: Site) -> None:
    locked = site.lock()
    assert read_lock(site.path) == locked
    da, pl = locked.adapters
    assert (da.digest, da.files) == (site.old.digest, site.old.manifest.files)
    assert da.base_model == site.old.manifest.base_model
    assert [(item.name, item.digest) for item in da.closure] == [("test/pl", site.parent.digest)]
    assert pl.closure == ()
    assert da.locations[0].store == str(site.store.path)
    assert [(item.registry_id, item.sequence) for item in locked.registries] == [
        (site.registry.registry_id, site.registry.sequence)
    ]


def test_a_lock_beside_its_registry_can_move_with_it(site: Site, tmp_path: Path) -> None:
    site.path = site.registry.path.with_name("adapters.lock")
    locked = site.lock()
    assert locked.registries[0].label == "./registry.json"
    assert locked.adapters[0].locations[0].store == "./store"
    assert str(tmp_path) not in site.path.read_text(encoding="utf-8")
    shutil.move(site.registry.path.parent, tmp_path / "moved")
    site.forget()
    site.path = tmp_path / "moved" / "adapters.lock"
    assert site.sync(FileRegistry(tmp_path / "moved" / "registry.json")) == ["test/da@1.0.0", "test/pl@1.0.0"]
    site.forget()
    assert site.sync(FileRegistry(tmp_path / "none.json")) == ["test/da@1.0.0", "test/pl@1.0.0"]


def test_locking_again_brings_newer_versions_and_nothing_else_changes_the_file(site: Site) -> None:
    site.lock()
    before = site.path.read_bytes()
    site.lock()
    assert site.path.read_bytes() == before
    site.publish_newer()
    assert [adapter.ref for adapter in site.lock().adapters] == ["test/da@1.1.0", "test/pl@1.0.0"]


def test_several_that_cannot_be_locked_are_told_at_once_and_nothing_is_written(site: Site) -> None:
    with pytest.raises(
        IntegrityError, match=r"was not written: test/xx: no such .*; test/yy@3\.0\.0: no such"
    ):
        site.lock("test/da", "test/xx", "test/yy@3.0.0")
    assert not site.path.exists()


def test_two_versions_of_a_name_may_be_locked_but_not_copied_to_one_folder(site: Site) -> None:
    site.publish_newer()
    site.lock("test/da", "test/da@1.0.0")
    assert site.sync() == ["test/da@1.0.0", "test/da@1.1.0"]
    with pytest.raises(ConflictError, match=r"locks test/da@1\.0\.0 and test/da@1\.1\.0, and --to has one"):
        site.sync(to=site.folder / "models")


# keeping it up to date


def test_without_a_reason_nothing_is_locked_anew(site: Site) -> None:
    site.lock()
    before = site.path.read_bytes()
    site.publish_newer()
    attach(make_report(site.old), Places(site.registry, site.store))
    assert [adapter.ref for adapter in site.update().adapters] == ["test/da@1.0.0", "test/pl@1.0.0"]
    assert site.path.read_bytes() == before


@pytest.mark.parametrize("status", ["yanked", "quarantined", "withdrawn"])
def test_what_must_not_be_newly_used_gives_way_to_the_next_that_fits(site: Site, status: Status) -> None:
    site.lock()
    site.publish_newer()
    site.retire("test/da@1.0.0", status)
    assert [adapter.ref for adapter in site.update().adapters] == ["test/da@1.1.0", "test/pl@1.0.0"]
    assert site.told == [f"{site.path}: test/da~=1.0 is locked again: test/da@1.0.0 is {status} (bad text)"]
    assert site.sync() == ["test/da@1.1.0", "test/pl@1.0.0"]


def test_if_nothing_else_fits_the_old_lock_stays(site: Site) -> None:
    site.lock()
    before = site.path.read_bytes()
    site.retire("test/da@1.0.0", "yanked")
    with pytest.raises(StatusError, match=r"test/da@1\.0\.0 is yanked"):
        site.update()
    assert site.path.read_bytes() == before


def test_an_exact_requirement_stays_although_it_is_yanked(site: Site) -> None:
    site.lock("test/da@1.0.0")
    site.retire("test/da@1.0.0", "yanked")
    before = site.path.read_bytes()
    site.update()
    assert site.path.read_bytes() == before
    assert site.sync() == ["test/da@1.0.0"]


def test_an_edited_requirement_is_followed_and_the_others_stay(site: Site) -> None:
    site.lock()
    site.publish_newer()
    site.publish(make_artifact(site.folder / "el", "test/el", seed=4.0))
    site.edit(lambda tree: tree.update(requirements=["test/el", "test/da~=1.0"]))
    assert [adapter.ref for adapter in site.update().adapters] == ["test/da@1.0.0", "test/el@1.0.0"]
    assert site.sync() == ["test/da@1.0.0", "test/el@1.0.0"]


# the command line


@pytest.fixture
def app(site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the application's folder."""
    monkeypatch.chdir(site.path.parent)
    monkeypatch.setenv("ADAPTER_HUB_REGISTRY", str(site.registry.path))

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(list(words))
        return code, *capfd.readouterr()

    return call


def test_the_commands_lock_and_install(app: Run, site: Site) -> None:
    code, out, err = app("lock", "test/da~=1.0", "mini/pl")
    assert code == 0
    assert out.splitlines()[0] == f"test/da~=1.0  test/da@1.0.0  {site.old.digest}"
    assert err == "adapters.lock: written\n"
    assert app("lock")[2] == "adapters.lock: unchanged\n"
    assert app("sync", "--locked", "--to", "models")[:2] == (
        0,
        "mini/pl@1.0.0  models/mini/pl\ntest/da@1.0.0  models/test/da\n",
    )
    assert app("lock", "--json", "--file", "other.lock", "test/pl")[0] == 0
    assert Path("other.lock").is_file()
    assert '"label": "embedded"' in site.path.read_text(encoding="utf-8")


def test_sync_brings_up_to_date_and_sync_locked_does_not(app: Run, site: Site) -> None:
    app("lock", "test/da~=1.0")
    newer = site.publish_newer()
    site.retire("test/da@1.0.0", "yanked")
    code, out, err = app("sync", "--locked")
    assert (code, out.split()[0]) == (0, "test/da@1.0.0")
    assert err == "warning: test/da@1.0.0 is yanked (bad text)\n"
    code, out, err = app("sync", "--json")
    assert json.loads(out)[0]["digest"] == newer.digest
    assert "test/da~=1.0 is locked again: test/da@1.0.0 is yanked" in err


def test_each_that_fails_is_a_line_and_the_others_are_installed(app: Run, site: Site) -> None:
    app("lock", "test/da", "test/pl")
    site.retire("test/da@1.0.0", "withdrawn")
    code, out, err = app("sync", "--locked")
    assert code == 1
    assert out.startswith("test/pl@1.0.0  ")
    assert err.startswith("error: test/da@1.0.0 is withdrawn")
    assert err.count("\n") == 1
    code, out, _ = app("sync", "--locked", "--json")
    assert [row.get("error", "")[:13] for row in json.loads(out)] == ["", "test/da@1.0.0"]


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (None, ["sync"], "adapters.lock: no such lock file; `adapter-hub lock REF...` makes one"),
        (None, ["lock"], "adapters.lock: no such lock file"),
        (None, ["lock", "./out"], "./out: a folder cannot be locked; publish the artifact"),
        ("{", ["sync", "--locked"], "rebuild it with `adapter-hub lock REF...`"),
        ('{"schema": "lock/9"}', ["sync", "--locked"], "newer than this program"),
        ("# notes", ["lock", "test/pl"], "adapters.lock: exists and is not a lock file"),
    ],
)
def test_what_is_wrong_with_a_lock_file_is_one_line(
    app: Run, text: str | None, words: list[str], message: str
) -> None:
    if text is not None:
        Path("adapters.lock").write_text(text, encoding="utf-8")
    code, out, err = app(*words)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1
