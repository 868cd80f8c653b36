"""Sounds as windows: which there are, what they hold, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nid_dist.errors import UserError
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.signals import AudioSignals, list_sounds, to_values, to_wave
from nid_dist.tasks.audio.synthetic import named_sound, sound_names
from tests.tasks.audio.conftest import configured, tones, write


def section(folder: Path | None, **options: object) -> AudioSection:
    return AudioSection.model_validate(
        {"source": "audio", "path": None if folder is None else str(folder), "window": 32, **options}
    )


def test_windows_of_a_sound(tmp_path: Path) -> None:
    wave = tones(100, 2)
    write(tmp_path / "a.wav", wave, subtype="FLOAT")
    own = section(tmp_path, stride=20, layout="stereo")
    signals = AudioSignals(list_sounds(own)["train"], own)
    # First samples 0, 20, 40, 60; then one shifted inwards.
    assert len(signals) == 5 and signals.coords.shape == (32, 1)
    assert torch.allclose(signals.coords[:2, 0], torch.tensor([-1 + 1 / 32, -1 + 3 / 32]))
    expected = [0.5 + 0.5 * wave[first : first + 32] for first in (0, 60, 68)]
    assert np.allclose(signals.values(torch.tensor([0, 3, 4])).numpy(), expected, atol=1e-6)
    with pytest.raises(IndexError):
        signals.values(torch.tensor([5]))


def test_values_and_pressures() -> None:
    wave = np.array([-1.0, 0.0, 1.0, 1.5])
    assert to_values(wave).tolist() == [0.0, 0.5, 1.0, 1.25]
    assert to_wave(to_values(wave)).tolist() == wave.tolist()


def test_a_folder_at_another_rate_by_split(tmp_path: Path) -> None:
    for name, rate in (("a.wav", 8000), ("sub/b.flac", 16000), ("c.WAV", 4000), (".hidden.wav", 8000)):
        write(tmp_path / name, tones(800, rate=rate), rate)
    (tmp_path / "notes.txt").write_text("no sound")
    own = section(tmp_path, rate=8000, val=["a*"], test=["c*"])
    refs = list_sounds(own)
    assert {split: [ref.name for ref in part] for split, part in refs.items()} == {
        "train": ["sub/b.flac"],
        "val": ["a.wav"],
        "test": ["c.WAV"],
    }
    signals = AudioSignals(refs["train"], own)
    assert len(signals) == 13  # 400 samples at 8 kHz
    assert np.abs(signals.values(torch.tensor([6]))[0].numpy() - to_values(tones(400)[192:224])).max() < 0.01


def test_a_file_that_changed_or_is_too_short(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", tones(100))
    own = section(tmp_path)
    signals = AudioSignals(list_sounds(own)["train"], own)
    write(tmp_path / "a.wav", tones(90))
    with pytest.raises(UserError, match=r"a.wav: found 90 samples, expected 100 samples, as at the start"):
        signals.values(torch.tensor([0]))
    write(tmp_path / "a.wav", tones(31))
    with pytest.raises(UserError, match=r"a.wav: found 31 samples, expected at least signals.window 32"):
        AudioSignals(list_sounds(own)["train"], own)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(UserError, match="found no sound, expected files ending in .aif"):
        list_sounds(own)
    with pytest.raises(UserError, match="expected the folder with the sounds"):
        list_sounds(section(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("signals.window=100", "window 100 is no power of two, .*; choose 128"),
        ("signals.stride=64", "stride 64 larger than window 32"),
        ("signals.layout=5.1", "one of mono, stereo"),
        ("signals.widnow=64", "write window"),
        ("signals.patch=8", "means nothing"),
        ("coding.gate.kind=light", "'light' cannot read the windows of signals.source 'audio'"),
        ("signals.val=[sofa]", "matches no sound of the made sounds"),
    ],
)
def test_a_configuration_that_cannot_be(override: str, words: str, tmp_path: Path) -> None:
    if "means nothing" in words:
        with pytest.warns(UserWarning, match=words):
            configured(tmp_path, override)
        return
    with pytest.raises(UserError, match=words):
        list_sounds(configured(tmp_path, override).signals_of(AudioSection))


def test_made_sounds() -> None:
    names = sound_names(6)
    assert names[:4] == ["pluck-00000", "chirp-00001", "vowel-00002", "pluck-00003"]
    for name in names:
        sound = named_sound(name, 0, 0.25, 8000)
        assert sound.wave.shape == (2000, 1) and 0.29 < np.abs(sound.wave).max() <= 0.9
        assert np.array_equal(sound.wave, named_sound(name, 0, 0.25, 8000).wave)
        assert not np.array_equal(sound.wave, named_sound(name, 1, 0.25, 8000).wave)
        assert np.square(sound.wave).mean() > 1e-4  # it sounds
