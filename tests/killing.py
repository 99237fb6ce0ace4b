"""Run an operation in child processes that are killed at every write to the disk, and judge what is left.

    python tests/killing.py publish FOLDER [STRIDE]

A child kills itself (SIGKILL) just before its n-th fsync, rename, unlink or mkdir, for n from 1 until one
survives; with a stride of 5, for n = 1, 6, 11 and so on. After each, the parent checks the invariants and
lets a retry finish. It prints how many places there are to be killed at.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from making import make_artifact, make_child, make_places, make_report

from adapter_hub.artifact.folder import Artifact
from adapter_hub.exchange import (
    Places,
    attach,
    check,
    lock,
    mirror,
    publish,
    pull,
    retire,
    sync,
    update_lock,
)
from adapter_hub.formats.lock_file import LockFile, read_lock, write_lock
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.registry.file import FileRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.folder import FolderStore

CALLS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")
DA = AdapterRef.parse("test/da@1.0.0")


class World:
    """A folder with a hub (test/pl published), a cache, and two artifacts that wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registry, self.store = make_places(folder)
        self.cache = Cache(folder / "cache")
        self.lock_file, self.models = folder / "adapters.lock", folder / "models"
        self.mirrored = FolderStore(folder / "mirrored")

    @classmethod
    def build(cls, folder: Path) -> World:
        world = cls(folder)
        parent = make_artifact(folder / "pl", "test/pl")
        publish(parent.path, Places(world.registry, world.store))
        ref = AdapterRef.parse("test/pl@1.0.0")
        retire(ref, "deprecated", "old", Places(world.registry, world.store))
        make_artifact(folder / "da")
        make_child(folder / "child", parent, "test/child")
        make_artifact(world.models / "test/pl", "test/pl", "0.9.0", seed=3.0)  # what gives way in a sync
        write_lock(
            world.lock_file, LockFile.model_validate({"schema": "lock/1", "requirements": ("test/pl",)})
        )
        return world

    def publish(self) -> None:
        publish(self.folder / "child", Places(self.registry, self.store))

    def pull(self) -> None:
        pull("test/pl", Places([self.registry], cache=self.cache), to=self.folder / "to")

    def retire(self) -> None:
        ref = AdapterRef.parse("test/pl@1.0.0")
        retire(ref, "quarantined", "bad text", Places(self.registry, self.store))

    def withdraw(self) -> None:
        ref = AdapterRef.parse("test/pl@1.0.0")
        retire(ref, "withdrawn", "licence", Places(self.registry, self.store))

    def attach(self) -> None:
        report = make_report(Artifact.open(self.folder / "pl"))
        attach(report, Places(self.registry, self.store))

    def lock(self) -> None:
        lock(["test/pl"], Places([self.registry], cache=self.cache), path=self.lock_file)

    def sync(self) -> None:
        update_lock(self.lock_file, Places([self.registry], cache=self.cache))
        sync(self.lock_file, Places([self.registry], cache=self.cache), to=self.models)

    def mirror(self) -> None:
        for item in mirror(source=self.store, target=self.mirrored):
            assert item.outcome != "failed", item
        assert self.mirrored.claims("test/pl") == self.store.claims("test/pl")

    def judge(self) -> None:
        """Check what must hold at any moment: a readable registry, and bytes for all that it lists."""
        fresh = FileRegistry(self.registry.path)
        for name, versions in fresh.adapters.items():
            for version, block in versions.items():
                if block.status != "withdrawn":
                    artifact = Artifact.open(self.store.path / name / version)
                    artifact.verify()
                    assert artifact.digest == block.digest
        for name in self.store.names():  # whatever has a final name is whole
            statuses = self.store.claims(name)
            for version in self.store.versions(name):
                last = statuses.status_of(version)
                if last is None or last.status != "withdrawn":
                    Artifact.open(self.store.path / name / version).verify()
        self.judge_mirror()
        assert [adapter.ref for adapter in read_lock(self.lock_file).adapters] in ([], ["test/pl@1.0.0"])
        if (self.models / "test/pl").exists():
            Artifact.open(self.models / "test/pl").verify()
        for entry in self.cache.entries():
            Artifact.open(entry.path).verify()
        if (self.folder / "to").exists():
            Artifact.open(self.folder / "to").verify()

    def judge_mirror(self) -> None:
        """Check that what the mirror has is whole, and in no case of another status than at the source."""
        for name in self.mirrored.names():
            here, there = self.store.claims(name), self.mirrored.claims(name)
            for version in self.mirrored.versions(name):
                self.mirrored.fetch(name, version, self.folder / "fetched" / name / version).verify()
                assert there.status_of(version) in (None, here.status_of(version))

    def judge_finished(self) -> None:
        """Check that a retry finished everything: the registry is what the store says."""
        self.judge()
        assert check(FileRegistry(self.registry.path), [self.store]) == []


def kill_before(number: int) -> Callable[[], int]:
    """Make this process kill itself just before its `number`-th call that changes the disk.

    Returns:
        What tells how many such calls there were.
    """
    count = 0

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return wrapped

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    return lambda: count


def in_child(action: Callable[[], None]) -> int:
    """Run `action` in a forked process; return its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(child, 0)[1]


def main(operation: str, folder: Path, stride: int) -> None:
    os.fsync = lambda descriptor: None  # a killed process loses nothing that it wrote; the calls still count
    start = folder / "start"
    World.build(start)
    os.environ["ADAPTER_HUB_CACHE"] = str(folder / "memory")
    os.environ["TMPDIR"] = str(folder)
    for number in range(1, 1000, stride):
        shutil.copytree(start, folder / "now")
        shutil.rmtree(folder / "memory", ignore_errors=True)
        world = World(folder / "now")

        def action(world: World = world, number: int = number) -> None:
            places = kill_before(number)
            getattr(world, operation)()
            (folder / "places").write_text(str(places()))

        status = in_child(action)
        survived = status == 0
        assert survived or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL), status
        world.judge()
        getattr(World(folder / "now"), operation)()  # saying it again finishes what was begun
        world.judge_finished()
        if survived:
            print((folder / "places").read_text())  # noqa: T201
            return
        shutil.rmtree(folder / "now")
    raise AssertionError("never survived")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 1)
