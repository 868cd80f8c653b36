import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from nid_dist.data.cache import ImageCache


class Loader:
    """Counts how often each key is loaded; arrays have 100 bytes."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, key: int) -> np.ndarray:
        self.calls.append(key)
        return np.full(100, key, np.uint8)


def test_least_recently_used_is_dropped() -> None:
    cache, loader = ImageCache(max_bytes=200), Loader()
    for key in (0, 1, 0, 2, 0, 1):  # 2 drops 1, then 1 drops 2
        assert (cache.get(key, partial(loader, key)) == key).all()
        assert cache._bytes <= 200
    assert loader.calls == [0, 1, 2, 1]
    assert [key in cache for key in (0, 1, 2)] == [True, True, False]


def test_an_array_beyond_the_bound_is_handed_out_but_not_kept() -> None:
    cache, loader = ImageCache(max_bytes=150), Loader()
    cache.get(1, lambda: loader(1))
    assert cache.get(2, lambda: np.zeros(151, np.uint8)).nbytes == 151
    assert cache._bytes == 100 and 1 in cache and 2 not in cache


def test_arrays_are_read_only() -> None:
    array = ImageCache(1000).get(0, lambda: np.zeros(3))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_errors_reach_the_caller_and_are_not_kept() -> None:
    cache = ImageCache(1000)

    def fail() -> np.ndarray:
        raise OSError("broken")

    for _ in range(2):
        with pytest.raises(OSError, match="broken"):
            cache.get(0, fail)
    assert cache.get(0, lambda: np.ones(1)) == 1


def test_threads_share_one_load() -> None:
    cache, loader, gate = ImageCache(1000), Loader(), threading.Event()

    def load() -> np.ndarray:
        assert gate.wait(5)
        return loader(7)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(cache.get, 7, load) for _ in range(4)]
        gate.set()
        arrays = [future.result(5) for future in futures]
    assert loader.calls == [7]
    assert all(array is arrays[0] for array in arrays)


def test_many_threads_stay_within_the_bound() -> None:
    cache, loader = ImageCache(max_bytes=300), Loader()

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 10, 200).tolist():
            assert (cache.get(key, partial(loader, key)) == key).all()
            assert cache._bytes <= 300

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert cache._bytes == 300
