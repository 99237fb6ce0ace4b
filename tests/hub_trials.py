"""Publish or pull on a loopback Hub while something goes wrong, then judge what is left and try again.

A trial has a namespace of its own on a Hub that many of them share. What is judged is read from the
server's disk, not through the code under test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from loopback_hub import LoopbackHub
from making import make_artifact, make_child

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, check, publish, pull
from adapter_hub.formats.canonical import digest_of, sha256_hex
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.hub import HubClient, RetryPolicy
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.hub import HubStore

USER = "test"
BESIDE = {".gitattributes", "README.md", "status.json"}  # what is not part of an artifact


class Hub(Protocol):
    """What a client has to know of a Hub, which may run in another process."""

    @property
    def endpoint(self) -> str: ...

    def token(self, user: str) -> str: ...


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Set variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def user_of(hub: Hub, patience: RetryPolicy) -> dict[str, str]:
    """Return the variables with which a process is the user of this Hub."""
    return {
        "HF_ENDPOINT": hub.endpoint,
        "HF_TOKEN": hub.token(USER),
        "ADAPTER_HUB_TIMEOUT": f"{patience.request:g}",
        "ADAPTER_HUB_RETRY_SECONDS": f"{patience.total:g}",
    }


class Trial:
    """One operation by one machine, whose cache is `folder/machine`.

    Operations: `publish` (the first version of a warm-start child, the registry is on the Hub), `publish
    with a registry file`, `publish an older version` (which needs a branch), `pull`, `pull with a registry
    file`, `pull without a registry`.
    """

    def __init__(self, hub: Hub, folder: Path, namespace: str, operation: str) -> None:
        self.hub, self.folder, self.namespace, self.operation = hub, folder, namespace, operation
        self.name = f"{namespace}/da"
        self.machine = folder / "machine"
        self.is_pull = operation.startswith("pull")
        self.on_hub = operation in ("publish", "publish an older version", "pull")
        self.versions = 2 if operation == "publish an older version" else 1

    @property
    def artifact(self) -> Artifact:
        return Artifact.open(self.folder / "da")

    @property
    def server(self) -> LoopbackHub:
        """The Hub itself; only where it runs."""
        assert isinstance(self.hub, LoopbackHub)
        return self.hub

    def client(self, patience: RetryPolicy | None = None) -> HubClient:
        return HubClient(self.hub.endpoint, self.hub.token(USER), patience or RetryPolicy(20.0, 20.0, 0.02))

    def registry(self, cache: Path, patience: RetryPolicy | None = None) -> FileRegistry:
        if not self.on_hub:
            return FileRegistry(self.folder / "registry.json", cache=cache)
        label = f"hf://datasets/{self.namespace}/registry"
        return HubRegistry(label, client=self.client(patience), cache=cache)

    def store(self, cache: Path, patience: RetryPolicy | None = None) -> HubStore:
        return HubStore(self.namespace, client=self.client(patience), cache=cache)

    def prepare(self) -> None:
        """Make the namespace, the artifact, and what has to be there before the operation."""
        self.server.user(USER)
        self.server.world.accounts.add_organization(self.namespace, [USER])
        parent = make_artifact(self.folder / "parent", f"{self.namespace}/parent")
        make_child(self.folder / "da", parent, self.name, seed=3.0)
        if self.operation == "publish an older version":
            newer = make_artifact(self.folder / "newer", self.name, "1.1.0")
            self._publish(newer, self.machine)
        elif self.is_pull:
            self._publish(self.artifact, self.folder / "publisher")

    def _publish(self, artifact: Artifact, cache: Path, patience: RetryPolicy | None = None) -> None:
        with environment(ADAPTER_HUB_CACHE=str(cache)):
            publish(artifact.path, Places(self.registry(cache, patience), self.store(cache, patience)))

    def act(self, patience: RetryPolicy) -> None:
        """Carry the operation out, as a program would that has just been started."""
        if self.is_pull:
            self.pull(self.machine, patience)
        else:
            self._publish(self.artifact, self.machine, patience)

    def pull(self, cache: Path, patience: RetryPolicy) -> None:
        ref, registries = f"{self.name}@1.0.0", [self.registry(cache, patience)]
        if self.operation == "pull without a registry":
            ref, registries = f"hf://{ref}", []
        with environment(**user_of(self.hub, patience), ADAPTER_HUB_CACHE=str(cache)):
            pulled = pull(ref, Places(registries, cache=Cache(cache)))
            pulled.verify()
            assert pulled.digest == self.artifact.digest

    # what has to hold at any time

    def judge(self) -> None:
        """Look at the server's disk: what has a tag is whole, what is listed is there; the cache is right."""
        held = {version: self._digest_at(f"v{version}") for version in self._tags()}
        for version, digest in self.listed().items():
            assert held.get(version) == digest, f"{version} is listed without its bytes"
        for entry in Cache(self.machine).entries():
            Artifact.open(entry.path).verify()
            assert entry.digest == self.artifact.digest

    def _tags(self) -> list[str]:
        refs = self.server.refs(self.name) if self.server.has(self.name) else None
        return [tag.removeprefix("v") for tag in refs.tags] if refs else []

    def _digest_at(self, revision: str) -> str:
        """Return the digest of the manifest in a commit, whose files have to be what it lists, no others."""
        files = self.server.files(self.name, revision)
        manifest = Manifest.parse_canonical(files[MANIFEST_FILE], revision)
        promised = {entry.path: entry.sha256 for entry in manifest.files}
        there = {path: sha256_hex(raw) for path, raw in files.items() if path not in BESIDE}
        assert there == {**promised, MANIFEST_FILE: sha256_hex(files[MANIFEST_FILE])}, revision
        return digest_of(files[MANIFEST_FILE])

    def listed(self) -> Mapping[str, str]:
        """Return the digests of the versions that the registry lists, from its bytes."""
        if self.on_hub:
            repo = f"datasets/{self.namespace}/registry"
            raw = self.server.files(repo).get("registry.json") if self.server.has(repo) else None
        else:
            path = self.folder / "registry.json"
            raw = path.read_bytes() if path.exists() else None
        self.sequence = json.loads(raw)["sequence"] if raw else 0
        adapters = json.loads(raw)["adapters"] if raw else {}
        return {version: block["digest"] for version, block in adapters.get(self.name, {}).items()}

    def judge_finished(self) -> None:
        """Check that all is done, once: store and registry agree, and another machine gets the bytes."""
        self.judge()
        assert len(self.listed()) == len(self._tags()) == self.sequence == self.versions
        assert self.listed()["1.0.0"] == self.artifact.digest
        newest = max(self._tags())
        assert self._digest_at("main") == self._digest_at(f"v{newest}")
        statuses = json.loads(self.server.files(self.name)["status.json"])
        assert sorted(entry["version"] for entry in statuses) == sorted(self._tags())
        assert self.server.refs(self.name).branches.keys() == {"main"}
        observer = self.folder / "observer"
        assert check(self.registry(observer), [self.store(observer)]) == []
        self.pull(observer, RetryPolicy(20.0, 20.0, 0.02))
        if self.is_pull:
            assert [entry.digest for entry in Cache(self.machine).entries()] == [self.artifact.digest]
