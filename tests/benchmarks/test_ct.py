import math

from nid_dist.benchmarks import ct


def test_quick() -> None:
    figures, table = ct.run(quick=True)
    for views in ct.VIEWS:
        assert figures[f"db_best_classical_{views}"] < 60 and figures[f"db_nid_{views}"] < 60
        assert figures[f"best_classical_{views}"] in ("FBP", "SART", "TV")
    assert figures["adjoint_error"] < 1e-5 and figures["time_ratio_siren_16"] > 0
    assert {"db_over_best_classical_4", "ssim_over_best_classical_8", "db_over_best_classical_unlike"} <= set(figures)
    assert math.isfinite(figures["time_ratio_siren_16_with_geometry"])
    assert "TV" in table.text() and "NID map" in table.text()
