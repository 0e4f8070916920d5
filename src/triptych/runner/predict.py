"""A file of predictions: `triptych predict`.

predictions.json            [{"id", "output"}] in the data's order; written whole, at the end
predictions.jsonl.part      rows as they are finished; the same command goes on from it
predictions.record.json     what made them: settings, hashes, what ended each row, the check, scores
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from triptych.checks.rows import begin
from triptych.config.model import ModelConfig
from triptych.data import Row, read_rows, sha256_of_file
from triptych.errors import ConfigError
from triptych.generate.check import Check, check_predictions
from triptych.generate.engine import generate_rows
from triptych.generate.part import PartFile, is_part, part_of, peek, refuse_changed
from triptych.generate.plan import Limits, choose_limits
from triptych.generate.quality import Quality, measure_quality
from triptych.generate.record import (
    finished_rows,
    is_predictions,
    is_record,
    prompt_texts,
    record_of,
    write_predictions,
)
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import patterns_of
from triptych.grid.context_limit import ContextLimit
from triptych.grid.demo_options import Shots
from triptych.grid.file_views import view_prompts
from triptych.likelihood.cache import versions
from triptych.models import Adapter, LoadedModel, identify, load_adapter, load_model
from triptych.models.device import choose_device, choose_dtype
from triptych.progress import Watcher
from triptych.prompts import RenderedPrompt, Template, find_template, template_from_text
from triptych.records.identity import version_changes
from triptych.records.outputs import check_output
from triptych.records.process_lock import ProcessLock
from triptych.records.provenance import provenance
from triptych.records.run_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from triptych.runner.score_file import reads_of, say_other_base_or_prompt

__all__ = ["PredictRequest", "Predictions", "predict_file"]


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What to write, as the command line says it."""

    model: ModelConfig
    data: str
    prompt: str = "default"
    template: str | None = None
    shots: Shots = field(default_factory=Shots)
    adapter: Path | None = None
    limit: int | None = None
    max_tokens: int = 2048
    """Longest prompt with its output; demonstrations that don't fit are dropped."""
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    stop_texts: bool = True
    """Rows end where the template's own texts begin again, too (`generate.stops`)."""
    batch_rows: int | None = None
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and how it looks."""

    rows: tuple[Generated, ...]
    check: Check
    quality: Quality | None
    """Where all rows have outputs to compare with."""
    rows_known: int
    """Rows that an earlier run of the same command had written."""
    seconds: float
    """Writing the others took; models not loaded in it."""

    def record(self) -> dict[str, Any]:
        """For the file's record, beside what ended each row."""
        return {
            "check": [{"kind": f.kind, "hard": f.hard, "rows": list(f.row_ids)} for f in self.check.findings],
            "quality": self.quality.record() if self.quality else None,
            "seconds": self.seconds,
            "rows_known": self.rows_known,
        }


def predict_file(request: PredictRequest, out: Path, watcher: Watcher) -> Predictions:
    """Continue every row's prompt and write the predictions.

    The same request goes on where an earlier process was stopped, and ends with the file it would have ended with.

    Raises:
        RunBusyError: another process is writing `out`.
        ForeignFileError: `out`, or a file beside it that belongs to it, is read or is not Triptych's.
        RunChangedError: `out`, or what was begun for it, belongs to another run; the differences are named.
        InputError: anything else in the request that can't be used; nothing is written then.
    """
    _check(request, out)
    lock = ProcessLock(out.parent, of=out.name)
    try:
        if out.parent.is_dir():  # else it is made, and locked, when the request was checked
            lock.acquire()
        return _predict(request, out, watcher, lock)
    finally:
        lock.release()


def _predict(request: PredictRequest, out: Path, watcher: Watcher, lock: ProcessLock) -> Predictions:
    if request.template:
        template = template_from_text(request.template)
    else:
        template = find_template(request.prompt, where="--prompt")
    if request.stop_texts:
        patterns = (*request.generation.stop_patterns, *patterns_of(template, shots=request.shots.k))
        generation = request.generation.model_copy(update={"stop_patterns": patterns})
        request = replace(request, generation=generation)
    rows = read_rows(request.data, need_output=False, watcher=watcher)[: request.limit]
    pool = request.shots.read_pool(rows, request.data, watcher)
    facts = _facts(request, template, rows, pool)
    part_path = part_of(out)
    begun = None if request.fresh else peek(part_path)
    if begun:
        refuse_changed(part_path, {key: begun["facts"].get(key) for key in facts}, facts)
    elif out.exists() and not request.fresh:
        written = finished_rows(out, facts)
        watcher.say("these predictions are there already; --fresh writes them again")
        return _judge(written, rows, template, known=len(written), seconds=0.0)
    loaded = load_model(_spec(request, begun))
    loaded.check_identity(facts["model"])
    adapter, made_by = _adapter(request, loaded, template, watcher)
    prompts = _prompts(request, rows, template, pool, loaded, adapter, watcher)
    facts["prompts_sha256"] = _sha256([[p.row_id, p.ids, p.stop_ids] for p in prompts])
    lock.acquire()
    part = _part(request, part_path, facts, loaded)
    if part.known:
        watcher.say(f"{len(part.known)} of {len(rows)} rows were written before; going on")
        if changed := version_changes(part.chosen.get("versions", {}), versions()):
            watcher.say(f"warning: these predictions were begun with other versions: {', '.join(changed)}")
    began = time.monotonic()
    limits = Limits(**part.chosen["limits"])
    try:
        written = generate_rows(loaded, prompts, request.generation, watcher, part.add, known=part.known, limits=limits)
    except BaseException:
        part.close()
        raise
    result = _judge(written, rows, template, known=len(part.known), seconds=time.monotonic() - began)
    used = {"model": loaded.info, "adapter": made_by, "prompt": {"name": template.name, **template.record()}}
    made_from = {**provenance(), **used, "data": request.data, "pool": request.shots.pool}
    write_predictions(out, written, {"facts": facts, "chosen": part.chosen, **result.record(), "provenance": made_from})
    part.remove()
    return result


def _spec(request: PredictRequest, begun: dict[str, Any] | None) -> ModelConfig:
    """The model as asked for, with the threads of the process that began: 16-bit sums depend on them."""
    if begun is None or request.model.threads is not None:
        return request.model
    return request.model.model_copy(update={"threads": begun["chosen"]["threads"] or None})


def _part(request: PredictRequest, path: Path, facts: dict[str, Any], loaded: LoadedModel) -> PartFile:
    """The file in the making: the one that is there, or a new one."""
    if not request.fresh and (part := PartFile.resume(path, facts)) is not None:
        return part
    limits = choose_limits(loaded, request.batch_rows)
    chosen = {"threads": loaded.info["threads"], "limits": limits.record(), "versions": versions()}
    return PartFile.begin(path, facts, chosen)


def _check(request: PredictRequest, out: Path) -> None:
    request.shots.check()
    written = {"the predictions": out, "their record": record_of(out), "rows so far": part_of(out)}
    ours = {"the predictions": is_predictions, "their record": is_record, "rows so far": is_part}
    for what, path in written.items():
        reads = reads_of(request)
        check_output(
            path, reads=reads, ours=ours[what], what=what, force=request.fresh, by="--fresh", example="predictions.json"
        )


def _facts(request: PredictRequest, template: Template, rows: Sequence[Row], pool: Sequence[Row]) -> dict[str, Any]:
    """What decides the texts, as far as it is known before the weights are loaded; no names, only contents."""
    device = choose_device(request.model.device)
    shots = request.shots
    shown = {**shots.record(), "pool_sha256": _sha256([asdict(row) for row in pool])} if shots.k else {}
    return {
        "model": {
            **identify(request.model),
            "quantize": request.model.quantize,
            "double_quant": request.model.double_quant if request.model.quantize == "nf4" else None,
            "dtype": choose_dtype(request.model.dtype, device)[0],
            "device": device.type,
        },
        "adapter_sha256": _adapter_sha256(request.adapter) if request.adapter else None,
        "prompt_sha256": template.sha256,
        "demonstrations": {"shots": shots.k, **shown},
        "data": {"rows": len(rows), "sha256": _sha256([[row.id, row.instruction] for row in rows])},
        "max_tokens": request.max_tokens,
        "generation": request.generation.record(),
    }


def _adapter_sha256(folder: Path) -> str | None:
    """Hash of an adapter's weights and settings; None where they are missing (loading it says so)."""
    files = [folder / name for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)]
    return _sha256([sha256_of_file(file) for file in files]) if all(file.is_file() for file in files) else None


def _adapter(
    request: PredictRequest, loaded: LoadedModel, template: Template, watcher: Watcher
) -> tuple[Adapter | None, Any]:
    """The adapter, on, and what its folder says of it."""
    if request.adapter is None:
        return None, None
    adapter, facts = load_adapter(loaded, request.adapter)
    say_other_base_or_prompt(facts, loaded, template, watcher)
    return adapter, facts or str(request.adapter)


def _prompts(
    request: PredictRequest,
    rows: Sequence[Row],
    template: Template,
    pool: Sequence[Row],
    loaded: LoadedModel,
    adapter: Adapter | None,
    watcher: Watcher,
) -> list[RenderedPrompt]:
    context_limit = ContextLimit.of("--max-tokens", request.max_tokens, loaded.max_tokens, kept_by="--max-new-tokens")
    limit, new = context_limit.tokens, request.generation.max_new_tokens
    if new >= limit:
        raise ConfigError(
            "the new tokens leave no room for a prompt",
            where="--max-new-tokens",
            found=str(new),
            expected=f"less than {limit}, the longest prompt with its output",
            fix="lower --max-new-tokens" + ("" if limit == context_limit.context else ", or raise --max-tokens"),
        )
    chosen = request.shots.choose(rows, pool, loaded, watcher, adapter=adapter)
    views, prompts = view_prompts(rows, pool, chosen, template, loaded.profile, context_limit, reserve=new)
    begin(views, watcher)
    ends = _ends_of(loaded)
    prompts = [replace(prompt, stop_ids=tuple(dict.fromkeys([*prompt.stop_ids, *ends]))) for prompt in prompts]
    if dropped := sum(prompt.n_demos_dropped for prompt in prompts):
        watcher.say(f"warning: {dropped} demonstrations did not fit {limit} tokens and were dropped")
    return prompts


def _ends_of(loaded: LoadedModel) -> list[int]:
    """Every token the model's own configuration says it ends with: end of turn, where it was tuned for turns."""
    ends = [getattr(config, "eos_token_id", None) for config in (loaded.model.config, loaded.model.generation_config)]
    return [token for end in ends if end is not None for token in (end if isinstance(end, list) else [end])]


def _judge(
    written: Sequence[Generated], rows: Sequence[Row], template: Template, *, known: int, seconds: float
) -> Predictions:
    check = check_predictions(
        [(row.row_id, row.text) for row in written],
        rows,
        stopped_by={row.row_id: row.stopped_by for row in written},
        prompt_texts=prompt_texts(template),
    )
    return Predictions(tuple(written), check, _quality(written, rows), known, seconds)


def _quality(written: Sequence[Generated], rows: Sequence[Row]) -> Quality | None:
    references = [row.output for row in rows if row.output]
    if len(references) != len(rows):
        return None
    return measure_quality([row.text for row in written], references)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
