"""`simple`, video: a textured scene in a light that drifts, against the temporal median times one gain a frame."""

import tempfile
from collections.abc import Iterable
from typing import Any

from nid_dist.benchmarks.harness import compare
from nid_dist.benchmarks.simple.line import Line
from nid_dist.comparison.factory import load_comparison
from nid_dist.config import find_config
from nid_dist.tasks.video.comparison import VideoComparison

_CLIP = ("rows=120", "columns=160", "flicker=0", "drift=0.1", "texture=0.06")
_TINY = (
    "frames=18",
    "rows=48",
    "columns=64",
    "dictionaries.0.set=[signals.video.stop=null, training.steps=5, dictionary.width=16]",
)
_JOB = "video, light that drifts by 10 %"


def lines(quick: bool) -> Iterable[Line]:
    """Background, and detection by the rule that sees no truth, of the whole and of the object that pauses."""
    path = find_config("compare_video")
    with tempfile.TemporaryDirectory() as folder:
        comparison = load_comparison(path, [f"run_dir={folder}", *_CLIP, *(_TINY if quick else ())])
        assert isinstance(comparison, VideoComparison)
        comparison = comparison.model_copy(update={"dictionaries": comparison.dictionaries[:1]})
        rows = {row["method"]: row for row in compare(comparison, path).rows}
    ours, simple = rows["NID"], rows["median times gain"]

    def line(key: str, name: str, figure: str, unit: str) -> Line:
        seconds: dict[str, Any] = {"seconds": ours["seconds"], "simple_seconds": simple["seconds"]}
        return Line(
            f"{key}_video_minus_median_gain",
            f"{_JOB}: {name}",
            "trained on it",
            ours[figure],
            "median times gain",
            simple[figure],
            unit,
            **seconds,
        )

    yield line("db", "background", "background_db", "dB")
    yield line("f", "F", "f_measure_by_rule", "")
    yield line("f_pausing", "F, pausing object", "f_measure_pausing", "")
    yield line("recall", "recall, pausing object", "recall_pausing", "")
