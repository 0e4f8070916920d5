"""One cell over one file of rows, in memory: what `triptych score` and `triptych predict` have in common.

request checked  ─►  rows, pool and template read  ─►  model and adapter loaded  ─►  rows rendered and checked
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.checks.rows import begin
from triptych.config.choices import MAX_TOKENS
from triptych.config.model import ModelConfig
from triptych.config.sources import split_sample
from triptych.data import GivenRows, read_rows
from triptych.errors import ConfigError
from triptych.grid.context_limit import ContextLimit
from triptych.grid.demo_options import Shots
from triptych.grid.file_views import view_prompts, view_scored
from triptych.grid.renderer import Renderer
from triptych.models import Adapter, LoadedModel, load_adapter, load_model
from triptych.progress import Reporter
from triptych.prompts import Rendered, RenderedPrompt, Template, find_template, template_from_text
from triptych.records.disk import sha256_of_file
from triptych.records.home import is_there
from triptych.records.provenance import provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """A model, a prompt with its demonstrations, and the rows."""

    model: ModelConfig
    data: str | GivenRows
    prompt: str = "default"
    template: str | None = None
    """A file or a text, instead of a named prompt."""
    shots: Shots = field(default_factory=Shots)
    adapter: Path | None = None
    limit: int | None = None
    """The first so many rows; None for all."""
    max_tokens: int = MAX_TOKENS
    """Longest rendering, with its answer; demonstrations that don't fit are dropped."""

    def check(self) -> None:
        """Find what can be wrong before anything is read.

        Raises:
            ConfigError: settings out of range, or that don't go together.
        """
        self.shots.check()
        for option, value in (("--limit", self.limit), ("--max-tokens", self.max_tokens)):
            if value is not None and value < 1:
                raise ConfigError("a number is out of range", where=option, found=str(value), expected="1 or more")

    def reads(self) -> dict[str, str | Path | None]:
        """Option -> what is read; also names that are no files."""
        return {
            "--data": _file_of(self.data),
            "--pool": _file_of(self.shots.pool),
            "--model": self.model.name,
            "--adapter": self.adapter,
            "--template": self.template,
            "--prompt": self.prompt,
            "--embedding": self.shots.demos.embedding,
        }


class OneCell:
    """The cell of a request: its rows at once, its model when `load` is called.

    Args:
        request: what is asked for, checked.
        reporter: told of progress, and of what is odd.
        need_output: whether rows without an output are refused.

    Raises:
        InputError: data, pool or template can't be used.
    """

    loaded: LoadedModel
    adapter: Adapter | None = None
    adapter_facts: Mapping[str, Any]

    def __init__(self, request: CellRequest, reporter: Reporter, *, need_output: bool) -> None:
        self.request, self.reporter = request, reporter
        if request.template:
            self.template = template_from_text(request.template)
        else:
            self.template = find_template(request.prompt, where="--prompt")
        self.cell = request.shots.cell(self.template.name)
        self.rows = read_rows(request.data, need_output=need_output, reporter=reporter)[: request.limit]
        self.pool = request.shots.read_pool(self.rows, request.data, reporter)

    def load(self, spec: ModelConfig | None = None, identity: Mapping[str, Any] | None = None) -> LoadedModel:
        """Load the model, and the adapter onto it.

        Args:
            spec: the request's model with what an earlier process chose; None for the request's own.
            identity: hashes that the model was identified by before.

        Raises:
            ModelError: model or adapter can't be used, or don't belong together.
        """
        self.loaded = load_model(spec or self.request.model)
        self.loaded.check_identity(identity or {})
        self.adapter_facts = {}
        if self.request.adapter is not None:
            self.adapter, self.adapter_facts = load_adapter(self.loaded, self.request.adapter)
            _warn_of_other_base_or_prompt(self.adapter_facts, self.loaded, self.template, self.reporter)
        return self.loaded

    def rendered(self) -> list[Rendered]:
        """The rows with their outputs, checked.

        Raises:
            InputError: a row can't be rendered, or the model would not see what it should.
        """
        experiment = view_scored(self._renderer(), self.cell, self.rows, self.limit)
        begin(experiment, self.reporter)
        return list(experiment.parts[0].rendered)

    def prompts(self, new_tokens: int) -> list[RenderedPrompt]:
        """The rows without outputs, with room for so many new tokens, checked.

        Raises:
            InputError: the new tokens leave no room, a row can't be rendered, or a check fails.
        """
        limit = replace(self.limit, kept_by="--max-new-tokens")
        if new_tokens >= limit.tokens:
            raise ConfigError(
                "the new tokens leave no room for a prompt",
                where="--max-new-tokens",
                found=str(new_tokens),
                expected=f"less than {limit.tokens}, the longest prompt with its output",
                fix="lower --max-new-tokens" + ("" if limit.tokens == limit.context else ", or raise --max-tokens"),
            )
        experiment, prompts = view_prompts(self._renderer(), self.cell, self.rows, limit, reserve=new_tokens)
        begin(experiment, self.reporter)
        return list(prompts)

    @property
    def limit(self) -> ContextLimit:
        """The longest rendering: the request's, or the model's context where that is shorter."""
        return ContextLimit.of("--max-tokens", self.request.max_tokens, self.loaded.max_tokens)

    def warn_of_dropped(self, dropped: int) -> None:
        """Tell how many demonstrations did not fit."""
        if dropped:
            limit = self.limit.tokens
            self.reporter.warn(f"{dropped} demonstrations did not fit {limit} tokens and were dropped")

    def made_from(self) -> dict[str, Any]:
        """For records: the machine, the model, the adapter and the prompt."""
        adapter = self.request.adapter
        return {
            **provenance(),
            "model": self.loaded.info,
            "adapter": self.adapter_facts or (str(adapter) if adapter else None),
            "prompt": {"name": self.template.name, **self.template.record()},
        }

    def _renderer(self) -> Renderer:
        shots, loaded = self.request.shots, self.loaded
        demonstrations = shots.demonstrations(self.rows, self.pool, loaded, self.reporter, adapter=self.adapter)
        return Renderer(demonstrations, {self.template.name: self.template}, loaded.profile)


def source_record(source: str | GivenRows) -> dict[str, str | None]:
    """For records: where rows came from. Rows from memory have no path."""
    if isinstance(source, GivenRows):
        return {"path": None, "sha256": source.sha256}
    file = Path(split_sample(source)[0])
    return {"path": source, "sha256": sha256_of_file(file) if is_there(file, Path.is_file) else None}


def _file_of(source: str | GivenRows | None) -> str | Path | None:
    return split_sample(source)[0] if isinstance(source, str) else None


def _warn_of_other_base_or_prompt(
    facts: Mapping[str, Any], loaded: LoadedModel, template: Template, reporter: Reporter
) -> None:
    """Warn that an adapter was trained under another config.json than the model has now (another rope scaling, say), or
    with another prompt.
    """
    trained = facts.get("base_config_sha256")
    if trained not in (None, loaded.info["config_sha256"]):
        reporter.warn(
            f"the adapter was trained under another config.json (sha256 {trained[:12]}…) than the model's "
            f"({loaded.info['config_sha256'][:12]}…)"
        )
    if facts.get("prompt_sha256") not in (None, template.sha256):
        reporter.warn(
            f"the adapter was trained with another prompt ({facts.get('prompt')}) than `{template.name}`: "
            f"sha256 {facts['prompt_sha256'][:12]}…, not {template.sha256[:12]}…"
        )
