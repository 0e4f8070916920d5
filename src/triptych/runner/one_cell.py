"""One cell over one file of rows, in memory: what `triptych score` and `triptych predict` have in common.

request checked  ─►  rows, pool and template read  ─►  model and adapter loaded  ─►  rows rendered and checked
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from triptych.checks.rows import begin
from triptych.config.choices import MAX_TOKENS
from triptych.config.model import ModelConfig
from triptych.config.sources import split_sample
from triptych.data import Dataset, GivenRows, outputs_of, read_rows
from triptych.errors import ConfigError
from triptych.grid.demonstrations import Demonstrations, Shots
from triptych.grid.rendered import RenderedExperiment, RenderedRows, rows_that_fit
from triptych.grid.renderer import ContextLimit, RenderedCell, Renderer
from triptych.grid.suited import suited_prompt
from triptych.metrics.options import Options, options_of
from triptych.metrics.texts import check_references
from triptych.models import Adapter, LoadedModel, adapter_enabled, load_adapter, load_model
from triptych.models.adapter_checks import check_adapter_config, check_adapter_files
from triptych.models.embed import embed_texts
from triptych.progress import Reporter
from triptych.prompts import Rendered, RenderedPrompt, Template, catalogue, find_template, template_from_text
from triptych.prompts.ranking import Vectors
from triptych.records.disk import is_there, sha256_of_file
from triptych.records.provenance import provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """A model, a prompt with its demonstrations, and the rows."""

    model: ModelConfig
    data: str | GivenRows
    prompt: str | None = None
    """A named prompt; None: the one that the adapter was trained with, or one that suits the model."""
    template: str | None = None
    """A file or a text, instead of a named prompt."""
    shots: Shots = field(default_factory=Shots)
    adapter: Path | None = None
    limit: int | None = None
    """Use only the first `limit` rows; None for all."""
    max_tokens: int = MAX_TOKENS
    """Longest rendering, with its answer; demonstrations that don't fit are dropped."""
    metrics: tuple[str, ...] = ("perplexity",)
    choices: tuple[str, ...] | str = "auto"
    """The options of `accuracy`: `auto` for the distinct outputs of the pool, a list, or a column of the data."""
    choices_file: Path | None = None
    """Where the list was read from, if it was."""

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
            "--data": split_sample(self.data)[0] if isinstance(self.data, str) else None,
            "--pool": split_sample(self.shots.pool)[0] if isinstance(self.shots.pool, str) else None,
            "--choices": self.choices_file,
            "--model": self.model.name,
            "--adapter": self.adapter,
            "--template": self.template,
            "--prompt": self.prompt,
            "--embedding": self.shots.demos.embedding,
        }


def named_template(request: CellRequest) -> Template | None:
    """The template that a request names, if it names one."""
    if request.template:
        return template_from_text(request.template)
    return None if request.prompt is None else find_template(request.prompt, where="--prompt")


class OneCell:
    """The cell of a checked request: its rows are read at once, its model when `load` is called.

    `need_output` refuses rows without an output.

    Raises:
        InputError: data, pool, template or the adapter's files can't be used.
    """

    loaded: LoadedModel
    adapter: Adapter | None = None
    adapter_facts: Mapping[str, Any]

    def __init__(self, request: CellRequest, reporter: Reporter, *, need_output: bool) -> None:
        self.request, self.reporter = request, reporter
        trained: Mapping[str, Any] = {}
        if request.adapter is not None:  # now, not after the model was loaded
            trained = check_adapter_files(request.adapter)
            check_adapter_config(request.adapter)
        named = named_template(request)
        self.rows = read_rows(request.data, need_output=need_output, reporter=reporter)[: request.limit]
        self.template = named or self._suited_template(trained)
        self.cell = request.shots.cell(self.template.name)
        self.pool = request.shots.read_pool(self.rows, request.data, reporter)
        if need_output:
            check_references(request.metrics, self.rows)
        self.options = self._options() if "accuracy" in request.metrics else None

    def load(self, spec: ModelConfig | None = None, identity: Mapping[str, Any] | None = None) -> LoadedModel:
        """Load the model, and the adapter onto it.

        `spec` is the request's model with what an earlier process chose, if one did; `identity` are the hashes that the
        model was identified by before.

        Raises:
            ModelError: model or adapter can't be used, or don't belong together.
        """
        self.loaded = load_model(spec or self.request.model)
        self.loaded.check_identity(identity or {})
        self.adapter_facts = {}
        if self.request.adapter is not None:
            self.adapter, self.adapter_facts = load_adapter(self.loaded, self.request.adapter)
            self._warn_of_other_base_or_prompt(self.adapter_facts)
        return self.loaded

    def rendered(self) -> RenderedCell:
        """The rows with their outputs, and with their options if accuracy is asked for; checked.

        Raises:
            InputError: a row can't be rendered, or the model would not see what it should.
        """
        renderer, limit = self._renderer(), self.limit
        rows, rendered, too_long = rows_that_fit(self.rows, partial(renderer.row, self.cell), limit.tokens)
        part = RenderedRows("data", self.cell.prompt, rows, rendered, len(self.rows), limit.tokens, too_long)
        self._check(part, renderer, limit)
        if self.options is None:
            return RenderedCell(list(rendered), [])
        every = [renderer.options_of(self.cell, row, self.options.of(row), limit.tokens) for row in self.rows]
        return RenderedCell([one.row for one in every], [], every)

    def _suited_template(self, trained: Mapping[str, Any]) -> Template:
        """What is used where no prompt is named; `trained`: what an adapter was saved with."""
        shipped = catalogue().get(trained.get("prompt", ""))
        if shipped is not None and shipped.sha256 == trained.get("prompt_sha256"):
            return shipped
        return find_template(suited_prompt(self.request.model, self.rows, self.request.shots.k, self.reporter))

    def _options(self) -> Options:
        choices, pool = self.request.choices, self.request.shots.pool
        rows = read_rows(pool, reporter=self.reporter) if choices == "auto" and pool is not None else []
        options = options_of(choices, outputs_of(rows), self.rows, where="--choices")
        for warning in options.warnings(self.rows):
            self.reporter.warn(warning)
        return options

    def prompts(self, new_tokens: int, *, kept_by: str | None = "--max-new-tokens") -> list[RenderedPrompt]:
        """The rows without outputs, with room for `new_tokens` more, checked. Outputs that the rows have are not read.

        `kept_by`: the option that says how many new tokens; None where the command has none.

        Raises:
            InputError: the new tokens leave no room, a row can't be rendered, or a check fails.
        """
        limit = replace(self.limit, kept_by=kept_by)
        if new_tokens >= limit.tokens:
            ways = [f"lower {kept_by}" if kept_by else "leave out the metrics that need texts"]
            raise ConfigError(
                "the new tokens leave no room for a prompt",
                where=kept_by or "--metric",
                found=str(new_tokens)
                if kept_by
                else f"metrics of texts, for which {new_tokens} new tokens are written",
                expected=f"less than {limit.tokens}, the longest prompt with its output",
                fix=", or ".join([*ways, *([] if limit.tokens == limit.context else ["raise --max-tokens"])]),
            )
        renderer = self._renderer()
        one = partial(renderer.prompt, self.cell, reserve=new_tokens)
        rows, prompts, too_long = rows_that_fit(self.rows, one, limit.tokens, reserve=new_tokens)
        rendered = tuple(Rendered(p.row_id, p.ids, len(p.ids), 0, p.demo_ids, p.n_demos_dropped) for p in prompts)
        asked = tuple(replace(row, output="") for row in rows)
        part = RenderedRows("data", self.cell.prompt, asked, rendered, len(self.rows), limit.tokens, too_long)
        self._check(replace(part, answered=False), renderer, limit)
        return list(prompts)

    @property
    def limit(self) -> ContextLimit:
        """The longest rendering: the request's, or the model's context where that is shorter."""
        return ContextLimit.of("--max-tokens", self.request.max_tokens, self.loaded.max_tokens)

    def warn_of_dropped(self, dropped: int) -> None:
        """Warn of demonstrations that did not fit."""
        if dropped:
            self.reporter.warn(f"{dropped} demonstrations did not fit {self.limit.tokens} tokens and were dropped")

    def made_from(self) -> dict[str, Any]:
        """For records: the machine, the model, the adapter and the prompt."""
        adapter = self.request.adapter
        return {
            **provenance(),
            "model": self.loaded.info,
            "adapter": self.adapter_facts or (str(adapter) if adapter else None),
            "prompt": {"name": self.template.name, **self.template.record()},
        }

    def _check(self, part: RenderedRows, renderer: Renderer, limit: ContextLimit) -> None:
        """The checks of a run, on an experiment of this one part."""
        data = Dataset(tuple(self.pool), (), tuple(self.rows))
        parts = (replace(part, cell=self.cell),)
        begin(RenderedExperiment(data, renderer.templates, renderer.profile, limit, parts), self.reporter)

    def _warn_of_other_base_or_prompt(self, facts: Mapping[str, Any]) -> None:
        """Warn that an adapter was trained with another prompt or config.json (another rope scaling, say)."""
        config, template = self.loaded.info["config_sha256"], self.template
        trained, prompt = facts.get("base_config_sha256"), facts.get("prompt_sha256")
        if trained not in (None, config):
            self.reporter.warn(
                f"the adapter was trained under another config.json (sha256 {trained[:12]}…) than the model's "
                f"({config[:12]}…)"
            )
        if prompt not in (None, template.sha256):
            self.reporter.warn(
                f"the adapter was trained with another prompt ({facts.get('prompt')}) than `{template.name}`: "
                f"sha256 {prompt[:12]}…, not {template.sha256[:12]}…"
            )

    def _renderer(self) -> Renderer:
        demos, loaded = self.request.shots.demos, self.loaded

        def vectors() -> Vectors:
            texts = [row.instruction for row in (*self.pool, *self.rows)]
            model = loaded if demos.embedding == "model" else demos.embedding
            with adapter_enabled(self.adapter, on=False):  # the base model's own
                return embed_texts(texts, model=model, reporter=self.reporter)

        demonstrations = Demonstrations(self.pool, demos, vectors=vectors)
        return Renderer(demonstrations, {self.template.name: self.template}, loaded.profile)


def source_record(source: str | GivenRows) -> dict[str, str | None]:
    """For records: where rows came from. Rows from memory have no path."""
    if isinstance(source, GivenRows):
        return {"path": None, "sha256": source.sha256}
    file = Path(split_sample(source)[0])
    return {"path": source, "sha256": sha256_of_file(file) if is_there(file, Path.is_file) else None}
