"""Several processes publish into one folder with one registry at once: none is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from making import make_artifact, make_places

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import ConflictError
from adapter_hub.exchange import Places, check, publish
from adapter_hub.registry.file import FileRegistry

PUBLISHERS = 8
CONFLICT = 3


def all_at_once(actions: list[Callable[[], None]]) -> list[int]:
    """Run every action in a process of its own, started by one signal; return their exit codes."""
    ready, go = os.pipe()
    children = []
    for action in actions:
        child = os.fork()
        if child == 0:
            os.close(go)
            code = 1
            try:
                os.read(ready, 1)  # returns when the parent closes its end
                action()
                code = 0
            except ConflictError:
                code = CONFLICT
            finally:
                os._exit(code)
        children.append(child)
    os.close(ready)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def publisher(folder: Path, artifact: Artifact) -> Callable[[], None]:
    def action() -> None:
        registry, store = make_places(folder)
        publish(artifact.path, Places(registry, store))

    return action


@pytest.mark.parametrize("same_name", [False, True], ids=["eight names", "eight versions of one name"])
def test_eight_publishers_in_eight_processes_all_land(tmp_path: Path, same_name: bool) -> None:
    artifacts = [
        make_artifact(
            tmp_path / str(number),
            "test/da" if same_name else f"test/n{number}",
            f"1.{number}.0",
            seed=number + 1.0,
        )
        for number in range(PUBLISHERS)
    ]
    codes = all_at_once([publisher(tmp_path, artifact) for artifact in artifacts])
    assert codes == [0] * PUBLISHERS
    registry, store = make_places(tmp_path)
    listed = {block.digest for versions in registry.adapters.values() for block in versions.values()}
    assert listed == {artifact.digest for artifact in artifacts}
    assert registry.sequence == PUBLISHERS
    assert check(registry, [store]) == []


def test_of_two_publishers_of_one_version_with_other_bytes_one_gets_a_clear_error(tmp_path: Path) -> None:
    artifacts = [make_artifact(tmp_path / str(number), seed=number + 1.0) for number in range(4)]
    codes = all_at_once([publisher(tmp_path, artifact) for artifact in artifacts])
    assert sorted(codes) == [0, CONFLICT, CONFLICT, CONFLICT]
    registry, store = make_places(tmp_path)
    winner = artifacts[codes.index(0)]
    assert registry.adapters["test/da"]["1.0.0"].digest == winner.digest
    assert check(registry, [store]) == []


def test_publishers_of_the_same_bytes_all_succeed_and_it_is_listed_once(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "da")
    codes = all_at_once([publisher(tmp_path, artifact) for _ in range(4)])
    assert codes == [0] * 4
    registry, _ = make_places(tmp_path)
    assert registry.sequence == 1


def test_two_registries_on_one_store_agree_on_the_bytes_of_a_version(tmp_path: Path) -> None:
    artifacts = [make_artifact(tmp_path / str(number), seed=number + 1.0) for number in range(4)]

    def into(number: int) -> Callable[[], None]:
        def action() -> None:
            _, store = make_places(tmp_path)
            registry = FileRegistry(tmp_path / f"r{number}" / "registry.json")
            publish(artifacts[number].path, Places(registry, store))

        return action

    codes = all_at_once([into(number) for number in range(4)])
    assert sorted(codes) == [0, CONFLICT, CONFLICT, CONFLICT]
