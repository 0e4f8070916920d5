"""What a model writes for each row of one cell: in memory, or as a file that can be resumed (`triptych predict`).

predictions.json            [{"id", "output"}] in the data's order; written whole, at the end
predictions.jsonl.part      rows as they are finished; the same command resumes from it
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

from triptych.generate.check import Check
from triptych.generate.engine import generate_rows
from triptych.generate.plan import choose_limits
from triptych.generate.quality import Quality, measure_quality
from triptych.generate.record import (
    finished_rows,
    is_predictions,
    is_record,
    record_of,
    special_texts,
    special_texts_of,
    write_predictions,
)
from triptych.generate.resume_file import is_part, part_of, peek, refuse_changed
from triptych.generate.settings import Generated, GenerationSettings
from triptych.generate.stops import patterns_of
from triptych.models import LoadedModel, identify
from triptych.models.device import choose_device, choose_dtype
from triptych.progress import Reporter
from triptych.prompts import RenderedPrompt
from triptych.records.disk import is_there, sha256_of_file
from triptych.records.manifest import remove
from triptych.records.outputs import check_output
from triptych.records.process_lock import ProcessLock
from triptych.records.run_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from triptych.runner.generation import check_texts, decode
from triptych.runner.one_cell import CellRequest, OneCell


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictRequest(CellRequest):
    """What to write."""

    generation: GenerationSettings = field(default_factory=GenerationSettings)
    stop_texts: bool = True
    """Rows end where the template's own texts begin again, too (`generate.stops`)."""
    batch_rows: int | None = None
    """Rows decoded at a time; None: as memory allows."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What was written, and how it looks."""

    rows: tuple[Generated, ...]
    check: Check
    quality: Quality | None
    """Where all rows have outputs to compare with."""
    rows_known: int = 0
    """Rows that an earlier run of the same command had written."""
    seconds: float = 0.0
    """Writing the others took; models not loaded in it."""

    def record(self) -> dict[str, Any]:
        """For the file's record, beside what ended each row."""
        return {
            "check": [{"kind": f.kind, "hard": f.hard, "rows": list(f.row_ids)} for f in self.check.findings],
            "quality": self.quality.record() if self.quality else None,
            "seconds": self.seconds,
            "rows_known": self.rows_known,
        }


def predict_cell(request: PredictRequest, reporter: Reporter) -> Predictions:
    """Continue every row's prompt; nothing is written.

    Raises:
        InputError: anything in the request that can't be used.
    """
    request.check()
    cell = OneCell(request, reporter, need_output=False)
    settings = _settings(request, cell)
    loaded = cell.load()
    prompts = _prompts(cell, settings)
    began = time.monotonic()
    written = generate_rows(loaded, prompts, settings, reporter, limits=choose_limits(loaded, request.batch_rows))
    seconds = time.monotonic() - began
    profile = loaded.profile
    judged = _judge(written, cell, special_texts(profile.tokenizer), chat_model=profile.has_chat_template)
    return replace(judged, seconds=seconds)


def predict_file(request: PredictRequest, out: Path, reporter: Reporter, *, fresh: bool = False) -> Predictions:
    """Continue every row's prompt and write the predictions.

    The same request resumes where an earlier process was stopped, and ends with the file it would have ended with.
    `fresh` replaces what is there, also the predictions of another run.

    Raises:
        RunBusyError: another process is writing `out`.
        ForeignFileError: `out`, or a file beside it that belongs to it, is read or is not Triptych's.
        RunChangedError: `out`, or what was begun for it, belongs to another run; the differences are named.
        InputError: anything else in the request that can't be used; nothing is written then.
    """
    request.check()
    reads = request.reads()
    for path, what, ours in (
        (out, "the predictions", is_predictions),
        (record_of(out), "their record", is_record),
        (part_of(out), "rows so far", is_part),
    ):
        check_output(path, reads=reads, ours=ours, what=what, force=fresh, by="--fresh", example="predictions.json")
    lock = ProcessLock(out.parent, of=out.name)
    try:
        if is_there(out.parent, Path.is_dir):  # else it is made, and locked, when the request was checked
            lock.acquire()
        return _predict(request, out, reporter, lock, fresh)
    finally:
        lock.release()


def _predict(request: PredictRequest, out: Path, reporter: Reporter, lock: ProcessLock, fresh: bool) -> Predictions:
    cell = OneCell(request, reporter, need_output=False)
    settings = _settings(request, cell)
    facts = _facts(request, cell, settings)
    chat_model = "chat_template_sha256" in facts["model"]
    part_path = part_of(out)
    begun = None if fresh else peek(part_path)
    if begun:
        refuse_changed(part_path, {key: begun["facts"].get(key) for key in facts}, facts)
    elif is_there(out) and not fresh:
        written, special = finished_rows(out, facts), special_texts_of(out)
        reporter.info("these predictions are there already; --fresh writes them again")
        return replace(_judge(written, cell, special, chat_model=chat_model), rows_known=len(written))
    spec = request.model
    if begun and spec.threads is None:  # those of the process that began: 16-bit sums depend on them
        spec = spec.model_copy(update={"threads": begun["chosen"]["threads"] or None})
    loaded = cell.load(spec, facts["model"])
    prompts = _prompts(cell, settings)
    facts["prompts_sha256"] = _sha256([[p.row_id, p.ids, p.stop_ids] for p in prompts])
    lock.acquire()
    began, what = time.monotonic(), "these predictions"
    more: dict[str, Any] = {"batch_rows": request.batch_rows, "fresh": fresh}
    written, part = decode(loaded, prompts, settings, part_path, facts, reporter, what=what, **more)
    seconds, special = time.monotonic() - began, special_texts(loaded.profile.tokenizer)
    judged = _judge(written, cell, special, chat_model=chat_model)
    result = replace(judged, rows_known=len(part.known), seconds=seconds)
    read = {"data": request.data, "pool": request.shots.pool}
    sources = {role: path if isinstance(path, str) else None for role, path in read.items()}
    made_from = {**cell.made_from(), **sources, "special_texts": special}
    write_predictions(
        out, written, {"facts": facts, "chosen": part.runtime_choices, **result.record(), "provenance": made_from}
    )
    remove(part_path)
    return result


def _settings(request: PredictRequest, cell: OneCell) -> GenerationSettings:
    """How to write, with the stop patterns that the template brings."""
    own = patterns_of(cell.template, shots=request.shots.k) if request.stop_texts else ()
    return request.generation.model_copy(update={"stop_patterns": (*request.generation.stop_patterns, *own)})


def _prompts(cell: OneCell, settings: GenerationSettings) -> list[RenderedPrompt]:
    """The prompts, which also end at every token that the model's own configuration ends with."""
    prompts, ends = cell.prompts(settings.max_new_tokens), _ends_of(cell.loaded)
    cell.warn_of_dropped(sum(prompt.n_demos_dropped for prompt in prompts))
    return [replace(prompt, stop_ids=tuple(dict.fromkeys([*prompt.stop_ids, *ends]))) for prompt in prompts]


def _ends_of(loaded: LoadedModel) -> list[int]:
    """Every token the model's own configuration says it ends with: end of turn, where it was tuned for turns."""
    ends = [getattr(config, "eos_token_id", None) for config in (loaded.model.config, loaded.model.generation_config)]
    return [token for end in ends if end is not None for token in (end if isinstance(end, list) else [end])]


def _facts(request: PredictRequest, cell: OneCell, settings: GenerationSettings) -> dict[str, Any]:
    """What decides the texts and can be read before the weights are loaded; no names, only contents."""
    model, shots = request.model, request.shots
    device = choose_device(model.device)
    shown = {**shots.record(), "pool_sha256": _sha256([asdict(row) for row in cell.pool])} if shots.k else {}
    return {
        "model": {
            **identify(model),
            "quantize": model.quantize,
            "double_quant": model.double_quant if model.quantize == "nf4" else None,
            "dtype": choose_dtype(model.dtype, device)[0],
            "device": device.type,
        },
        "adapter_sha256": _adapter_sha256(request.adapter) if request.adapter else None,
        "prompt_sha256": cell.template.sha256,
        "demonstrations": {"shots": shots.k, **shown},
        "data": {"rows": len(cell.rows), "sha256": _sha256([[row.id, row.instruction] for row in cell.rows])},
        "max_tokens": request.max_tokens,
        "generation": settings.record(),
    }


def _adapter_sha256(folder: Path) -> str:
    """Hash of an adapter's weights and settings."""
    return _sha256([sha256_of_file(folder / name) for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG)])


def _judge(written: Sequence[Generated], cell: OneCell, special: Sequence[str], *, chat_model: bool) -> Predictions:
    """The rows with their check and, where all rows have outputs, their scores."""
    check = check_texts(written, cell.rows, cell.template, special, chat_model=chat_model)
    references = [row.output for row in cell.rows if row.output]
    judged = len(references) == len(cell.rows)
    quality = measure_quality([row.text for row in written], references) if judged else None
    return Predictions(tuple(written), check, quality)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()
