"""The text of a new recipe: an example of every key, with placeholders for what only its author knows.

    new_recipe("lora", language="da", namespace="alice", train="data/da/train")

What still is a placeholder is refused by `train`: it would be published for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack

from adapter_hub.base_model.digest import EMBEDDED_ID
from adapter_hub.errors import InvalidInputError
from adapter_hub.trainers.recipe_tables import FULL_FINE_TUNING, Recipe

# what a new recipe holds in place of what only its author knows; `train` refuses each
PLACEHOLDERS = {
    "namespace": "my-name",
    "language": "xx",
    "license": "your-licence",
    "author": "Your Name",
}

_TEMPLATE = """\
# A recipe of adapter-hub: all that decides how the adapter is trained. Paths are relative to this file.

[adapter]
name = {name}
version = "1.0.0"
method = "{method}"
language = {language}        # BCP 47
{decode_language}license = {license}          # of the adapter (an SPDX expression); check your data's licence
authors = [{authors}]

[base_model]
id = {base_model}
{parents}
[data]
train = {train}  # a folder with metadata.jsonl (file_name, text) and audio
{dev}{data_license}
{lora}[training]
epochs = 10
batch_size = 16
peak_learning_rate = {rate}
audio_length = "{audio_length}"
spec_augment = {augment}
random_seed = 1
"""

_PARENTS = {
    "warm-start": """
[seed]
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"
""",
    "expert-pair": """
[expert]                       # the frozen parent
adapter = "nearest"            # or a reference like "mini/pl@1.0.0"

[seed]                         # what the child starts from; without it, from scratch
adapter = "expert"             # the parent itself, "nearest" or a reference

[gate]
kind = "token"                 # or "static", which `adapter-hub fold` turns into one ordinary LoRA
""",
}
_LORA = """\
[lora]
rank = {rank}
dtype = "float16"              # of the published weights; training is in float32

"""


class KnownKeys(TypedDict, total=False):
    """What is known for a new recipe; of all else it holds a placeholder, an example or a default."""

    language: str | None  # BCP 47 tag of the new adapter
    decode_language: str | None  # Whisper's code of the language whose token stands for it
    namespace: str | None  # the first half of the adapter's name
    base_model: str  # the embedded model's id, a Hub id or a folder
    authors: Sequence[str]
    license: str | None  # of the adapter
    train: str  # the data, relative to the recipe
    dev: str | None
    data_license: str | None


def new_recipe(method: str, **known: Unpack[KnownKeys]) -> str:
    """Return the text of a new recipe, with comments.

    Args:
        method: one of `adapter_hub.trainers.methods.table.METHODS`.
        known: what it is to say.
    """
    base_model = known.get("base_model", EMBEDDED_ID)
    mini, full = base_model == EMBEDDED_ID, method == FULL_FINE_TUNING
    language = known.get("language") or PLACEHOLDERS["language"]
    suffix = {"expert-pair": "-pair", FULL_FINE_TUNING: "-full"}.get(method, "")
    own = re.sub(r"[^a-z0-9]+", "-", language.lower()).strip("-")
    decode, dev = known.get("decode_language"), known.get("dev", f"data/{own}/dev")
    data_license = known.get("data_license")
    return _TEMPLATE.format(
        method=method,
        name=_text(f"{known.get('namespace') or PLACEHOLDERS['namespace']}/{own}{suffix}"),
        language=_text(language),
        decode_language=f"decode_language = {_text(decode)}  # whose token stands for it\n" if decode else "",
        license=_text(known.get("license") or PLACEHOLDERS["license"]),
        authors=", ".join(map(_text, known.get("authors") or [PLACEHOLDERS["author"]])),
        base_model=_text(base_model),
        parents=_PARENTS.get(method, ""),
        train=_text(known.get("train", f"data/{own}/train")),
        dev=f"dev = {_text(dev)}\n"
        if dev
        else '# dev = "…"                    # its loss is measured after each epoch\n',
        data_license=f"license = {_text(data_license)}\n" if data_license else '# license = "…"\n',
        lora="" if full else _LORA.format(rank=8 if mini else 32),
        rate=("1e-3" if mini else "1e-5") if full else ("2e-3" if mini else "1e-4"),
        audio_length="batch" if mini else "chunk",
        augment="true" if mini else "false",
    )


def _text(value: str) -> str:
    """Return a string as TOML writes it."""
    return json.dumps(value, ensure_ascii=False)


def placeholders(recipe: Recipe) -> list[str]:
    """Return the keys that still hold what `recipe new` wrote in place of what only the author knows.

    Args:
        recipe: that was read.
    """
    adapter = recipe.adapter
    found = {
        "adapter.name": adapter.name.partition("/")[0] == PLACEHOLDERS["namespace"],
        "adapter.language": adapter.language == PLACEHOLDERS["language"],
        "adapter.license": adapter.license == PLACEHOLDERS["license"],
        "adapter.authors": PLACEHOLDERS["author"] in adapter.authors,
    }
    return [key for key, is_placeholder in found.items() if is_placeholder]


def refuse_placeholders(recipe: Recipe, path: Path) -> None:
    """Refuse to train what would be published for ever without its author's name or under another licence.

    Args:
        recipe: that will be trained.
        path: of its file, for the message.

    Raises:
        InvalidInputError: with every key that holds a placeholder.
    """
    if still := placeholders(recipe):
        raise InvalidInputError(
            f"{path}: {', '.join(still)}: still an example of `recipe new`, which would be published; "
            "write your own"
        )
