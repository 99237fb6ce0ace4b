"""Claims about published versions: evaluation reports and statuses, in the store and then in the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adapter_hub.artifact.privacy import refuse_report, without_names
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError, StatusError, few
from adapter_hub.exchange.holdings import claims_to_extend, manifest_at, write_card
from adapter_hub.exchange.places import Places, check_pair, registry_turn, update_entry
from adapter_hub.files.writing import check_writable
from adapter_hub.formats.claims import EvaluationReport, Status, StatusEntry, Subject
from adapter_hub.formats.reference import AdapterRef
from adapter_hub.formats.registry_file import Adapters, VersionBlock
from adapter_hub.formats.times import is_ahead, second_after, utc_now
from adapter_hub.registry.contract import Registry
from adapter_hub.registry.lineage import lineage_graph
from adapter_hub.registry.resolution import Resolved, look_up
from adapter_hub.registry.standing import Standings
from adapter_hub.stores.claim_files import MAXIMUM_CLAIM
from adapter_hub.stores.contract import Store
from adapter_hub.stores.folder import FolderStore
from adapter_hub.stores.summary import scores_of


def attach(report: EvaluationReport, places: Places, *, with_speakers: bool = False) -> Subject:
    """Add an evaluation report to the adapter that it is about, and its score to the registry.

    An adapter that is published under another name than it was measured as is found by its function digest.

    Args:
        report: of an evaluation.
        places: the registry that lists the adapter, and the store that keeps it.
        with_speakers: publish the names of speakers and files as they are, see `privacy.without_names`.

    Returns:
        What the registry calls the adapter.

    Raises:
        InvalidInputError: the report is about the base model alone. NotFoundError: no published version
            is what it measured. IntegrityError: it was measured on another base model, or holds a token or a
            path of a machine.
    """
    report = report if with_speakers else without_names(report)
    refuse_report(report)
    if (size := len(report.to_bytes())) > MAXIMUM_CLAIM:
        raise InvalidInputError(
            f"report on {report.subject.name}: {size} bytes, at most {MAXIMUM_CLAIM} are read; evaluate "
            "fewer utterances"
        )
    registry, store = places.own_registry(), places.own_store()
    check_pair(registry, store)
    with registry_turn(registry, store):
        subject = published_subject(report.subject, report.base_model_digest, registry)
        report = report.model_copy(update={"subject": subject})
        name, function = str(subject.name), str(subject.function_digest)
        store.attach(name, report)

        def change(adapters: Adapters) -> None:
            scores = scores_of(
                store.readable_claims(name).claims.reports_on(function)
            )  # others' reports, too
            for version, block in adapters[name].items():
                if block.function_digest == function:
                    adapters[name][version] = block.model_copy(update={"scores": scores})

        update_entry(registry, store, change)
        write_card(name, store)
    return subject


def check_attachable(subject: Subject, base_model: str, places: Places) -> None:
    """Refuse, before something is evaluated for hours, what its report could not be attached to.

    Args:
        subject: of the report.
        base_model: digest of the base model that is measured on.
        places: as `attach` takes them.

    Raises:
        InvalidInputError, NotFoundError, IntegrityError: as `attach`. OSError: the store is read-only.
    """
    registry, store = places.own_registry(), places.own_store()
    check_pair(registry, store)
    published_subject(subject, base_model, registry)
    if isinstance(store, FolderStore):
        check_writable(store.path / "x")
        check_writable(registry.path)


def published_subject(subject: Subject, base_model: str, registry: Registry) -> Subject:
    """Return what a registry calls what was measured: its own name, or the one it was published as.

    Args:
        subject: of a report.
        base_model: digest of the base model that was measured on.
        registry: that lists it.

    Raises:
        InvalidInputError: the base model alone, or what is published under several other names.
        NotFoundError: nothing with this function. IntegrityError: made for another base model.
    """
    own, function = subject.name, subject.function_digest
    if own is None or function is None:
        raise InvalidInputError("this report is about the base model alone; no adapter can carry it")
    adapters = registry.adapters
    names = [own] if _with_function(adapters.get(own, {}), function) else []
    names = names or [name for name in adapters if _with_function(adapters[name], function)]
    if len(names) != 1:
        found = f"several names have it: {few(names, separator=', ')}; evaluate one of them"
        raise (InvalidInputError if names else NotFoundError)(
            f"registry {registry.label}: no version of {own} has the function digest {function}; "
            f"{found if names else 'publish it first, with `adapter-hub publish FOLDER`'}"
        )
    versions = _with_function(adapters[names[0]], function)
    made_for = next(iter(versions.values())).base_model.digest
    if made_for != base_model:
        raise IntegrityError(
            f"report on {own}: measured on base model {base_model}, the adapter was made for {made_for}"
        )
    version = subject.version if subject.version in versions else next(reversed(versions))
    return Subject(name=names[0], version=version, function_digest=function)


def _with_function(versions: Mapping[str, VersionBlock], function: str) -> dict[str, VersionBlock]:
    return {number: block for number, block in versions.items() if block.function_digest == function}


def retire(ref: AdapterRef, status: Status, reason: str, places: Places) -> list[str]:
    """Change the status of one version; `active` brings it back, unless its files were removed.

    Also of a version whose bytes are lost or damaged: the registry knows what it was.

    Args:
        ref: with an exact version.
        status: the new one.
        reason: why, shown to everybody who asks for the version.
        places: the registry that lists it, the store that keeps it and gets the claim, and who gets warnings.

    Returns:
        `namespace/name@version` of every known descendant, nearest first.

    Raises:
        InvalidInputError: no exact version, or no reason. NotFoundError: not in this registry or store.
        StatusError: it was withdrawn.
    """
    if ref.version is None:
        raise InvalidInputError(f"{ref}: name the version to retire, like {ref.name}@1.0.0")
    if not reason.strip():
        raise InvalidInputError(f"{ref}: a status needs a reason; everybody who asks for it is shown it")
    places = places.opened()
    registry, store, registries = places.own_registry(), places.own_store(), places.registries()
    check_pair(registry, store)
    with registry_turn(registry, store):
        found = _listed(ref, registries)
        ref, block = replace(ref, name=found.name), found.block
        name, version = found.name, found.version
        _check_not_withdrawn(ref, block, status)
        time = _time_after(claims_to_extend(store, name).status_of(version))
        values = {"version": version, "digest": block.digest, "status": status, "reason": reason}
        entry = StatusEntry.model_validate({**values, "time": time})
        problem = _problem_of_bytes(ref, block, store)
        is_noted = _note(name, entry, block, store, registry.path, problem)

        def change(adapters: Adapters) -> None:
            listed = adapters[name][version]
            _check_not_withdrawn(ref, listed, status)
            now = (store.readable_claims(name).claims.status_of(version) if is_noted else None) or entry
            reason = None if now.status == "active" else now.reason
            changes = {"status": now.status, "reason": reason, "since": now.time}
            adapters[name][version] = listed.model_copy(update=changes)

        update_entry(registry, store, change)
        Standings((registry,))  # remembers what it says now
        if status == "withdrawn" and not problem:
            left = store.withdraw(name, version)
            if left:
                more = " and more" * (len(left) > 3)
                places.warn(f"{ref}: {', '.join(left[:3])}{more} in its folder is not part of it and stays")
        write_card(name, store)
    if problem:
        where = "noted there and in the registry" if is_noted else "noted in the registry alone"
        places.warn(f"{ref}: store {store.label(registry.path)} does not have its bytes ({problem}); {where}")
    graph = lineage_graph(registries)
    return [node.label for node in graph.descendants(block.digest)]


def _problem_of_bytes(ref: AdapterRef, block: VersionBlock, store: Store) -> str:
    """Return why a store does not have what was published under a reference; empty if it has."""
    assert ref.version is not None
    held = manifest_at(store, ref.name, ref.version)
    if isinstance(held, str):
        return held
    return "" if held[1] == block.digest else f"it holds other bytes, {held[1]}, expected {block.digest}"


def _note(
    name: str, entry: StatusEntry, block: VersionBlock, store: Store, registry: Path, problem: str
) -> bool:
    """Add a status to the store; return False if the store has lost the place for it.

    Raises:
        NotFoundError: the registry does not name this store for the version, and it does not have it.
    """
    if not problem:
        store.attach(name, entry)
        return True
    label = store.label(registry)
    if all(location.store != label for location in block.locations):
        raise NotFoundError(
            f"store {label} does not have {name}@{entry.version} ({problem}); name a store that has it with "
            "--store"
        )
    try:
        store.attach_statuses(name, [entry], known=True)
    except NotFoundError:
        return False
    return True


def _listed(ref: AdapterRef, registries: Sequence[Registry]) -> Resolved:
    """Return what the registry says of a version; what only others list cannot be changed in it."""
    try:
        return look_up(ref, registries[:1])
    except NotFoundError as error:
        embedded = next((other for other in registries if other.is_embedded), None)
        if embedded is None or ref.version not in embedded.adapters.get(ref.name, {}):
            raise
        raise NotFoundError(
            f"{ref}: is in the embedded catalogue, which cannot be changed; publish it under a name of your "
            "own first, with `adapter-hub publish FOLDER --as NAME@VERSION`"
        ) from error


def _time_after(last: StatusEntry | None) -> str:
    """Return the time, or a second after `last` where this clock is behind: the latest entry counts."""
    now = utc_now()
    if last is None or last.time < now or is_ahead(last.time):  # the latter has no power over later entries
        return now
    return second_after(last.time)


def _check_not_withdrawn(ref: AdapterRef, block: VersionBlock, status: Status) -> None:
    if block.status == "withdrawn" and status != "withdrawn":
        raise StatusError(f"{ref} was withdrawn: its files are gone, so it cannot become {status}")
