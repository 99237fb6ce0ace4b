"""Which registry a namespace belongs to: the one where this machine saw it first, or the user says so.

    Namespaces(registries).foreign("mini/da", admitted)     # {registry: why it does not count for this name}

A shared registry could list a newer `mini/da` and so take the place of the shipped one. So the
embedded catalogue owns its namespaces from the start, others belong to the registry from which a name in them
was first resolved, or into which this user published; what another one lists counts where it is the very same
version, where the reference pins its digest, or where the user trusts it with the namespace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapter_hub import embedded
from adapter_hub.errors import AdapterHubError
from adapter_hub.formats.reference import name_key
from adapter_hub.formats.registry_file import VersionBlock
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.file import FileRegistry
from adapter_hub.registry.memory import Memory
from adapter_hub.registry.trust import MAXIMUM_NAMESPACES, Trust, change_trust, read_trust

Versions = Mapping[str, VersionBlock]


class Namespaces:
    """What each of some registries may list.

    Attributes:
        registries: those that are asked.
        warnings: what the user should know of the record itself.
    """

    def __init__(self, registries: Sequence[Registry]) -> None:
        """Read what is remembered."""
        self.registries = registries
        self.warnings: list[str] = []
        try:
            self._trust = read_trust()
        except AdapterHubError as error:
            self._trust = Trust.model_validate({"schema": "trust/1"})
            self.warnings.append(str(error))
        shipped = [registry for registry in registries if registry.is_embedded]
        self._shipped = shipped[0] if shipped else FileRegistry(embedded.registry_path(), read_only=True)

    def foreign(self, name: str, admits: Callable[[str], bool]) -> dict[Registry, str]:
        """Return the registries whose entries of a name do not count, each with one line that says why.

        The first registry that lists a name in a namespace of which nothing was known gets it.

        Args:
            name: `namespace/name`.
            admits: tells whether a version is asked for.
        """
        listing = [registry for registry in self.registries if name in registry.adapters]
        namespace = name.partition("/")[0]
        owners = self._owners(namespace)
        if not owners:
            first = next((item for item in listing if not item.is_repository), None)
            if first is not None:
                owners = (first.registry_id,)
                self._remember(namespace, first)
        found = {}
        for registry in listing:
            ours = registry.is_repository or registry.is_embedded or registry.registry_id in owners
            versions = {v: block for v, block in registry.adapters[name].items() if admits(v)}
            if not ours and not self._agrees(name, versions, owners):
                found[registry] = self._line(name, registry)
        return found

    def _owners(self, namespace: str) -> tuple[str, ...]:
        return (
            *((self._shipped.registry_id,) if self._is_shipped(namespace) else ()),
            *self._trust.namespaces.get(name_key(namespace), ()),
        )

    def _is_shipped(self, namespace: str) -> bool:
        start = f"{name_key(namespace)}/"
        return any(name_key(name).startswith(start) for name in self._shipped.adapters)

    def _agrees(self, name: str, versions: Versions, owners: Sequence[str]) -> bool:
        """Tell whether an owner has the same versions, byte for byte, now or when it was last seen."""
        known = self._digests(name, owners)
        return all(known.get(version) == block.digest for version, block in versions.items())

    def _digests(self, name: str, owners: Sequence[str]) -> dict[str, str]:
        digests: dict[str, str] = {}
        for registry in (*self.registries, self._shipped):
            if registry.registry_id in owners:
                versions = registry.adapters.get(name, {})
                digests |= {version: block.digest for version, block in versions.items()}
        for owner in owners if self.registries else ():
            try:
                seen = Memory(self.registries[0].cache_folder, owner, owner).recall(owner)
            except AdapterHubError:
                continue  # damaged: told where that registry is read
            for ref, digest in seen.versions.items() if seen else ():
                if ref.rpartition("@")[0] == name:
                    digests.setdefault(ref.rpartition("@")[2], digest)
        return digests

    def _line(self, name: str, registry: Registry) -> str:
        namespace = name.partition("/")[0]
        shipped = self._is_shipped(namespace)
        whose = "the embedded catalogue" if shipped else "another registry, where it was seen first"
        return (
            f"{name} in registry {registry.label} does not count: the namespace {namespace} belongs to "
            f"{whose}; to take it from there, pin its digest ({name}@VERSION#sha256:…), or trust it: "
            f"`adapter-hub --registry {registry.label} registry trust --namespace {namespace}`"
        )

    def _remember(self, namespace: str, registry: Registry) -> None:
        try:
            trust_namespace(namespace, registry)
        except (AdapterHubError, OSError) as error:
            self.warnings.append(
                f"could not write down that {namespace} belongs to {registry.label}: {error}"
            )


def trust_namespace(namespace: str, registry: Registry) -> None:
    """Let a registry list names in a namespace, too; see `change_trust` for what is raised.

    Args:
        namespace: the part of a name before the slash.
        registry: the one to trust with it.
    """
    registry_id, key = registry.registry_id, name_key(namespace)

    def change(trust: Trust) -> Trust:
        owners = trust.namespaces.get(key, ())
        if registry_id in owners or len(trust.namespaces) >= MAXIMUM_NAMESPACES:
            return trust
        return trust.model_copy(update={"namespaces": {**trust.namespaces, key: (*owners, registry_id)}})

    change_trust(change)
