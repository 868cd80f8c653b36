"""The folder of a run: what lies where, who may write to it, and where a resumed training starts."""

import fcntl
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nid_dist.checkpoints import checkpoint
from nid_dist.config import load_config
from nid_dist.config.schema import Config, Training
from nid_dist.errors import UserError
from nid_dist.files import expanded

CONFIG, CHECKPOINTS, LOCK = "config.yaml", "checkpoints", ".lock"
CONFIGURATION = "configuration"
"""Among the facts of a checkpoint: the configuration that it was trained with."""


class RunFolder:
    """What lies where in the folder of a run; as a context manager it releases the lock at the end, if it has it.

    Nothing is read or written before a method asks for it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / CONFIG

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept."""
        return self.path / CHECKPOINTS

    @property
    def events(self) -> Path:
        """TensorBoard's folder."""
        return self.path / "events"

    @property
    def log(self) -> Path:
        """One JSON object per line and event."""
        return self.path / "log.jsonl"

    def read_config(self) -> Config:
        """Reads the resolved configuration of the run.

        Raises:
            UserError: it is not the folder of a run, or its configuration is damaged.
        """
        if not self.config.is_file():
            raise UserError(
                str(self.path),
                found=f"no {CONFIG}" if self.path.is_dir() else "no such folder",
                expected="the folder of a run",
                hint="give the logging.run_dir of a training",
            )
        return load_config(self.config)

    def progress(self) -> dict[str, Any]:
        """How far the newest complete checkpoint is: `step`, `seconds` and more; zeros without one."""
        newest = checkpoint.newest(self.checkpoints)
        return {"step": 0, "seconds": 0.0} | (
            {} if newest is None else checkpoint.read_facts(newest).get("progress", {})
        )

    def finished(self, training: Training) -> bool:
        """Whether the newest complete checkpoint is that of the end of a training."""
        done = self.progress()
        spent = done.get("elapsed", done["seconds"]) + done.get("ending", 0.0)
        late = training.max_seconds is not None and spent >= training.max_seconds
        return bool(done["step"] >= training.steps or late)

    def lock(self) -> None:
        """Keeps other trainings out until `close`, or until the process ends, however it ends (`flock`).

        Raises:
            UserError: another process trains in this folder.
        """
        self._lock = _lock(self.path)

    def close(self) -> None:
        """Lets other trainings have the folder; does nothing the second time."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "RunFolder":
        """Returns the folder itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Releases the lock."""
        self.close()


def validate_run_dir(run_dir: Path, resume: str | None = None) -> None:
    """Refuses early, before anything is made or read, what `create` would refuse.

    Raises:
        UserError: the folder holds something else than the run to be resumed.
    """
    if run_dir.is_dir():
        _refuse_foreign(run_dir)
        if RunFolder(run_dir).config.is_file():
            _refuse_other_run(run_dir, resume)


def create(run_dir: Path, config: Config, resume: str | None = None, *, finished: bool = False) -> RunFolder:
    """Makes and locks the folder of a run, or takes up an existing one, and writes the resolved configuration.

    Args:
        run_dir: the folder; made with its parents when missing.
        config: what the run is about to do; an older, different `config.yaml` is kept beside it.
        resume: "auto", a path, or None for a new run.
        finished: nothing is about to be done, so that an existing `config.yaml` stays what was trained.

    Raises:
        UserError: the folder holds something else than the run to be resumed, is in use or is not writable.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(run_dir)  # before the lock, which would leave its file there
        run = RunFolder(run_dir)
        run.lock()
        try:
            if run.config.is_file():
                _refuse_other_run(run_dir, resume)
            if not (finished and run.config.is_file()):
                _write_config(run.config, config.to_yaml())
            run.checkpoints.mkdir(exist_ok=True)
            run.events.mkdir(exist_ok=True)
        except BaseException:
            run.close()
            raise
    except OSError as error:
        raise UserError(
            str(run_dir),
            found=f"that it cannot be written ({(error.strerror or str(error)).lower()})",
            expected="a writable folder for the run",
            hint="choose another logging.run_dir",
        ) from error
    return run


def resolve_resume(resume: str | None, run_dir: Path) -> Path | None:
    """Finds what a training starts from.

    Args:
        resume: "auto": the run's own checkpoints if there are any; a path: a run, its `checkpoints`, or one
            checkpoint; None: nothing.

    Returns:
        A folder of checkpoints or one checkpoint, as `checkpoint.load_newest` takes it; None: start at step 0.

    Raises:
        UserError: the path holds no checkpoint.
    """
    if resume is None:
        return None
    if resume == "auto":
        own = run_dir / CHECKPOINTS
        return own if checkpoint.has_checkpoint(own) else None
    path = expanded(resume)
    if (path / CHECKPOINTS).is_dir():
        path = path / CHECKPOINTS
    if not checkpoint.has_checkpoint(path):
        raise UserError(
            f"resume={resume}",
            found="no checkpoint" if path.is_dir() else "no such folder",
            expected="a run, its checkpoints, or one checkpoint (step-...)",
            hint="check the path, or use resume=auto",
        )
    return path


def trained_with(source: Path) -> Config | None:
    """The configuration of what a training starts from; None: nobody knows it any more.

    Args:
        source: what `resolve_resume` found.

    Raises:
        UserError: the run's configuration is damaged.
    """
    path = source if checkpoint.is_one(source) else checkpoint.newest(source)
    if path is None:
        return None
    facts = checkpoint.read_facts(path)
    if CONFIGURATION in facts:
        return recorded_in(path, facts)
    above = next((folder for folder in path.absolute().parents[:2] if (folder / CONFIG).is_file()), None)
    return None if above is None else RunFolder(above).read_config()  # as version 0.1 wrote it


def recorded_in(path: Path, facts: Mapping[str, Any]) -> Config | None:
    """The configuration that a checkpoint's facts hold; None: those of version 0.1 hold none.

    Raises:
        UserError: this version cannot read it.
    """
    if CONFIGURATION not in facts:
        return None
    try:
        return Config.model_validate(facts[CONFIGURATION])
    except ValidationError as error:
        raise UserError(
            str(path),
            found=f"a configuration that it was trained with and that cannot be read ({error.errors()[0]['msg']})",
            expected="one of this version",
            hint="use the version of nid_dist that wrote it",
        ) from error


def _lock(path: Path) -> int | None:
    descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "of unknown number"
        os.close(descriptor)
        raise UserError(
            str(path),
            found=f"a training that is running (process {owner})",
            expected="one training in a folder at a time",
            hint="wait for it, stop it, or choose another logging.run_dir",
        ) from None
    except OSError as error:  # some network file systems have no locks; that is no reason not to train
        os.close(descriptor)
        warnings.warn(f"{path}: cannot be locked ({error.strerror}); start no second training in it", stacklevel=2)
        return None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()} on {os.uname().nodename}\n".encode(), 0)
    return descriptor


def _refuse_foreign(run_dir: Path) -> None:
    """Refuses a folder whose content is not a run's; what a start left that was killed at once is."""
    content = [path.name for path in run_dir.iterdir() if not path.name.startswith((LOCK, f".{CONFIG}.tmp-"))]
    if content and CONFIG not in content:
        raise UserError(
            str(run_dir),
            found=f"a folder with other things in it ({min(content)})",
            expected="a new or empty folder, or one of a run",
            hint="choose another logging.run_dir",
        )


def _refuse_other_run(run_dir: Path, resume: str | None) -> None:
    """Refuses a run that is not the one to be resumed."""
    if resume is None:
        raise UserError(
            str(run_dir),
            found="an earlier run",
            expected="a new or empty folder",
            hint="choose another logging.run_dir or resume=auto",
        )
    if resume != "auto" and not expanded(resume).resolve().is_relative_to(run_dir.resolve()):
        raise UserError(
            str(run_dir),
            found=f"another run than that of resume={resume}",
            expected="a new or empty folder, or the run that is resumed",
            hint="choose another logging.run_dir, or resume from a checkpoint in it",
        )


def _write_config(path: Path, text: str) -> None:
    if path.exists():
        if path.read_bytes() == text.encode():  # which a damaged disk may have made no text at all
            return
        number = 1
        while (older := path.with_name(f"config.{number}.yaml")).exists():
            number += 1
        shutil.copyfile(path, older)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
