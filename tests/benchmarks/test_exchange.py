"""The exchange benchmark compares what it says, and its bytes are those of the formulas."""

from nid_dist.benchmarks import exchange


def test_quick_run() -> None:
    figures, table = exchange.run(quick=True)
    assert [row[5] for row in table.rows] == [
        exchange.OURS,
        exchange.TEXTBOOK,
        exchange.OURS,
        exchange.WIDE,
        exchange.DEEPSPEED,
        exchange.FAIRSCALE,
    ]
    # Of 4 signals, to one of two owners; h = 16. A slot of a code is 12 bytes, a merged head there and back.
    kilobytes = [row[6] for row in table.rows]
    assert kilobytes[0] == 4 * (4 * 12 + 2 * 3 * 17 * 4) / 1e3
    assert kilobytes[1] == 4 * (2 * 64 * (2 + 3 + 3) + 2) * 4 / 1e3
    assert kilobytes[2] == 4 * (2 * 12 + 2 * 3 * 17 * 4) / 1e3
    assert kilobytes[3] == 4 * (2 * 12 + 2 * 16 * 17 * 4) / 1e3
    # 64 tokens with two experts each, half of them elsewhere, 16 numbers there and back, twice.
    assert kilobytes[4] == kilobytes[5] == 64 * 16 * 4 * 4 / 1e3
    assert all(row[10] == 0 for row in table.rows)
    assert figures["bytes_ratio_textbook"] == kilobytes[1] / kilobytes[0]
    assert figures["bytes_ratio_deepspeed_moe"] == kilobytes[4] / kilobytes[2]
    assert figures["bytes_ratio_fairscale_moe_equal_widths"] == kilobytes[5] / kilobytes[3]
    for name in ("textbook", "deepspeed_moe", "fairscale_moe"):
        assert figures[f"time_ratio_{name}"] > 0
    assert figures["relative_error_textbook"] < 1e-4
