"""The video's lines of the benchmark `simple`, at tiny sizes."""

from nid_dist.benchmarks.simple import jobs


def test_quick() -> None:
    found = {line.key: line for line in jobs()["video"](True)}
    assert set(found) == {f"{key}_video_minus_median_gain" for key in ("db", "f", "f_pausing", "recall")}
    assert all(line.seconds and line.simple_seconds for line in found.values())
