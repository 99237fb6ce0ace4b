"""Places: what is named is opened when needed, what is open is used. And the first location that works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapter_hub import embedded
from adapter_hub.errors import AdapterHubError, IntegrityError, InvalidInputError, UnreachableError
from adapter_hub.exchange import Places
from adapter_hub.exchange.locations import from_first
from adapter_hub.exchange.places import warning_once
from adapter_hub.formats.registry_file import Location
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

HERE = (Location(store="./one", path="x"), Location(store="./two", path="x"))


def test_what_is_named_is_opened_and_the_embedded_catalogue_is_asked_last(tmp_path: Path) -> None:
    places = Places(tmp_path / "registry.json", cache=tmp_path / "cache")
    own, shipped = places.registries()
    assert (own.path, own.cache_folder) == (tmp_path / "registry.json", tmp_path / "cache")
    assert shipped.is_embedded
    store = places.own_store()
    assert isinstance(store, FolderStore)
    assert store.path == tmp_path / "store"
    assert places.open_cache().folder == tmp_path / "cache"


def test_what_is_open_is_used_as_it_is(tmp_path: Path) -> None:
    registry, store, cache = FileRegistry(tmp_path / "r.json"), FolderStore(tmp_path / "s"), Cache(tmp_path)
    places = Places(registry, store, cache)
    assert places.own_registry() is registry
    assert places.own_store() is store
    assert places.open_cache() is cache
    assert [item.is_embedded for item in places.registries()] == [False, True]
    assert Places([registry]).registries() == (registry,)
    opened = places.opened()
    assert opened.registries() is not places.registries()
    assert opened.registries() == opened.registries()
    assert opened.own_registry() is registry


def test_the_embedded_catalogue_is_asked_once() -> None:
    assert [item.is_embedded for item in Places(str(embedded.registry_path())).registries()] == [True]


def test_without_a_registry_nothing_can_be_written() -> None:
    with pytest.raises(InvalidInputError, match=r"no registry to write to; name one with --registry"):
        Places([]).own_registry()


def test_a_warning_is_passed_on_once() -> None:
    told: list[str] = []
    places = warning_once(Places([], tell=told.append))
    for line in ("old", "old", "new"):
        places.warn(line)
    assert told == ["old", "new"]
    Places([]).warn("nobody listens, which is fine")


def failing(**errors: AdapterHubError) -> Callable[[Location], str]:
    """Return an attempt that fails at some stores and gives the label of the others."""

    def attempt(location: Location) -> str:
        name = location.store.removeprefix("./")
        if name in errors:
            raise errors[name]
        return location.store

    return attempt


def test_the_first_location_that_works_is_used() -> None:
    assert from_first("x", HERE, failing(one=IntegrityError("damaged"))) == "./two"


def test_where_none_works_the_error_lists_what_was_tried() -> None:
    attempt = failing(one=IntegrityError("damaged"), two=UnreachableError("silent"))
    with pytest.raises(
        IntegrityError, match=r"^x cannot be read: store \./one: damaged; store \./two: silent; next$"
    ):
        from_first("x cannot be read", HERE, attempt, "next")
    with pytest.raises(IntegrityError, match=r"^x cannot be read: no location is listed"):
        from_first("x cannot be read", (), attempt)


def test_where_none_can_be_asked_nothing_is_called_damaged() -> None:
    attempt = failing(one=UnreachableError("silent"), two=UnreachableError("cut off"))
    with pytest.raises(UnreachableError, match=r"^x: store \./one: silent; store \./two: cut off$"):
        from_first("x", HERE, attempt)
