"""Fixtures for all tests: caches and registries of the user are never touched."""

from __future__ import annotations

import pytest

pytest_plugins = ["small_whisper", "small_training"]


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    for name in ("ADAPTER_HUB_REGISTRY", "ADAPTER_HUB_STORE", "ADAPTER_HUB_DEVICE", "ADAPTER_HUB_DTYPE"):
        monkeypatch.delenv(name, raising=False)
