"""What goes wrong, and how it's told."""

from __future__ import annotations

from collections.abc import Sequence


class Error(RuntimeError):
    """A command of vqtok failed: the message is its own line.

    `exit_code` is 2 where the input or a setting is wrong, 70 for a bug of vqtok, 130 where
    SIGINT stopped it and 143 where SIGTERM did, negative where a signal killed it.
    """

    def __init__(self, message: str, exit_code: int, command: Sequence[str] = ()) -> None:
        """Of `command`, which ended with `exit_code`."""
        super().__init__(message)
        self.message = message
        self.exit_code = exit_code
        self.command: tuple[str, ...] | None = tuple(command) or None

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way out of a worker process."""
        return type(self), (self.message, self.exit_code, self.command or ())


class Unfinished(Error):
    """Exit code 75: nothing is wrong with the job, but it can't go on now.

    A store doesn't answer, or another process is at it. What was done is kept; the same call goes
    on from there.
    """


class NotUsable(ValueError):
    """A folder is no output of vqtok, or isn't finished, or isn't what it says."""


class MissingExtra(ImportError):
    """A package that this needs isn't installed; the message names the extra that brings it."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        """`what` needs `package`, which `extra` installs."""
        super().__init__(f"{what} needs {package}: pip install 'vqtok[{extra}]'", name=package)


def first_line(error: BaseException) -> str:
    """Give what an error says in its first line, or its name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
