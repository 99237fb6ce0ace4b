"""Log-mel features for training, kept by the content of the audio, so that no audio is featurised twice.

    features = FeaturePacks(cache.folder / "features", extractor)       # or MemoryFeatures()
    features[audio.sha256] = compute_features(extractor, audio)
    features.get(audio.sha256).features      # [mels, frames] float16, up to where the audio ends; or None
    features.flush()

    <cache>/features/<settings>/<content>.safetensors

One pack holds the features of many clips, one tensor each, named by the sha256 of the audio's bytes;
`settings` stands for the extractor and for every package that takes part in computing features. Packs
are written whole or not at all and never changed. Every clip's features carry a checksum that is verified
before they are used: a damaged pack is removed, and what it held is computed again.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray
from safetensors.numpy import save

from adapter_hub.artifact.safetensors_file import TensorEntry, read_header
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.files.writing import remove_stale, write_atomically
from adapter_hub.formats.canonical import canonical_bytes, sha256_hex
from adapter_hub.packages import package_versions
from adapter_hub.speech.audio import SAMPLE_RATE, Audio
from adapter_hub.speech.features import log_mel, normalised_log_mel

SAMPLES_PER_FRAME = 160  # 10 ms at 16 kHz
RULE = 1  # the version of `compute_features`; raised when what it keeps of a clip changes
PACK_BYTES = 128 * 2**20  # features that wait in memory to be written, about 40 minutes of audio
# only what decides features: after an update of PEFT they need not be computed again
DECIDING = ("numpy", "torch", "transformers", "soxr", "soundfile")
INDEX = ("checksum", "samples", "silence")  # tensors beside the clips': one value per clip, in their order
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """The encoder input of one clip.

    Attributes:
        features: `[mels, frames]` float16 log-mel, up to where the audio ends.
        silence: the value that the extractor gives to digital silence after it.
        samples: the number of audio samples, at 16 kHz.
    """

    features: NDArray[np.float16]
    silence: float
    samples: int

    @property
    def seconds(self) -> float:
        """The duration of the audio."""
        return self.samples / SAMPLE_RATE


def compute_features(extractor: Any, audio: Audio) -> ClipFeatures:
    """Return the features of a clip.

    Args:
        extractor: the base model's, a `WhisperFeatureExtractor` or a `ParakeetFeatureExtractor`.
        audio: not longer than the base model's chunk.
    """
    return COMPUTED[type(extractor).__name__](extractor, audio)


def _padded(extractor: Any, audio: Audio) -> ClipFeatures:
    """Return a Whisper's features, cut from those of the chunk."""
    features = log_mel(extractor, [audio])[0]
    frames = min(features.shape[1], -(-len(audio.samples) // SAMPLES_PER_FRAME) + 2)
    kept = np.ascontiguousarray(features[:, :frames], dtype=np.float16)
    return ClipFeatures(kept, float(features.min()), len(audio.samples))


def _normalised(extractor: Any, audio: Audio) -> ClipFeatures:
    """Return a Parakeet's features; padding after them is masked."""
    features, mask = normalised_log_mel(extractor, [audio])
    kept = np.ascontiguousarray(features[0][mask[0]].T, dtype=np.float16)
    return ClipFeatures(kept, 0.0, len(audio.samples))


COMPUTED: Mapping[str, Callable[[Any, Audio], ClipFeatures]] = {
    "WhisperFeatureExtractor": _padded,
    "ParakeetFeatureExtractor": _normalised,
}


class FeatureStore(Protocol):
    """Features by the sha256 of the audio's bytes; several threads may use it."""

    def get(self, sha256: str) -> ClipFeatures | None:
        """Return the features of a clip, or None if they have to be computed."""

    def __setitem__(self, sha256: str, clip: ClipFeatures) -> None:
        """Keep the features of a clip."""

    def flush(self) -> None:
        """Store what was added permanently."""


class MemoryFeatures(dict[str, ClipFeatures]):
    """Features in the memory of this process."""

    def flush(self) -> None:
        """Do nothing: features stay in memory."""


def settings_key(extractor: Any) -> str:
    """Return a key of everything but the audio that decides a clip's features.

    Args:
        extractor: a `WhisperFeatureExtractor`.

    Returns:
        16 hexadecimal digits, of the extractor's settings and the versions of packages.
    """
    settings = {
        "rule": RULE,
        "extractor": {
            key: value
            for key, value in sorted(extractor.to_dict().items())
            if isinstance(value, (bool, int, float, str))
        },
        "packages": package_versions(DECIDING) | {"libsndfile": soundfile.__libsndfile_version__},
    }
    return sha256_hex(canonical_bytes(settings))[:16]


@dataclass
class _Pack:
    """A pack, mapped into memory; pages are read when they are touched."""

    path: Path
    rows: Mapping[str, tuple[TensorEntry, int, int, float]]  # with checksum, samples, silence
    data: memoryview
    checked: set[str] = field(default_factory=set)

    def features(self, sha256: str) -> ClipFeatures:
        """Return a clip's features, compared with their checksum the first time.

        Args:
            sha256: of the audio's bytes, a key of `rows`.

        Raises:
            IntegrityError: they are not what was written.
        """
        entry, checksum, samples, silence = self.rows[sha256]
        raw = self.data[entry.start : entry.stop]
        if sha256 not in self.checked:
            if zlib.crc32(raw) != checksum:
                raise IntegrityError(f"{self.path}: the features of {sha256[:12]}… changed since written")
            if not self.checked:
                with suppress(OSError):  # a read-only cache cannot record when it was used
                    os.utime(self.path)
            self.checked.add(sha256)
        return ClipFeatures(np.frombuffer(raw, np.float16).reshape(entry.shape), silence, samples)


def _open(path: Path) -> _Pack:
    """Map a pack.

    Raises:
        IntegrityError: not a whole pack. OSError: it is gone.
    """
    entries = read_header(path)
    with path.open("rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    clips = sorted(name for name in entries if name not in INDEX)
    try:
        checksum, samples, silence = (
            np.frombuffer(data[entries[name].start : entries[name].stop], dtype)
            for name, dtype in zip(INDEX, (np.int64, np.int64, np.float32), strict=True)
        )
        rows = {
            name: (entries[name], int(checksum[i]), int(samples[i]), float(silence[i]))
            for i, name in enumerate(clips)
        }
    except (KeyError, IndexError, ValueError):
        raise IntegrityError(f"{path}: not a pack of features") from None
    if any(entries[name].dtype != "F16" or len(entries[name].shape) != 2 for name in clips):
        raise IntegrityError(f"{path}: not a pack of features")
    return _Pack(path, rows, data)


class FeaturePacks:
    """Features in packs on disk; new features stay in memory until there are enough for a pack.

    Args:
        folder: of all packs; those of this extractor are opened, and damaged ones removed.
        extractor: a `WhisperFeatureExtractor`.
    """

    def __init__(self, folder: Path, extractor: Any) -> None:
        self.folder = folder / settings_key(extractor)
        self._lock = threading.RLock()
        self._packs: dict[str, _Pack] = {}  # by clip
        self._waiting: dict[str, ClipFeatures] = {}
        self._waiting_bytes = 0
        self._read_only = False
        if self.folder.is_dir():
            remove_stale(self.folder)
            for path in sorted(self.folder.glob("*.safetensors")):
                self._take(path)

    def get(self, sha256: str) -> ClipFeatures | None:
        """Return the features of a clip, or None if there are none or they are damaged.

        Args:
            sha256: of the audio's bytes.
        """
        with self._lock:
            if sha256 in self._waiting:
                return self._waiting[sha256]
            pack = self._packs.get(sha256)
            try:
                return None if pack is None else pack.features(sha256)
            except IntegrityError:
                assert pack is not None
                self._drop(pack)
                return None

    def __setitem__(self, sha256: str, clip: ClipFeatures) -> None:
        """Keep the features of a clip; they are on disk at the latest after the next `flush`.

        Args:
            sha256: of the audio's bytes.
            clip: its features.
        """
        with self._lock:
            self._waiting[sha256] = clip
            self._waiting_bytes += clip.features.nbytes
            if self._waiting_bytes >= PACK_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write the features that are only in memory as a pack.

        Where the cache is read-only, they stay in memory.

        Raises:
            AdapterHubError: the disk is full.
        """
        with self._lock:
            if not self._waiting or self._read_only:
                return
            path = self.folder / f"{sha256_hex(canonical_bytes(sorted(self._waiting)))[:32]}.safetensors"
            try:
                write_atomically(path, _packed(self._waiting))
            except OSError as error:
                if error.errno in READ_ONLY:
                    self._read_only = True  # or everything in memory would be packed again for every clip
                    return
                raise AdapterHubError(
                    f"{self.folder}: {error.strerror}; features take about 60 MB per hour of audio: free "
                    "some space, or choose another folder with --cache"
                ) from None
            self._waiting, self._waiting_bytes = {}, 0
            self._take(path)

    def _take(self, path: Path) -> None:
        try:
            pack = _open(path)
        except (IntegrityError, OSError):
            with suppress(OSError):
                path.unlink()
            return
        for sha256 in pack.rows:
            self._packs[sha256] = pack

    def _drop(self, pack: _Pack) -> None:
        """Forget a damaged pack, except for the clips in it that were verified and may be in use."""
        self._packs = {
            sha256: other
            for sha256, other in self._packs.items()
            if other is not pack or sha256 in pack.checked
        }
        with suppress(OSError):
            pack.path.unlink()


def _packed(clips: Mapping[str, ClipFeatures]) -> bytes:
    """Return the bytes of a pack."""
    ordered = [clips[name] for name in sorted(clips)]
    index = {
        "checksum": np.array([zlib.crc32(clip.features.data) for clip in ordered], np.int64),
        "samples": np.array([clip.samples for clip in ordered], np.int64),
        "silence": np.array([clip.silence for clip in ordered], np.float32),
    }
    return save({name: clip.features for name, clip in clips.items()} | index)
