"""Data sets on the Hub at a commit: parquet files with audio, as FLEURS, MLS and most others have them.

    split = HubSplit(RepoId("google/fleurs", "dataset"), commit, "test", config="da_dk")
    dataset = read_hub_dataset(split, cache_folder())

    <cache>/datasets/<key>/dataset.json       which files of which commit
    <cache>/datasets/<key>/00000/…            the first of them, unpacked

One file is downloaded, compared with the Hub's sha256, unpacked and removed before the next one; after a
process was killed, the next one continues with the same file. What is in the cache needs no request. Audio
is decoded by soundfile: neither the `datasets` package nor ffmpeg is needed, and no code of the repository
is run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.cards.front_matter import read_front_matter
from adapter_hub.data.clips import PackedClip
from adapter_hub.data.dataset import Dataset, Utterance
from adapter_hub.data.hub_layout import find_shards
from adapter_hub.data.parquet_shard import AUDIO, read_rows, unpack
from adapter_hub.errors import IntegrityError, InvalidInputError, NotFoundError
from adapter_hub.files.locks import held
from adapter_hub.files.writing import folder_in_the_making, make_folder, remove_folder, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.hub import ExpectedFile, HubClient, RepoId, check_pin
from adapter_hub.reporting import Tell

CARD = "README.md"
CARD_LIMIT = 16 * 2**20  # bytes; the cards of data sets with hundreds of configurations are large
SPEAKERS = (
    "speaker_id",
    "speaker",
    "client_id",
)  # columns that name the speaker; the first that exists is used
DOMAIN = "domain"  # the column that names the kind of speech


@dataclass(frozen=True)
class HubSplit:
    """A split of a data set on the Hub.

    Attributes:
        repo: of kind `dataset`.
        commit: 40 hexadecimal digits.
        split: its name in the data set: `train`, `validation`, …
        config: of a data set with several, such as `da_dk`; None where there is only one.
        audio_column: column of structs {bytes, path}.
        text_column: column of references.
    """

    repo: RepoId
    commit: str
    split: str
    config: str | None = None
    audio_column: str = "audio"
    text_column: str = "transcription"

    @classmethod
    def parse(cls, address: str, **options: Any) -> HubSplit:
        """Parse `hf://datasets/namespace/name@commit`.

        Args:
            address: of the data set.
            options: the other attributes.

        Raises:
            InvalidInputError: not a data set, or without a commit.
        """
        place, _, revision = address.partition("@")
        repo = RepoId.parse(place)
        if repo.kind != "dataset":
            raise InvalidInputError(
                f"{address}: not a data set; expected hf://datasets/namespace/name@commit"
            )
        return cls(repo, check_pin(repo.id, revision), **options)

    @property
    def name(self) -> str:
        """The data set with its configuration, such as `google/fleurs:da_dk`."""
        return f"{self.repo.id}:{self.config}" if self.config else self.repo.id


def read_hub_dataset(
    wanted: HubSplit, cache: Path, client: HubClient | None = None, tell: Tell = lambda _: None
) -> Dataset:
    """Return the rows of a split; what is not in the cache is downloaded.

    Rows without audio or text are listed in `Dataset.unusable`.

    Args:
        wanted: the split.
        cache: the cache folder.
        client: of the Hub; None for a new one with the user's settings.
        tell: receives lines of progress.

    Raises:
        NotFoundError: no such data set, commit, configuration, split or column; the message lists those
            that exist.
        InvalidInputError: not parquet with audio. IntegrityError: the download has another sha256 than on
            the Hub.
        MissingExtraError: pyarrow is not installed. AccessError, UnreachableError: of the Hub.
    """
    key = [wanted.repo.id, wanted.commit, wanted.config, wanted.split, wanted.audio_column]
    folder = cache / "datasets" / sha256_hex(canonical_bytes(key))[:32]
    make_folder(folder.parent)
    with held(folder.with_name(f"{folder.name}.lock"), -1, f"data set {wanted.name}"):
        plan = _plan(wanted, folder, client)
        for number, shard in enumerate(plan["shards"]):
            if _unpacked(folder / f"{number:05d}") is None:
                tell(f"{wanted.name} {wanted.split}: file {number + 1} of {len(plan['shards'])}")
                _fetch(wanted, folder, number, shard, client)
        with suppress(OSError):
            shutil.rmtree(folder / "download", ignore_errors=True)
            os.utime(folder / "dataset.json")
    return _dataset(wanted, folder, plan)


def _plan(wanted: HubSplit, folder: Path, client: HubClient | None) -> dict[str, Any]:
    """Return which files the split consists of, from the cache or from the Hub."""
    with suppress(OSError, ValueError):
        plan = json.loads((folder / "dataset.json").read_bytes())
        if isinstance(plan, dict) and isinstance(plan.get("shards"), list):
            return plan
    client = client or HubClient()
    tree = client.tree(wanted.repo, wanted.commit)
    card: dict[str, Any] = {}
    if CARD in tree:
        text = client.read(wanted.repo, wanted.commit, CARD, limit=CARD_LIMIT).decode("utf-8", "replace")
        card = read_front_matter(text)
    where = f"{wanted.repo}@{wanted.commit[:12]}"
    config, paths = find_shards(where, list(tree), card, wanted.config, wanted.split)
    shards = [{"path": path, "size": tree[path].size, "sha256": tree[path].sha256} for path in paths]
    plan = {
        "schema": "dataset/1",
        "repo": wanted.repo.id,
        "commit": wanted.commit,
        "config": config,
        "split": wanted.split,
        "shards": shards,
    }
    write_atomically(folder / "dataset.json", canonical_bytes(plan))
    return plan


def _unpacked(folder: Path) -> tuple[list[str], list[dict[str, Any]]] | None:
    """Return an unpacked file's columns and rows, or None; a damaged file is removed."""
    try:
        return read_rows(folder)
    except FileNotFoundError:
        pass
    except IntegrityError:
        remove_folder(folder)
    return None


def _fetch(
    wanted: HubSplit, folder: Path, number: int, shard: dict[str, Any], client: HubClient | None
) -> None:
    """Download one file and unpack it."""
    download, path = folder / "download", shard["path"]
    expected = ExpectedFile(shard["size"], shard["sha256"]) if shard["sha256"] else None
    (client or HubClient()).download(wanted.repo, wanted.commit, {path: expected}, download)
    where = f"{wanted.repo}@{wanted.commit[:12]} {path}"
    with folder_in_the_making(folder / f"{number:05d}") as made:
        unpack(download / path, made, wanted.audio_column, where)
    (download / path).unlink()


def _dataset(wanted: HubSplit, folder: Path, plan: dict[str, Any]) -> Dataset:
    rows: list[Utterance] = []
    unusable: list[tuple[str, str]] = []
    seen: set[str] = set()
    for place, row in _rows(wanted, folder, plan):
        row_id = row["path"] if row["path"] and row["path"] not in seen else f"{row['path']}#{len(seen)}"
        seen.add(row_id)
        columns = row["columns"]
        text = columns.get(wanted.text_column)
        if not row["size"]:
            unusable.append((row_id, "no audio in this row"))
        elif not isinstance(text, str) or not text.strip():
            unusable.append((row_id, f"no text in column {wanted.text_column!r}"))
        else:
            speaker = next((str(columns[key]) for key in SPEAKERS if columns.get(key) is not None), None)
            clip = PackedClip(place / AUDIO, row["start"], row["size"], row["sha256"], row["seconds"])
            domain = columns.get(DOMAIN) or None
            named = domain if domain is None else str(domain)
            words = " ".join(text.split())
            rows.append(Utterance(row_id, clip, words, None, speaker, len(seen), domain=named))
    if not rows:
        raise NotFoundError(f"{wanted.name} {wanted.split}: it has no row with audio and text")
    name = f"{wanted.repo.id}:{plan['config']}" if wanted.config else wanted.repo.id
    return Dataset(name, wanted.split, folder, tuple(rows), tuple(unusable))


def _rows(wanted: HubSplit, folder: Path, plan: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for number in range(len(plan["shards"])):
        place = folder / f"{number:05d}"
        columns, rows = read_rows(place)
        if wanted.text_column not in columns:
            raise NotFoundError(
                f"{wanted.name} {wanted.split}: no column {wanted.text_column!r}; there are "
                f'{", ".join(columns)}: name the right one with text_column = "…"'
            )
        for row in rows:
            yield place, row
