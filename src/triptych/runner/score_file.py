"""One cell without an experiment: `triptych score`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from triptych.checks.rows import begin
from triptych.config.model import ModelConfig
from triptych.config.sources import split_sample
from triptych.data import empty_outputs, read_rows, sha256_of_file
from triptych.grid.context_limit import ContextLimit
from triptych.grid.demo_options import Shots
from triptych.grid.file_views import view_scored
from triptych.likelihood.aggregate import aggregate
from triptych.likelihood.cache import score_cache
from triptych.likelihood.score import Scorer, to_items
from triptych.models import Adapter, LoadedModel, load_adapter, load_model
from triptych.progress import Watcher
from triptych.prompts import Template, find_template, template_from_text
from triptych.records import SCHEMA_VERSION, Aggregate
from triptych.records.outputs import check_output, is_scores
from triptych.records.provenance import provenance
from triptych.records.store import write_json

__all__ = ["ScoreRequest", "reads_of", "say_other_base_or_prompt", "score_file"]


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What to score, as the command line says it."""

    model: ModelConfig
    data: str
    prompt: str = "default"
    template: str | None = None
    shots: Shots = field(default_factory=Shots)
    adapter: Path | None = None
    limit: int | None = None
    max_tokens: int = 2048
    cache: bool = True
    force: bool = False
    """Replace a file that is there and holds no scores."""


def score_file(request: ScoreRequest, out: Path, watcher: Watcher) -> Aggregate:
    """Score a data file and write `scores.json`.

    Raises:
        ForeignFileError: `out` is a file that is read, or one that holds no scores.
        InputError: anything else in the request that can't be used; nothing is written then.
    """
    shots = request.shots
    shots.check()
    check_output(out, reads=reads_of(request), ours=is_scores, what="the scores", force=request.force)
    if request.template:
        template = template_from_text(request.template)
    else:
        template = find_template(request.prompt, where="--prompt")
    rows = read_rows(request.data, watcher=watcher)[: request.limit]
    if empty := empty_outputs(rows):
        watcher.say(f"warning: {empty}")
    pool = shots.read_pool(rows, request.data, watcher)
    loaded = load_model(request.model)
    adapter: Adapter | None = None
    facts: dict[str, Any] = {}
    if request.adapter is not None:
        adapter, facts = load_adapter(loaded, request.adapter)
        say_other_base_or_prompt(facts, loaded, template, watcher)
    context_limit = ContextLimit.of("--max-tokens", request.max_tokens, loaded.max_tokens)
    limit = context_limit.tokens
    chosen = shots.choose(rows, pool, loaded, watcher, adapter=adapter)
    views = view_scored(rows, pool, chosen, template, loaded.profile, context_limit)
    begin(views, watcher)
    rendered = views.parts[0].rendered
    scorer = Scorer(loaded, cache=score_cache(loaded) if request.cache else None)
    with watcher.phase("scoring", len(rendered)) as advance:
        items = to_items(rendered, scorer.score(rendered, advance))
    if dropped := sum(item.n_demos_dropped for item in items):
        watcher.say(f"warning: {dropped} demonstrations did not fit {limit} tokens and were dropped")
    total = aggregate(items)
    scores = {
        "schema_version": SCHEMA_VERSION,
        "items": [{**asdict(item), "demo_ids": list(item.demo_ids), "ppl": item.ppl} for item in items],
        "aggregate": total.model_dump(mode="json"),
        "provenance": {
            **provenance(),
            "protocol": "hw3",
            "model": {**loaded.info, "passes": "packed" if scorer.packed else "one row at a time"},
            "adapter": facts or (str(request.adapter) if request.adapter else None),
            "prompt": {"name": template.name, **template.record()},
            "shots": shots.k,
            "seed": None,
            "draw": None,
            **shots.record(),
            "max_tokens": limit,
            "rows_cached": scorer.rows_cached,
            "data": {role: _file(path) for role, path in (("data", request.data), ("pool", shots.pool)) if path},
        },
    }
    write_json(out, scores)
    return total


class Reads(Protocol):
    """A request for one data file, model and prompt: `ScoreRequest`, and that of `triptych predict`."""

    @property
    def model(self) -> ModelConfig: ...
    @property
    def data(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def template(self) -> str | None: ...
    @property
    def shots(self) -> Shots: ...
    @property
    def adapter(self) -> Path | None: ...


def reads_of(request: Reads) -> dict[str, str | Path | None]:
    """Option -> what the request reads; also names that are no files."""
    shots = request.shots
    return {
        "--data": split_sample(request.data)[0],
        "--pool": split_sample(shots.pool)[0] if shots.pool else None,
        "--model": request.model.name,
        "--adapter": request.adapter,
        "--template": request.template,
        "--prompt": request.prompt,
        "--embedding": shots.demos.embedding,
    }


def say_other_base_or_prompt(
    facts: Mapping[str, Any], loaded: LoadedModel, template: Template, watcher: Watcher
) -> None:
    """Warn that an adapter was trained under another config.json than the model has now (another rope scaling, say), or
    with another prompt.
    """
    trained = facts.get("base_config_sha256")
    if trained not in (None, loaded.info["config_sha256"]):
        watcher.say(
            f"warning: the adapter was trained under another config.json (sha256 {trained[:12]}…) than the model's "
            f"({loaded.info['config_sha256'][:12]}…)"
        )
    if facts.get("prompt_sha256") not in (None, template.sha256):
        watcher.say(
            f"warning: the adapter was trained with another prompt ({facts.get('prompt')}) than `{template.name}`: "
            f"sha256 {facts['prompt_sha256'][:12]}…, not {template.sha256[:12]}…"
        )


def _file(path: str) -> dict[str, str | None]:
    file = Path(split_sample(path)[0])
    return {"path": path, "sha256": sha256_of_file(file) if file.is_file() else None}
