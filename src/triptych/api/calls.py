"""What the command line does, as functions. They take what the commands take and return objects.

Parameters are called as the options are, and each is written down once, in `given`, as the setting it stands for; so a
call passes on all that it was given (`locals()`), and the commands' options are made from the calls (`cli.options`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from triptych.api.advice import names_parameters
from triptych.api.given import cell_settings, config_of, generation_settings, measured, model_settings
from triptych.api.objects import Predictions, Run, Scores
from triptych.config.choices import MAX_TOKENS, Draw, Dtype, Hold, Order, Quantize, Select
from triptych.console import ConsoleReporter
from triptych.progress import Reporter

if TYPE_CHECKING:
    from triptych.config.experiment import ExperimentConfig


@names_parameters
def run(
    config: str | Path | Mapping[str, Any] | ExperimentConfig,
    *,
    out: str | Path | None = None,
    fresh: bool = False,
    on: str | None = None,
    within: str | None = None,
    reporter: Reporter | None = None,
    **overrides: Any,
) -> Run:
    """Run an experiment; the same call continues one that was interrupted.

    Args:
        config: a YAML file, its content as a mapping (paths in it are relative to where Python runs), or a config.
        out: the run's folder; `runs/NAME` if not given.
        fresh: remove what an earlier run left there.
        on: where cells and trainings are computed: `auto` (on a CPU a process of one thread for each core, as far as
            memory allows; a process for each GPU), or `local:N`, N processes of this machine.
        within: how long it may take, such as `10m`: as many test rows (at least 16), training rows and points of the
            curve as fit are computed, a seeded sample; more time gives a superset.
        reporter: gets progress and messages; None prints them.
        **overrides: settings to change: a section with the keys to change in it, `tune={"epochs": 1}`, or one key
            with `__` between its parts, `tune__epochs=1`.

    Returns:
        The finished run.

    Raises:
        InputError: something in the settings, data, prompts or model can't be used; the message says how to correct it.
        Interrupted: stop was asked during training; everything is saved.
    """
    began = time.time()  # before the imports, which take seconds
    from triptych.runner.run import run_experiment

    reporter = reporter or ConsoleReporter()
    settings = config_of(config, overrides if within is None else {**overrides, "within": within})
    folder = Path(out) if out is not None else Path("runs") / settings.name
    if settings.within:
        from triptych.plan.within import fit_within

        settings = fit_within(settings, folder, reporter, began=began, on=on, fresh=fresh)
    record = run_experiment(settings, folder, fresh=fresh, reporter=reporter, on=on)
    return Run(folder, record)


@names_parameters
def score(
    model: str | Path,
    data: Any,
    *,
    prompt: str | None = None,
    template: str | None = None,
    metric: Sequence[str] = (),
    choices: Any = None,
    shots: int = 0,
    seed: int = 0,
    draw: Draw = "item",
    pool: Any = None,
    select: Select = "random",
    order: Order | None = None,
    column: str | None = None,
    max_similarity: float | None = None,
    mmr_lambda: float = 0.5,
    embedding: str = "model",
    adapter: str | Path | None = None,
    revision: str | None = None,
    quantize: Quantize = "nf4",
    double_quant: bool = True,
    dtype: Dtype = "auto",
    device: str = "auto",
    hold: Hold = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
    cache: bool = True,
    out: str | Path | None = None,
    force: bool = False,
    reporter: Reporter | None = None,
) -> Scores:
    """Perplexity of rows under one prompt: NLL of output and EOS, four averages.

    Args:
        model: hub id, folder, `.gguf` file, `demo` or `demo-chat`.
        data: rows to score: a file, a list of mappings, or a DataFrame.
        prompt: a named prompt; if not given, the adapter's own, one for the model's chat template, or `default`.
        template: a template of your own instead: a file, or text with {instruction}.
        metric: what to measure beside perplexity: `accuracy` (by option likelihood); `exact_match`, `f1`, `rouge_l`,
            `chrf`, `bleu`, `number`, `json` or MODULE:FUNCTION (of texts, which are written then); give as many as
            you like.
        choices: options of `accuracy`: `a,b,c`, a file with a line each or a JSON list, a column of the data, or
            `auto` for the distinct outputs of the pool; with options, accuracy is measured without `metric`.
        shots: demonstrations in each prompt (k).
        seed: of the demonstrations' draw.
        draw: `item`: anew for each row; `seed`: once for all.
        pool: rows to choose demonstrations from: a file, a list of mappings, or a DataFrame.
        select: how demonstrations are chosen: `random`, `same` (the row's value in `column`), `bm25`, `embedding`,
            `mmr`, `longest`, `shortest` or `similar-length`.
        order: how they are shown: `random`, `nearest-last` or `nearest-first`; if not given, as they were
            drawn, and nearest last where they are ranked by nearness.
        column: for `same`, a column of the data.
        max_similarity: rows more like the query than this are never shown (Jaccard similarity of n-grams).
        mmr_lambda: for `mmr`: 1 is similarity to the query alone, 0 diversity alone.
        embedding: for `embedding` and `mmr`: `model`, or a sentence-transformers model by name or path.
        adapter: folder of a LoRA adapter to put on.
        revision: commit or tag of a hub id.
        quantize: how the base is quantized.
        double_quant: quantize the constants of NF4 too.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        hold: how NF4 weights are stored: `dequantized` once (same values, faster), `packed` (less memory) or `auto`.
        threads: CPU threads; measured if not given.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: score only this many rows, the first.
        max_tokens: longest rendering.
        cache: look up scores of the same tokens under the same weights first.
        out: file to write the scores to.
        force: replace a file that is there and holds no scores.
        reporter: gets progress and messages; None prints them.

    Returns:
        The rows' scores and their averages.

    Raises:
        InputError: something given can't be used; the message says how to correct it.
    """
    given = dict(locals())
    from triptych.records.outputs import check_output, is_scores
    from triptych.records.store import write_json
    from triptych.runner.one_cell import CellRequest
    from triptych.runner.scoring import score_request

    request = CellRequest(**cell_settings(given), **measured(given))
    request.check()
    if out is not None:
        check_output(Path(out), reads=request.reads(), ours=is_scores, what="the scores", force=force)
    scores = score_request(request, reporter or ConsoleReporter(), cache=cache)
    if out is not None:
        write_json(Path(out), scores.record())
    return Scores(scores.items, scores.aggregate, scores.provenance, scores.failed)


@names_parameters
def tune(
    model: str | Path,
    data: str | Path,
    test: str | Path,
    *,
    out: str | Path = "runs/tune",
    prompt: str | None = None,
    revision: str | None = None,
    quantize: Quantize = "nf4",
    double_quant: bool = True,
    dtype: Dtype = "auto",
    device: str = "auto",
    hold: Hold = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    dev_rows: int = 0,
    fresh: bool = False,
    reporter: Reporter | None = None,
    **settings: Any,
) -> Run:
    """Train a LoRA adapter on a quantized base; the same call continues an interrupted training.

    Args:
        model: hub id, folder, `.gguf` file, `demo` or `demo-chat`.
        data: training rows, a file.
        test: rows of the learning curve and of the final score, a file.
        out: the training's folder; the adapter is in `adapter/` in it.
        prompt: a named prompt; if not given, one for the model's chat template and the language of the rows.
        revision: commit or tag of a hub id.
        quantize: how the base is quantized.
        double_quant: quantize the constants of NF4 too.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        hold: how NF4 weights are stored: `dequantized` once (same values, faster), `packed` (less memory) or `auto`.
        threads: CPU threads; measured if not given.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: train on a seeded sample of this many rows.
        dev_rows: rows held out of the training rows, for `select="dev"`.
        fresh: remove what an earlier training left there.
        reporter: gets progress and messages; None prints them.
        **settings: the keys of the section `tune`: `r`, `alpha`, `epochs`, `lr`, `batch_size`, …

    Returns:
        The training as a run of one cell: `.curve`, `.adapter`.

    Raises:
        InputError: something given can't be used; the message says how to correct it.
        DivergedError: loss or gradient is not finite; the last checkpoint stays.
        Interrupted: stop was asked; everything is saved.
    """
    given = dict(locals())
    config = {
        "name": "tune",
        "model": model_settings(given),
        "data": {"train": str(data), "test": str(test), "train_rows": limit, "dev_rows": dev_rows},
        "strategies": {"qlora": {} if prompt is None else {"prompt": prompt}},
        "tune": settings,
    }
    return run(config_of(config, {}), out=out, fresh=fresh, on="local:1", reporter=reporter)


@names_parameters
def predict(
    model: str | Path,
    data: Any,
    *,
    out: str | Path | None = None,
    prompt: str | None = None,
    template: str | None = None,
    shots: int = 0,
    seed: int = 0,
    draw: Draw = "item",
    pool: Any = None,
    select: Select = "random",
    order: Order | None = None,
    column: str | None = None,
    max_similarity: float | None = None,
    mmr_lambda: float = 0.5,
    embedding: str = "model",
    adapter: str | Path | None = None,
    max_new_tokens: int = 256,
    max_new_ratio: float | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    beams: int = 1,
    no_repeat_ngram: int = 0,
    stop: Sequence[str] = (),
    stop_texts: bool = True,
    revision: str | None = None,
    quantize: Quantize = "nf4",
    double_quant: bool = True,
    dtype: Dtype = "auto",
    device: str = "auto",
    hold: Hold = "auto",
    threads: int | None = None,
    allow_pickle: bool = False,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
    batch_rows: int | None = None,
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> Predictions:
    """What the model writes for each row; greedy by default.

    Args:
        model: hub id, folder, `.gguf` file, `demo` or `demo-chat`.
        data: rows to predict: a file, a list of mappings, or a DataFrame; they may have no outputs.
        out: file to write the predictions to; the same call with the same file continues where it was stopped.
        prompt: a named prompt; if not given, the adapter's own, one for the model's chat template, or `default`.
        template: a template of your own instead: a file, or text with {instruction}.
        shots: demonstrations in each prompt (k).
        seed: of the demonstrations' draw, and of drawn tokens.
        draw: `item`: anew for each row; `seed`: once for all.
        pool: rows to choose demonstrations from.
        select: how demonstrations are chosen: `random`, `same` (the row's value in `column`), `bm25`, `embedding`,
            `mmr`, `longest`, `shortest` or `similar-length`.
        order: how they are shown: `random`, `nearest-last` or `nearest-first`; if not given, as they were
            drawn, and nearest last where they are ranked by nearness.
        column: for `same`, a column of the data.
        max_similarity: rows more like the query than this are never shown (Jaccard similarity of n-grams).
        mmr_lambda: for `mmr`: 1 is similarity to the query alone, 0 diversity alone.
        embedding: for `embedding` and `mmr`: `model`, or a sentence-transformers model by name or path.
        adapter: folder of a LoRA adapter to put on.
        max_new_tokens: most new tokens of a row.
        max_new_ratio: most new tokens of a row per token of its prompt; no rule if not given.
        temperature: 0 takes the likeliest token; above it, tokens are drawn.
        top_p: draw from the likeliest tokens that have this much probability together.
        top_k: draw from this many likeliest tokens; 0 for all.
        beams: beams of a beam search; 1 for none.
        no_repeat_ngram: never write this many tokens in a row that prompt or output has already; 0 for no rule.
        stop: text that ends a row where it begins; several may be given.
        stop_texts: end a row where the prompt's own fixed texts begin again, too.
        revision: commit or tag of a hub id.
        quantize: how the base is quantized.
        double_quant: quantize the constants of NF4 too.
        dtype: compute dtype.
        device: `auto`, `cpu` or `cuda`.
        hold: how NF4 weights are stored: `dequantized` once (same values, faster), `packed` (less memory) or `auto`.
        threads: CPU threads; measured if not given.
        allow_pickle: read pickled weights, which can run code when they are read.
        limit: predict only this many rows, the first.
        max_tokens: longest prompt with its output.
        batch_rows: rows written at a time; as many as memory allows if not given.
        fresh: replace what is there, also what another command wrote.
        reporter: gets progress and messages; None prints them.

    Returns:
        The texts, what their check found and, where the data has outputs, chrF++ and BLEU.

    Raises:
        InputError: something given can't be used; the message says how to correct it.
    """
    given = dict(locals())
    from triptych.runner.predict import PredictRequest, predict_cell, predict_file

    request = PredictRequest(
        **cell_settings(given),
        generation=generation_settings(given),
        stop_texts=stop_texts,
        batch_rows=batch_rows,
    )
    reporter = reporter or ConsoleReporter()
    if out is None:
        return Predictions(predict_cell(request, reporter))
    return Predictions(predict_file(request, Path(out), reporter, fresh=fresh))
