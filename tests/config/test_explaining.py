"""Every wrong value is told in one line: where, found, expected, hint."""

from pathlib import Path

import pytest

from nid_dist.config import load_config
from nid_dist.errors import UserError

ERRORS = [
    (
        "dictionary:\n  expert: 3",
        ["line 2: dictionary.expert:", "unknown key expert", "one of experts,", "write experts"],
    ),
    ("dictonary: {experts: 3}", ["line 1: dictonary:", "one of signals, dictionary,", "write dictionary"]),
    ("experts: 3", ["unknown key experts", "write it as dictionary.experts"]),
    ("zzz: 3", ["unknown key zzz", "remove it"]),
    ("dictionary: {encoding: {scal: 1}}", ["dictionary.encoding.scal", "write scale"]),
    ("coding:\n  phases:\n  - mode: gate\n    shar: 1", ["line 4: coding.phases.0.shar", "write share"]),
    ("1: 2", ["unknown key 1"]),
    ("signals: {null: 3}", ["the unknown key None", "one of source"]),
    ("training:\n  steps: -1", ["line 2: training.steps", "found -1", "expected a whole number above 0"]),
    ("training: {steps: 1.5}", ["found 1.5", "a whole number above 0"]),
    ("training: {steps: many}", ['found "many"', "a whole number above 0", "plain number"]),
    ("training: {steps: 2e3}", ['found "2e3"', "a whole number above 0", "plain number"]),
    ("training: {steps: yes}", ["found true", "a whole number above 0", "yes, no, on or off"]),
    ("training: {steps: null}", ["found null", "a whole number above 0"]),
    ("training: {steps: [1, 2]}", ["found a list of 2", "a whole number above 0"]),
    ("training: {steps: {a: 1}}", ["found a section", "a whole number above 0"]),
    ("training: {steps: 2024-01-01}", ["found 2024-01-01", "a whole number above 0"]),
    ("training: {max_seconds: 0}", ["found 0", "a number above 0 or null"]),
    ("training: {max_seconds: off}", ["found false", "a number above 0 or null", "yes, no, on or off"]),
    ("optimizer: {lr: .nan}", ["found nan", "a number above 0"]),
    ("optimizer: {lr: .inf}", ["found inf", "a number above 0"]),
    ("optimizer: {lr: true}", ["optimizer.lr", "found true", "a number above 0"]),
    ("optimizer: {betas: [0.9]}", ["optimizer.betas", "found a list of 1", "a list of 2"]),
    ("optimizer: {betas: [0.9, 0.9, 0.9]}", ["optimizer.betas", "found a list of 3", "a list of 2"]),
    ("optimizer: {betas: [0.9, 1]}", ["optimizer.betas.1", "found 1", "at least 0 and below 1"]),
    ("optimizer: {betas: [no, 0.9]}", ["optimizer.betas.0", "found false", "at least 0 and below 1"]),
    ("dictionary: {encoding: {gamma: 3}}", ["dictionary.encoding.gamma", "above 0 and at most 2"]),
    ("training: {precision: fp16}", ['found "fp16"', "one of fp32, tf32, bf16"]),
    ("training: {precision: 32}", ["found 32", "one of fp32, tf32, bf16"]),
    ("coding: {gate: {kind: no}}", ["coding.gate.kind", "found false", "none", "yes, no, on or off", "quotes"]),
    ("logging: {run_dir: 5}", ["logging.run_dir", "found 5", "a text"]),
    ("logging: {run_dir: off}", ["logging.run_dir", "found false", "a text", "yes, no, on or off"]),
    ("logging: {progress: maybe}", ["logging.progress", 'found "maybe"', "true or false"]),
    ("signals: 3", ["c.yaml line 1: signals", "found 3", "a section with keys source, path"]),
    ("signals: [patch]", ["found a list of 1", "a section with keys source, path"]),
    (
        "signals: {val: 1.5}",
        ["signals.val", "found 1.5", "a list, each item a text or a number at least 0 and below 1"],
    ),
    ("signals: {val: photo.png}", ["signals.val", 'found "photo.png"', "a list, each item a text or a number"]),
    ("signals: {val: [1]}", ["signals.val.0", "found 1", "a text"]),
    ("coding: {phases: []}", ["coding.phases", "found an empty list", "a list of at least 1"]),
    ("coding: {phases: [{share: 1}]}", ["coding.phases.0.mode", "found nothing", "gate, solve, distill", "add coding"]),
    ("coding: {phases: [gate]}", ["coding.phases.0", 'found "gate"', "a section with keys mode, share"]),
    ("signals: {path: [" + "x, " * 99 + "]}", ["found a list of 99"]),
    ("training: {precision: " + "x" * 99 + "}", ['found "xxx', "xxx..."]),
    ("signals: {source: folder}", ["line 1: signals:", "a contradiction: source 'folder' needs signals.path"]),
    ("signals: {source: fodler}", ["signals.source", 'found "fodler"', "one of audio, celeba, embedded, folder,"]),
    ("signals: {source: [a]}", ["signals.source", "found a list of 1", "one of audio, celeba,"]),
    ("signals: {window: 64}", ["unknown key window", "one of source, path, colour", "set signals.source to audio"]),
    ("signals:\n  lattise: 3\n  source: shapes", ["line 2: signals.lattise", "one of source, path,", "write lattice"]),
    # Forms of the section are called like keys of it.
    ("signals: {source: shapes, shapes: 9, lattice: 0}", ["signals.lattice", "found 0", "a whole number above 0"]),
    ("signals: {source: video, path: a, video: {stop: x}}", ["signals.video.stop", 'found "x"', "or null"]),
    ("signals: {source: video, path: a, video: {strid: 2}}", ["signals.video.strid", "write stride"]),
    ("tomography: {vews: 3}", ["tomography.vews", "one of views,", "write views"]),
    ("coding:\n  support: 5000", ["coding.support 5000 is larger than dictionary.experts 1024", "; choose k <= n"]),
]


def message(path: Path | None, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value)


@pytest.mark.parametrize(("text", "fragments"), ERRORS, ids=[text[:40].replace("\n", " ") for text, _ in ERRORS])
def test_one_line_for_a_wrong_value(tmp_path: Path, text: str, fragments: list[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    told = message(path)
    assert told.startswith(str(path))
    assert [fragment for fragment in fragments if fragment not in told] == []
    assert "\n" not in told
    assert "more)" not in told
    for jargon in ("pydantic", "Input should", "Value error", "type=", "Section", "literal"):
        assert jargon not in told


@pytest.mark.parametrize(
    ("text", "others"),
    [
        ("training: {steps: 0, seed: -1}", 1),
        ("training: {steps: 0, seed: -1, bach: 3}\nfoo: 1", 3),
        ("signals: {val: [1, 2]}", 1),
        ("signals: {val: 7, test: 8}", 1),
    ],
)
def test_the_first_is_told_and_the_others_are_counted(tmp_path: Path, text: str, others: int) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert message(path).endswith(f"(and {others} more)")


@pytest.mark.parametrize(
    ("override", "start"),
    [
        ("training.steps=on", "override training.steps=on: found true"),
        ("optimizer.betas=[0.9, 2]", "override optimizer.betas=[0.9, 2]: optimizer.betas.1: found 2"),
        ("parallel.deepspeed=[1]", "override parallel.deepspeed=[1]: found a list of 1, expected a section; "),
        ("coding.support=5000", "override coding.support=5000: found a contradiction"),
        ("signals.source=folder", "override signals.source=folder: signals: found a contradiction"),
    ],
)
def test_an_override_is_the_place(override: str, start: str) -> None:
    assert message(None, override).startswith(start)


def test_what_contradicts_without_an_override_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("coding: {support: 5000}")
    assert message(path, "training.steps=5").startswith(f"{path}: found a contradiction")
