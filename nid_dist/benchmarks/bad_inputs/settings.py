"""Configurations in YAML, and split files."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nid_dist.benchmarks.bad_inputs.bodies import boxes, obj
from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command, through, what_was_read
from nid_dist.config import load_config

_GOOD = """signals:
  source: embedded
  short_side: 64
  patch: 16
  val: [retina]
dictionary:
  experts: 64
  width: 32
  encoding: {kind: cosine, features: 63}
coding:
  support: 8
  gate: {kind: light}
optimizer:
  lr: 0.001
training:
  steps: 90
  batch: 32
  threads: 1
logging:
  run_dir: runs/tried
"""


def configuration() -> Reader:
    """Read by `nid-plan`."""
    file = "config.yaml"
    good = {file: _GOOD.encode()}
    meanings = [Meaning(what, {file: bad}, None if same is None else {file: same}) for what, bad, same in _meanings()]
    return Reader("yaml", good, [file], _plan, what_was_read, share=1.8, meanings=meanings)


def _plan(given: Path, out: Path) -> int:
    code = command("nid-plan")(
        ["--config", str(given / "config.yaml"), "--signals", "100", "--nodes", "1", "--gpus-per-node", "1"]
    )
    return code or through(_values, "config.yaml")(given, out)


def _values(path: Path) -> np.ndarray:
    return np.frombuffer(load_config(path).to_yaml().encode(), np.uint8).astype(float)


def _meanings() -> Iterator[tuple[str, bytes, bytes | None]]:
    """What is wrong, a configuration, and one that says the same in plain words."""

    def changed(before: str, after: str) -> bytes:
        assert before in _GOOD
        return _GOOD.replace(before, after).encode()

    for before, after, same in (
        ("steps: 90", "steps: 010", "steps: 10"),
        ("steps: 90", "steps: 1:30", None),
        ("steps: 90", "steps: 1_000", "steps: 1000"),
        ("steps: 90", "steps: 0x10", "steps: 16"),
        ("steps: 90", "steps: 1e2", "steps: 100"),
        ("steps: 90", "steps: 90.0", "steps: 90"),
        ("steps: 90", "steps: 90.5", None),
        ("steps: 90", "steps: '90'", "steps: 90"),
        ("steps: 90", "steps: true", None),
        ("steps: 90", "steps: yes", None),
        ("steps: 90", "steps: -90", None),
        ("steps: 90", "steps: 2024-01-01", None),
        ("steps: 90", "steps: \u0661\u0660", None),
        ("steps: 90", "steps: [90]", None),
        ("steps: 90", "step: 90", None),
        ("steps: 90", "Steps: 90", None),
        ("steps: 90", "steps: 90\n  steps: 80", None),
        ("steps: 90", "steps: 90 steps", None),
        ("steps: 90", "steps: 1,000", None),
        ("lr: 0.001", "lr: 1e-3", "lr: 0.001"),
        ("lr: 0.001", "lr: 1.e-3", "lr: 0.001"),
        ("lr: 0.001", "lr: 0,001", None),
        ("lr: 0.001", "lr: .inf", None),
        ("lr: 0.001", "lr: .nan", None),
        ("lr: 0.001", "lr: nan", None),
        ("lr: 0.001", "lr: -0.001", None),
        ("lr: 0.001", "lr: 10:20.5", None),
        ("lr: 0.001", "lr: 1e400", None),
        ("lr: 0.001", "learning_rate: 0.001", None),
        ("val: [retina]", "val: 20", None),
        ("val: [retina]", "val: 20%", None),
        ("val: [retina]", "val: [Retina.png]", "val: [Retina.png]"),
        ("kind: light", "kind: Light", None),
        ("kind: light", "kind: no", None),
        ("support: 8", "support: 800", None),
        ("patch: 16", "patch: 16px", None),
        ("training:\n", "train:\n", None),
        ("training:\n", "training:\n- ", None),
        ("  batch: 32", "\tbatch: 32", None),
        ("  batch: 32", "batch: 32", None),
        ("  batch: 32", "    batch: 32", None),
        ("  batch: 32", "  batch: *b", None),
        ("  batch: 32", "  batch: !!python/object/apply:os.getpid []", None),
        ("  batch: 32", "  <<: {batch: 64}\n  batch: 32", "  batch: 32"),
        ("experts: 64", "experts: 64 # 128", "experts: 64"),
        ("experts: 64", "experts: 64#128", None),
        ("run_dir: runs/tried", "run_dir: null", None),
        ("source: embedded", "source: embeded", None),
    ):
        name = after.strip().replace("\n", " ")
        yield name, changed(before, after), None if same is None else changed(before, same)
    yield "other line ends", _GOOD.replace("\n", "\r\n").encode(), _GOOD.encode()
    yield "with a mark of its order", b"\xef\xbb\xbf" + _GOOD.encode(), _GOOD.encode()
    yield "UTF-16", _GOOD.encode("utf-16"), _GOOD.encode()
    yield "two documents", _GOOD.encode() + b"---\n" + _GOOD.encode(), None
    laughs = "a0: &a0 [ha, ha]\n" + "".join(
        f"a{each}: &a{each} [{', '.join(9 * [f'*a{each - 1}'])}]\n" for each in range(1, 30)
    )
    yield "a billion laughs", laughs.encode(), None
    yield (
        "a billion laughs in a value",
        _GOOD.replace("val: [retina]", "val: &a0 [ha, ha]").encode() + laughs.encode(),
        None,
    )
    yield "deep brackets", b"signals: " + b"[" * 100_000, None
    yield "an endless circle", b"&a [*a]", None
    yield "a circle inside", _GOOD.replace("val: [retina]", "val: &a [*a]").encode(), None


_NAMES = {"train": ["one", "two"], "val": ["three"], "test": ["four"]}


def splits() -> Reader:
    """Which meshes train and which test, read by `nid-prepare shapes --splits`."""
    good = _with(_NAMES)
    meanings = [Meaning(what, _with(bad), None if same is None else _with(same)) for what, bad, same in _splits()]
    return Reader("split file", good, ["splits.json"], _prepare, _taken, meanings=meanings)


def _with(splits: object) -> Files:
    """Four meshes, and the file."""
    content = splits if isinstance(splits, bytes) else json.dumps(_by_synset(splits)).encode()
    return {"splits.json": content} | {
        f"meshes/03001627/{name}.obj": obj(boxes()) for names in _NAMES.values() for name in names
    }


def _by_synset(splits: object) -> object:
    if not isinstance(splits, dict):
        return splits
    return {split: {"03001627": names} if isinstance(names, list) else names for split, names in splits.items()}


def _prepare(given: Path, out: Path) -> int:
    where = ["shapes", "--input", str(given / "meshes"), "--splits", str(given / "splits.json"), "--out", str(out)]
    return command("nid-prepare")([*where, "--cores", "1", "--samples", "100", "--surface", "20", "--grid", "0"])


def _taken(out: Path) -> np.ndarray:
    """The split of each of the four meshes; -1: left out."""
    shapes = json.loads((out / "index.json").read_text())["shapes"]
    order = [None, "train", "val", "test"]
    names = sorted(name for names in _NAMES.values() for name in names)
    found = {name.rpartition("/")[2]: order.index(facts["split"]) for name, facts in shapes.items()}
    return np.array([found.get(name, -1) for name in names], float)


def _splits() -> Iterator[tuple[str, object, object | None]]:
    """What is wrong, the splits, and the same in plain words."""
    yield "in another order", {split: _NAMES[split][::-1] for split in ("test", "train", "val")}, _NAMES
    yield (
        "as R2N2 has them",
        {split: {"03001627": {name: [0, 1] for name in names}} for split, names in _NAMES.items()},
        _NAMES,
    )
    yield "one in two splits", {**_NAMES, "test": ["four", "one"]}, None
    yield "twice in one split", {**_NAMES, "test": ["four", "four"]}, _NAMES
    yield "unknown splits", {"training": ["one", "two"], "testing": ["four"]}, None
    yield "validation", {"train": ["one", "two"], "validation": ["three"], "test": ["four"]}, None
    yield "a mesh that is not there", {**_NAMES, "test": ["four", "five"]}, None
    yield "all that test are not there", {**_NAMES, "test": ["five", "six"]}, None
    yield "meshes that it does not name", {"train": ["one"], "val": ["three"], "test": ["four"]}, None
    yield "endings in names", {split: [f"{name}.obj" for name in names] for split, names in _NAMES.items()}, None
    yield "capitals", {split: [name.upper() for name in names] for split, names in _NAMES.items()}, None
    yield "names without synsets", json.dumps(_NAMES).encode(), None
    yield "a list", ["one", "two"], None
    yield "nothing", {}, None
    yield "no splits at all", {"train": [], "val": [], "test": []}, None
    twice = '{"train": {"03001627": ["one", "two"]}, "train": {"03001627": ["four"]}, "val": {}, "test": {}}'
    yield "a key twice", twice.encode(), None
    yield "numbers for names", {**_NAMES, "test": [4]}, None
    yield "deep brackets", b"[" * 100_000, None
