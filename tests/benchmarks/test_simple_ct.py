"""The job in tiny sizes, on a head that is drawn."""

import numpy as np
import pytest

from nid_dist.benchmarks.simple import ct


def test_it_says_what_is_ours_and_what_principal_components_give(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = np.mgrid[-1:1:20j, -1:1:16j]
    heights = np.linspace(0.3, 0.9, 150)[:, None, None]
    head = (np.hypot(rows, columns)[None] < heights).astype(np.float32)
    monkeypatch.setattr(ct, "brain", lambda: head)
    monkeypatch.setattr(ct, "VIEWS", (8,))
    lines = {line.key: line for line in ct.lines(True)}
    assert list(lines) == ["db_ct_8_minus_pca", "db_ct_ellipsoids_8_minus_pca"]
    for line in lines.values():
        assert 15 < line.ours < 60 and 15 < line.simple < 60
        assert line.seconds is not None and line.simple_seconds is not None and 0 < line.simple_seconds < line.seconds
