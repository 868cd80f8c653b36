import math

from nid_dist.benchmarks import ct


def test_quick() -> None:
    figures, table = ct.run(quick=True)
    for views in ct.VIEWS:
        best, ours = figures[f"db_best_classical_{views}"], figures[f"db_nid_{views}"]
        assert figures[f"db_over_best_classical_{views}"] == ours - best
        assert figures[f"best_classical_{views}"] in ("FBP", "SART", "TV")
    assert figures["adjoint_error"] < 1e-5 and figures["time_ratio_siren_16"] > 1
    assert math.isfinite(figures["time_ratio_siren_16_with_geometry"])
    assert "TV" in table.text() and "NID map" in table.text()
