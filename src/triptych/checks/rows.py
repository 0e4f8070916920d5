"""Whether rows are what the model should see: the checks of `preview`, and of the start of `run`, `tune`, `score` and
`predict`, on the command line and in Python.

Each looks at token ids that were really rendered, not at settings. A failed check stops the run. A warning names what
may be intended: data may hold the text of a special token, and a tokenizer may not give every text back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from triptych.checks.adapters import adapter_prompt
from triptych.checks.findings import Check, Outputs, count
from triptych.checks.lengths import demos_apart, nothing_truncated, rendered_alike
from triptych.checks.tokens import eos_scored, one_bos, prompt_masked, round_trip, special_text, unknown_tokens
from triptych.errors import ConfigError, DataError
from triptych.grid.rendered import RenderedExperiment
from triptych.progress import Reporter


def run_checks(
    experiment: RenderedExperiment, *, adapters: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Check, ...]:
    """All checks, in the order they are shown. `adapters`: training -> the facts its adapter was saved with, if any."""
    outputs = Outputs(experiment.profile)
    return (
        one_bos(experiment),
        eos_scored(experiment),
        prompt_masked(experiment, outputs),
        nothing_truncated(experiment),
        demos_apart(experiment),
        rendered_alike(experiment),
        adapter_prompt(experiment, adapters or {}),
        round_trip(experiment, outputs),
        special_text(experiment),
        unknown_tokens(experiment),
    )


def begin(
    experiment: RenderedExperiment, reporter: Reporter, *, adapters: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check the rows of a command before it computes anything, and report each warning once.

    Raises:
        DataError: rows fail a check.
        ConfigError: settings, a template or an adapter do.
    """
    checks = run_checks(experiment, adapters=adapters)
    require(checks)
    for check in checks:
        if not check.passed:
            reporter.warn(f"{check.name}: {check.detail}")


def require(checks: Sequence[Check]) -> None:
    """Refuse to begin a run whose rows fail a check.

    Raises:
        DataError: rows fail a check.
        ConfigError: settings, a template or an adapter do.
    """
    if failed := [check for check in checks if check.stops]:
        kind = DataError if all(check.about == "data" for check in failed) else ConfigError
        raise kind(
            f"the model would not see what it should: {count(len(failed), 'check')} failed",
            found="\n    ".join(["", *(f"✗ {check.name}: {check.detail}" for check in failed)]),
            fix="; ".join(dict.fromkeys(check.fix for check in failed if check.fix)),
        )
