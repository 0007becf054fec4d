"""Lightning's loggers, which may fail where the run that they show may not."""

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from fdseg.errors import FdsegError, first_line

#: What Lightning calls of a logger.
_CALLED = (
    "log_hyperparams", "log_metrics", "log_graph", "save", "after_save_checkpoint", "finalize",
)  # fmt: skip
#: W&B would wait without end for a server that went away; what it has not sent lies in its files.
_PATIENCE = {"WANDB_FINISH_TIMEOUT": "300", "WANDB_FINISH_TIMEOUT_RAISES": "true"}
_LATER = "Without logger.wandb.offline=false it only writes files; fdseg.sync can send them later."


@contextmanager
def opened(loggers: Iterable[Any], *, required: bool = True) -> Iterator[list[Any]]:
    """Open Lightning's loggers; close them at the end, as a sweep's next run has its own.

    Args:
        loggers: Lightning's; each gets a ``guard``, by which to call it.
        required: whether one that fails after the start is an error. Else its first failure is a
            warning, and from then on it is not used: no dashboard may cost a run.

    Raises:
        FdsegError: a logger cannot be opened; or cannot write or send later, where it is required.
    """
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    found: list[Any] = []
    failed, hook = True, threading.excepthook
    threading.excepthook = partial(_tell, hook)
    try:
        for logger in loggers:
            logger.guard = _Guard(logger, required)
            logger.guard.open()
            found.append(logger)
        yield found
        failed = False
    except Exception as error:
        if not _is_of_wandb(error):
            raise
        raise FdsegError(f"W&B: {first_line(error).rstrip('.')}. {_LATER}") from None
    finally:
        for logger in found:
            logger.guard.close(failed)
        threading.excepthook = hook


def _tell(hook: Callable[[Any], object], failure: threading.ExceptHookArgs) -> None:
    """Leave out tracebacks of TensorBoard's thread, which raises its error from the next call."""
    if not type(failure.thread).__module__.startswith("tensorboard."):
        hook(failure)


class _Guard:
    """Calls one logger, and tells of its first failure.

    Args:
        logger: Lightning's.
        required: whether a failure is an error.
    """

    def __init__(self, logger: Any, required: bool) -> None:
        self.logger, self.required = logger, required
        self.failed = False
        self._finalize = logger.finalize  # which is called after a failure too

    def open(self) -> None:
        """Open the logger, and stand between it and Lightning."""
        try:
            if self.logger.save_dir:  # W&B would take another
                Path(self.logger.save_dir).mkdir(parents=True, exist_ok=True)
            self.logger.experiment  # noqa: B018
        except Exception as error:
            raise FdsegError(self._explain(error)) from None
        for name in _CALLED:
            if hasattr(self.logger, name):
                setattr(self.logger, name, partial(self, getattr(self.logger, name)))

    def __call__(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Do what calls the logger, unless it has failed before."""
        if self.failed:
            return
        try:
            work(*args, **kwargs)
        except FdsegError:
            raise
        except Exception as error:
            if self.required and _is_of_place(error):
                raise FdsegError(self._explain(error)) from None
            if self.required:
                raise
            if not self.failed:  # a call within this one may have
                self.failed = True
                warnings.warn(
                    f"{self._explain(error)} The run itself goes on: python -m fdseg.sync shows "
                    "it once it is done.",
                    stacklevel=1,
                )

    def close(self, failed: bool) -> None:
        """End the logger; after a failure without a word, as that was told."""
        if self.failed or failed:
            with suppress(Exception):
                self._end(failed)
        else:
            self(self._end, failed)

    def _end(self, failed: bool) -> None:
        if hasattr(self.logger, "log_table"):  # W&B
            self.logger.experiment.finish(exit_code=int(failed))
        self._finalize("failed" if failed else "success")

    def _explain(self, error: BaseException) -> str:
        error = _root(error)
        kind, is_wandb = type(self.logger).__name__, hasattr(self.logger, "log_table")
        if isinstance(error, OSError) and error.strerror:
            place = error.filename or self.logger.save_dir
            other = "Choose another folder" + ", for W&B's own files by WANDB_DATA_DIR" * is_wandb
            return f"{place}: {kind} cannot write there ({error.strerror}). {other}."
        reason = first_line(error).rstrip(".")
        if not is_wandb:
            return f"{kind}: {reason}."
        if isinstance(error, TimeoutError):
            return (
                f"W&B: {reason}: the server did not take everything within WANDB_FINISH_TIMEOUT="
                f"{os.environ['WANDB_FINISH_TIMEOUT']} seconds."
            )
        return f"W&B: {reason}." + f" {_LATER}" * (not isinstance(error, OSError))


def _root(error: BaseException) -> BaseException:
    """What an error was first; of TensorBoard's, Lightning says something else."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _is_of_place(error: BaseException) -> bool:
    """Whether files or a server failed, which they would for every run, and not what is shown."""
    return isinstance(_root(error), OSError) or _is_of_wandb(error)


def _is_of_wandb(error: BaseException) -> bool:
    return type(error).__module__.startswith("wandb")
