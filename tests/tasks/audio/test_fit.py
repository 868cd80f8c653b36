"""A dictionary of sounds: trained, fitted, rendered at any rate, written back."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import nid_dist
from nid_dist.cli.evaluate import main as evaluate
from nid_dist.cli.fit import main
from nid_dist.cli.plan import describe_run
from nid_dist.coding.method import Method
from nid_dist.errors import DoubtfulMeaning, UserError
from nid_dist.parallel.exchange.topology import Topology
from nid_dist.parallel.world import World
from nid_dist.tasks.audio.fit import AudioFit
from nid_dist.tasks.audio.measures import best_cosines, snr
from nid_dist.tasks.audio.task import AudioTask
from nid_dist.tasks.registry import make_task
from nid_dist.training.run import train
from tests.tasks.audio.conftest import configured, tones, write


@pytest.fixture(scope="module")
def model(audio_run: Path) -> nid_dist.Model:
    return nid_dist.load(audio_run, device="cpu")


def test_snr_by_hand() -> None:
    wave = np.array([[3.0], [4.0]])
    assert snr(1.1 * wave, wave) == pytest.approx(20) and snr(wave, wave) == 200
    assert snr(wave, 0 * wave) is None


def test_cosines_of_one_frequency_and_a_mean() -> None:
    places = np.pi * (np.arange(16) + 0.5) / 16
    window = (0.3 + 0.5 * np.cos(3 * places) + 0.1 * np.cos(5 * places))[None, :, None]
    assert np.allclose(best_cosines(window, 2), window)
    assert np.allclose(best_cosines(window, 1)[0, :, 0], 0.3 + 0.5 * np.cos(3 * places))
    assert np.allclose(best_cosines(window, 99), window)


@pytest.mark.parametrize("gate", ["unrolled", "codebook", "none"])
def test_gates_and_phases(gate: str, tmp_path: Path) -> None:
    phases = "[{mode: solve}]" if gate == "none" else "[{mode: solve}, {mode: gate}, {mode: distill}]"
    given = [f"coding.gate.kind={gate}", f"coding.phases={phases}", "training.steps=6", "training.coordinates=20"]
    trainer = train(configured(tmp_path, *given, "signals.layout=stereo", "logging.pictures_every=6"))
    assert trainer.step == 6 and np.isfinite(list(trainer.figures.values())).all()
    assert (("val/snr_init" in trainer.figures) is (gate == "unrolled")) and "val/snr_omp2" in trainer.figures
    assert trainer.model.grid_shape == (32,) and trainer.model.channels == 2


def test_a_training_learns_and_shows(audio_run: Path, model: nid_dist.Model) -> None:
    task = make_task(model.config)
    assert isinstance(task, AudioTask)
    figures = task.evaluate(model, World(Topology(1)))
    fresh = task.evaluate(task.model().eval(), World(Topology(1)))
    assert set(figures) == {f"val/snr_{name}" for name in ("init", "ridge", "omp2")} | {"val/mahalanobis"}
    assert figures["val/snr_omp2"] > max(fresh["val/snr_omp2"] + 3, figures["val/snr_init"])
    wave = task.refs["val"][0].load().wave
    fit = model.fit(wave, Method("omp", 2))
    assert isinstance(fit, AudioFit) and fit.snr == pytest.approx(figures["val/snr_omp2"], abs=0.01)
    (name, picture), *_ = task.pictures(model).items()
    assert name == "val/chirp-00001" and picture.ndim == 3 and 0 <= picture.min() < picture.max() <= 1


@pytest.mark.parametrize("length", [20, 32, 33, 500])
def test_lengths_strides_and_rates(model: nid_dist.Model, length: int) -> None:
    wave = tones(length)
    errors = []
    for stride in (32, 16, 8):
        fit = model.fit(wave, "omp", stride=stride)
        assert fit.render().shape == (length, 1)
        errors.append(float(np.square(fit.render() - wave).mean()))
    assert errors[-1] <= 1.5 * errors[0]
    # At a multiple of the rate it is the same sound between the samples.
    twice = fit.render(3 * length)
    assert twice.shape == (3 * length, 1) and np.abs(twice[1::3] - fit.render()).max() < 1e-4
    with pytest.raises(nid_dist.UserError, match="the length"):
        fit.render(0)


def test_what_can_be_a_sound(model: nid_dist.Model, tmp_path: Path) -> None:
    wave = tones(200)
    path = write(tmp_path / "a.wav", wave)
    renders = [
        model.fit(given).render()
        for given in (
            path,
            str(path),
            wave,
            wave[:, 0],
            torch.from_numpy(wave),
            (wave, 8000),
            np.round(32768 * wave).astype(np.int16),
        )
    ]
    for render in renders:
        assert np.abs(render - renders[2]).max() < 1e-2
    # Another rate: fitted at the dictionary's, rendered at its own.
    high = model.fit((tones(400, rate=16000), 16000))
    assert high.length == 200 and high.render().shape == (400, 1)
    with pytest.raises(nid_dist.UserError, match="as this dictionary is of sounds"):
        model.fit(np.zeros((4, 4, 3)))
    with pytest.raises(nid_dist.UserError, match="stride: found 33, expected 1 to 32"):
        model.fit(wave, stride=33)
    with pytest.raises(nid_dist.UserError, match="not finite"):
        model.fit(np.full(50, np.nan))


def test_silence(model: nid_dist.Model) -> None:
    fit = model.fit(np.zeros(100))
    assert fit.snr is None and np.abs(fit.render()).max() < 1e-3


def test_fit_writes_sounds_spectrograms_and_a_table(
    audio_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "sounds", tmp_path / "out"
    write(folder / "a.wav", tones(300, 2), subtype="PCM_24")
    write(folder / "b.flac", tones(300, rate=16000), 16000)
    write(folder / "silence.wav", np.zeros((100, 1)))
    (folder / "broken.wav").write_bytes(b"no sound")
    given = ["--dictionary", str(audio_run), "--input", str(folder), "--out", str(out), "--scale", "2"]
    assert main(given) == 2  # for the broken one
    said = capsys.readouterr()
    assert "SNR [dB]" in said.out or "SNR" in said.out
    assert said.err.count("broken.wav") == 1
    results = json.loads((out / "results.json").read_text())
    assert set(results["failed"]) == {"broken.wav"} and {row["sound"] for row in results["rows"]} == {
        "a.wav",
        "b.flac",
        "silence.wav",
    }
    assert all((row["snr_db"] is None) == (row["sound"] == "silence.wav") for row in results["rows"])
    for name, file, rate, subtype in (("a", "omp.wav", 8000, "PCM_24"), ("b", "omp.flac", 16000, "PCM_16")):
        info = soundfile.info(out / name / file)
        assert (info.samplerate, info.subtype, info.frames, info.channels) == (rate, subtype, 300, 1)
        assert (out / name / "comparison.png").stat().st_size > 5000
    assert soundfile.info(out / "a" / "omp-x2.wav").samplerate == 16000
    codes, facts = nid_dist.load_codes(out / "a" / "codes.safetensors")
    assert (facts["length"], facts["window"], facts["stride"], facts["rate"]) == (300, 32, 16, 8000)
    assert codes["omp"].signals == 18
    # What was written is the fit.
    written = soundfile.read(out / "a" / "omp.wav")[0]
    row = next(row for row in results["rows"] if (row["sound"], row["solver"]) == ("a.wav", "omp"))
    mix = tones(300, 2).mean(1, keepdims=True)
    assert snr(written[:, None], mix) == pytest.approx(row["snr_db"], abs=0.1)


def test_fit_save_and_evaluate(audio_run: Path, model: nid_dist.Model, tmp_path: Path) -> None:
    model.fit((tones(200), 8000), "ridge").save(tmp_path / "fit")
    assert {path.name for path in (tmp_path / "fit").iterdir()} == {"codes.safetensors", "ridge.wav", "results.json"}
    assert evaluate(["--dictionary", str(audio_run), "--out", str(tmp_path / "ev"), "--solver", "omp"]) == 0
    rows = json.loads((tmp_path / "ev" / "results.json").read_text())["rows"]
    assert [row["sound"] for row in rows] == ["vowel-00002", "pluck-00003"]


def test_a_plan(tmp_path: Path) -> None:
    config = configured(tmp_path)
    run = describe_run(config, 1)
    built = make_task(config).model()
    assert built.gate is not None
    assert run.gate.parameters == sum(parameter.numel() for parameter in built.gate.parameters())
    assert (run.in_dim, run.grid_points, run.channels) == (1, 32, 1)


def test_a_dictionary_of_images_takes_no_sound(run: Path, model: nid_dist.Model, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tones(100))
    with pytest.raises(nid_dist.UserError, match="a.wav"):
        nid_dist.load(run, device="cpu").fit(path)


def test_a_sound_in_other_units_than_full_scale_is_refused(model: nid_dist.Model) -> None:
    wave = (20_000 * np.sin(np.arange(400) / 9)).astype(np.int16)
    with pytest.raises(UserError, match="up to 20000, expected samples in"):
        model.fit(np.append(wave, 20_000).astype(np.float32))
    integers, floats = model.fit(wave), model.fit(wave.astype(np.float32) / 32_768)
    assert torch.equal(integers.code.values, floats.code.values)


def test_whole_numbers_of_another_full_scale(model: nid_dist.Model) -> None:
    wave = np.round(32767 * tones(400)[:, 0])
    with pytest.warns(DoubtfulMeaning, match="32-bit samples up to .*as of 16 bits, taken as almost silence"):
        model.fit(wave.astype(np.int32))
    with pytest.raises(UserError, match="the sound: found samples of type int64"):
        model.fit(wave.astype(np.int64))
    loud = model.fit((wave * 65536).astype(np.int32)).sound.wave
    assert np.abs(loud - tones(400)).max() < 2**-14


def test_several_rates_that_are_kept(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 16000), ("c", 8000)):
        write(tmp_path / "sounds" / f"{name}.wav", tones(600), rate)
    own = [f"signals.path={tmp_path / 'sounds'}", "signals.val=[c.wav]", "signals.test=0.0"]
    with pytest.warns(DoubtfulMeaning, match="signals.rate: found null, and sounds at 8000 and 16000"):
        AudioTask(configured(tmp_path, "signals.rate=null", *own))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AudioTask(configured(tmp_path, *own))
