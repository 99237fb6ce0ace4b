"""A base model's tokenizer: the vocabulary, and the tokens added to it, as transformers reckons.

    settings = token_settings(tokenizer, tokenizer_config, special_tokens_map, added_tokens, folder)
    settings.record()

Several files may add tokens, or make special ones of those that are there, which are then left out of the
text. Which of them counts follows transformers; the outcome has one spelling here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

END = "<|endoftext|>"
NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
DEFAULTS = {"bos_token": END, "eos_token": END, "unk_token": END}
MAXIMUM_ID = 2**31


@dataclass(frozen=True)
class AddedToken:
    """A token beside the vocabulary's pieces, found in the text as a whole.

    Attributes:
        id: its number.
        content: its text.
        special: left out of the text that was decoded.
        single_word: not inside a word.
        lstrip: takes the space before it along.
        rstrip: takes the space after it along.
    """

    id: int
    content: str
    special: bool = False
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False


@dataclass(frozen=True)
class TokenSettings:
    """The tokenizer.

    Attributes:
        vocabulary: the id of every piece.
        merges: pairs of pieces, in the order in which they are joined.
        added: by id.
        names: the contents of the end-of-text token and its like.
        add_prefix_space: whether a text is encoded as if a space were before it.
    """

    vocabulary: Mapping[str, int]
    merges: tuple[tuple[str, str], ...]
    added: tuple[AddedToken, ...]
    names: Mapping[str, str]
    add_prefix_space: bool

    def id_of(self, content: str) -> int | None:
        """Return the id of a token by its text, None if there is none.

        Args:
            content: of an added token, or of a piece.
        """
        added = (token.id for token in self.added if token.content == content)
        return next(added, self.vocabulary.get(content))

    def record(self) -> dict[str, Any]:
        """Return all of it as plain JSON data; the ids of the pieces only where they leave gaps."""
        pieces = sorted(self.vocabulary, key=self.vocabulary.__getitem__)
        ids = [self.vocabulary[piece] for piece in pieces]
        return {
            "pieces": pieces,
            **({} if ids == list(range(len(ids))) else {"ids": ids}),
            "merges": [f"{first} {second}" for first, second in self.merges],
            "added": [[t.id, t.content, t.special, t.single_word, t.lstrip, t.rstrip] for t in self.added],
            "names": dict(self.names),
            "add_prefix_space": self.add_prefix_space,
        }


def token_settings(
    tokenizer: Mapping[str, Any],
    config: Mapping[str, Any],
    special_tokens_map: Mapping[str, Any],
    added_tokens: Mapping[str, Any],
    folder: Path,
) -> TokenSettings:
    """Return the effective tokenizer of a base model.

    Args:
        tokenizer: tokenizer.json.
        config: tokenizer_config.json; its `added_tokens_decoder` replaces what the other files add.
        special_tokens_map: special_tokens_map.json, of older programs.
        added_tokens: added_tokens.json, of older ones still.
        folder: for messages.

    Raises:
        InvalidInputError: of another kind than Whisper's, or with two tokens of one id.
    """
    try:
        vocabulary, merges = _model(tokenizer.get("model", {}))
        values = dict(config)
        if "added_tokens_decoder" in values:
            added = {
                int(index): _token(item, int(index)) for index, item in values["added_tokens_decoder"].items()
            }
        else:
            values |= special_tokens_map
            added = _older(tokenizer, added_tokens, set(_special(values)))
        every = _completed(added, values, vocabulary)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{folder}: its tokenizer's files are not those of Whisper ({shown(str(error), 100)})"
        ) from None
    names = {name: _content(values.get(name, DEFAULTS.get(name))) for name in NAMES}
    return TokenSettings(
        vocabulary,
        merges,
        tuple(sorted(every, key=lambda token: token.id)),
        {name: content for name, content in names.items() if content is not None},
        bool(values.get("add_prefix_space", False)),
    )


def _model(model: Mapping[str, Any]) -> tuple[dict[str, int], tuple[tuple[str, str], ...]]:
    if model.get("type", "BPE") != "BPE":
        raise ValueError(f"model type {model['type']!r}, expected BPE")
    found = model.get("vocab") or {}
    if isinstance(found, list):
        found = {item[0] if isinstance(item, list) else item: number for number, item in enumerate(found)}
    vocabulary = {_text(piece): _id(index) for piece, index in found.items()}
    if len(set(vocabulary.values())) != len(vocabulary):
        raise ValueError("two pieces of the vocabulary have one id")
    spelt = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or ()]
    pairs = [tuple(text.split(" ")) for text in spelt]  # no piece holds a space: bytes are written as letters
    return vocabulary, tuple((first, second) for first, second in pairs)


def _older(
    tokenizer: Mapping[str, Any], added_tokens: Mapping[str, Any], special: set[str]
) -> dict[int, AddedToken]:
    """Return what added_tokens.json and then tokenizer.json add, by id."""
    added = {
        _id(index): AddedToken(index, _text(text), text in special) for text, index in added_tokens.items()
    }
    return added | {item["id"]: _token(item, item["id"]) for item in tokenizer.get("added_tokens", [])}


def _completed(
    added: Mapping[int, AddedToken], values: Mapping[str, Any], vocabulary: Mapping[str, int]
) -> Iterator[AddedToken]:
    """Yield the added tokens, and those that are special by name alone, with the ids that they get."""
    names = {content for name in NAMES if (content := _content(values.get(name, DEFAULTS.get(name))))}
    known = {token.content for token in added.values()}
    last = max([*added, *vocabulary.values()], default=-1)
    for index, token in added.items():
        named = token.content in names
        yield AddedToken(
            index, token.content, token.special or named, token.single_word, token.lstrip, token.rstrip
        )
    for content in _special(values):
        if content in known or not content:
            continue
        known.add(content)
        if content not in vocabulary:
            last += 1
        yield AddedToken(vocabulary.get(content, last), content, special=True)


def _special(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the contents of all that the configuration calls special, in transformers' order."""
    for name in NAMES:
        if content := _content(values.get(name, DEFAULTS.get(name))):
            yield content
    own = [value for name, value in values.items() if name.endswith("_token") and name not in NAMES]
    own += (values.get("model_specific_special_tokens") or {}).values()
    extra = values.get("extra_special_tokens") or values.get("additional_special_tokens") or []
    for item in (*own, *(extra.values() if isinstance(extra, dict) else extra)):
        if content := _content(item):
            yield content


def _content(value: Any) -> str | None:
    """Return the text of a token that is written as text or as an object."""
    if isinstance(value, dict):
        value = value["content"]
    return None if value is None else _text(value)


def _token(item: Mapping[str, Any], index: int) -> AddedToken:
    flags = {name: bool(item.get(name, False)) for name in ("special", "single_word", "lstrip", "rstrip")}
    return AddedToken(_id(index), _text(item["content"]), **flags)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} where a text is expected")
    return value


def _id(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAXIMUM_ID:
        raise ValueError(f"{value!r} where a token's id is expected")
    return value
