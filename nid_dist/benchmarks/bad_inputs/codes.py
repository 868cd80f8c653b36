"""What trainings and fits write, and others read again: damage of it is never taken for what was written."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file

from nid_dist.benchmarks.bad_inputs.reader import Files, Meaning, Reader, command, contents, through, what_was_read
from nid_dist.code import load_codes
from nid_dist.config import load_config


def readers(folder: Path) -> Iterator[Reader]:
    """Codes of a fit, in full and compact; an export; and a run with its checkpoints. `folder` has one of each."""
    for name, file in (("code", "codes.safetensors"), ("compact code", "omp.nidc")):
        (path,) = (folder / "fits").rglob(file)
        good = {file: path.read_bytes()}
        yield Reader(
            name,
            good,
            [file],
            through(_codes, file),
            what_was_read,
            exact=True,
            share=1.8,
            meanings=list(_malicious(file, good[file])),
        )
    for name in ("export", "checkpoint"):
        files = contents(folder / ("export" if name == "export" else "images"))
        good = {
            f"model/{each}": content for each, content in files.items() if "events" not in each and "log" not in each
        }
        newest = max((each for each in good if "step-" in each), default="").rpartition("/")[0]
        damaged = [each for each in good if name == "export" or each.startswith(newest) or each.count("/") == 1]
        yield Reader(name, good, damaged, _export, _model, exact=True, share=0.7, meanings=list(_exchanged(name, good)))


def _codes(path: Path) -> np.ndarray:
    codes, facts = load_codes(path)
    told = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8).astype(float)
    numbers = [
        np.zeros(0) if each is None else each.double().numpy().reshape(-1)
        for code in codes.values()
        for each in (code.values, code.indices, code.bias)
    ]
    return np.concatenate([told, *numbers])


def _export(given: Path, out: Path) -> int:
    return command("nid-export")(["--dictionary", str(given / "model"), "--out", str(out), "--device", "cpu"])


def _model(out: Path) -> np.ndarray:
    """What a dictionary is, as numbers: its tensors, its facts, and the configuration of it and of its signals."""
    tensors = load_file(out / "model.safetensors")
    config, facts = load_config(out / "config.yaml"), json.loads((out / "model.json").read_text())
    own = [facts[name] for name in sorted(set(facts) - {"configuration", "facts_sha256"})]
    parts = [part.model_dump(mode="json") for part in (config.dictionary, config.coding, config.signals)]
    told = json.dumps([own, parts], sort_keys=True).encode()
    numbers = [tensors[name].astype(float).reshape(-1) for name in sorted(tensors)]
    return np.concatenate([np.frombuffer(told, np.uint8).astype(float), *numbers])


class _Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("unpickled"),)  # in the folder where the command was started


def _malicious(file: str, good: bytes) -> Iterator[Meaning]:
    buffer = io.BytesIO()
    torch.save({"omp.values": torch.ones(2, 2), "more": _Malicious()}, buffer)
    yield Meaning("a pickle", {file: buffer.getvalue()})
    yield Meaning("nothing but zeros", {file: bytes(len(good))})


def _exchanged(name: str, good: Files) -> Iterator[Meaning]:
    buffer = io.BytesIO()
    torch.save({"more": _Malicious()}, buffer)
    for file in (each for each in good if each.endswith(".safetensors")):
        yield Meaning(f"a pickle for {file}", {**good, file: buffer.getvalue()}, good)
    for file in good:
        yield Meaning(f"without {file}", {each: content for each, content in good.items() if each != file}, good)
    config = good["model/config.yaml"]
    for before, after, what in (
        (b"support: 8", b"support: 4", "another support"),
        (b"kind: cosine", b"kind: fourier", "another encoding"),
    ):
        if before in config:
            yield Meaning(what, {**good, "model/config.yaml": config.replace(before, after)}, good)
    facts = good["model/model.json"]
    yield Meaning("another version", {**good, "model/model.json": facts.replace(b'"format": 1', b'"format": 2')})
    yield Meaning("more channels", {**good, "model/model.json": facts.replace(b'"channels": 3', b'"channels": 1')})
