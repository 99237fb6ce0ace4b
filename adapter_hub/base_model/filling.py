"""What a Whisper's generation settings leave out, told from its tokenizer and its shape.

    whole = filled(said, read_config(folder), config, tokens)

Old fine-tunes, distilled models and other tools write a generation_config.json without Whisper's own
settings, or none. Which token starts a text, which ones are languages and tasks, and which write no speech is
the same in every Whisper: so it is read from the tokenizer. A file with `no_timestamps_token_id` is
Whisper's, and what it leaves out beside the necessary is left out on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapter_hub.base_model.tokenizer import END, TokenSettings
from adapter_hub.errors import InvalidInputError
from adapter_hub.escaping import shown

START, NO_TIMESTAMPS, PREVIOUS = "<|startoftranscript|>", "<|notimestamps|>", "<|startofprev|>"
TASKS = ("transcribe", "translate")
LANGUAGE = re.compile(r"<\|[a-z]{2,3}\|>")
# the end of a text in GPT-2's vocabulary, which the English-only models have: one less than in all others
ENGLISH_END = 50256
MARK = "no_timestamps_token_id"  # no other model's generation settings have it
OF_CONFIG = ("decoder_start_token_id", "eos_token_id")  # older than generation_config.json
FIRST_TIMESTAMP = 50  # the latest that may come first, as openai/whisper has it: one second
# what openai/whisper never writes: signs that are no speech, where the tokenizer has one token for them
SIGNS = (
    *'"#()*+/:;<=>@[\\]^_`{|}~「」『』♩♪♫♬♭♮♯',
    *("<<", ">>", "<<<", ">>>", "--", "---", "-(", "-[", "('", '("', "((", "))", "(((", ")))"),
    *("[[", "]]", "{{", "}}", "♪♪", "♪♪♪"),
)
WITH_SPACE_ALONE = ("-", "'")  # within words they are spelling
NOTES = "♩♪♫♬♭♮♯"
NEVER = (
    START,
    "<|transcribe|>",
    "<|translate|>",
    "<|startoflm|>",
    PREVIOUS,
    "<|nospeech|>",
    "<|nocaptions|>",
)


def filled(
    said: Mapping[str, Any], model: Mapping[str, Any], config: Mapping[str, Any], tokens: TokenSettings
) -> dict[str, Any]:
    """Return generation settings with all that tokenizer and shape determine.

    Args:
        said: of generation_config.json; {} without one.
        model: config.json as it is, which has had some of these settings in older versions of transformers.
        config: effective values of config.json.
        tokens: the tokenizer.
    """
    known = {name: value for name, value in said.items() if value not in (None, {})}
    older = {name: model[name] for name in OF_CONFIG if model.get(name) is not None}
    named = dict(_tokens(tokens))
    if "lang_to_id" in known:
        named.pop("is_multilingual", None)
    if known.get("is_multilingual", named.get("is_multilingual", True)) is False:
        named = {name: value for name, value in named.items() if name not in ("lang_to_id", "task_to_id")}
    return {**named, **({} if MARK in known else dict(_usual(model, config, tokens))), **older, **known}


def one_end(value: Any, tokens: TokenSettings, path: Path) -> Any:
    """Return the id at which texts end; a list may have others beside it, which no text holds.

    Args:
        value: `eos_token_id` of a file.
        tokens: the tokenizer.
        path: of the file, for the message.

    Raises:
        InvalidInputError: texts could end at several tokens.
    """
    if not isinstance(value, list) or not value:
        return value
    if all(item == value[0] for item in value):
        return value[0]
    end = tokens.id_of(END)
    written = {index for piece, index in tokens.vocabulary.items() if piece}
    written -= {token.id for token in tokens.added if token.special}
    if end in value and not any(item in written for item in value if isinstance(item, int)):
        return end
    raise InvalidInputError(
        f"{path}: eos_token_id is {shown(value, 60)}; expected the one token at which texts end"
        + (f", like {end}" if end is not None else "")
    )


def _tokens(tokens: TokenSettings) -> Iterator[tuple[str, Any]]:
    """Yield the settings without which nothing can be decoded, as far as the tokenizer has the tokens."""
    for name, content in (("decoder_start_token_id", START), ("eos_token_id", END), (MARK, NO_TIMESTAMPS)):
        if (index := tokens.id_of(content)) is not None:
            yield name, index
    every = {**tokens.vocabulary, **{token.content: token.id for token in tokens.added}}
    languages = {content: index for content, index in every.items() if LANGUAGE.fullmatch(content)}
    tasks = {task: index for task in TASKS if (index := tokens.id_of(f"<|{task}|>")) is not None}
    if not languages or tokens.id_of(END) == ENGLISH_END:
        yield "is_multilingual", False
    yield from (("lang_to_id", languages), ("task_to_id", tasks))


def _usual(
    model: Mapping[str, Any], config: Mapping[str, Any], tokens: TokenSettings
) -> Iterator[tuple[str, Any]]:
    """Yield what Whisper's settings have beside the necessary; config.json's lists go before."""
    end, space = tokens.id_of(END), tokens.vocabulary.get("Ġ")
    if not any(piece.startswith("Ġ") and piece != "Ġ" for piece in tokens.vocabulary):
        space = None  # pieces are characters: every text begins with one
    if isinstance(model.get("suppress_tokens"), list):
        yield "suppress_tokens", model["suppress_tokens"]
        yield "begin_suppress_tokens", model.get("begin_suppress_tokens")
    else:
        yield "suppress_tokens", no_speech(tokens)
        yield "begin_suppress_tokens", [index for index in (space, end) if index is not None]
    yield "bos_token_id", end
    yield "prev_sot_token_id", tokens.id_of(PREVIOUS)
    yield "max_initial_timestamp_index", FIRST_TIMESTAMP
    yield "max_length", config["max_target_positions"]


def no_speech(tokens: TokenSettings) -> list[int]:
    """Return the tokens that openai/whisper never writes: signs, notes of music, and what steers the model.

    Args:
        tokens: the tokenizer.
    """
    found = {tokens.id_of(content) for content in NEVER}
    for sign in SIGNS:
        found |= {tokens.vocabulary.get(_spelt(text)) for text in (sign, f" {sign}")}
    found |= {tokens.vocabulary.get(_spelt(f" {sign}")) for sign in WITH_SPACE_ALONE}
    for note in NOTES:  # of several tokens the first is enough
        whole = (_spelt(note), _spelt(f" {note}"))
        found |= {tokens.vocabulary.get(text[:-1]) for text in whole if text not in tokens.vocabulary}
    return sorted(index for index in found if index is not None)


def _spelt(text: str) -> str:
    """Return a text as byte-level pieces spell it: a letter for each of its bytes.

    >>> _spelt(" ♪")
    'ĠâĻª'
    """
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return "".join(letters[byte] for byte in text.encode())
