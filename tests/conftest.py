"""Fixtures for all tests: caches and registries of the user are never touched."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # read when the client is imported
pytest_plugins = ["command_line", "small_whisper", "small_training"]


@pytest.fixture(autouse=True)
def _own_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("ADAPTER_HUB_CACHE", str(home / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    for name in ("ADAPTER_HUB_REGISTRY", "ADAPTER_HUB_STORE", "ADAPTER_HUB_DEVICE", "ADAPTER_HUB_DTYPE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)  # xdist sets it, and tables would fit into that
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there: no test reaches the real Hub


@pytest.fixture
def plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the Hub's own client from Xet, so that every byte goes through the loopback Hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
