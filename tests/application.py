"""An application with a lock file, and the hub that its adapters come from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from making import make_artifact, make_child, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import Places, lock, publish, retire, sync, update_lock
from adapter_hub.formats.claims import Status
from adapter_hub.formats.lock_file import LockFile
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache


class Site:
    """A hub with test/pl 1.0.0, its child test/da 1.0.0 and test/da 1.1.0, and an application."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry, self.store = make_places(folder)
        self.cache = Cache(folder / "cache")
        self.path = folder / "app" / "adapters.lock"
        self.told: list[str] = []
        self.parent = self.publish(make_artifact(folder / "pl", "test/pl"))
        self.old = self.publish(make_child(folder / "da", self.parent, "test/da"))
        self.path.parent.mkdir()

    def publish(self, artifact: Artifact) -> Artifact:
        publish(artifact.path, Places(self.registry, self.store))
        return artifact

    def publish_newer(self) -> Artifact:
        folder = self.folder / "da-newer"
        return self.publish(make_child(folder, self.parent, "test/da", "1.1.0", seed=9.0))

    def retire(self, ref: str, status: Status) -> None:
        retire(AdapterRef.parse(ref), status, "bad text", Places(self.registry, self.store))

    def lock(self, *requirements: str) -> LockFile:
        return lock(
            requirements or ("test/da~=1.0", "test/pl"),
            Places([FileRegistry(self.registry.path)], cache=self.cache, tell=self.told.append),
            path=self.path,
        )

    def sync(self, *registries: FileRegistry, **options: Any) -> list[str]:
        """Install what is locked; return the references."""
        asked = registries or (FileRegistry(self.registry.path),)
        installed = sync(self.path, Places(asked, cache=self.cache, tell=self.told.append), **options)
        for artifact in installed:
            artifact.verify()
        return [artifact.ref for artifact in installed]

    def update(self, **options: Any) -> LockFile:
        registries = [FileRegistry(self.registry.path)]
        return update_lock(self.path, Places(registries, cache=self.cache, tell=self.told.append), **options)

    def edit(self, change: Callable[[dict[str, Any]], None]) -> None:
        tree = json.loads(self.path.read_bytes())
        change(tree)
        self.path.write_text(json.dumps(tree, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def forget(self) -> None:
        """Empty the cache: everything has to be fetched again."""
        shutil.rmtree(self.cache.folder)
