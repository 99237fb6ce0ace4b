"""FeatureStore on disk: bit-identical, used instead of decoding, and never believed when damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import Run
from small_training import places, recipe
from small_whisper import write_speech

from adapter_hub.artifact.safetensors_file import read_header
from adapter_hub.data.dataset import read_dataset
from adapter_hub.errors import AdapterHubError, IntegrityError
from adapter_hub.model.base_model import BaseModel
from adapter_hub.speech.audio import read_audio
from adapter_hub.stores.cache import Cache
from adapter_hub.trainers.data import features as training_features
from adapter_hub.trainers.data.examples import PreparedSplit
from adapter_hub.trainers.data.features import (
    ClipFeatures,
    FeaturePacks,
    FeatureStore,
    compute_features,
    settings_key,
)
from adapter_hub.trainers.data.preparing import prepare
from adapter_hub.trainers.data.rows import RowRules
from adapter_hub.trainers.data.sources import Source
from adapter_hub.trainers.training import train


def extractor(base: BaseModel) -> object:
    return base.processor.feature_extractor


def prepared(data: Path, base: BaseModel, features: FeatureStore | None = None) -> PreparedSplit:
    return prepare([Source(read_dataset(data / "train"))], base, RowRules(language="da"), features=features)


def packs_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.safetensors"))


def test_features_are_bit_identical_with_and_without_the_cache(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    fresh = prepared(data, base)
    written = prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    read = prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    assert len(packs_in(tmp_path / "features")) == 1
    for other in (written, read):
        assert (other.sha256, other.sources, other.dropped) == (fresh.sha256, fresh.sources, fresh.dropped)
        for ours, theirs in zip(other.examples, fresh.examples, strict=True):
            assert ours.features.dtype == np.float16
            assert ours.features.tobytes() == theirs.features.tobytes()
            fields = ("id", "silence", "tokens", "seconds", "prompt", "language")
            assert all(getattr(ours, name) == getattr(theirs, name) for name in fields)


def test_what_is_cached_is_not_decoded_again(tmp_path: Path, data: Path, base: BaseModel) -> None:
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    reopened = FeaturePacks(tmp_path / "features", extractor(base))
    for row in read_dataset(data / "train").rows:
        assert reopened.get(row.clip.sha256()) is not None
    prepared(data, base, reopened)
    assert len(packs_in(tmp_path / "features")) == 1


def test_only_new_audio_is_computed_whatever_it_is_called_and_wherever_it_lies(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    before = packs_in(tmp_path / "features")
    folder = data / "train"
    (folder / "0.wav").rename(folder / "renamed.wav")
    write_speech(folder / "new.wav", seed=99)
    text = (folder / "metadata.jsonl").read_text().replace('"0.wav"', '"renamed.wav"')
    (folder / "metadata.jsonl").write_text(text + '{"file_name": "new.wav", "text": "en"}\n')
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    (new,) = set(packs_in(tmp_path / "features")) - set(before)
    assert len(read_header(new)) == 1 + len(training_features.INDEX)


@pytest.mark.parametrize("damage", ["a flipped bit", "half of it", "nothing in it", "no pack at all"])
def test_a_damaged_pack_is_noticed_and_computed_again(
    damage: str, tmp_path: Path, data: Path, base: BaseModel
) -> None:
    fresh = [e.features.tobytes() for e in prepared(data, base).examples]
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    (pack,) = packs_in(tmp_path / "features")
    whole = pack.read_bytes()
    entry = max(read_header(pack).values(), key=lambda entry: entry.stop - entry.start)
    flipped = bytearray(whole)
    flipped[entry.start + 100] ^= 1
    pack.write_bytes(
        {
            "a flipped bit": bytes(flipped),
            "half of it": whole[: len(whole) // 2],
            "nothing in it": b"",
            "no pack at all": b"{}" * 1000,
        }[damage]
    )
    again = prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    assert [example.features.tobytes() for example in again.examples] == fresh
    third = FeaturePacks(tmp_path / "features", extractor(base))
    prepared(data, base, third)
    assert all(third.get(row.clip.sha256()) is not None for row in read_dataset(data / "train").rows)
    for path in packs_in(tmp_path / "features"):
        read_header(path)


def test_a_checksum_that_fails_is_an_error_inside_and_nothing_outside(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    (path,) = packs_in(tmp_path / "features")
    entry = max(read_header(path).values(), key=lambda entry: entry.stop - entry.start)
    raw = bytearray(path.read_bytes())
    raw[entry.start] ^= 255
    path.write_bytes(raw)
    with pytest.raises(IntegrityError, match="changed since written"):
        training_features._open(path).features(entry.name)
    assert FeaturePacks(tmp_path / "features", extractor(base)).get(entry.name) is None
    assert not path.exists()


def test_another_extractor_has_features_of_its_own(base: BaseModel) -> None:
    from transformers import WhisperFeatureExtractor

    longer = WhisperFeatureExtractor(chunk_length=8)
    assert settings_key(longer) != settings_key(extractor(base))
    assert settings_key(WhisperFeatureExtractor(chunk_length=8)) == settings_key(longer)


def test_a_pack_is_written_as_soon_as_enough_waits(
    tmp_path: Path, data: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_features, "PACK_BYTES", 40_000)
    fresh = prepared(data, base)
    read = prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    assert len(packs_in(tmp_path / "features")) > 3
    assert [e.features.tobytes() for e in read.examples] == [e.features.tobytes() for e in fresh.examples]


def test_a_full_disk_is_told_and_a_read_only_cache_is_done_without(
    tmp_path: Path, data: Path, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    tries: list[Path] = []

    def refuse(number: int) -> None:
        def write(path: Path, content: bytes) -> None:
            tries.append(path)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(training_features, "write_atomically", write)

    refuse(errno.ENOSPC)
    with pytest.raises(AdapterHubError, match="No space left on device; features take about 60 MB per hour"):
        prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    refuse(errno.EROFS)
    tries.clear()
    monkeypatch.setattr(
        training_features, "PACK_BYTES", 40_000
    )  # a pack every few clips, if they could be kept
    assert len(prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base))).examples) == 12
    assert len(tries) == 1


def test_a_second_training_decodes_nothing_and_gives_the_same_weights(
    tmp_path: Path, data: Path, base_folder: Path, base: BaseModel
) -> None:
    path = recipe(tmp_path, base_folder)
    first = train(path, tmp_path / "one", **places(tmp_path))
    packs = packs_in(tmp_path / "cache" / "features")
    assert len(packs) == 1  # the clips of dev are among those of train
    stamps = [path.stat().st_ino for path in packs]
    second = train(path, tmp_path / "two", **places(tmp_path))
    assert first.manifest.weights_digest == second.manifest.weights_digest
    assert [path.stat().st_ino for path in packs_in(tmp_path / "cache" / "features")] == stamps


def test_the_cache_lists_features_and_prunes_those_that_nobody_used(
    tmp_path: Path, data: Path, base: BaseModel
) -> None:
    cache = Cache(tmp_path)
    assert cache.data() == []
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    (entry,) = cache.data()
    assert (entry.ref, entry.digest, entry.size) == ("features", "", entry.path.stat().st_size)
    assert cache.prune(unused_days=1) == []
    long_ago = time.time() - 40 * 24 * 3600
    os.utime(entry.path, (long_ago, long_ago))
    prepared(data, base, FeaturePacks(tmp_path / "features", extractor(base)))
    assert cache.prune(unused_days=30) == []  # it was used a moment ago
    os.utime(entry.path, (long_ago, long_ago))
    assert [gone.path for gone in cache.prune(unused_days=30)] == [entry.path]
    assert not entry.path.exists()


def test_the_command_line_lists_features(tmp_path: Path, data: Path, base: BaseModel, run: Run) -> None:
    prepared(data, base, FeaturePacks(tmp_path / "cache" / "features", extractor(base)))
    (row,) = run("--cache", tmp_path / "cache", "cache", "list", "--json").json
    assert (row["ref"], row["digest"]) == ("features", None)


WRITER = """
import sys
from pathlib import Path
import numpy as np
from transformers import WhisperFeatureExtractor
from adapter_hub.trainers.data.features import FeaturePacks
from adapter_hub.trainers.data.features import ClipFeatures
features = FeaturePacks(Path(sys.argv[1]), WhisperFeatureExtractor(chunk_length=4))
print("ready", flush=True)
for i in range(10_000):
    random = np.random.default_rng(i)
    for j in range(20):
        name = f"{i * 20 + j:064x}"
        features[name] = ClipFeatures(random.random((80, 400)).astype(np.float16), -1.0, 64000)
    features.flush()
"""


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_whole_packs_only(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    for pause in (0.05, 0.11, 0.23):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        packs = packs_in(tmp_path)
        features = FeaturePacks(tmp_path, WhisperFeatureExtractor(chunk_length=4))
        assert packs_in(tmp_path) == packs
        for path in packs:
            for name in read_header(path):
                assert name in training_features.INDEX or isinstance(features.get(name), ClipFeatures)


def test_what_is_kept_is_what_the_extractor_gives(tmp_path: Path, base: BaseModel) -> None:
    audio = read_audio(write_speech(tmp_path / "a.wav", seconds=1.3))
    kept = compute_features(extractor(base), audio)
    assert kept.features.shape == (80, 132)
    assert kept.seconds == pytest.approx(1.3)
