"""Audio files as people have them: all that is there is heard, or one line says why not."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from small_whisper import speech

from adapter_hub.errors import AdapterHubError
from adapter_hub.speech.audio import audio_blocks, audio_seconds, find_audio, read_audio, read_audio_part
from adapter_hub.speech.counting import count_mpeg, count_ogg

RATE, SECONDS = 16_000, 12.0
SAMPLES = speech(SECONDS, 3)
CLOSE = 0.15  # seconds by which encoders pad


def written(kind: str, subtype: str, **options: object) -> bytes:
    """Return the samples as libsndfile writes them."""
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, RATE, format=kind, subtype=subtype, **options)
    return file.getvalue()


def muxed(kind: str, codec: str, rate: int = RATE) -> bytes:
    """Return the samples as ffmpeg writes them."""
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(
            format=stream.format, layout="mono", rate=rate, frame_size=stream.codec_context.frame_size or 0
        )
        whole = (SAMPLES * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
        frame.sample_rate = RATE
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    return file.getvalue()


def mp3() -> bytes:
    return written("MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE")


def untagged() -> bytes:
    """An MP3 of varying bit rate without the tag that tells its length: libsndfile takes it for shorter."""
    data = mp3()
    start = 4
    while not (data[start] == 0xFF and data[start + 1] == data[1]):
        start += 1
    return data[start:]


def patched(data: bytes, marker: bytes, value: bytes) -> bytes:
    place = data.index(marker) + len(marker)
    return data[:place] + value + data[place + len(value) :]


def piped_flac() -> bytes:
    data = bytearray(written("FLAC", "PCM_16"))
    data[21] &= 0xF0  # of the stream's 36 bits of samples
    data[22:26] = bytes(4)
    return bytes(data)


WHOLE: dict[str, Callable[[], tuple[bytes, float]]] = {
    "an MP3": lambda: (mp3(), 1),
    "an MP3 without a tag": lambda: (untagged(), 1),
    "joined MP3s": lambda: (mp3() * 2, 2),
    "joined MP3s without tags": lambda: (untagged() * 3, 3),
    "an MP3 behind a picture": lambda: (b"ID3\4\0\0\0\0\2\0" + bytes(256) + mp3(), 1),
    "an MP3 before an old tag": lambda: (mp3() + b"TAG" + bytes(125), 1),
    "joined Vorbis": lambda: (written("OGG", "VORBIS") * 2, 2),
    "joined Opus": lambda: (written("OGG", "OPUS") * 2, 2),
    "FLAC from a pipe": lambda: (piped_flac(), 1),
    "WAV of size 0": lambda: (patched(written("WAV", "PCM_16"), b"data", bytes(4)), 1),
    "WAV from a pipe": lambda: (patched(written("WAV", "PCM_16"), b"data", b"\xff" * 4), 1),
    "WAV with a byte too much": lambda: (written("WAV", "PCM_16") + b"\0", 1),
    "WAV that states a byte too much": lambda: (
        patched(written("WAV", "PCM_16"), b"data", (round(SECONDS * RATE) * 2 + 1).to_bytes(4, "little")), 1
    ),
    "MP3 in WAV": lambda: (muxed("wav", "libmp3lame"), 1),
    "M4A": lambda: (muxed("ipod", "aac"), 1),
    "MP4": lambda: (muxed("mp4", "aac"), 1),
    "AAC": lambda: (muxed("adts", "aac"), 1),
    "WebM": lambda: (muxed("webm", "libopus", 48_000), 1),
    "MKA": lambda: (muxed("matroska", "libopus", 48_000), 1),
    "AC-3": lambda: (muxed("ac3", "ac3", 48_000), 1),
    "AMR": lambda: (muxed("amr", "libopencore_amrnb", 8_000), 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_all_that_is_there_is_heard(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    data, times = WHOLE[kind]()
    (tmp_path / "clip").write_bytes(data)
    audio = read_audio(tmp_path / "clip")
    assert audio.seconds == pytest.approx(times * SECONDS, abs=times * CLOSE)
    assert sum(map(len, audio_blocks(tmp_path / "clip"))) == len(audio.samples)
    assert audio_seconds(tmp_path / "clip") == pytest.approx(times * SECONDS, abs=times * CLOSE + 0.1)
    assert capfd.readouterr().err == ""  # no decoder talks


@pytest.mark.parametrize("kind", ["an MP3", "M4A", "WebM", "joined Vorbis", "FLAC from a pipe"])
def test_what_is_heard_is_what_was_said(kind: str, tmp_path: Path) -> None:
    data, _ = WHOLE[kind]()
    (tmp_path / "clip").write_bytes(data)
    heard = read_audio(tmp_path / "clip").samples[: len(SAMPLES)]
    shifts = [np.corrcoef(heard[s : s + RATE], SAMPLES[:RATE])[0, 1] for s in range(0, 3000, 8)]
    assert max(shifts) > 0.9


def halved(data: bytes) -> bytes:
    return data[: len(data) // 2]


def damaged(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(range(256)) * 8 + data[middle + 2048 :]


FLAWED: dict[str, Callable[[], bytes]] = {
    "half an MP3": lambda: halved(mp3()),
    "half an MP3 without a tag": lambda: halved(untagged()),
    "half a Vorbis": lambda: halved(written("OGG", "VORBIS")),
    "half an Opus": lambda: halved(written("OGG", "OPUS")),
    "Opus after Vorbis": lambda: written("OGG", "VORBIS") + written("OGG", "OPUS"),
    "half a FLAC": lambda: halved(written("FLAC", "PCM_16")),
    "half a WAV": lambda: halved(written("WAV", "PCM_16")),
    "half a WebM": lambda: halved(muxed("webm", "libopus", 48_000)),
    "a damaged MP3": lambda: damaged(mp3()),
    "a damaged Opus": lambda: damaged(written("OGG", "OPUS")),
    "a damaged FLAC": lambda: damaged(written("FLAC", "PCM_16")),
}


@pytest.mark.parametrize("kind", FLAWED)
def test_what_is_not_whole_is_heard_as_far_as_it_goes_and_said(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    (tmp_path / "clip").write_bytes(FLAWED[kind]())
    flaws: list[str] = []
    heard = sum(map(len, audio_blocks(tmp_path / "clip", flaws.append))) / RATE
    assert 0.3 * SECONDS < heard < SECONDS + CLOSE
    assert len(flaws) == 1
    assert "get it again" in flaws[0]
    with pytest.raises(AdapterHubError, match="clip: ") as refused:  # training and evaluation leave it out
        read_audio(tmp_path / "clip")
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kind", ["joined MP3s", "M4A", "an MP3 without a tag"])
def test_a_part_of_such_a_file_is_the_same_part_of_the_whole(kind: str, tmp_path: Path) -> None:
    data, _ = WHOLE[kind]()
    (tmp_path / "clip").write_bytes(data)
    whole = read_audio(tmp_path / "clip").samples
    part = read_audio_part(tmp_path / "clip", 7.25, 1.5, sha256="0" * 64).samples
    np.testing.assert_allclose(part, whole[round(7.25 * RATE) : round(8.75 * RATE)], atol=1e-6)


def test_a_video_gives_its_sound_and_one_without_sound_says_so(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "silent.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(AdapterHubError, match=r"silent\.mkv: holds no audio"):
        read_audio(tmp_path / "silent.mkv")


def test_without_the_extra_nothing_is_half_heard_and_the_extra_is_named(tmp_path: Path) -> None:
    files = {
        "m4a": muxed("ipod", "aac"),
        "mp3": untagged(),
        "ogg": written("OGG", "OPUS") * 2,
        "flac": piped_flac(),
    }
    for name, data in files.items():
        (tmp_path / f"clip.{name}").write_bytes(data)
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from pathlib import Path; from adapter_hub.speech.audio import read_audio\n"
        "from adapter_hub.errors import MissingExtraError\n"
        "for path in sys.argv[1:]:\n"
        "    try: print(read_audio(Path(path)).seconds)\n"
        "    except MissingExtraError as error: print(error)\n"
    )
    paths = [str(tmp_path / f"clip.{name}") for name in files]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(files)
    assert all("pip install '.[media]'" in line for line in lines)
    assert "Format not recognised" in lines[0]
    assert "are there" in lines[1]
    assert "several recordings were joined" in lines[2]
    assert "does not state its duration" in lines[3]
    assert done.stderr == ""


def test_a_folder_stands_for_every_kind_of_audio_in_it(tmp_path: Path) -> None:
    for name in ("a.wav", "b.m4a", "c.webm", "d.txt", "e.MP4"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in find_audio(tmp_path)] == ["a.wav", "b.m4a", "c.webm", "e.MP4"]


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"hello" * 1000, bytes(5000), b"\xff\xfb" * 3000, b"OggS" * 200]
)
def test_counting_survives_anything(data: bytes) -> None:
    for count in (count_mpeg, count_ogg):
        found = count(data)
        assert found is None or found.seconds >= 0


ELSEWHERE = {
    "a playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n",
    "a list of files": "ffconcat version 1.0\nfile '{other}'\n",
    "a session": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 50505 RTP/AVP 0\n",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_file_that_only_says_where_audio_is_opens_nothing_there(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "other.wav").write_bytes(written("WAV", "PCM_16"))
    (tmp_path / "list").write_text(ELSEWHERE[kind].format(other=tmp_path / "other.wav"))
    with pytest.raises(AdapterHubError, match="cannot be read as audio"):
        read_audio(tmp_path / "list")
