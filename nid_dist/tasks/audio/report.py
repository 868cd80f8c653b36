"""Sound files fitted one after the other: codes, sounds, spectrograms, a table."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from nid_dist.coding.method import Method
from nid_dist.config.schema import Config
from nid_dist.data.splits import Split
from nid_dist.evaluation.file_report import FileSignals, Named, Report, Row, report_signals
from nid_dist.evaluation.report import Column
from nid_dist.model import Model
from nid_dist.tasks.audio.config import AudioSection
from nid_dist.tasks.audio.fit import cosine_snr, fit_sound, require_stride, write_codes
from nid_dist.tasks.audio.pictures import spectrograms
from nid_dist.tasks.audio.reading import ENDINGS, Sound, read_sound
from nid_dist.tasks.audio.signals import list_sounds

_COLUMNS = [
    Column("sound", key="sound"),
    Column("solver", key="solver"),
    Column("SNR", "dB", ".2f", "snr_db"),
    Column("DCT of as many", "dB", ".2f", "dct_db"),
    Column("residual", "times validation", ".2f", "times_expected"),
    Column("non-zeros", "per signal", "", "nonzeros_per_signal"),
    Column("code", "bytes/signal", "", "bytes_per_signal"),
    Column("time", "ms/signal", ".3f", "ms_per_signal"),
]


def report_sounds(
    model: Model,
    signals: Iterable[Named],
    methods: Sequence[Method],
    out: Path,
    *,
    stride: int | None = None,
    scale: float | None = None,
    command: str,
) -> Report:
    """Fit sounds and write, per sound, codes, reconstructions and spectrograms; for all, a table.

    Args:
        out: folder, as for `report_signals`.
        stride: step between windows; None: half a window.
        scale: also write the last method's f at this multiple of the sound's rate.
        command: to be recorded with the figures.
    """
    report = Report(_COLUMNS, "sound")

    def fit(name: str, sound: Sound, folder: Path) -> list[Row]:
        fits = fit_sound(model, sound, methods, stride, name)
        shown = {label: fit.render() for label, fit in fits.items()}
        figures = {label: fit.figures(shown[label]) for label, fit in fits.items()}
        first, last = next(iter(fits.values())), list(fits.values())[-1]
        folder.mkdir(parents=True, exist_ok=True)
        write_codes(folder, fits, sound=name)
        for label, wave in shown.items():
            fits[label].write_wave(folder / label, wave)
        captions = {
            label: "silence" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB" for label, row in figures.items()
        }
        title = f"{name}: {model.dictionary.num_experts} experts, {model.support} per window of {first.window}"
        spectrograms(folder / "comparison.png", first.sound.wave, shown, first.sound.rate or 1, captions, title)
        if scale is not None:
            larger = last.render(max(1, round(scale * len(last.sound.wave))))
            last.write_wave(folder / f"{last.method.label}-x{scale:g}", larger, scale)
        cosine = cosine_snr(first)
        report.judged[name] = last.judgement
        return [
            {"sound": name, "solver": label, **row, "dct_db": cosine, **fits[label].judgement.facts()}
            for label, row in figures.items()
        ]

    return report_signals(report, signals, fit, out, command)


def _held_out(config: Config, split: Split) -> list[Named]:
    return [(ref.name, ref.load) for ref in list_sounds(config.signals_of(AudioSection))[split]]


FILES = FileSignals(
    "sound",
    ENDINGS,
    lambda path, _: read_sound(path),
    _held_out,
    lambda stride, config: require_stride(stride, config.signals_of(AudioSection).window),
    report_sounds,
)
