"""Publishers in processes of their own, a cache each, that publish to one Hub at the same moment.

python tests/hub_racing.py SCENARIO FOLDER [PUBLISHERS]

Scenarios: `versions` of one name, `names`, `same` bytes of one version, `other` bytes of one version; and
`older`, `older same`, `older other`: the same beside a newer version, so that `main` is not theirs.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from hub_trials import USER
from loopback_hub import LoopbackHub
from making import make_artifact

from adapter_hub.artifact.folder import Artifact
from adapter_hub.errors import ConflictError
from adapter_hub.exchange import Places, check, publish, pull
from adapter_hub.hub import HubClient, RetryPolicy
from adapter_hub.registry.on_hub import HubRegistry
from adapter_hub.stores.cache import Cache
from adapter_hub.stores.hub import HubStore

CONFLICT = 3
PATIENT = RetryPolicy(60.0, 90.0, 0.1)
NEWER = "1.9.0"
REGISTRY = f"datasets/{USER}/registry"


def artifact_of(scenario: str, folder: Path, number: int) -> Artifact:
    """Make what the publisher with this number publishes."""
    name = f"{USER}/n{number}" if scenario == "names" else f"{USER}/da"
    version = f"1.{number}.0" if scenario in ("versions", "older") else "1.0.0"
    return make_artifact(folder, name, version, seed=1.0 if scenario.endswith("same") else number + 1.0)


def places(endpoint: str, token: str, cache: Path) -> tuple[HubRegistry, HubStore]:
    client = HubClient(endpoint, token, PATIENT)
    return HubRegistry(f"hf://{REGISTRY}", client=client, cache=cache), HubStore(
        USER, client=client, cache=cache
    )


def be_publisher(artifact: Artifact, go: int, cache: Path) -> None:
    """Publish once somebody says where; never returns."""
    code = 1
    try:
        with os.fdopen(go) as file:
            endpoint, token = json.loads(file.readline())
        os.environ["ADAPTER_HUB_CACHE"] = str(cache)
        registry, store = places(endpoint, token, cache)
        publish(artifact.path, Places(registry, store))
        code = 0
    except ConflictError as error:
        sys.stderr.write(f"{error}\n")
        code = CONFLICT
    except BaseException:  # noqa: BLE001 - this is all that there is of it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def judge(hub: LoopbackHub, artifacts: list[Artifact], codes: list[int], observer: Path) -> None:
    """Check that whoever succeeded is listed and served, and nothing else."""
    winners = {
        (item.manifest.name, item.manifest.version): item
        for item, code in zip(artifacts, codes, strict=True)
        if code == 0
    }
    tree = json.loads(hub.files(REGISTRY)["registry.json"])
    listed = {
        (name, version): block["digest"]
        for name, versions in tree["adapters"].items()
        for version, block in versions.items()
    }
    assert listed == {key: item.digest for key, item in winners.items()}
    assert tree["sequence"] == len(winners), "written more often than there was something new"
    for name in {name for name, _ in winners}:
        versions = {version for other, version in winners if other == name}
        refs = hub.refs(name)
        assert set(refs.tags) == {f"v{version}" for version in versions}
        assert refs.branches.keys() == {"main"}
        told = Counter(entry["version"] for entry in json.loads(hub.files(name)["status.json"]))
        assert told == dict.fromkeys(versions, 1)
        newest = max(versions)
        for path in ("adapter.json", "adapter_model.safetensors"):
            assert hub.files(name)[path] == hub.files(name, f"v{newest}")[path]
    os.environ.update(ADAPTER_HUB_CACHE=str(observer), HF_ENDPOINT=hub.endpoint, HF_TOKEN=hub.token(USER))
    registry, store = places(hub.endpoint, hub.token(USER), observer)
    assert check(registry, [store]) == []
    for (name, version), item in winners.items():
        pulled = pull(f"{name}@{version}", Places([registry], cache=Cache(observer)))
        pulled.verify()
        assert pulled.digest == item.digest


def main(scenario: str, folder: Path, publishers: int = 8) -> None:
    import huggingface_hub.file_download
    import huggingface_hub.hf_api  # noqa: F401 - once, not in every child

    artifacts = [artifact_of(scenario, folder / f"a{number}", number) for number in range(publishers)]
    children, gates = [], []
    for number, artifact in enumerate(artifacts):  # before the server starts its threads
        go, gate = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(gate)
            for other in gates:
                os.close(other)
            be_publisher(artifact, go, folder / f"cache{number}")
        os.close(go)
        children.append(child)
        gates.append(gate)
    started = time.monotonic()
    with LoopbackHub(folder / "hub") as hub:
        if scenario.startswith("older"):
            artifacts.append(make_artifact(folder / "newer", f"{USER}/da", NEWER))
            registry, store = places(hub.endpoint, hub.token(USER), folder / "observer")
            publish(artifacts[-1].path, Places(registry, store))
        for gate in gates:
            os.write(gate, f"{json.dumps([hub.endpoint, hub.token(USER)])}\n".encode())
            os.close(gate)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        codes += [0] * (len(artifacts) - len(codes))
        stale = hub.log.count(endpoint="commit", status=412)
        judge(hub, artifacts, codes, folder / "observer")
    seconds = round(time.monotonic() - started, 1)
    print(json.dumps({"codes": codes, "stale": stale, "seconds": seconds}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(int(text) for text in sys.argv[3:]))
