"""Kriging by similar patches: one patch against the dense conditional mean, repeated structure, and bad input."""

import numpy as np
import pytest
import torch

from nid_dist.tasks.images.similar import Similarity, _kriged, krige


def test_a_patch_is_the_conditional_mean_of_its_group() -> None:
    draws = np.random.default_rng(0)
    group, patch = draws.normal(size=(1, 5, 8)), draws.normal(size=(1, 8))
    known = np.array([True, True, False, True])  # four pixels of two channels
    options = Similarity(beside=0.2, constant=0.3, noise=0.05)
    there = np.array([[True, True, True, True, False]])  # the last does not exist
    found, variance = _kriged(
        torch.from_numpy(group),
        torch.from_numpy(there),
        torch.from_numpy(patch),
        torch.from_numpy(known[None].astype(float)),
        options,
    )
    members, seen = group[0, :4], np.repeat(known, 2)
    mean = members.mean(0)
    own = 0.2 * ((members - mean) ** 2).mean() + 0.05**2
    constant = np.tile(np.eye(2), (4, 1))
    covariance = (members - mean).T @ (members - mean) / 4 + 0.09 * constant @ constant.T
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)] + own * np.eye(seen.sum()))
    assert np.allclose(found.numpy().ravel(), mean + gain @ (patch[0] - mean)[seen])
    posterior = covariance - gain @ covariance[seen]
    assert np.allclose(variance.numpy().ravel(), np.diag(posterior).reshape(4, 2).mean(1) + own)


def test_what_repeats_is_continued() -> None:
    rows, columns = np.mgrid[:40, :44]
    clean = torch.from_numpy((0.5 + 0.4 * np.sin(rows * 1.1 + columns * 0.7))[..., None].astype(np.float32))
    known = torch.ones(40, 44, dtype=torch.bool)
    known[15:19] = False
    guess = torch.where(known[..., None], clean, 0.5)
    found = krige(guess, known)
    assert torch.equal(found[known], clean[known])
    error = (found - clean)[~known].square().mean().sqrt()
    assert error < 0.3 * (guess - clean)[~known].square().mean().sqrt()


@pytest.mark.parametrize("shape", [(5, 5, 1), (17, 30, 3)])
def test_constants_and_small_images_stay(shape: tuple[int, int, int]) -> None:
    known = torch.rand(shape[:2], generator=torch.Generator().manual_seed(0)) < 0.5
    found = krige(torch.full(shape, 0.4), known)
    assert torch.allclose(found, torch.tensor(0.4), atol=1e-5)
