"""Whole images compared, small: learned experts with more and more detail, and curves against numbers and seconds."""

import json
from pathlib import Path

from nid_dist.cli.compare import main


def test_more_detail_is_closer(folder: Path) -> None:
    out = folder / "whole"
    assert main(["--config", str(folder / "whole.yaml"), "--out", str(out)]) == 0
    written = {"table.md", "results.json", "grid.png", "numbers.png", "seconds.png"}
    assert {path.name for path in out.iterdir()} == written
    by = {row["method"]: row for row in json.loads((out / "results.json").read_text())["rows"]}
    ours = [by[name] for name in ("NID whole", "NID whole + 8 detail", "NID whole + 30 detail")]
    assert [row["detail"] for row in ours] == [0, 8, 30] and all(row["learned"] == 4 + 3 for row in ours)
    assert [row["numbers"] for row in ours] == [7, 15, 37]
    quality = [row["psnr_db"] for row in ours]
    assert quality == sorted(quality) and by["detail alone, 30"]["psnr_db"] > by["detail alone, 8"]["psnr_db"]
    # A hidden layer of w x w, and w numbers for each of two coordinates and three channels.
    assert by["SIREN, 4 wide"]["numbers"] == 3 * 4 + 5 * 4 + 5 * 3
