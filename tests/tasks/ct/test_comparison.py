"""The comparison of CT, small, on phantoms, a photograph and a slice of one's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from nid_dist.cli.compare import main
from nid_dist.comparison.runner import run_method, tune
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.tasks.ct.comparison import over_classical
from nid_dist.tasks.ct.methods import slice_method
from tests.tiny_ct import SHIPPED, SMALL

NETWORK = {"kind": "siren", "width": 8, "hidden_layers": 1, "output": "unit", "lr": 1e-3}
WAYS = ["NID detail", "NID map", "NID fista", "NID omp", "NID ridge", "NID gate", "PCA", "FBP", "SART", "TV"]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare_ct")
    (folder / "siren.yaml").write_text(yaml.safe_dump(NETWORK))
    written = {
        "task": "ct",
        "dictionary": {"name": "NID", "config": str(SHIPPED), "set": [*SMALL, "training.steps=30"]},
        "views": [4, 8],
        "photons": [None, 1e3],
        "phantoms": 2,
        "tuned_on": 1,
        "slices": ["coins"],
        "baselines": ["siren.yaml"],
        "seconds": 0.05,
        "shown": 8,
        "run_dir": str(folder / "runs"),
    }
    (folder / "ct.yaml").write_text(yaml.safe_dump(written))
    return folder / "ct.yaml"


def test_everything_is_compared_and_written(config: Path, tmp_path: Path) -> None:
    given, out = tmp_path / "own", tmp_path / "out"
    given.mkdir()
    np.save(given / "mine.npy", np.full((20, 30), 0.5, dtype=np.float32))
    (given / "broken.png").write_bytes(b"no image")
    assert main(["--config", str(config), "--out", str(out), "--input", str(given)]) == 2  # for the broken one
    pictures = {f"{kind}-{dose}.png" for kind in ("slices", "views") for dose in ("clean", "1e3-photons")}
    assert {path.name for path in out.iterdir()} == pictures | {"table.md", "results.json"}
    results = json.loads((out / "results.json").read_text())
    assert list(results["failed"]) == ["broken.png"]
    rows = results["rows"]
    names = ["phantom-00000", "phantom-00001", "shepp-logan", "coins", "mine.npy"]
    for dose in ("clean", "1e3 photons"):
        for views in (4, 8):
            own = [row for row in rows if (row["dose"], row["views"]) == (dose, views)]
            assert list(dict.fromkeys(row["signal"] for row in own)) == names
            assert [row["method"] for row in own if row["signal"] == "shepp-logan"] == WAYS
            assert [row["method"] for row in own if row["signal"] == "phantom-00000"] == [*WAYS, "SIREN"]
    means = {(m["group"], m["dose"], m["views"], m["method"]): m for m in results["means"]}
    held_out = [mean for mean in results["means"] if mean["group"] == "held-out phantoms"]
    assert {mean["count"] for mean in held_out if mean["method"] != "SIREN"} == {2}
    noisy, clean = (means["held-out phantoms", dose, 8, "FBP"]["psnr_db"] for dose in ("1e3 photons", "clean"))
    assert noisy < clean
    first = means["held-out phantoms", "clean", 4, "NID map"]["psnr_db"]
    assert first > means["held-out phantoms", "clean", 4, "FBP"]["psnr_db"]
    table = (out / "table.md").read_text()
    assert "SSIM, held-out phantoms" in table and "coins, unlike what was trained on" in table


def test_a_hyperparameter_is_tuned_on_other_signals() -> None:
    method = slice_method(
        "x", [0.1, 0.5, 0.9], lambda sinogram, hyperparameter: np.full((2, 2), hyperparameter * sinogram[0])
    )
    assert tune(method, [(np.ones(1), np.full((2, 2), 0.6))], psnr) == 0.5
    assert tune(method, [], psnr) == 0.1
    found, costs = run_method(method, np.full(1, 3.0), 0.9)
    assert found.tolist() == [[1, 1], [1, 1]] and costs["seconds"] > 0 and costs["hyperparameter"] == 0.9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["slices=[nothing]"], "no slice of that name"),
        (["views=[]"], "views"),
        (["dictionary.set=[tomography=null]"], "tomography"),
    ],
)
def test_bad_configurations(
    config: Path, tmp_path: Path, changes: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = [f"run_dir={tmp_path}"] if "dictionary" in changes[0] else []
    if other:
        changes = [f"dictionary.set={json.dumps([*SMALL, 'training.steps=1', 'tomography=null'])}"]
    assert main(["--config", str(config), "--set", *changes, *other]) == 2
    assert words in capsys.readouterr().err


def test_how_far_above_the_best_classical_method() -> None:
    def mean(method: str, group: str, dose: str, db: float, ssim: float) -> dict[str, object]:
        classical = not method.startswith("NID")
        return {"method": method, "group": group, "dose": dose, "views": 4, "psnr_db": db, "ssim": ssim} | {
            "classical": classical
        }

    means = [
        *(mean("NID detail", "held-out phantoms", dose, 30.0, 0.9) for dose in ("a", "b")),
        *(mean("NID map", "held-out phantoms", dose, 50.0, 0.99) for dose in ("a", "b")),
        *(mean("TV", "held-out phantoms", dose, db, 0.95) for dose, db in (("a", 25.0), ("b", 28.0))),
        mean("FBP", "held-out phantoms", "b", 20.0, 0.8),
        *(mean(method, "retina", "a", db, 0.5) for method, db in (("NID detail", 20.0), ("FBP", 21.0))),
        *(mean(method, "shepp-logan", "a", db, 0.5) for method, db in (("NID detail", 1.0), ("FBP", 21.0))),
    ]
    found = over_classical(means)
    assert found["db_over_best_classical_4"] == 2.0 and found["db_over_best_classical_unlike"] == -1.0
    assert np.isclose(found["ssim_over_best_classical_4"], -0.05)
