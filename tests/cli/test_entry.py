"""What every command does with errors, warnings and output folders."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from nid_dist.cli.entry import RankZeroArgumentParser, guarded, make_out_folder, without_result
from nid_dist.errors import SkippedFiles, UserError, doubt
from nid_dist.parallel.launch import failures


def raising(error: BaseException, *, together: bool = False) -> int:
    def command(arguments: Sequence[str] | None = None) -> int:
        raise error

    return guarded("nid-x", command, together=together)()


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """This process is rank 1 of 2 on a machine; its end is an exception."""

    def end(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(failures, "end", end)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    variables = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_SIZE": "2"}
    for name, value in {**variables, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_result_and_the_arguments_pass_through() -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        return len(arguments or [])

    assert guarded("nid-x", command)(["a", "b"]) == 2


def test_errors_of_the_user_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(UserError("file", found="two\nlines", expected="one", hint="join them")) == 2
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


FULL = """CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB of which 1.50 GiB \
is free. Process 71 has 70.25 GiB memory in use. Including non-PyTorch memory, this process has 7.35 GiB memory in \
use. Of the allocated memory 7.00 GiB is allocated by PyTorch, and 100.00 MiB is reserved by PyTorch but unallocated."""
LOWER = "lower training.batch, training.coordinates, dictionary.chunk_mb, "


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError(FULL),
            "memory of GPU 0: found 20.00 GiB asked for, 1.50 GiB of 79.10 GiB free, 70.25 GiB held by other",
        ),
        (
            torch.OutOfMemoryError(FULL.replace("Process 71 has 70.25 GiB memory in use. ", "")),
            "memory of GPU 0: found 20.00 GiB asked for, 1.50 GiB of 79.10 GiB free, expected room",
        ),
        (
            RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
            "memory of the GPU: found CUDA error: out of memory, expected room",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "memory of the GPU: found CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`, ",
        ),
        (
            RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch for it"),
            "memory of the GPU: found CUDA error: CUDA-capable device(s) is/are busy or unavailable, ",
        ),
    ],
)
def test_a_full_gpu_is_said(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(error) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nid-x: error: {said}") and LOWER in line and line.endswith("or choose another device")


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


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("file", found="two", expected="one", hint="join them"), 2, "nid-x: error: file: found two, "),
        (MemoryError(), 2, "nid-x: error: memory: "),
        (KeyboardInterrupt(), 130, "nid-x: interrupted"),
    ],
)
def test_of_several_processes_the_first_on_a_machine_speaks(
    second_of_two: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    for local_rank, lines in (("1", 0), ("0", 1)):
        second_of_two.setenv("LOCAL_RANK", local_rank)
        with pytest.raises(SystemExit) as ended:
            raising(error, together=True)
        assert ended.value.code == code
        shown = capsys.readouterr().err
        assert len(shown.splitlines()) == lines and shown.startswith(said[: len(shown)])


def test_of_several_processes_each_shows_its_mistakes(
    second_of_two: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        raising(ValueError("mine"), together=True)
    assert ended.value.code == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "Traceback (most recent call last):" and shown[-1] == "ValueError: mine"


def test_processes_that_do_not_work_together_speak_for_themselves(
    second_of_two: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(UserError("file", found="two", expected="one", hint="join them")) == 2
    assert capsys.readouterr().err.startswith("nid-x: error: file")


def test_of_several_processes_the_first_warns(
    second_of_two: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        warnings.warn("something", stacklevel=1)
        return 0

    assert guarded("nid-x", command, together=True)() == 0
    assert capsys.readouterr().err == ""
    assert guarded("nid-x", command)() == 0
    second_of_two.setenv("RANK", "0")
    assert guarded("nid-x", command, together=True)() == 0
    assert capsys.readouterr().err == "nid-x: warning: something\n" * 2


def test_alone_a_command_for_several_is_like_any_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for environment in ({}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "none"}):
        for name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert raising(UserError("file", found="two", expected="one", hint="join them"), together=True) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


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
    make_out_folder(tmp_path / "a" / "b")
    make_out_folder(tmp_path / "a" / "b")  # empty is as good as new
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("x")
    for path, found in ((tmp_path, "a folder with files"), (tmp_path / "file", "File exists")):
        with pytest.raises(UserError, match=f"found {found}"):
            make_out_folder(path)
    with pytest.raises(UserError, match="found Not a directory"):
        make_out_folder(tmp_path / "file" / "inside")


def test_options_are_explained_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in range(2):
        for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", "1")
        with pytest.raises(SystemExit):
            RankZeroArgumentParser(prog="p").parse_args(["--nonsense"])
    assert capsys.readouterr().err.count("unrecognized arguments") == 1


def test_arguments_of_the_library_are_the_options_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        raise UserError("override a.b", found="no `=`", expected="one", hint="go on with resume=auto")

    assert guarded("nid-x", command)([]) == 2
    assert capsys.readouterr().err == "nid-x: error: --set a.b: found no `=`, expected one; go on with --resume auto\n"


def test_doubts_of_many_files_are_one_line_and_what_was_skipped_comes_last(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        for name in "abc":
            doubt(name, found=f"{name} in feet", taken_as="metres", hint="convert it")
            warnings.warn("folder: skipped 1 .bmp", SkippedFiles, stacklevel=1)
        doubt("d", found="nothing", taken_as="silence", hint="record it")
        return 0

    assert guarded("nid-x", command)() == 0
    assert capsys.readouterr().err.splitlines() == [
        "nid-x: warning: a: found a in feet, taken as metres; convert it",
        "nid-x: warning: d: found nothing, taken as silence; record it",
        "nid-x: warning: 2 others as doubtful as the first, taken as metres; convert it",
        "nid-x: folder: skipped 1 .bmp",
    ]


def test_what_was_skipped_is_said_of_a_command_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def command(arguments: Sequence[str] | None = None) -> int:
        warnings.warn("folder: skipped 1 .bmp", SkippedFiles, stacklevel=1)
        raise UserError("file", found="two", expected="one", hint="join them")

    assert guarded("nid-x", command)() == 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["nid-x: folder: skipped 1 .bmp", "nid-x: error: file: found two, expected one; join them"]
