"""Where somebody's PEFT adapter is, and what it and its card say of themselves.

    found = open_peft("hf://alice/whisper-small-da@main", scratch)
    found = open_peft("./out", scratch, subfolder="checkpoint-500")
    found.folder, found.base_model, found.languages

A place is a folder, an address as the Hub's pages have it, or `hf://namespace/name@revision`. Nothing but the
adapter's two files is downloaded, and they are hashed here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.artifact.foreign import no_pickles
from adapter_hub.artifact.foreign_config import read_fields
from adapter_hub.artifact.peft import WEIGHTS_FILE
from adapter_hub.artifact.peft_config import CONFIG_FILE, MAXIMUM_CONFIG
from adapter_hub.cards.front_matter import MAXIMUM_CARD, read_front_matter
from adapter_hub.errors import AdapterHubError, InvalidInputError, NotFoundError, few
from adapter_hub.escaping import shown
from adapter_hub.files.reading import read_bounded
from adapter_hub.formats.reference import HUB, is_hub
from adapter_hub.hub import HubClient, RepoId, RepoState, check_revision
from adapter_hub.hub.names import check_path

MAXIMUM_WEIGHTS = 2 * 2**30  # bytes; rank 256 on every linear of whisper-large-v3 in float32 is 1.3 GB
DEPTH = 3  # of sub-folders that are looked into
OPENAI = "openai/whisper-"
_PAGE = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<path>[^?#]*).*")
_VIEWS = ("tree", "blob", "resolve", "raw")
_PARTS = r"[\w.-]+/[\w.-]+(@\S+)?"


@dataclass(frozen=True)
class PeftSource:
    """A PEFT adapter on this machine, and what is said of it.

    Attributes:
        folder: with its two files.
        label: the last part of its name.
        source: `hf://namespace/name@<commit>`, with the sub-folder after it; None for a folder.
        languages: of the card, as written there.
        license: the Hub's spelling.
        base_model: the Hub id, from the adapter's config or its card.
        base_model_revision: from the config, if the base model is, too.
        said: what they say of the base model, for messages.
    """

    folder: Path
    label: str
    source: str | None = None
    languages: tuple[str, ...] = ()
    license: str | None = None
    base_model: str | None = None
    base_model_revision: str | None = None
    said: str = ""


@dataclass(frozen=True)
class HubPlace:
    """Where on the Hub an adapter is.

    Attributes:
        repo: the repository.
        revision: branch, tag or commit.
        subfolder: in it; empty for its top.
    """

    repo: RepoId
    revision: str = "main"
    subfolder: str = ""


def hub_place(text: str) -> HubPlace | None:
    """Return the place on the Hub that a text names, or None for a folder's.

    >>> hub_place("https://huggingface.co/alice/da/tree/v1/best")
    HubPlace(repo=RepoId(id='alice/da', kind='model'), revision='v1', subfolder='best')

    Args:
        text: `hf://namespace/name@revision`, or the address of a page.

    Raises:
        InvalidInputError: of the Hub, and not a model's repository.
    """
    if is_hub(text):
        address, _, revision = text.partition("@")
        parts = address.removeprefix(HUB).removeprefix("models/").split("/")
        if parts[0] == "datasets":
            raise InvalidInputError(f"{shown(text, 120)}: not a model; expected {HUB}namespace/name")
        repo, inside = RepoId("/".join(parts[:2])), "/".join(parts[2:])
        if commit := re.fullmatch(r"([0-9a-f]{40})/(.+)", revision):  # as manifests have it
            revision, inside = commit.groups()
        return HubPlace(repo, check_revision(revision or "main"), inside.rstrip("/"))
    page = _PAGE.fullmatch(text)
    if page is None:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text):
            raise InvalidInputError(
                f"{shown(text, 120)}: expected a folder, {HUB}namespace/name or https://huggingface.co/namespace/name"
            )
        return None
    parts = [part for part in page["path"].split("/") if part]
    if parts[:1] in (["datasets"], ["spaces"]):
        raise InvalidInputError(f"{shown(text, 120)}: not a model; expected {HUB}namespace/name")
    repo, rest = RepoId("/".join(parts[:2])), parts[2:]
    if len(rest) < 2 or rest[0] not in _VIEWS:
        return HubPlace(repo)
    below = rest[2:] if rest[0] == "tree" else rest[2:-1]
    return HubPlace(repo, check_revision(rest[1]), "/".join(below))


def open_peft(text: str, scratch: Path, subfolder: str = "", client: HubClient | None = None) -> PeftSource:
    """Return a PEFT adapter; from the Hub, its two files are downloaded, hashed on this machine.

    Args:
        text: a folder, or a place on the Hub, see `hub_place`.
        scratch: where the files go.
        subfolder: of the folder or repository.
        client: of the Hub; by default that of HF_ENDPOINT.

    Raises:
        NotFoundError: nothing is there, or no adapter as safetensors; the message lists those in sub-folders.
        InvalidInputError: not such a text, or files too large for an adapter.
        AccessError, UnreachableError.
    """
    subfolder, place = subfolder.rstrip("/"), hub_place(text)
    if inside := subfolder or (place.subfolder if place else ""):
        check_path(inside)
    if place is None:
        return _in_folder(text, subfolder)
    client = client or HubClient()
    return _on_hub(HubPlace(place.repo, place.revision, inside), scratch, client)


def _in_folder(text: str, subfolder: str) -> PeftSource:
    top = Path(text)
    try:
        is_there = top.is_dir()
    except (OSError, ValueError):  # a name that is too long
        is_there = False
    if not is_there:
        there = f"; the Hub's is {HUB}{text}" if re.fullmatch(_PARTS, text) else ""
        raise NotFoundError(f"{shown(text, 200)}: no such folder{there}")
    folder = top / subfolder
    if not (folder / CONFIG_FILE).is_file():
        found = (
            path.parent for depth in range(DEPTH) for path in folder.glob(f"{'*/' * depth}*/{CONFIG_FILE}")
        )
        inside = [path.relative_to(top).as_posix() for path in found]
        raise NotFoundError(
            _nothing(str(folder), inside, whole=_is_whole(item.name for item in _items(folder)))
        )
    card: Mapping[str, Any] = {}
    for place in (folder, top):
        try:
            card = card or read_front_matter(read_bounded(place / "README.md", MAXIMUM_CARD).decode("utf-8"))
        except (OSError, UnicodeDecodeError, AdapterHubError):
            continue  # none, or not one that can be read
    return _described(PeftSource(folder, top.resolve().name), RepoState("", "", "", card=card))


def _items(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_whole(names: Iterable[str]) -> bool:
    """Tell whether these are files of a whole model."""
    there = set(names)
    return "config.json" in there and any(name.startswith(("model", "pytorch_model")) for name in there)


def _nothing(where: str, inside: Iterable[str], *, whole: bool) -> str:
    """Return why there is no adapter at a place, and where there is one."""
    if found := sorted(set(inside), key=_by_number):
        listed = few(found, separator=", ", most=8)
        last = shown(found[-1], 100)
        return f"{where}: no {CONFIG_FILE}, but in {listed}; name one of them, like --subfolder {last}"
    then = "; a whole model, of which `adapter-hub extract` makes an adapter" if whole else ""
    return f"{where}: no {CONFIG_FILE}; expected a LoRA as PEFT saves it{then}"


def _by_number(text: str) -> list[tuple[int, str]]:
    """Order checkpoint-900 before checkpoint-1000."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _on_hub(place: HubPlace, scratch: Path, client: HubClient) -> PeftSource:
    state = client.state(place.repo, place.revision)
    source = f"{place.repo}@{state.commit}" + (f"/{place.subfolder}" if place.subfolder else "")
    start = f"{place.subfolder}/" if place.subfolder else ""
    tree = client.tree(place.repo, state.commit)
    limits = {f"{start}{CONFIG_FILE}": MAXIMUM_CONFIG, f"{start}{WEIGHTS_FILE}": MAXIMUM_WEIGHTS}
    if missing := [name for name in limits if name not in tree]:
        here = [path.removeprefix(start) for path in tree if path.startswith(start)]
        pickles = [name for name in here if name.endswith((".bin", ".pt", ".pth"))]
        inside = [
            path.removesuffix(f"/{CONFIG_FILE}")
            for path in tree
            if path.startswith(start) and path.endswith(f"/{CONFIG_FILE}")
        ]
        if f"{start}{CONFIG_FILE}" not in tree and (inside or not pickles):
            raise NotFoundError(_nothing(source, inside, whole=_is_whole(here)))
        if pickles:
            raise NotFoundError(no_pickles(source, pickles))
        raise NotFoundError(f"{source}: no {', '.join(missing)}; expected a PEFT adapter as safetensors")
    for name, limit in limits.items():
        if tree[name].size > limit:
            raise InvalidInputError(f"{source}: {name} has {tree[name].size} bytes, expected at most {limit}")
    client.download(place.repo, state.commit, {name: tree[name].expected for name in limits}, scratch)
    found = PeftSource(scratch / place.subfolder, place.repo.id.rpartition("/")[2], source)
    return _described(found, state)


def _described(found: PeftSource, state: RepoState) -> PeftSource:
    """Add what config and card say; the base model is the first that is a repository of the Hub."""
    fields = read_fields(found.folder)
    named, revision = fields.get("base_model_name_or_path"), fields.get("revision")
    of_config, on_card = _hub_id(named), state.card.get("base_model")
    of_card = {name for text in state.card_texts("base_model") if (name := _hub_id(text))}
    return PeftSource(
        found.folder,
        found.label,
        found.source,
        state.languages,
        next(iter(state.card_texts("license")), None),
        of_config or (of_card.pop() if len(of_card) == 1 else None),
        check_revision(revision) if of_config and isinstance(revision, str) and revision else None,
        f"its {CONFIG_FILE} names {_words(named)} as its base model and its card {_words(on_card)}: "
        "no id of one model on the Hub",
    )


def _hub_id(named: Any) -> str | None:
    """Return the id of a repository on the Hub, OpenAI's in their own case; None for anything else."""
    if not isinstance(named, str):
        return None
    try:
        name = RepoId(named.strip().removeprefix("https://huggingface.co/")).id
    except InvalidInputError:
        return None
    return name.lower() if name.lower().startswith(OPENAI) else name


def _words(named: Any) -> str:
    return shown(repr(named), 100) if named not in (None, "") else "nothing"
