"""The benchmark of video at tiny sizes: it runs, and its figures are there."""

import math

from nid_dist.benchmarks import video


def test_quick() -> None:
    figures, table = video.run(quick=True)
    names = {"background_db_minus_pcp", "f_measure_minus_pcp", "f_measure_pausing_minus_pcp", "left_out_db"}
    assert names <= set(figures) and figures["memory_ratio_20_over_10_frames"] > 0
    assert all(math.isfinite(value) for value in figures.values())
    assert len(table.rows) == 5
