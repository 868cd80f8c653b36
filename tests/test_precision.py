"""What is computed in fewer bits, and what never is."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from nid_dist.code import Code
from nid_dist.coding.solvers import (
    PreparedDictionary,
    reduce_problem,
    solve_adam,
    solve_codes,
    solve_fista,
    solve_irls,
    solve_omp,
    solve_ridge,
)
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary
from nid_dist.measurements.sampling import Sampling
from nid_dist.precision import full_precision, products_in, shortfall
from nid_dist.samples import Samples
from nid_dist.training.run import train
from tests.device.same import read_log
from tests.tiny import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Solve = Callable[[Dictionary, Tensor, Tensor], Tensor]


def problem(dictionary: Dictionary, coords: Tensor, values: Tensor):  # type: ignore[no-untyped-def]
    return reduce_problem(dictionary, Sampling(coords), values)


def first(values: Tensor) -> Tensor:
    return torch.arange(4).expand(len(values), 4)


SOLVERS: dict[str, Solve] = {
    "reduction": lambda d, x, y: problem(d, x, y).atoms,
    "prepared": lambda d, x, y: PreparedDictionary(d, Sampling(x)).problem(y).targets,
    "omp": lambda d, x, y: solve_omp(problem(d, x, y), 4).code.values,
    "ridge": lambda d, x, y: solve_ridge(problem(d, x, y), first(y)).code.values,
    "fista": lambda d, x, y: solve_fista(problem(d, x, y), 4).code.values,
    "adam": lambda d, x, y: (
        solve_adam(problem(d, x, y), Code(torch.zeros(len(y), 4), torch.zeros(len(y), 3), first(y))).code.values
    ),
    "irls": lambda d, x, y: solve_irls(d, Sampling(x), y, 4).code.values,
    "codes": lambda d, x, y: solve_codes(d, Samples(x, y), 4).code.values,
    "codes apart": lambda d, x, y: solve_codes(d, Samples(x.expand(len(y), -1, -1), y), 4).code.values,
}


@pytest.fixture(scope="module")
def case() -> tuple[Dictionary, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    config = DictionaryConfig(experts=24, width=16, encoding=Encoding(kind="fourier", features=8))
    dictionary = Dictionary(config, 2, 3, generator).requires_grad_(False)
    coords = torch.rand(40, 2, generator=generator) * 2 - 1
    return dictionary, coords, torch.rand(5, 40, 3, generator=generator)


@pytest.mark.parametrize("name", SOLVERS)
def test_codes_are_solved_in_full_precision_whatever_surrounds_them(
    name: str, case: tuple[Dictionary, Tensor, Tensor]
) -> None:
    expected = SOLVERS[name](*case)
    with products_in("bf16", CPU):
        assert case[0].trunk(case[1]).dtype == torch.bfloat16
        found = SOLVERS[name](*case)
    assert found.dtype == torch.float32 and torch.equal(found, expected)


def settings() -> tuple[bool, bool, str, str]:
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.conv.fp32_precision,
    )


def test_tf32_is_for_products_of_a_gpu_and_not_for_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    before = settings()
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: CUDA)
    with products_in("tf32", CUDA):
        assert settings() == (False, False, "high", "tf32")
        assert torch.backends.cuda.matmul.allow_tf32  # readers of the older setting agree
        with full_precision():
            assert settings() == (False, False, "highest", "ieee")
        assert settings() == (False, False, "high", "tf32")
    with products_in("fp32", CUDA):
        assert settings() == (False, False, "highest", "ieee")
    with products_in("tf32", CPU):
        assert settings() == before
    assert settings() == before


def test_it_is_as_before_after_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: CUDA)

    @full_precision()
    def fail() -> None:
        raise ValueError(str(settings()))

    before = settings()
    with products_in("bf16", CPU), products_in("tf32", CUDA):
        inside = settings()
        assert inside == (True, False, "high", "tf32")
        for _ in range(2):
            with pytest.raises(ValueError, match=r"False, False, 'highest', 'ieee'"):
                fail()
            assert settings() == inside
    with pytest.raises(ValueError, match="outside"), products_in("bf16", CPU):
        raise ValueError("outside")
    assert settings() == before


def test_an_older_pytorch_has_one_setting_for_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    older = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", older)
    with products_in("fp32", CUDA):
        assert not older.allow_tf32
    assert older.allow_tf32


@pytest.mark.parametrize("gate", ["conv", "resnet"])
def test_an_evaluation_in_few_bits_is_close(gate: str, images: Path, tmp_path: Path) -> None:
    figures = []
    for name in ("fp32", "bf16"):
        # No step changes anything: the same model is evaluated.
        given = [f"coding.gate.kind={gate}", "training.steps=1", "optimizer.gate_lr=1e-20", "optimizer.lr=1e-20"]
        run = tiny(images, tmp_path / name, *given, f"training.precision={name}", "logging.pictures_every=1")
        figures.append(train(run).figures)
    exact, rounded = figures
    assert exact.keys() == rounded.keys()
    for name in (name for name in exact if "psnr" in name):
        assert rounded[name] == pytest.approx(exact[name], abs=0.1) and rounded[name] != exact[name]


def test_a_device_without_tf32_says_so_once(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny(images, tmp_path / "exact", "training.steps=2"))
    capsys.readouterr()
    train(tiny(images, tmp_path / "tf32", "training.steps=2", "training.precision=tf32"))
    out = "".join(capsys.readouterr())
    assert out.count("cpu has no tf32, it is fp32 here") == 1
    losses = [[line["loss"] for line in read_log(tmp_path / run) if "loss" in line] for run in ("exact", "tf32")]
    assert losses[0] == losses[1] and losses[0]
    for capability, missing in (((7, 5), True), ((8, 0), False), ((9, 0), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, found=capability: found)
        assert (shortfall("tf32", CUDA) is not None) == missing
    assert shortfall("bf16", CPU) is shortfall("fp32", CPU) is None
