"""What a person sees of a training: a progress bar, one JSON line per event, and TensorBoard."""

import contextlib
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from tqdm import tqdm

from nid_dist.checkpoints.run_folder import RunFolder
from nid_dist.config.schema import Logging
from nid_dist.errors import UserError
from nid_dist.progress import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Event: TypeAlias = Literal["train", "eval", "checkpoint", "changed", "warning", "end"]
Number: TypeAlias = float | int | Tensor | np.number

_SECONDS_BETWEEN_LINES = 10.0  # without a terminal, where a bar would fill the log


class Monitor:
    """Shows and writes what happens in a training; on other ranks than the first it does nothing.

    Args:
        folder: of the run; `log.jsonl` and `events/` are written there, after what an earlier start wrote.
        total_steps: at which the training ends.
        max_seconds: after which it ends, if the steps are not done before.
        first_step: at which it (re)starts; TensorBoard drops what an earlier start wrote after it.
        enabled: False: every method does nothing.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: Logging,
        total_steps: int,
        *,
        max_seconds: float | None = None,
        first_step: int = 0,
        enabled: bool = True,
    ) -> None:
        self._path, self._events = folder.log, folder.events
        self._total, self._first, self._max_seconds = total_steps, first_step, max_seconds
        self._begin = self._said = time.monotonic()
        self._progress = enabled and config.progress
        self._bar: tqdm[Any] | None = None
        self._log: IO[str] | None = None
        self._hook: Callable[[threading.ExceptHookArgs], object] | None = None
        self._board: SummaryWriter | None = None
        if enabled:
            folder.path.mkdir(parents=True, exist_ok=True)
            self._log = _open_to_append(folder)
            if config.tensorboard:
                self._board = _open_board(folder, first_step)
                self._hook, threading.excepthook = threading.excepthook, self._failed_thread
        if self._progress and sys.stderr.isatty():
            total = total_steps if max_seconds is None else None
            self._bar = tqdm(total=total, initial=first_step, unit="step", file=sys.stderr, dynamic_ncols=True)

    def scalars(
        self, step: int, values: Mapping[str, Number], event: Event = "train", text: Mapping[str, str] | None = None
    ) -> None:
        """Writes figures as one line of the log and as curves, and moves the progress bar.

        Args:
            step: optimiser steps done so far.
            values: figures by name; what is not finite becomes null in the log.
            event: what happened; also the first part of the curves' names.
            text: what belongs to the line but is not a figure.

        Raises:
            UserError: the log cannot be written.
        """
        if self._log is None:
            return
        figures = {name: _plain(value) for name, value in values.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        self._write({"time": time.time(), "step": step, "event": event, **(text or {}), **finite})
        if self._board is not None:
            with self._writing_events():
                for name, value in figures.items():
                    self._board.add_scalar(f"{event}/{name}", value, step)
        if event in ("train", "end"):
            self._show(step, figures, event)

    def picture(self, step: int, name: str, array: Float[np.ndarray, "H W d"]) -> None:
        """Puts a picture, rgb or grey in [0, 1], into TensorBoard; what is outside is cut off, no number is black."""
        if self._board is not None:
            shown = np.clip(np.nan_to_num(array, nan=0.0), 0.0, 1.0)
            with self._writing_events():
                self._board.add_image(name, shown, step, dataformats="HWC")

    def histogram(self, step: int, name: str, values: Shaped[Tensor, "..."]) -> None:
        """Puts a distribution into TensorBoard; what is not finite is left out."""
        if self._board is not None:
            numbers = values.detach().flatten().double().cpu()
            numbers = numbers[torch.isfinite(numbers)]
            if numbers.numel():
                with self._writing_events():
                    self._board.add_histogram(name, numbers.numpy(), step)

    def message(self, text: str) -> None:
        """Shows a line on standard error without breaking the progress bar."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        elif self._log is not None:
            say(text)

    def close(self) -> None:
        """Writes out what is pending and lets go of the files; does nothing the second time."""
        if self._bar is not None:
            self._bar.close()
        for file in (self._board, self._log):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk has been told of when the line was written
                    file.close()
        if self._hook is not None:
            threading.excepthook, self._hook = self._hook, None
        self._bar = self._board = self._log = None

    def _write(self, line: dict[str, Any]) -> None:
        assert self._log is not None
        try:
            self._log.write(json.dumps(line, allow_nan=False) + "\n")
            self._log.flush()
        except OSError as error:
            raise _no_room(self._path, error) from error

    @contextlib.contextmanager
    def _writing_events(self) -> Iterator[None]:
        """TensorBoard writes later, in a thread of its own, and raises what it met there at the next call."""
        try:
            yield
        except OSError as error:
            self._board = None
            raise _no_room(self._events, error) from error

    def _failed_thread(self, failure: threading.ExceptHookArgs) -> None:
        """What TensorBoard's thread could not write is said by `_writing_events`, not by a traceback."""
        of_board = type(failure.thread).__module__.startswith("tensorboard.")
        if self._hook is not None and not (of_board and isinstance(failure.exc_value, OSError)):
            self._hook(failure)

    def _show(self, step: int, figures: Mapping[str, float], event: Event) -> None:
        brief = {name: f"{value:.4g}" for name, value in list(figures.items())[:4]}
        spent = f"{figures.get('elapsed', 0.0):.0f} of {self._max_seconds:g} s" if self._max_seconds else ""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            self._bar.set_postfix({"time": spent, **brief} if spent else brief)
            return
        now = time.monotonic()
        last = event == "end" or step >= self._total
        if self._progress and (last or now - self._said >= _SECONDS_BETWEEN_LINES):
            self._said = now
            rate = (step - self._first) / max(now - self._begin, 1e-9)
            shown = " ".join(f"{name} {value}" for name, value in brief.items())
            far = f"step {step}, {spent}" if spent else f"step {step}/{self._total}"
            say(f"{far}  {rate:.3g} steps/s  {shown}")


def _no_room(path: Path, error: OSError) -> UserError:
    return UserError(
        str(path),
        found=f"that writing failed ({error.strerror or error})",
        expected="room for the log",
        hint="free some space and continue with resume=auto",
    )


def _plain(value: Number) -> float | int:
    number: Any = value.item() if isinstance(value, Tensor | np.number) else value
    return int(number) if isinstance(number, bool) else number


def _open_to_append(folder: RunFolder) -> IO[str]:
    """Opens the log; a line that a killed process left unfinished is ended, so that the next one stays whole."""
    try:
        log = open(folder.log, "a+b")  # noqa: SIM115
    except OSError as error:
        raise UserError(
            str(folder.log),
            found=f"that it cannot be opened ({error.strerror})",
            expected="a writable file",
            hint="choose another logging.run_dir",
        ) from error
    with log:
        if log.seek(0, 2) > 0:
            log.seek(-1, 2)
            if log.read(1) != b"\n":
                log.write(b"\n")
    return open(folder.log, "a", encoding="utf-8")


def _open_board(folder: RunFolder, first_step: int) -> "SummaryWriter":
    try:
        from torch.utils.tensorboard import SummaryWriter  # half a second that only this needs
    except ImportError as error:
        raise UserError(
            "logging.tensorboard",
            found=f"true, but it cannot be imported ({error})",
            expected="the package tensorboard",
            hint="pip install tensorboard, or set logging.tensorboard to false",
        ) from error
    return SummaryWriter(log_dir=str(folder.events), purge_step=first_step + 1)
