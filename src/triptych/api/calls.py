"""What the command line does, as functions. They take what the commands take and give back objects."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.api.given import Printer, config_of, file_of
from triptych.api.objects import Predictions, Run, Scores
from triptych.config.choices import MAX_TOKENS, Draw, Dtype, Order, Quantize, Select
from triptych.progress import Watcher

if TYPE_CHECKING:
    from triptych.config.experiment import ExperimentConfig

__all__ = ["predict", "run", "score", "tune"]


def run(
    config: str | Path | Mapping[str, Any] | ExperimentConfig,
    *,
    out: str | Path | None = None,
    fresh: bool = False,
    watcher: Watcher | None = None,
    **overrides: Any,
) -> Run:
    """Run an experiment; the same call goes on with one that was interrupted.

    Args:
        config: a YAML file, its content as a mapping (paths in it are relative to where Python runs), or a config.
        out: the run's folder; `runs/NAME` if it isn't said.
        fresh: remove what an earlier run left there.
        watcher: told of progress; None prints what is said and how far things are.
        **overrides: settings to change: a section with the keys to change in it, `tune={"epochs": 1}`, or one key
            with `__` between its parts, `tune__epochs=1`.

    Returns:
        The finished run.

    Raises:
        InputError: something in the settings, data, prompts or model can't be used; the message says how to mend it.
        Interrupted: stop was asked during training; everything is saved.
    """
    from triptych.runner.run import run_experiment

    settings = config_of(config, overrides)
    folder = Path(out) if out is not None else Path("runs") / settings.name
    record = run_experiment(settings, folder, fresh=fresh, watcher=watcher or Printer())
    return Run(folder, record)


def score(
    model: str | Path,
    data: Any,
    *,
    prompt: str = "default",
    template: str | None = None,
    shots: int = 0,
    seed: int = 0,
    draw: Draw = "item",
    pool: Any = None,
    select: Select = "random",
    order: Order | None = None,
    column: str | None = None,
    max_similarity: float | None = None,
    embedding: str = "model",
    adapter: str | Path | None = None,
    quantize: Quantize = "nf4",
    dtype: Dtype = "auto",
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
    cache: bool = True,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
) -> Scores:
    """Perplexity of rows under one prompt: NLL of output and EOS, four averages.

    Args:
        model: hub id, folder, `.gguf` file, or `demo`.
        data: rows to score: a file, a list of mappings, or a DataFrame.
        prompt: a named prompt.
        template: a template of your own instead: a file, or text with {instruction}.
        shots: demonstrations in each prompt (k).
        seed: of the demonstrations' draw.
        draw: `item`: anew for each row; `seed`: once for all.
        pool: rows to choose demonstrations from: a file, a list of mappings, or a DataFrame.
        select: how demonstrations are chosen: `random`, `same` (the row's value in `column`), `bm25`, `embedding`,
            `mmr`, `longest`, `shortest` or `similar-length`.
        order: how they are shown: `random`, `nearest-last` or `nearest-first`; None is as they were drawn, and nearest
            last where they are ranked by nearness.
        column: for `same`, a column of the data.
        max_similarity: rows more like the query than this are never shown (Jaccard similarity of n-grams).
        embedding: for `embedding` and `mmr`: `model`, or a sentence-transformers model by name or path.
        adapter: folder of a LoRA adapter to put on.
        quantize: how the base is quantized.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads; None measures.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: score the first so many rows.
        max_tokens: longest rendering.
        cache: look up scores of the same tokens under the same weights first.
        out: write `scores.json` here too.
        watcher: told of progress; None prints.

    Returns:
        The rows' scores and their averages.

    Raises:
        InputError: something given can't be used; the message says how to mend it.
    """
    from triptych.config.model import ModelConfig
    from triptych.config.read import from_options
    from triptych.config.strategies import DemosConfig
    from triptych.grid.demo_options import Shots
    from triptych.records import Aggregate
    from triptych.runner.score_file import ScoreRequest, score_file

    with tempfile.TemporaryDirectory() as folder:
        request = ScoreRequest(
            model=from_options(
                ModelConfig,
                name=str(model),
                quantize=quantize,
                dtype=dtype,
                device=device,
                threads=threads,
                allow_pickle=allow_pickle,
            ),
            data=file_of(data, Path(folder), "data"),
            prompt=prompt,
            template=template,
            shots=Shots(
                shots,
                pool=None if pool is None else file_of(pool, Path(folder), "pool"),
                select=select,
                seed=seed,
                draw=draw,
                order=order,
                demos=from_options(DemosConfig, column=column, max_similarity=max_similarity, embedding=embedding),
            ),
            adapter=None if adapter is None else Path(adapter),
            limit=limit,
            max_tokens=max_tokens,
            cache=cache,
        )
        path = Path(folder) / "scores.json" if out is None else Path(out)
        score_file(request, path, watcher or Printer())
        scores = json.loads(path.read_text(encoding="utf-8"))
    return Scores(scores["items"], Aggregate(**scores["aggregate"]), scores["provenance"])


def tune(
    model: str | Path,
    data: str | Path,
    test: str | Path,
    *,
    out: str | Path = "runs/tune",
    prompt: str = "default",
    quantize: Quantize = "nf4",
    dtype: Dtype = "auto",
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    dev_rows: int = 0,
    fresh: bool = False,
    watcher: Watcher | None = None,
    **settings: Any,
) -> Run:
    """Train a LoRA adapter on a quantized base; the same call goes on with an interrupted training.

    Args:
        model: hub id, folder, `.gguf` file, or `demo`.
        data: training rows, a file.
        test: rows of the learning curve and of the final score, a file.
        out: the training's folder; the adapter is in `adapter/` in it.
        prompt: a named prompt.
        quantize: how the base is quantized.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads; None measures.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: train on a seeded sample of so many rows.
        dev_rows: rows held out of the training rows, for `select="dev"`.
        fresh: remove what an earlier training left there.
        watcher: told of progress; None prints.
        **settings: the keys of the section `tune`: `r`, `alpha`, `epochs`, `lr`, `batch_size`, …

    Returns:
        The training as a run of one cell: `.curve`, `.adapter`.

    Raises:
        InputError: something given can't be used; the message says how to mend it.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        Interrupted: stop was asked; everything is saved.
    """
    held = {
        "name": str(model),
        "quantize": quantize,
        "dtype": dtype,
        "device": device,
        "threads": threads,
        "allow_pickle": allow_pickle,
    }
    config = {
        "name": "tune",
        "model": held,
        "data": {"train": str(data), "test": str(test), "train_rows": limit, "dev_rows": dev_rows},
        "strategies": {"qlora": {"prompt": prompt}},
        "tune": settings,
    }
    return run(config, out=out, fresh=fresh, watcher=watcher)


def predict(
    model: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    prompt: str = "default",
    template: str | None = None,
    shots: int = 0,
    seed: int = 0,
    draw: Draw = "item",
    pool: Any = None,
    select: Select = "random",
    order: Order | None = None,
    column: str | None = None,
    max_similarity: float | None = None,
    embedding: str = "model",
    adapter: str | Path | None = None,
    max_new_tokens: int = 256,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    beams: int = 1,
    no_repeat_ngram: int = 0,
    stop: Sequence[str] = (),
    quantize: Quantize = "nf4",
    dtype: Dtype = "auto",
    device: str = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
    fresh: bool = False,
    watcher: Watcher | None = None,
) -> Predictions:
    """What the model writes for each row; greedy unless told otherwise.

    Args:
        model: hub id, folder, `.gguf` file, or `demo`.
        data: rows to predict: a file, a list of mappings, or a DataFrame; they may have no outputs.
        out: write `predictions.json` here; the same call with the same `out` goes on where it was stopped.
        prompt: a named prompt.
        template: a template of your own instead: a file, or text with {instruction}.
        shots: demonstrations in each prompt (k).
        seed: of the demonstrations' draw, and of drawn tokens.
        draw: `item`: anew for each row; `seed`: once for all.
        pool: rows to choose demonstrations from.
        select: how demonstrations are chosen: `random`, `same` (the row's value in `column`), `bm25`, `embedding`,
            `mmr`, `longest`, `shortest` or `similar-length`.
        order: how they are shown: `random`, `nearest-last` or `nearest-first`; None is as they were drawn, and nearest
            last where they are ranked by nearness.
        column: for `same`, a column of the data.
        max_similarity: rows more like the query than this are never shown (Jaccard similarity of n-grams).
        embedding: for `embedding` and `mmr`: `model`, or a sentence-transformers model by name or path.
        adapter: folder of a LoRA adapter to put on.
        max_new_tokens: most new tokens of a row.
        temperature: 0 takes the likeliest token; above it, tokens are drawn.
        top_p: draw from the likeliest tokens that make up so much.
        top_k: draw from so many likeliest tokens; 0 for all.
        beams: beam search with so many beams.
        no_repeat_ngram: never write so many tokens in a row that prompt or output has already; 0 for no rule.
        stop: texts that end a row where they begin.
        quantize: how the base is quantized.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        threads: CPU threads; None measures.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: predict the first so many rows.
        max_tokens: longest prompt with its output.
        fresh: replace what is there, whatever made it.
        watcher: told of progress; None prints.

    Returns:
        The texts, what their check found and, where the data has outputs, chrF++ and BLEU.

    Raises:
        InputError: something given can't be used; the message says how to mend it.
    """
    from triptych.config.model import ModelConfig
    from triptych.config.read import from_options
    from triptych.config.strategies import DemosConfig
    from triptych.generate.settings import GenerationSettings
    from triptych.grid.demo_options import Shots
    from triptych.runner.predict import PredictRequest, predict_file

    with tempfile.TemporaryDirectory() as folder:
        request = PredictRequest(
            model=from_options(
                ModelConfig,
                name=str(model),
                quantize=quantize,
                dtype=dtype,
                device=device,
                threads=threads,
                allow_pickle=allow_pickle,
            ),
            data=file_of(data, Path(folder), "data"),
            prompt=prompt,
            template=template,
            shots=Shots(
                shots,
                pool=None if pool is None else file_of(pool, Path(folder), "pool"),
                select=select,
                seed=seed,
                draw=draw,
                order=order,
                demos=from_options(DemosConfig, column=column, max_similarity=max_similarity, embedding=embedding),
            ),
            adapter=None if adapter is None else Path(adapter),
            limit=limit,
            max_tokens=max_tokens,
            generation=from_options(
                GenerationSettings,
                max_new_tokens=max_new_tokens,
                temperature=temperature,
                top_p=top_p,
                top_k=top_k,
                beams=beams,
                no_repeat_ngram=no_repeat_ngram,
                seed=seed if temperature else 0,
                stop_patterns=tuple(re.escape(text) for text in stop),
            ),
            fresh=fresh,
        )
        path = Path(folder) / "predictions.json" if out is None else Path(out)
        return Predictions(predict_file(request, path, watcher or Printer()))
