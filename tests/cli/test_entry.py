"""What every command does with errors, warnings and output folders."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nid_dist.cli.entry import guarded, new_folder, without_result
from nid_dist.errors import UserError


def raising(error: BaseException) -> int:
    def command(arguments: Sequence[str] | None = None) -> int:
        raise error

    return guarded("nid-x", command)()


def test_the_result_and_the_arguments_pass_through() -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        return len(arguments or [])

    assert guarded("nid-x", command)(["a", "b"]) == 2


def test_errors_of_the_user_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(UserError("file", found="two\nlines", expected="one", mend="join them")) == 2
    assert capsys.readouterr() == ("", "nid-x: error: file: found two lines, expected one; join them\n")


def test_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "nid-x: interrupted\n"


def test_too_little_memory_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        return torch.empty(2**55).numel()

    assert guarded("nid-x", command)() == 2
    assert raising(MemoryError()) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("nid-x: error: memory: found too little of it") for line in lines)


def test_mistakes_of_the_program_keep_their_traceback() -> None:
    with pytest.raises(RuntimeError, match="mine"):
        raising(RuntimeError("mine"))


def test_warnings_are_one_line_without_code(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        warnings.warn("something\nodd", stacklevel=1)
        return 0

    shown = warnings.showwarning
    assert guarded("nid-x", command)() == 0
    assert capsys.readouterr().err == "nid-x: warning: something odd\n"
    assert warnings.showwarning is shown


def test_inputs_without_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert without_result("nid-x", {}, 3) == 0
    assert capsys.readouterr().err == ""
    assert without_result("nid-x", {"a": "a: bad", "b": "b: worse"}, 3) == 2
    assert capsys.readouterr().err.splitlines() == [
        "nid-x: error: a: bad",
        "nid-x: error: b: worse",
        "nid-x: error: 2 of 3 images have no result; the others are written",
    ]
    assert without_result("nid-x", {"a": "a: bad"}, 1) == 2
    assert capsys.readouterr().err == "nid-x: error: a: bad\n"


def test_new_folders(tmp_path: Path) -> None:
    new_folder(tmp_path / "a" / "b")
    new_folder(tmp_path / "a" / "b")  # empty is as good as new
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    for path, found in ((tmp_path, "a folder with files"), (tmp_path / "file", "File exists")):
        with pytest.raises(UserError, match=f"found {found}"):
            new_folder(path)
    with pytest.raises(UserError, match="found Not a directory"):
        new_folder(tmp_path / "file" / "inside")
