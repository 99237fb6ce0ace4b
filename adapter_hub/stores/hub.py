"""A store on a Hub: one model repository for each adapter of a namespace, one tag for each version.

    store = HubStore("alice")                 # hf://alice, on HF_ENDPOINT or huggingface.co
    store.push(artifact)                      # commit, read back, tag
    store.fetch("alice/da", "1.0.0", folder)

    v1.0.0, v1.1.0, …      the commit whose tree is the artifact, in PEFT's layout, with its card
    main                   the version for those who ask for none; claims come in later commits

A version is there from the moment that its tag is, and its commit was read back before. Whatever comes
from the Hub is hashed here and compared with the manifest, and tags with what they were before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from adapter_hub.artifact.contents import check_size
from adapter_hub.artifact.folder import MAXIMUM_MANIFEST, Artifact
from adapter_hub.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StatusError,
)
from adapter_hub.formats.canonical import digest_of
from adapter_hub.formats.claims import StatusEntry
from adapter_hub.formats.manifest import MANIFEST_FILE, Manifest
from adapter_hub.formats.reference import check_name, check_version, name_key
from adapter_hub.formats.registry_file import Location
from adapter_hub.formats.versions import preferred, sort_versions
from adapter_hub.hub import HubClient, Refs, RepoId, scratch_folder
from adapter_hub.paths import cache_folder
from adapter_hub.reporting import ReceivedBytes
from adapter_hub.stores.claim_files import (
    EVALUATIONS,
    MAXIMUM_CLAIM,
    STATUS_FILE,
    check_about,
    parse_statuses,
    read_claims,
    report_path,
    statuses_with,
)
from adapter_hub.stores.contract import Claim, Claims, ReadableClaims
from adapter_hub.stores.hub_commits import (
    PLAIN_CARD,
    TAG,
    Repository,
    publish_version,
    show_version,
    versions_of,
    withdraw_version,
)
from adapter_hub.stores.hub_downloads import Commit, download_artifact, fetch_artifact
from adapter_hub.stores.known_repos import KnownRepos
from adapter_hub.stores.moved_repos import another_name, was_called


class HubStore:
    """The adapters of one namespace on a Hub.

    Attributes:
        namespace: the user or organisation.
        client: of the Hub.
        private: whether new repositories are only for those with access; None for the account's default.
        progress: called with the number of bytes that arrived.
        repo: the only one to look in, for any adapter; None for the one of the adapter's name.
        trusted: digest of a manifest that is accepted under any name.
    """

    def __init__(
        self,
        namespace: str,
        *,
        client: HubClient | None = None,
        cache: Path | None = None,
        private: bool | None = None,
        progress: ReceivedBytes | None = None,
        ask_once: bool = False,
    ) -> None:
        """Name a store without asking for anything.

        Args:
            namespace: the user or organisation.
            client: of the Hub; by default that of HF_ENDPOINT.
            cache: folder for unfinished downloads and for what was seen; the user's by default.
            private: see the attributes.
            progress: see the attributes.
            ask_once: ask for a repository's branches and tags once and answer everything from that.

        Raises:
            InvalidInputError: not a namespace.
        """
        try:
            check_name(f"{namespace}/x")
        except InvalidInputError:
            raise InvalidInputError(
                f"store hf://{namespace}: expected hf://namespace, a user or an organisation on the Hub"
            ) from None
        self.namespace = namespace
        self.client = client or HubClient()
        if ask_once:
            self.client.ask_once()
        self.private, self.progress = private, progress
        self._cache = cache or cache_folder()
        self.known = KnownRepos(self._cache, self.client.endpoint)
        self._manifests: dict[tuple[str, str], tuple[Manifest, str]] = {}  # of a commit: they never change
        self._entries: dict[tuple[str, str], tuple[StatusEntry, ...]] = {}
        self.repo: RepoId | None = None
        self.trusted: str | None = None
        self._renamed: dict[tuple[str, str], bool] = {}

    def label(self, registry: Path) -> str:
        """Return `hf://namespace`."""
        return f"hf://{self.namespace}"

    def location(self, name: str, version: str, registry: Path) -> Location:
        """Return the repository and the commit of a version; see `Store.location`."""
        return Location(store=self.label(registry), repo=name, commit=self._commit(name, version))

    def asking_once(self) -> AbstractContextManager[None]:
        """Ask the Hub for nothing twice, see `Store.asking_once`."""
        return self.client.asking_once()

    def ask_again(self) -> None:
        """Ask for branches and tags again, see `Store.ask_again`."""
        self.client.forget()

    def names(self) -> list[str]:
        """Return the names that have at least one version, as far as the Hub's search knows them, sorted."""
        found = [item.id for item in self.client.search([TAG], author=self.namespace)]
        return sorted(name for name in found if self._is_ours(name) and self.versions(name))

    def _is_ours(self, name: str) -> bool:
        try:
            return self._repo(name) is not None
        except InvalidInputError:
            return False

    def versions(self, name: str) -> list[str]:
        """Return the versions from oldest to newest, withdrawn ones included."""
        return sort_versions(versions_of(self._refs(name)))

    def manifest(self, name: str, version: str) -> tuple[Manifest, str]:
        """Return the manifest of a version and its digest; see `Store.manifest`."""
        return self._manifest(name, version, self._commit(name, version))

    def push(self, artifact: Artifact, card: str = "", *, restore: bool = False) -> bool:
        """Take an artifact in; see `Store.push`.

        Raises, besides that:
            AccessError: not this user's namespace. UnreachableError: try again, it goes on where it was.
        """
        artifact.verify()
        with self.asking_once():
            return self._push(artifact, card, restore)

    def _push(self, artifact: Artifact, card: str, restore: bool) -> bool:
        name, version = artifact.manifest.name, artifact.manifest.version
        repo, refs = self._repo(name), self._refs(name)
        self._refuse_withdrawn(name, version, refs)
        if not refs.branches:  # there is no repository, and none is made for a card that the Hub refuses
            self.client.check_card(repo, card or PLAIN_CARD)
            self.client.create_repo(repo, self.private)
        self._refuse_other_spelling(name, refs)
        repository = Repository(self.client, repo, self._read_back)
        is_written = publish_version(repository, artifact, card, restore)
        self.known.check_tag(repo, f"v{version}", self._commit(name, version), artifact.digest)
        return is_written

    def fetch(
        self, name: str, version: str, folder: Path, *, digest: str | None = None, size: int | None = None
    ) -> Artifact:
        """Copy a version to `folder`; see `Store.fetch`. An interrupted download goes on where it was."""
        refs = self._refs(name)
        commit = self._commit(name, version, refs)
        self._refuse_withdrawn(name, version, refs)
        manifest, found = self._manifest(name, version, commit)
        if digest is not None and found != digest:
            raise IntegrityError(f"{self._repo(name)} v{version}: holds digest {found}, expected {digest}")
        check_size(manifest, size, f"{self._repo(name)} v{version}")
        return fetch_artifact(self._commit_at(name, commit), manifest, folder, self._cache)

    def attach(self, name: str, claim: Claim) -> None:
        """Add a report or a status entry; see `Store.attach`."""
        if isinstance(claim, StatusEntry):
            self.attach_statuses(name, [claim])
        else:
            known = [self.manifest(name, version)[0].function_digest for version in self.versions(name)]
            path = report_path(claim, known, f"store hf://{self.namespace}")
            message = f"Evaluation on {claim.data}"
            self._write(self._repo(name), lambda head: {path: claim.to_bytes()}, message)

    def attach_statuses(self, name: str, entries: Sequence[StatusEntry], *, known: bool = False) -> None:
        """Add status entries in one commit; see `Store.attach_statuses`."""
        repo = self._repo(name)
        versions = set() if known else {entry.version for entry in entries}
        digests = {version: self.manifest(name, version)[1] for version in versions}
        for entry in entries:
            check_about(name, entry, digests.get(entry.version, entry.digest))
        if entries:
            message = "; ".join(f"{entry.version} is {entry.status}" for entry in entries[-3:])
            self._write(repo, lambda head: self._status_file(repo, head, entries), message)

    def claims(self, name: str) -> Claims:
        """Return all claims about the versions of `name`; see `Store.claims`."""
        return self.readable_claims(name).all_sound(f"claims about hf://{name}")

    def readable_claims(self, name: str) -> ReadableClaims:
        """Return the claims about the versions of `name` that can be read; see `Store.readable_claims`."""
        refs = self._refs(name)
        if "main" not in refs.branches:
            return ReadableClaims(Claims())
        repo, head = self._repo(name), refs.branches["main"]
        tree = self.client.tree(repo, head)
        paths = [path for path in tree if path == STATUS_FILE or path.startswith(f"{EVALUATIONS}/")]
        if too_large := [path for path in paths if tree[path].size > MAXIMUM_CLAIM]:
            raise IntegrityError(
                f"claims about {name}", [f"{p}: larger than {MAXIMUM_CLAIM} bytes" for p in too_large]
            )
        with scratch_folder() as scratch:
            self.client.download(repo, head, dict.fromkeys(paths), Path(scratch))
            return read_claims({path: Path(scratch, path) for path in sorted(paths)}, f"{repo}")

    def statuses(self, name: str) -> Claims:
        """Return the statuses of the versions of `name` alone, which costs less than all claims.

        Args:
            name: of the adapter, `namespace/name`.
        """
        return self._statuses(name, self._refs(name))

    def withdraw(self, name: str, version: str) -> tuple[str, ...]:
        """Remove the weights of a version for good; its manifest and its ancestors' stay."""
        repo, commit = self._repo(name), self._commit(name, version)
        manifest, _ = self._manifest(name, version, commit)
        statuses = self.statuses(name)
        others: set[str] = set()
        for other in self.versions(name):
            last = statuses.status_of(other)
            if other != version and (last is None or last.status != "withdrawn"):
                others |= {entry.sha256 for entry in self.manifest(name, other)[0].files}
        withdraw_version(Repository(self.client, repo, self._read_back), manifest, commit, others)
        return ()

    def present(self, name: str, version: str, card: str) -> None:
        """Make a version the one on `main`, with its card; see `Store.present`."""
        commit = self._commit(name, version)
        repository = Repository(self.client, self._repo(name), self._read_back)

        def fetch(folder: Path) -> Artifact:
            return self.fetch(name, version, folder)

        show_version(repository, version, commit, card, fetch)

    # what the public methods are made of

    def _repo(self, name: str) -> RepoId:
        if self.repo is not None:
            return self.repo
        if not self._is_in_namespace(name):
            raise InvalidInputError(f"store hf://{self.namespace}: cannot hold {name}, another namespace's")
        return RepoId(name)

    def _is_in_namespace(self, name: str) -> bool:
        return name_key(check_name(name).partition("/")[0]) == name_key(self.namespace)

    def _refs(self, name: str) -> Refs:
        if self.repo is None and not self._is_in_namespace(name):
            return Refs({}, {})  # several stores are asked for a name when a registry is rebuilt
        try:
            return self.client.refs(self._repo(name))
        except NotFoundError:
            return Refs({}, {})

    def _refuse_other_spelling(self, name: str, refs: Refs) -> None:
        """Refuse another spelling of what the repository holds; to the Hub case makes no difference."""
        newest = preferred(versions_of(refs))
        if newest is None:
            return
        with suppress(
            IntegrityError, InvalidInputError, NotFoundError
        ):  # damaged; whoever fetches it is told
            held = self._manifest(name, newest, refs.tags[f"v{newest}"])[0].name
            if held != name and name_key(held) == name_key(name):
                raise ConflictError(
                    f"{name}: store hf://{self.namespace} has {held}, and names that differ by case alone "
                    f"are one name; publish it as {held}, with --as NAME@VERSION"
                )

    def _commit(self, name: str, version: str, refs: Refs | None = None) -> str:
        check_version(version)
        commit = (refs or self._refs(name)).tags.get(f"v{version}")
        if commit is None:
            raise NotFoundError(f"store hf://{self.namespace}: no {name}@{version} on {self.client.endpoint}")
        return commit

    def _manifest(self, name: str, version: str, commit: str) -> tuple[Manifest, str]:
        """Return the manifest in a commit and its digest, compared with what its tag named before."""
        repo, key = self._repo(name), (name, commit)
        if key not in self._manifests:
            raw = self.client.read(repo, commit, MANIFEST_FILE, limit=MAXIMUM_MANIFEST)
            manifest = Manifest.parse_canonical(raw, f"{MANIFEST_FILE} of {repo}@{commit[:12]}")
            self._check_name(repo, manifest, (name, version), digest_of(raw))
            self._manifests[key] = manifest, digest_of(raw)
        manifest, digest = self._manifests[key]
        self.known.check_tag(repo, f"v{version}", commit, digest)
        return manifest, digest

    def _check_name(self, repo: RepoId, manifest: Manifest, asked: tuple[str, str], digest: str) -> None:
        """Refuse a manifest of another version, or of another name that this repository never had."""
        name, version = asked
        if manifest.version != version:
            raise IntegrityError(f"{repo} v{version}: holds {manifest.ref}, expected {name}@{version}")
        if name_key(manifest.name) == name_key(name) or digest == self.trusted:
            return
        key = (repo.id, manifest.name)
        if key not in self._renamed:
            self._renamed[key] = was_called(self.client, repo, manifest.name)
        if not self._renamed[key]:
            raise another_name(self.client, repo, manifest, digest)
        seen = self.known.recall(RepoId(manifest.name)).tags.get(f"v{version}")
        if seen and seen.digest != digest:
            raise IntegrityError(
                f"{repo} v{version}: the tag was moved: it named {seen.digest}, now {digest}"
            )

    def _read_back(self, artifact: Artifact, commit: str) -> None:
        """Download what was just written and compare it with `artifact`, byte by byte.

        Raises:
            IntegrityError: the Hub keeps something else.
        """
        with scratch_folder() as scratch:
            download_artifact(
                self._commit_at(artifact.manifest.name, commit), artifact.manifest, Path(scratch)
            )

    def _commit_at(self, name: str, commit: str) -> Commit:
        return Commit(self.client, self._repo(name), commit, self.progress)

    def _refuse_withdrawn(self, name: str, version: str, refs: Refs) -> None:
        last = self._statuses(name, refs).status_of(version)
        if last and last.status == "withdrawn":
            raise StatusError(f"{name}@{version} was withdrawn ({last.reason}): its files were removed")

    def _statuses(self, name: str, refs: Refs) -> Claims:
        head = refs.branches.get("main")
        return Claims(statuses=self._statuses_at(self._repo(name), head) if head else ())

    def _statuses_at(self, repo: RepoId, head: str) -> tuple[StatusEntry, ...]:
        key = (repo.id, head)
        if key not in self._entries:
            try:
                raw = self.client.read(repo, head, STATUS_FILE, limit=MAXIMUM_CLAIM)
                self._entries[key] = parse_statuses(raw, f"{STATUS_FILE} of {repo}")
            except NotFoundError:
                self._entries[key] = ()
        return self._entries[key]

    def _status_file(self, repo: RepoId, head: str, entries: Sequence[StatusEntry]) -> dict[str, bytes]:
        data = statuses_with(self._statuses_at(repo, head), entries)
        return {} if data is None else {STATUS_FILE: data}

    def _write(self, repo: RepoId, plan: Callable[[str], dict[str, bytes]], message: str) -> None:
        """Add files to `main`, planned again whenever another writer was faster."""
        Repository(self.client, repo, self._read_back).write_claims(plan, message)
