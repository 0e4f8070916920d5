"""The section `generate`: in which cells texts are written, and how each token is chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from triptych.config.choices import LARGEST_SEED, MANY
from triptych.config.section import Section


class DecodingConfig(Section):
    """How tokens are chosen, wherever a model writes. The default is greedy: the likeliest token, always."""

    max_new_tokens: int = Field(256, ge=1, le=MANY)
    """Most new tokens of a row."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token; above it, tokens are drawn."""
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=MANY)
    beams: int = Field(1, ge=1, le=1000)
    no_repeat_ngram: int = Field(0, ge=0, le=MANY)
    """Never write this many tokens in a row that the row's prompt or output has already; 0 for no rule."""
    seed: int = Field(0, ge=0, le=LARGEST_SEED)
    """Of drawn tokens."""

    @field_validator("temperature")
    @classmethod
    def _check_temperature(cls, value: float) -> float:
        if value > 100:
            raise ValueError("0 (greedy) to 100")
        return value

    @field_validator("no_repeat_ngram")
    @classmethod
    def _check_ngram(cls, value: int) -> int:
        if value == 1:
            raise ValueError("0 (off), or 2 or more")
        return value

    @field_validator("top_p", "top_k", "beams")  # after temperature: pydantic checks fields in their order
    @classmethod
    def _goes_with_temperature(cls, value: float, info: ValidationInfo) -> float:
        """Tokens are drawn by temperature, top_p and top_k, or searched by beams."""
        temperature = info.data.get("temperature")
        if info.field_name == "beams":
            if value > 1 and temperature:
                raise ValueError("1 with a temperature: beams are searched, not drawn; give one of the two")
        elif temperature == 0 and value != cls.model_fields[str(info.field_name)].default:
            raise ValueError("a temperature above 0 with it: this has no effect on greedy decoding")
        return value


class GenerateConfig(DecodingConfig):
    """Texts written in some cells, and their chrF++ and BLEU. Greedy by default."""

    cells: Literal["best", "all"] | tuple[str, ...] = "best"
    """`best`: the best prompt, the best demonstrations and each training; `all`, which is the default with metrics of
    texts; or names of cells."""
    rows: int | None = Field(None, ge=1, le=MANY)
    """This many test rows, the first; null for all."""
    stop_texts: bool = True
    """End a row where the prompt's own fixed texts begin again."""
