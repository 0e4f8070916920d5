"""Every error that Triptych raises on purpose.

`InputError` and its kinds end a command with exit code 2: what the user gave is wrong, and the message says how to
correct it. The others end it with exit code 1.
"""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "DataError",
    "DiskError",
    "DivergedError",
    "ForeignFileError",
    "InputError",
    "Interrupted",
    "ModelError",
    "RunBusyError",
    "RunChangedError",
    "ScoringError",
    "TemplateError",
    "TriptychError",
]


class TriptychError(Exception):
    """Base of the tree. `exit_code` is what the command line ends with."""

    exit_code = 1


class InputError(TriptychError):
    """Something the user gave is wrong.

    The message has up to five parts, one line each, so that it can be read aloud: what is wrong, where it was
    met (file, line, key, row), what was found there, what was expected, and how to fix it.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str | None = None,
        found: str | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.what, self.where, self.found, self.expected, self.fix = what, where, found, expected, fix
        parts = [("where", where), ("found", found), ("expected", expected), ("to fix it", fix)]
        super().__init__("\n".join([what, *(f"  {name}: {text}" for name, text in parts if text)]))


class ConfigError(InputError):
    """A setting is unknown, malformed or out of range."""


class DataError(InputError):
    """A data file can't be read as rows, or a row in it can't be used."""


class TemplateError(InputError):
    """A prompt template is missing a field, names an unknown one, or can't be found."""


class ModelError(InputError):
    """A model, tokenizer or adapter is missing, broken or doesn't fit the request."""


class RunChangedError(InputError):
    """The run folder was begun with other settings; continuing would mix two experiments."""


class RunBusyError(InputError):
    """Another process is working in the run folder."""


class ForeignFileError(InputError):
    """An output would replace a file that Triptych did not write, or one that it was given to read."""


class DiskError(InputError):
    """A file can't be written: the disk is full or the folder is not writable."""


class ScoringError(TriptychError):
    """The model returned NaN or infinite log-likelihoods."""


class DivergedError(TriptychError):
    """Training produced a loss or gradient that is not finite."""


class Interrupted(TriptychError):
    """Work was stopped on request and what was done is saved."""
