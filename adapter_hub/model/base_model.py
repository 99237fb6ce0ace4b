"""The frozen base model that adapters are composed with: a Whisper or a Parakeet CTC.

    base = load_base_model()                                        # the embedded one
    base = load_base_model("openai/whisper-small", revision="973a…")  # from the Hub, fetched before
    base = load_base_model("./my-whisper")                          # a folder saved by transformers
    base = load_base_model("openai/whisper-base=./my-whisper")      # the same, and which model that is
    base = load_base_model("./my-parakeet")                         # the same, of another family

Nothing here reaches the network (`adapter_hub.base_model.fetching.fetch_base_model` does). What was loaded is
identified by its digest (see `adapter_hub.base_model.digest`), which adapters pin.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapter_hub.base_model.digest import EMBEDDED_ID, stamped_digest
from adapter_hub.base_model.families import FAMILIES, PARAKEET, WHISPER
from adapter_hub.base_model.finding import (
    find_base_model,
    find_pinned_base_model,
    identified,
)
from adapter_hub.base_model.naming import id_in, remember_name
from adapter_hub.base_model.settings import read_config
from adapter_hub.errors import AdapterHubError, InvalidInputError
from adapter_hub.escaping import shown
from adapter_hub.formats.manifest import BaseModelPin
from adapter_hub.model.assembling import assemble, describe
from adapter_hub.model.memory import is_out_of_memory, memory_guard
from adapter_hub.model.packing import pack
from adapter_hub.model.parakeet import assemble_parakeet, describe_parakeet
from adapter_hub.model.quiet import quiet
from adapter_hub.paths import cache_folder
from adapter_hub.speech.features import chunk_seconds
from adapter_hub.speech.languages import nearest_languages

ASSEMBLERS = {WHISPER: assemble, PARAKEET: assemble_parakeet}
DESCRIBERS = {WHISPER: describe, PARAKEET: describe_parakeet}
# repeats are dropped before tokens are text: what is there twice was said twice
AS_TEXT: Mapping[str, Mapping[str, Any]] = {WHISPER: {}, PARAKEET: {"group_tokens": False}}
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class PositionwiseLinear(nn.Linear):
    """A convolution over single positions as the linear that it is; only, channels come before positions."""

    @classmethod
    def over(cls, convolution: nn.Conv1d) -> PositionwiseLinear:
        """Return a view of a convolution; weight and bias are in the same memory.

        Args:
            convolution: of kernel size 1, see `is_positionwise`.
        """
        weight, bias = convolution.weight, convolution.bias
        new = cls(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        new.weight = nn.Parameter(weight.detach().squeeze(-1), requires_grad=False)
        if bias is not None:
            new.bias = nn.Parameter(bias.detach(), requires_grad=False)
        return new


def is_positionwise(module: nn.Module) -> bool:
    """Tell whether a module is a convolution that treats every position by itself, as a linear does.

    Args:
        module: of a base model. Subclasses of `Conv1d` do not count: they compute something else.
    """
    return (
        type(module) is nn.Conv1d
        and module.kernel_size == module.stride == (1,)
        and module.groups == 1
        and module.padding == (0,)
    )


@dataclass(frozen=True, eq=False)
class BaseModel:
    """A loaded, frozen base model.

    Attributes:
        model: `WhisperForConditionalGeneration`, or `ParakeetForCTC`, in eval mode, without gradients; never
            changed.
        processor: its `WhisperProcessor` or `ParakeetProcessor`.
        folder: where it was loaded from.
        id: the Hub's id, or the folder's path for a local model.
        revision: commit of the Hub's repository, or None.
        digest: the identity that adapters pin.
        public: the id and the commit that manifests name it by, where they are not `id` and `revision`.
    """

    model: Any
    processor: Any
    folder: Path
    id: str
    revision: str | None
    digest: str
    public: tuple[str, str | None] | None = None

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device = self.model.device
        assert isinstance(device, torch.device)
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        dtype = self.model.dtype
        assert isinstance(dtype, torch.dtype)
        return dtype

    @property
    def family(self) -> str:
        """The key of its family, of `adapter_hub.base_model.families`."""
        return str(self.model.config.model_type)

    @property
    def chunk_seconds(self) -> float:
        """The longest audio that is given to the model at once, in seconds."""
        return chunk_seconds(self.processor.feature_extractor)

    @property
    def multilingual(self) -> bool:
        """False for Whisper's English-only models, which have no language tokens."""
        return bool(getattr(self.model.generation_config, "is_multilingual", True))

    @property
    def needs_language(self) -> bool:
        """Whether decoding is told the language: a Whisper's prompt holds its token, a Parakeet has none."""
        return "decode_language" not in FAMILIES[self.family].lacks

    @cached_property
    def decode_languages(self) -> tuple[str, ...]:
        """The languages that it can be told to decode, as Whisper writes them, sorted; English-only: `en`."""
        if not self.multilingual:
            return ("en",)
        table = getattr(self.model.generation_config, "lang_to_id", None) or {}
        return tuple(sorted(token[2:-2] for token in table))

    @cached_property
    def linears(self) -> dict[str, nn.Linear]:
        """Every linear layer by its path: what an adapter can adapt."""
        found: dict[str, nn.Linear] = {}
        for path, module in self.model.named_modules():
            if type(module) is nn.Linear:
                found[path] = module
            elif is_positionwise(module):
                found[path] = PositionwiseLinear.over(module)
        return found

    @cached_property
    def packed(self) -> dict[str, Tensor]:
        """The decoder's weights once more in the order of a CPU's kernels, by path; made when first used."""
        found = {}
        for path, linear in self.linears.items():
            if ".decoder." in path or path == "proj_out":
                packed = pack(linear.weight)
                if packed is not None:
                    found[path] = packed
        return found

    @property
    def pin(self) -> BaseModelPin:
        """The record of it in manifests."""
        name, commit = self.public or (self.id, None)
        return BaseModelPin(
            id=name,
            revision=self.revision or commit,
            architecture=type(self.model).__name__,
            digest=self.digest,
        )

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, special ones left out.

        Args:
            tokens: ids; of a CTC model without blanks, and without what was there for several frames.
        """
        options = AS_TEXT[self.family]
        return str(self.processor.tokenizer.decode(list(tokens), skip_special_tokens=True, **options))

    def takes(self, language: str) -> bool:
        """Tell whether it can be told that speech is in a language, or needs not be told.

        Args:
            language: Whisper's code, like `da`.
        """
        return not self.needs_language or language in self.decode_languages

    def check_languages(self, languages: Sequence[str]) -> None:
        """Refuse decode languages that the base model has no token for, if it needs one.

        Args:
            languages: Whisper's codes, like `da`.

        Raises:
            InvalidInputError: with the nearest that it has.
        """
        if not self.needs_language:
            return
        known = self.decode_languages
        if unknown := sorted(set(languages) - set(known)):
            raise InvalidInputError(
                f"decode language {', '.join(map(repr, unknown))}: {self.id} has no token for it; "
                f"nearest: {nearest_languages(unknown[0], known)}"
            )


def load_base_model(
    id_or_path: str | Path = EMBEDDED_ID,
    *,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    cache: Path | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> BaseModel:
    """Load a base model, frozen and in eval mode.

    On a GPU this switches cuDNN's attention off for the whole process: newer PyTorch prefers it in half
    precision on newer GPUs, and it plans for some tenths of a second for every shape, of which there is one
    for every length of audio and text. The other kinds of fused attention stay on.

    Args:
        id_or_path: the embedded model's id, an id on the Hub (fetched before), a folder (`./a/b`), or
            `ID=FOLDER` for a folder that holds that model of the Hub.
        revision: commit or tag, for a model of the Hub; a commit for `ID=FOLDER`.
        device: torch's name of it; None takes a GPU if there is one.
        dtype: float32 (None), float16 or bfloat16.
        cache: folder in which digests are remembered; by default the user's.
        families: that the caller can compute with, of `adapter_hub.base_model.families`.

    Raises:
        NotFoundError: not in the cache, or no such folder; the message has the command that fetches it.
        InvalidInputError: of none of these families, or an unknown device or dtype.
        OutOfMemoryError: the device has no room for it.
    """
    cache = cache or cache_folder()
    folder, commit = find_base_model(id_or_path, revision, cache=cache)
    with _understood(folder, families):
        digest = stamped_digest(folder, cache)
    public = identified(id_or_path, folder, digest, cache)
    base = _load(folder, (id_in(id_or_path) or str(id_or_path), commit, digest), device, dtype, families)
    if commit is not None and base.id == id_or_path:
        remember_name(digest, base.id, commit, cache)
    return replace(base, public=public)


@dataclass(frozen=True)
class BaseModelSketch:
    """A base model without its weights: enough to prepare data for it.

    Attributes:
        model: has `config` and `generation_config`, and nothing else.
        processor: its `WhisperProcessor` or `ParakeetProcessor`.
    """

    model: Any
    processor: Any


def sketch_base_model(
    id_or_path: str | Path, *, revision: str | None = None, cache: Path | None = None
) -> BaseModelSketch:
    """Read a base model's settings and tokenizer, and none of its weights.

    Args:
        id_or_path: see `load_base_model`.
        revision: see `load_base_model`.
        cache: see `load_base_model`.

    Raises:
        NotFoundError: as `load_base_model`.
        InvalidInputError: as `load_base_model`.
    """
    folder, _ = find_base_model(id_or_path, revision, cache=cache)
    kind = _family(folder, tuple(FAMILIES))
    with _understood(folder, [kind]), quiet():
        return BaseModelSketch(*DESCRIBERS[kind](folder))


def load_pinned_base_model(
    pin: BaseModelPin,
    *,
    device: str | None = None,
    dtype: str | None = None,
    cache: Path | None = None,
    families: Sequence[str] = tuple(FAMILIES),
) -> BaseModel:
    """Load the base model that an adapter was made for, from whichever copy here has its digest.

    Args:
        pin: the base model of the adapter's manifest.
        device: see `load_base_model`.
        dtype: see `load_base_model`.
        cache: see `load_base_model`.
        families: see `load_base_model`.

    Raises:
        NotFoundError: there is no copy here; the message has the command that fetches it.
        InvalidInputError: as `load_base_model`.
        OutOfMemoryError: as `load_base_model`.
    """
    folder, commit = find_pinned_base_model(pin, cache or cache_folder())
    return _load(folder, (pin.id, commit, pin.digest), device, dtype, families)


def _load(
    folder: Path,
    identity: tuple[str, str | None, str],
    device: str | None,
    dtype: str | None,
    families: Sequence[str],
) -> BaseModel:
    """Load the model in a folder; `identity` is its id, commit and digest."""
    place = _device(device)
    if dtype is not None and dtype not in DTYPES:
        raise InvalidInputError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    kind = _family(folder, families)
    with memory_guard(f"{identity[0]} on {place}"):
        with _understood(folder, [kind]), quiet():
            model, processor = ASSEMBLERS[kind](folder, DTYPES[dtype or "float32"])
        model.to(place).eval().requires_grad_(requires_grad=False)
    if place.type == "cuda" and hasattr(torch.backends.cuda, "enable_cudnn_sdp"):
        torch.backends.cuda.enable_cudnn_sdp(False)
    return BaseModel(model, processor, folder, *identity)


def _family(folder: Path, families: Sequence[str]) -> str:
    kind = read_config(folder).get("model_type")
    if not isinstance(kind, str) or kind not in families:
        raise InvalidInputError(_wrong_family(folder, kind, families))
    return kind


def _wrong_family(folder: Path, kind: object, families: Sequence[str]) -> str:
    expected = " or ".join(map(repr, families))
    if isinstance(kind, str) and kind in FAMILIES:
        titles = " or ".join(FAMILIES[family].title for family in families)
        return f"{folder}: a {FAMILIES[kind].title} (model_type {kind!r}); this takes {titles}"
    return f"{folder}: model_type is {shown(repr(kind), 40)} in config.json; expected {expected}"


@contextmanager
def _understood(folder: Path, families: Sequence[str]) -> Iterator[None]:
    """Turn anything that a base model's files make transformers and tokenizers raise into one line."""
    try:
        yield
    except (AdapterHubError, MemoryError):
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = shown(" ".join(f"{type(error).__name__}: {error}".split()))
        titles = " or ".join(FAMILIES[family].title for family in families)
        raise InvalidInputError(f"{folder}: transformers cannot load it as {titles} ({reason})") from error


def _device(name: str | None) -> torch.device:
    """Return a device that can compute: some are accepted by torch and fail when they are first used."""
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:  # each kind of device has its own
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"device {name!r}: not usable here ({reason}); try cpu") from None
    return device
