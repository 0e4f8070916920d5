"""How many tokens a rendered row may have: what the settings allow, or the model's context where that is shorter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from triptych.config.experiment import ExperimentConfig
from triptych.models.shape import context_of


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """The longest rendering, and what decides it: a setting, or the model's own context."""

    tokens: int
    setting: str = "max_tokens"
    """Where it can be raised, unless the context is as short."""
    context: int | None = None
    """Tokens the model was made for; None if it doesn't say."""
    kept_by: str | None = None
    """The setting that keeps tokens of it for an answer, if any are kept."""

    @classmethod
    def of(cls, setting: str, asked: int, context: int | None, *, kept_by: str | None = None) -> ContextLimit:
        """The smaller of what is asked for and what the model can take."""
        return cls(min(asked, context or asked), setting, context, kept_by)

    @classmethod
    def of_experiment(cls, config: ExperimentConfig, model_config: Any) -> ContextLimit:
        """An experiment's limit for the model with this transformers configuration."""
        return cls.of("max_tokens", config.max_tokens, context_of(model_config))

    def how_to_fit(self) -> str:
        """What to do about rows that are longer: what can be raised is named only where raising it helps."""
        ways = ["shorten or remove these rows", *([f"lower {self.kept_by}"] if self.kept_by else [])]
        if self.context is not None and self.tokens >= self.context:
            ways.append(f"use a model with a longer context than {self.context:,} tokens")
        else:
            most = f" (the model takes up to {self.context:,})" if self.context else ""
            ways.append(f"raise {self.setting}{most}")
        return ", or ".join(ways)
