"""Sound files of all kinds: the right values, or one line."""

import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.tasks.audio.reading import (
    Sound,
    laid_out,
    read_sound,
    resampled,
    resampled_length,
    sound_length,
    write_sound,
)
from tests.tasks.audio.conftest import tones, write


# A step of b bits over [-1, 1) is 2^(1 - b); rounding is off by half of one, and full scale is one below 1.
@pytest.mark.parametrize(
    ("subtype", "step"),
    [
        ("PCM_U8", 2**-7),
        ("PCM_16", 2**-15),
        ("PCM_24", 2**-23),
        ("PCM_32", 2**-24),
        ("FLOAT", 2**-24),
        ("DOUBLE", 2**-24),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_coding_of_a_wav(tmp_path: Path, subtype: str, step: float, channels: int) -> None:
    wave = tones(300, channels)
    read = read_sound(write(tmp_path / "a.wav", wave, subtype=subtype))
    assert read.wave.shape == (300, channels) and (read.rate, read.subtype, read.format) == (8000, subtype, "WAV")
    assert np.abs(read.wave - wave).max() <= step
    write_sound(tmp_path / "b.wav", Sound(read.wave, read.rate, read.subtype, read.format))
    again = read_sound(tmp_path / "b.wav")
    assert np.array_equal(again.wave, read.wave) and again.subtype == subtype


@pytest.mark.parametrize(("name", "error"), [("a.flac", 2**-15), ("a.ogg", 0.05), ("a.aiff", 2**-15)])
def test_other_formats(tmp_path: Path, name: str, error: float) -> None:
    wave = tones(4000)
    soundfile.write(tmp_path / name, wave, 8000)
    read = read_sound(tmp_path / name)
    assert np.abs(read.wave - wave)[100:-100].max() <= error and sound_length(tmp_path / name) == (4000, 8000)
    write_sound(tmp_path / f"again-{name}", Sound(read.wave, read.rate, read.subtype, read.format))
    assert read_sound(tmp_path / f"again-{name}").format == read.format


def test_bytes_by_hand(tmp_path: Path) -> None:
    """A WAV of two channels and two frames, written without a library."""
    samples = struct.pack("<4h", 16384, -16384, 32767, -32768)
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 2, 8000, 32000, 4, 16) + b"data" + struct.pack("<I", 8)
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", len(head) + 8) + head + samples)
    assert read_sound(tmp_path / "a.wav").wave.tolist() == [[0.5, -0.5], [32767 / 32768, -1.0]]


def test_beyond_full_scale_is_kept_by_floats_and_cut_by_integers(tmp_path: Path) -> None:
    loud = np.array([[1.5], [-2.0], [0.25]], np.float32)
    for subtype, expected in (("FLOAT", loud), ("PCM_16", [[32767 / 32768], [-1.0], [0.25]])):
        write_sound(tmp_path / "a.wav", Sound(loud, 8000, subtype, "WAV"))
        assert np.array_equal(read_sound(tmp_path / "a.wav").wave, expected)


def quiet(path: Path) -> Sound:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read_sound(path)


@pytest.mark.parametrize("ending", ["wav", "aiff"])
def test_a_truncated_file_is_read_as_far_as_it_goes(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tones(300), 8000, subtype="PCM_16")
    quiet(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(DoubtfulMeaning, match=f"a.{ending}: found .* bytes of samples, taken as a sound that ends"):
        assert np.abs(read_sound(path).wave - tones(200)).max() <= 2**-15


def test_a_stream_whose_length_nobody_knew(tmp_path: Path) -> None:
    """As programs write it into a pipe: the most that the header can hold."""
    path = write(tmp_path / "a.wav", tones(300))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    assert np.abs(quiet(path).wave - tones(300)).max() <= 2**-15


def test_clipping_is_doubtful(tmp_path: Path) -> None:
    """A sine of twice full scale is cut for two thirds of the time."""
    wave = np.clip(2 * np.sin(2 * np.pi * 440 * np.arange(4000) / 44100), -1, 1)[:, None]
    with pytest.warns(DoubtfulMeaning, match=r"6\d.\d% of the samples at full scale"):
        read_sound(write(tmp_path / "a.wav", wave))
    quiet(write(tmp_path / "a.wav", 0.5 * wave))


def test_a_coding_that_cannot_be_read_at_once_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tones(400), 8000, subtype="GSM610")
    with pytest.raises(UserError, match="a.wav: found that it cannot be read"):
        read_sound(tmp_path / "a.wav")


def test_channels_that_cancel_each_other() -> None:
    wave = tones(400).astype(np.float32)
    with pytest.warns(DoubtfulMeaning, match="a: found 2 channels that cancel each other"):
        assert not laid_out(np.hstack([wave, -wave]), "mono", "a").any()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"RIFF\x00\x00\x00\x00WAVE", "cannot be read"),
        (b"no sound at all" * 99, "cannot be read"),
        (np.zeros((0, 1)), "found 0 samples"),
        (np.array([[0.1], [np.nan], [np.inf]]), "found 2 samples that are not finite"),
    ],
)
def test_what_is_no_sound(tmp_path: Path, content: bytes | np.ndarray, words: str) -> None:
    path = tmp_path / "a.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write(path, content, subtype="FLOAT")
    with pytest.raises(UserError, match=words) as caught:
        read_sound(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.wav", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            sound_length(path)


def test_channels_are_mixed_or_kept() -> None:
    both = tones(50, 2).astype(np.float32)
    assert np.allclose(laid_out(both, "mono", "a"), both.mean(1, keepdims=True))
    assert laid_out(both, "stereo", "a") is both
    assert np.array_equal(laid_out(both[:, :1], "stereo", "a"), both[:, [0, 0]])
    with pytest.raises(UserError, match="a: found 3 channels, expected one or two"):
        laid_out(np.zeros((9, 3), np.float32), "stereo", "a")


@pytest.mark.parametrize("wanted", [8000, 16000, 6000, 11025])
def test_another_rate_is_the_same_tone(wanted: int) -> None:
    wave = tones(2000).astype(np.float32)
    found = resampled(wave, 8000, wanted)
    assert len(found) == resampled_length(2000, 8000, wanted) == -(-2000 * wanted // 8000)
    middle = slice(len(found) // 4, 3 * len(found) // 4)
    assert np.abs(found - tones(len(found), rate=wanted))[middle].max() < 0.01
    assert resampled(wave, 8000, None) is wave and resampled(wave, None, wanted) is wave
