"""What all sections of the settings have in common."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


class Section(BaseModel):
    """A part of the settings: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, value: Any) -> Any:
        """A section whose keys are all commented out is null in YAML: all defaults, where null means nothing else."""
        return {} if value is None else value


def refused(key: str, found: object, expected: str) -> ValidationError:
    """The error for a validator of a whole section to raise, so that the message names the `key` (dotted) that is
    meant, and its line.
    """
    kind = PydanticCustomError("not_together", "{expected}", {"expected": expected})
    return ValidationError.from_exception_data(
        key, [InitErrorDetails(type=kind, loc=tuple(key.split(".")), input=found)]
    )
