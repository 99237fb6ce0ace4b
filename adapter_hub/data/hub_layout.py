"""Which parquet files of a data set's repository belong to which configuration and split.

    shards = find_shards("google/fleurs", paths, card, config="da_dk", split="test")

The card's `configs` decide if there are any. Otherwise file names decide, in the forms that the Hub's own
converter and the `datasets` library write: `da_dk/test/0000.parquet` (branch refs/convert/parquet),
`data/da_dk/test-00000-of-00001.parquet`, `da_dk/test-….parquet`, `data/test-….parquet`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from adapter_hub.errors import InvalidInputError, NotFoundError
from adapter_hub.escaping import shown

DEFAULT = "default"  # what the `datasets` library calls the only configuration
SHOWN = 12  # names listed in one error
_NUMBERED = re.compile(r"(?P<split>.+?)-\d{4,6}-of-\d{4,6}(-[0-9a-f]{8,})?")
_CONVERTED = re.compile(r"\d{4,6}")
MOST_COMPARED = 5_000_000  # patterns times files: a few seconds
_CONTAINERS = ("data", "parquet-data")  # folders that do not name a configuration

Layout = dict[str, dict[str, list[str]]]  # paths by configuration and split


def find_shards(
    where: str, paths: Sequence[str], card: Mapping[str, Any], config: str | None, split: str
) -> tuple[str, list[str]]:
    """Return the configuration and the parquet files of a split, in order.

    Args:
        where: the name of the data set in errors.
        paths: of all files in the repository.
        card: metadata of its card.
        config: the configuration; None if there is only one, or a default.
        split: `train`, `test`, …

    Raises:
        NotFoundError: no parquet, or no such configuration or split; the message lists those that exist.
        InvalidInputError: a card with too many patterns.
    """
    parquet = sorted(path for path in paths if path.endswith(".parquet"))
    if not parquet:
        raise NotFoundError(
            f"{where}: no parquet files at this commit; many data sets have them on the branch "
            "refs/convert/parquet: use a commit of that branch as revision"
        )
    layout = _from_card(card, parquet) or _from_names(parquet)
    chosen = config or next((name for name in layout if len(layout) == 1 or name == DEFAULT), None)
    if chosen is None:
        raise NotFoundError(f"{where}: name a config, one of {_listed(layout)}")
    if chosen not in layout:
        raise NotFoundError(f"{where}: no config {chosen!r}; there are {_listed(layout)}")
    if split not in layout[chosen]:
        raise NotFoundError(f"{where} {chosen}: no split {split!r}; there are {_listed(layout[chosen])}")
    return chosen, layout[chosen][split]


def _from_card(card: Mapping[str, Any], parquet: Sequence[str]) -> Layout:
    """Return the layout in the card's `configs`, as far as they name existing parquet files.

    Raises:
        InvalidInputError: more patterns than can be compared with these files.
    """
    layout: Layout = {}
    known: dict[str, list[str]] = {}  # files by pattern
    work = 0
    configs = card.get("configs")
    for item in configs if isinstance(configs, list) else ():
        for split, pattern in _data_files(item.get("data_files")) if isinstance(item, dict) else ():
            work += len(known.get(pattern, parquet)) + 1
            if work > MOST_COMPARED:
                raise InvalidInputError(
                    f"the data set's card names too many patterns for {len(parquet)} files; expected a few "
                    "for each configuration and split"
                )
            if pattern not in known:
                known[pattern] = [path for path in parquet if _matches(path, pattern)]
            if found := known[pattern]:
                splits = layout.setdefault(_text(item.get("config_name")) or DEFAULT, {})
                splits[split] = sorted({*splits.get(split, ()), *found})
    return layout


def _data_files(value: Any) -> Iterator[tuple[str, str]]:
    """Yield split and pattern of one configuration, in any of the forms that cards use."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, dict):
        value = [{"split": split, "path": path} for split, path in value.items()]
    for item in value if isinstance(value, list) else ():
        if isinstance(item, str):
            yield "train", item
        elif isinstance(item, dict):
            patterns = item.get("path")
            for pattern in patterns if isinstance(patterns, list) else [patterns]:
                if isinstance(pattern, str):
                    yield _text(item.get("split")) or "train", pattern


def _text(value: Any) -> str:
    """Return a name, which YAML may have read as a number; empty for anything else."""
    return str(value) if isinstance(value, str | int | float | bool) else ""


def _matches(path: str, pattern: str) -> bool:
    """Match like a shell: `*` stays within a folder, `**` does not."""
    if "**" in pattern:
        return fnmatchcase(path, pattern.replace("**/", "*")) or fnmatchcase(path, pattern)
    parts, wanted = path.split("/"), pattern.removeprefix("./").split("/")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


def _from_names(parquet: Sequence[str]) -> Layout:
    layout: Layout = {}
    for path in parquet:
        *folders, name = path.removesuffix(".parquet").split("/")
        if _CONVERTED.fullmatch(name) and folders:
            split = folders.pop()
        else:
            numbered = _NUMBERED.fullmatch(name)
            split = numbered["split"] if numbered else name
        while folders and folders[0] in _CONTAINERS:
            del folders[0]
        layout.setdefault("/".join(folders) or DEFAULT, {}).setdefault(split, []).append(path)
    return layout


def _listed(names: Mapping[str, Any]) -> str:
    found = sorted(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return shown(", ".join(found[:SHOWN])) + more
