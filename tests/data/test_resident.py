import numpy as np
import pytest
import torch

from nid_dist.data import resident
from nid_dist.data.resident import Constant, Resident, Residents

CPU = torch.device("cpu")  # stands for a device here


def arrays(*kinds: str) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    made = []
    for length, kind in enumerate(kinds, 2):
        samples = generator.integers(0, 256, (length, 3))
        scale = np.float32(255 if kind == "bytes" else 300)
        made.append((257 * samples).astype(np.uint16) if kind == "words" else samples.astype(np.float32) / scale)
    return made


def found(given: list[np.ndarray], kept: Resident, index: int) -> np.ndarray:
    assert kept.require(np.array([index]))
    first = int(kept.starts(np.array([index]))[0])
    return kept.rows(torch.arange(first, first + len(given[index]))).numpy()


def stored(given: list[np.ndarray]) -> Resident:
    return Resident([len(each) for each in given], 3, given.__getitem__, CPU)


@pytest.mark.parametrize("kinds", [("bytes",) * 3, ("floats",) * 3, ("bytes", "bytes", "floats")])
def test_values_are_those_that_were_given(kinds: tuple[str, ...]) -> None:
    given = arrays(*kinds)
    kept = stored(given)
    for index in (1, 0, 2, 1):
        np.testing.assert_array_equal(found(given, kept, index), given[index])
    assert kept._kept.dtype == (torch.uint8 if set(kinds) == {"bytes"} else torch.float32)


def test_words_are_kept_as_such() -> None:
    given = arrays("words", "words")
    kept = stored(given)
    for index in (0, 1):
        np.testing.assert_array_equal(found(given, kept, index), given[index] * np.float32(1 / 65535))
    assert kept._kept.dtype == torch.int16


def test_arrays_are_asked_for_once() -> None:
    given, asked = arrays("bytes", "bytes", "bytes"), []
    kept = Resident([2, 3, 4], 3, lambda index: (asked.append(index), given[index])[1], CPU)
    assert kept.missing(np.array([2, 0, 2])).tolist() == [0, 2]
    assert kept.require(np.array([2, 0, 2])) and kept.require(np.array([0, 1]))
    assert asked == [0, 2, 1] and not len(kept.missing(np.arange(3)))


@pytest.mark.parametrize(
    ("kinds", "room", "fits"),
    [
        (("bytes", "bytes"), 15, [True, True]),
        (("bytes", "bytes"), 14, [False]),
        (("floats", "bytes"), 60, [True, True]),
        (("floats", "bytes"), 59, [False]),
        (("bytes", "floats"), 75, [True, True]),
        (("bytes", "floats"), 74, [True, False]),
    ],
)
def test_what_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], room: int, fits: list[bool]
) -> None:
    monkeypatch.setattr(resident, "room_for_data", lambda device: room)
    kept = stored(arrays(*kinds))
    assert [kept.require(np.array([index])) for index in range(len(fits))] == fits
    assert kept.refused == (not fits[-1]) and (fits[-1] or not kept._kept.numel())


def test_the_cpu_keeps_nothing_twice() -> None:
    assert Residents([2], 3, arrays("bytes").__getitem__).on(CPU) is None
    tensor = torch.ones(2)
    assert Constant(tensor).on(CPU) is tensor
