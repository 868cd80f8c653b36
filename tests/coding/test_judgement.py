"""Whether fits say by themselves how far to trust them."""

import numpy as np
import pytest
import torch

from nid_dist.cli.judging import say_judged
from nid_dist.code import Code
from nid_dist.coding.judgement import BEYOND_NOISE, Judgement, distances, from_db
from nid_dist.coding.prior import Prior
from nid_dist.config.schema import Dictionary as DictionaryConfig
from nid_dist.config.schema import Encoding
from nid_dist.dictionary.dictionary import Dictionary


def test_the_distance_is_that_of_the_scores() -> None:
    generator = torch.Generator().manual_seed(0)
    config = DictionaryConfig(experts=12, width=5, encoding=Encoding(kind="fourier", features=6, scale=2.0))
    dictionary = Dictionary(config, 2, 2, generator)
    size = 2 * (5 + 1)
    basis = torch.linalg.qr(torch.randn(size, 3, generator=generator))[0]
    mean, variances = torch.randn(size, generator=generator), torch.tensor([4.0, 1.0, 0.25])
    prior = Prior(mean, basis, variances, torch.tensor(0.1))
    chosen = torch.stack([torch.randperm(12, generator=generator)[:4] for _ in range(6)])
    code = Code(torch.randn(6, 4, generator=generator), torch.randn(6, 2, generator=generator), chosen)
    found = distances(dictionary, prior, code)
    assert found is not None
    rows = dictionary.state_dict()["experts.rows"]
    for signal in range(6):
        head = mean.new_zeros(size)
        for value, expert in zip(code.values[signal], chosen[signal], strict=True):
            head += value * rows[expert]
        head[-2:] += code.bias[signal]
        scores = [float((head - mean) @ basis[:, j]) / float(variances[j]) ** 0.5 for j in range(3)]
        assert float(found[signal]) == pytest.approx(np.sqrt(np.mean(np.square(scores))), rel=1e-4)


def test_signals_of_the_prior_are_at_distance_one_and_others_are_not() -> None:
    generator = torch.Generator().manual_seed(1)
    config = DictionaryConfig(experts=40, width=7, encoding=Encoding(kind="fourier", features=6, scale=2.0))
    dictionary = Dictionary(config, 2, 1, generator)
    values = torch.randn(2000, 40, generator=generator)
    code = Code(values, torch.zeros(2000, 1))
    heads = values @ dictionary.state_dict()["experts.rows"]
    covariance = torch.cov(heads.t())
    spread, basis = torch.linalg.eigh(covariance)
    prior = Prior(heads.mean(0), basis[:, -4:], spread[-4:], torch.tensor(1e-6))
    near, far = (distances(dictionary, prior, Code(scale * values, code.bias)) for scale in (1, 10))
    assert near is not None and near.square().mean().sqrt().item() == pytest.approx(1.0, rel=0.05)
    assert far is not None and far.mean() > 5
    assert distances(dictionary, None, code) is None


def test_what_is_doubted() -> None:
    good = Judgement(0.02, 0.01, distance=1.1)
    assert not good.doubts and good.times == pytest.approx(2)
    assert good.line == (
        "explained to 0.02 rms, 2 times the validation data's; 1.1 times as far from the mean as the validation data"
    )
    bad = Judgement(0.1, 0.01, distance=4.0, remarks=("half of it is missing",))
    assert bad.doubts == [
        "the residual is 10 times the validation data's",
        "it lies 4.0 times as far from the mean as the validation data",
        "half of it is missing",
    ]
    assert bad.facts()["doubts"] == bad.doubts
    assert not Judgement(0.04, 0.01).doubts and Judgement(0.04, 0.01, limit=BEYOND_NOISE).doubts
    assert Judgement(0.5).line == "explained to 0.5 rms" and not Judgement(0.5).doubts


def test_decibels_become_an_error() -> None:
    assert from_db({"val/db_omp": 20.0}, ["val/db_ridge", "val/db_omp"]) == pytest.approx(0.1)
    assert from_db({}, ["val/db_omp"]) is None


def test_one_result_is_a_line_and_many_are_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    fine, wrong = Judgement(0.01, 0.01), Judgement(0.2, 0.01)
    say_judged({"a.png": fine})
    assert capsys.readouterr().out == "a.png: explained to 0.01 rms, 1 times the validation data's\n"
    with pytest.warns(UserWarning, match=r"b\.png: not to be trusted: the residual is 20 times"):
        say_judged({"a.png": fine, "b.png": wrong}, "image")
    assert "1 of 2 images are explained as they should be; the worst, b.png" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="not to be trusted|nor are") as said:
        say_judged({f"{number}.png": wrong for number in range(9)}, "image")
    assert len(said) == 6 and "4 more" in str(said[-1].message)


def test_without_validation_data_nothing_is_called_good(capsys: pytest.CaptureFixture[str]) -> None:
    say_judged({"a.png": Judgement(0.1), "b.png": Judgement(0.2)}, "image")
    said = capsys.readouterr().out
    assert said == "2 images, and no validation data to judge them by; the worst, b.png: explained to 0.2 rms\n"
