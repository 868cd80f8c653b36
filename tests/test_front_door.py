"""What a Python user does: load, fit, render, save, train; for every task, and what is said when it cannot be."""

import json
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import nid_dist
from nid_dist.evaluation.image_metrics import psnr
from nid_dist.measurements.geometry import Geometry
from nid_dist.tasks.ct.fitting import ScanFit
from nid_dist.tasks.ct.phantoms import named_phantom
from nid_dist.tasks.images.fit import ImageFit
from nid_dist.tasks.images.inpainting import InpaintedFit
from nid_dist.tasks.shapes.fitting import ShapeFit
from nid_dist.tasks.shapes.mesh_reading import read_mesh
from nid_dist.tasks.video.fitting import VideoFit
from tests.tiny import picture, tiny

OLD = Path(__file__).parent / "fixtures" / "version_0_1"
IMAGE = (picture(4) / 255).astype(np.float32)
CLOUD = np.random.default_rng(0).normal(size=(300, 3))
CLOUD = 0.5 * CLOUD / np.linalg.norm(CLOUD, axis=1, keepdims=True) * [1.0, 0.6, 1.0]
FRAMES = np.stack([picture(seed, 6, 8) for seed in (1, 1, 1, 1, 1, 1, 2, 1)])
GEOMETRY = Geometry.even(8, 9)
SCAN = named_phantom("phantom-00001", 0).sinogram(GEOMETRY).reshape(8, 9).astype(np.float32)
NAMES = ["images", "ct", "shapes", "video"]
SIGNALS: dict[str, Any] = {"images": IMAGE, "ct": (SCAN, GEOMETRY), "shapes": CLOUD, "video": FRAMES}


@pytest.fixture(scope="module")
def models() -> dict[str, nid_dist.Model]:
    return {name: nid_dist.load(OLD / "runs" / name, device="cpu") for name in NAMES}


@pytest.fixture(scope="module")
def fits(models: dict[str, nid_dist.Model]) -> dict[str, nid_dist.Fit]:
    return {name: models[name].fit(signal) for name, signal in SIGNALS.items()}


def test_the_names_of_the_package() -> None:
    names = {"Code", "Config", "DoubtfulMeaning", "Fit", "Method", "Model", "UserError", "load", "load_codes"}
    names |= {"read_image", "read_scans", "train"}
    assert set(nid_dist.__all__) == names | {"__version__"} == set(dir(nid_dist))
    assert all(getattr(nid_dist, name) is not None for name in names)
    assert (Path(nid_dist.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        nid_dist.lode  # noqa: B018
    assert typing.get_type_hints(nid_dist.Model.evaluate)["code"] is nid_dist.Code


def test_loading_imports_little() -> None:
    script = (
        "import sys, nid_dist\n"
        "print('torch' in sys.modules)\n"
        f"model = nid_dist.load({str(OLD / 'exports' / 'images')!r}, device='cpu')\n"
        "unwanted = 'deepspeed fairscale mpi4py torch.distributed.checkpoint tensorboard matplotlib skimage scipy av '"
        "'trimesh igl sympy PIL nid_dist.training nid_dist.tasks.images.fit nid_dist.cli'\n"
        "print([name for name in unwanted.split() if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n[]\n", "")


def test_an_image_as_the_readme_has_it(tmp_path: Path) -> None:
    Image.fromarray(picture(4)).save(tmp_path / "new.png")
    model = nid_dist.load(str(OLD / "exports" / "images"), device="cpu")
    fit = model.fit(str(tmp_path / "new.png"), method="omp")
    assert isinstance(fit, ImageFit) and fit.code.signals == 12 and fit.code.device == model.device
    assert fit.psnr == psnr(fit.render(), IMAGE) > 10
    assert fit.render(height=48, width=60).shape == (48, 60, 3) and fit.render(scale=0.5).shape == (12, 16, 3)
    assert fit.save(tmp_path / "out") == tmp_path / "out"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"codes.safetensors", "omp.png", "results.json"}
    codes, facts = nid_dist.load_codes(tmp_path / "out" / "codes.safetensors")
    assert torch.equal(codes["omp"].values, fit.code.values) and (facts["height"], facts["patch"]) == (24, 8)
    assert json.loads((tmp_path / "out" / "results.json").read_text())["psnr_db"] == pytest.approx(fit.psnr)
    # The same pixels, however they are given.
    read = nid_dist.read_image(str(tmp_path / "new.png"), "rgb")
    for signal in (tmp_path / "new.png", picture(4), read, torch.from_numpy(read)):
        assert torch.equal(model.fit(signal).code.values, fit.code.values)


def test_training_as_the_readme_has_it(images: Path, tmp_path: Path) -> None:
    config = tiny(images, tmp_path / "run", "training.steps=3")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    trainer = nid_dist.train(nid_dist.Config.from_yaml(str(tmp_path / "config.yaml"), ["training.steps=2"]))
    assert trainer.step == 2 and trainer.figures["val/db_omp2"] > 0
    assert trainer.model.fit(IMAGE, "omp2").psnr == nid_dist.load(tmp_path / "run").to("cpu").fit(IMAGE, "omp2").psnr


def test_several_signals_and_several_methods(models: dict[str, nid_dist.Model]) -> None:
    model, other = models["images"], picture(3)
    both = model.fit([IMAGE, other], "omp4")
    assert [fit.method.label for fit in both] == ["omp4", "omp4"]
    assert torch.equal(both[1].code.values, model.fit(other, nid_dist.Method("omp", 4)).code.values)
    found = model.fit(IMAGE, ["init", "adam", nid_dist.Method("ridge")])
    assert list(found) == ["init", "adam10", "ridge"] and found["ridge"].psnr >= found["init"].psnr
    assert [list(each) for each in model.fit([IMAGE, other], ["omp"])] == [["omp"], ["omp"]]


@pytest.mark.parametrize("method", [None, "map", "irls", nid_dist.Method("map", noise=0.1)])
def test_inpainting(models: dict[str, nid_dist.Model], tmp_path: Path, method: Any) -> None:
    known = np.random.default_rng(0).random((24, 32)) < 0.5
    hidden = np.where(known[..., None], IMAGE, np.float32(np.nan))
    fit = models["images"].fit(hidden, method, mask=known)
    assert isinstance(fit, InpaintedFit) and np.isfinite(fit.render(30, 40)).all() and fit.psnr > 10
    assert np.array_equal(fit.filled()[known], IMAGE[known]) and np.array_equal(fit.trusted > 0.5, known)
    assert fit.method.name == "map" if method is None else fit.method.name in str(method)
    assert (fit.deviation is None) == (method == "irls")
    fit.save(tmp_path / "out")
    label = fit.method.label
    assert {path.name for path in (tmp_path / "out").iterdir()} == (
        {"codes.safetensors", "detail.safetensors", "results.json", "trusted.png", f"{label}.png"}
        | ({"deviation.png", "deviation.npy"} if fit.deviation is not None else set())
    )


def test_a_mask_that_is_a_picture_or_unknown(models: dict[str, nid_dist.Model], tmp_path: Path) -> None:
    mask = np.full((24, 32), 255, np.uint8)
    mask[8:14] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    fits = [models["images"].fit(IMAGE, mask=given) for given in (str(tmp_path / "mask.png"), mask, mask > 0)]
    assert all(torch.equal(fit.code.values, fits[0].code.values) for fit in fits)
    assert models["images"].fit(IMAGE, mask="unknown").render().shape == IMAGE.shape


def test_a_scan(models: dict[str, nid_dist.Model], tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", SCAN)
    (tmp_path / "scan.yaml").write_text("{unit: degrees, views: 8, bins: 9}")
    truth = named_phantom("phantom-00001", 0).image(9)
    fit = models["ct"].fit((str(tmp_path / "scan.npy"), tmp_path / "scan.yaml"), method="map", truth=truth)
    assert isinstance(fit, ScanFit) and fit.code.signals == 1 and fit.render(20).shape == (20, 20, 1)
    assert fit.psnr == psnr(fit.render()[..., 0], truth.astype(np.float32)) > 5
    same = models["ct"].fit([(SCAN, GEOMETRY)] * 2, "map")
    assert same[0].psnr is None and same[0].reconstructor is same[1].reconstructor
    torch.testing.assert_close(same[1].code.values, fit.code.values)
    fit.save(tmp_path / "out", size=12)
    assert np.load(tmp_path / "out" / "map.npy").shape == (12, 12)


def test_a_cloud(models: dict[str, nid_dist.Model], fits: dict[str, nid_dist.Fit], tmp_path: Path) -> None:
    np.save(tmp_path / "cloud.npy", CLOUD)
    fit = models["shapes"].fit(tmp_path / "cloud.npy")
    assert isinstance(fit, ShapeFit) and fit.psnr is None and fit.code.signals == 1
    assert torch.equal(fit.code.values, fits["shapes"].code.values)
    mesh = fit.render(resolution=24)
    # In the cloud's own units; little has been learned, but the box is the cloud's.
    assert np.abs(mesh.vertices).max() < 0.6 and fit.placement.scale == pytest.approx(0.5 / 0.9, rel=0.02)
    fit.save(tmp_path / "out", resolution=24, formats=["ply", "obj"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "codes.safetensors", "mesh.ply", "mesh.obj", "picture.png", "results.json"
    }  # fmt: skip
    assert len(read_mesh(tmp_path / "out" / "mesh.ply").faces) == len(mesh.faces)
    with_normals = models["shapes"].fit(np.concatenate([CLOUD, CLOUD], 1), ["map", "init"])
    assert list(with_normals) == ["map", "init"] and with_normals["map"].cloud.normals is not None


def test_a_video(models: dict[str, nid_dist.Model], fits: dict[str, nid_dist.Fit], tmp_path: Path) -> None:
    fit, model = fits["video"], models["video"]
    assert isinstance(fit, VideoFit) and fit.psnr is None and fit.code.signals == 8
    assert fit.background.shape == (8, 6, 8, 3) and fit.foreground.shape == (8, 6, 8)
    assert fit.render(time=0.1, height=12, width=20).shape == (12, 20, 3)
    # The model stays as it is, so that a video can be fitted twice.
    assert torch.equal(model.fit(FRAMES / np.float32(255)).code.values, fit.code.values)
    fit.save(tmp_path / "out", lossless=True)
    assert {"background.mkv", "overview.png", "codes.safetensors", "decomposition.json", "dictionary"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_codes_move_and_come_back(fits: dict[str, nid_dist.Fit], tmp_path: Path) -> None:
    for name, fit in fits.items():
        fit.code.to("cpu").save(str(tmp_path / f"{name}.safetensors"))
        codes, _ = nid_dist.load_codes(tmp_path / f"{name}.safetensors")
        assert torch.equal(codes["code"].values, fit.code.values.detach())
        assert torch.equal(codes["code"].indices, fit.code.indices)
    dense = nid_dist.Code(torch.rand(2, 4), torch.zeros(2, 1))
    dense.save(tmp_path / "dense.safetensors")
    again = nid_dist.load_codes(tmp_path / "dense.safetensors")[0]["code"]
    assert torch.equal(again.dense(4), dense.dense(4)) and again.to(torch.device("meta")).device.type == "meta"


def test_codes_are_evaluated_by_the_model(models: dict[str, nid_dist.Model]) -> None:
    model = models["images"]
    values = torch.rand(3, 64, 3)
    code = model.encode(values)
    torch.testing.assert_close(model.render(code).flatten(1, 2), model.evaluate(code, model.coords))
    assert model.render(code, 5, 7).shape == (3, 5, 7, 3) and model.device == torch.device("cpu")


def test_nothing_is_overwritten(fits: dict[str, nid_dist.Fit], tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    for fit in fits.values():
        with pytest.raises(nid_dist.UserError, match="full: found a folder with files"):
            fit.save(tmp_path / "full")
    (tmp_path / "empty").mkdir()
    fits["images"].save(str(tmp_path / "empty"))
    assert {path.name for path in tmp_path.iterdir()} == {"full", "empty"}


@pytest.mark.parametrize(
    ("name", "signal", "message"),
    [
        ("images", CLOUD, r"the signal: found an array of shape \(300, 3\), expected an image"),
        ("images", FRAMES, r"an array of shape \(8, 6, 8, 3\), expected an image"),
        ("images", (SCAN, GEOMETRY), "found a tuple, expected an image"),
        ("images", SCAN, r"found 1 channel\(s\), expected 3"),
        ("images", 2 * IMAGE, "the image: found float samples from"),
        ("images", "clip.mp4", "clip.mp4: found no such file"),
        ("ct", IMAGE, r"the signal: found an array of shape \(24, 32, 3\), expected a sinogram and its geometry"),
        ("ct", "photo.png", "the signal: found the path 'photo.png', expected a sinogram and its geometry"),
        ("ct", (SCAN[:4], GEOMETRY), r"the sinogram: found an array of shape \(4, 9\)"),
        ("shapes", IMAGE, "expected a cloud"),
        ("shapes", "photo.png", "found a file ending in .png, expected one of .ply"),
        ("shapes", (SCAN, GEOMETRY), "found a tuple, expected a cloud"),
        ("video", IMAGE, "expected a video"),
        ("video", FRAMES[:5], "found 5 frames of 6x8, expected 8 of 6x8"),
        ("video", "nowhere", "nowhere: found nothing"),
    ],
)
def test_a_signal_of_another_kind(models: dict[str, nid_dist.Model], name: str, signal: Any, message: str) -> None:
    with pytest.raises(nid_dist.UserError, match=message) as caught:
        models[name].fit(signal)
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)


WRONG: dict[str, tuple[Callable[[dict[str, nid_dist.Model]], Any], str]] = {
    "method": (lambda models: models["images"].fit(IMAGE, "sgd"), "the method: found 'sgd', expected one of init"),
    "stride": (lambda models: models["images"].fit(IMAGE, stride=9), "stride: found 9, expected 1 to 8"),
    "mask": (lambda models: models["images"].fit(IMAGE, mask=np.ones((2, 3), bool)), "the mask: found 2x3 pixels"),
    "masked": (
        lambda models: models["images"].fit(IMAGE, "omp", mask="unknown"),
        "the method: found 'omp', expected map",
    ),
    "cloud's": (lambda models: models["shapes"].fit(CLOUD, "omp"), "the method: found 'omp', expected map or init"),
    "video's": (lambda models: models["video"].fit(FRAMES, "omp"), "the method: found 'omp', expected irls"),
    "prior": (lambda models: models["video"].require_prior(), "the prior on merged heads"),
    "size": (
        lambda models: models["images"].fit(IMAGE).render(10**6, 10**6),
        "the size to render: found 1000000x1000000",
    ),
    "unbound": (
        lambda models: nid_dist.Model(models["ct"].config, channels=1, grid_shape=(9, 9), signals=1).fit(SCAN),
        "the model: found no task, whose signals it could fit",
    ),
    "device": (
        lambda models: models["images"].evaluate(
            models["images"].fit(IMAGE).code.to(torch.device("meta")), torch.zeros(1, 2)
        ),
        r"the code: found one on meta, expected one on cpu, where the model is; move it by code.to\('cpu'\)",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_said_in_a_line(models: dict[str, nid_dist.Model], case: str) -> None:
    act, message = WRONG[case]
    with pytest.raises(nid_dist.UserError, match=message) as caught:
        act(models)
    assert "\n" not in str(caught.value) and "--" not in str(caught.value)
