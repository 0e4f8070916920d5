"""A run that never happened, with numbers shaped like the study's: 5.4 zero-shot, 4.7 few-shot, 3.4 QLoRA."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from triptych.data import Row
from triptych.generate.quality import measure_quality
from triptych.records import Aggregate, CellRecord, CurvePoint, ItemScore, RunRecord, TuneSummary
from triptych.records.predictions import predictions_path
from triptych.records.schema import Candidate, GenerationRecord, MetricValue, SearchRecord
from triptych.records.store import write_items, write_json, write_text
from triptych.records.texts import write_rows, write_tokens
from triptych.report import Study, comparisons, interval, summarise_few_shot, text_comparisons
from triptych.report.proportions import wilson

Items = dict[str, list[ItemScore]]

PREAMBLE = "你是人工智慧助理，以下是用戶和人工智能助理之間的對話。"
ADAPTER = "ab" * 32


def aggregate(items: Sequence[ItemScore]) -> Aggregate:
    per_token = [i.nll_nats / i.n_tokens for i in items]
    nll, tokens = sum(i.nll_nats for i in items), sum(i.n_tokens for i in items)
    return Aggregate(
        ppl_mean=math.fsum(map(math.exp, per_token)) / len(items),
        ppl_corpus=math.exp(nll / tokens),
        ppl_geometric=math.exp(math.fsum(per_token) / len(items)),
        bits_per_char=nll / math.log(2) / sum(i.n_chars for i in items),
        n_rows=len(items),
        n_tokens=tokens,
        metrics={name: metric_value(name, items) for name in dict.fromkeys(key for i in items for key in i.metrics)},
    )


def metric_value(name: str, items: Sequence[ItemScore]) -> MetricValue:
    values = [item.metrics[name] for item in items if name in item.metrics]
    share = set(values) <= {0.0, 1.0}
    low, high = wilson(sum(values), len(values)) if share else interval(values, draws=500)
    return MetricValue(value=math.fsum(values) / len(values), ci_low=low, ci_high=high, n=len(values))


def make_cell(name: str, items: Sequence[ItemScore], **fields: object) -> CellRecord:
    strategy = name.partition("/")[0]
    known: dict[str, object] = {"prompt": name.split("/")[1], "prompt_sha256": "0" * 64, "seconds": 12.5}
    return CellRecord.model_validate(
        {"cell": name, "strategy": strategy, "aggregate": aggregate(items), **known, **fields}
    )


def rows_from_ppl(ppl: Sequence[float], n_tokens: int = 10) -> list[ItemScore]:
    """Rows r0, r1, ... with these perplexities."""
    return [
        ItemScore(id=f"r{i}", nll_nats=math.log(p) * n_tokens, n_tokens=n_tokens, n_chars=n_tokens // 2)
        for i, p in enumerate(ppl)
    ]


class Maker:
    """Rows that are easy or hard for every cell alike, plus a little noise of each cell's own."""

    def __init__(self, n_rows: int, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.n_rows = n_rows
        self.hardness = self.random.normal(0, 0.42, n_rows)
        self.tokens = self.random.integers(8, 110, n_rows)

    def items(self, level: float, n_demos: int = 0) -> list[ItemScore]:
        noise = self.random.normal(0, 0.07, self.n_rows)
        per_token = np.log(level) - 0.09 + self.hardness + noise
        return [
            ItemScore(
                id=f"row-{i:03}",
                nll_nats=float(per_token[i] * n),
                n_tokens=int(n),
                n_chars=max(1, int(n) // 2),
                n_prompt_tokens=150 + 100 * n_demos,
                n_demos=n_demos,
                demo_ids=tuple(f"train-{j}" for j in range(n_demos)),
            )
            for i, n in enumerate(self.tokens)
        ]


def make_curve(maker: Maker, final: list[ItemScore], *, dev: bool, band: bool = True) -> tuple[CurvePoint, ...]:
    """`band=False`: as older versions wrote it, without intervals."""
    points = []
    for index, level in enumerate((5.46, 3.9, 3.6, 3.46, 3.39)):
        for split in ("test", "dev") if dev else ("test",):
            items = final if (index, split) == (4, "test") else maker.items(level + 0.1 * (split == "dev"))
            low, high = interval([item.ppl for item in items], draws=500) if band else (None, None)
            points.append(
                CurvePoint(
                    step=index * 469,
                    epoch=index * 0.75,
                    rows_seen=index * 7504,
                    split=split,  # type: ignore[arg-type]
                    aggregate=aggregate(items),
                    train_loss=None if index == 0 else 1.9 / (1 + index) ** 0.3,
                    lr=3e-5,
                    seconds=index * 1210.5,
                    ci_low=low,
                    ci_high=high,
                )
            )
    return tuple(points)


def make_tune(**changes: object) -> TuneSummary:
    facts: dict[str, object] = {
        "prompt": "default",
        "steps": 1876,
        "epochs": 3.0,
        "rows": 10_000,
        "rows_dropped": 0,
        "scored_tokens": 1_530_000,
        "tokens": 6_180_000,
        "trainable_parameters": 159_907_840,
        "target_modules": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        "selected_step": 1876,
        "selected_by": "last",
        "adapter_sha256": ADAPTER,
        "seconds": 4842.0,
        "settings": {
            **{"lora_r": 64, "lora_alpha": 16, "lora_dropout": 0.1, "epochs": 3, "lr": 3e-5, "batch_size": 4},
            **{"gradient_accumulation": 4, "quantize": {"kind": "nf4", "double": True}},
        },
    }
    return TuneSummary.model_validate({**facts, **changes})


def make_prompt(plea: str, *, source: str) -> dict[str, object]:
    return {
        "preamble": PREAMBLE + plea,
        "zero_shot": "{preamble}USER: {instruction} ASSISTANT:",
        "few_shot": {
            "head": "{preamble}我會給你{k}個例子。",
            "demo": "第{i}個例子，USER: {instruction} ASSISTANT: {output}",
            "tail": "。接下來要請你開始你的任務：USER: {instruction}, ASSISTANT:",
        },
        **{"language": "zh-Hant", "source": source, "sha256": "1" * 64},
    }


def make_run(
    n_rows: int = 60, *, ks: Sequence[int] = (1, 3, 10), seeds: Sequence[int] = (0, 1, 2), dev: bool = False
) -> tuple[RunRecord, dict[str, list[ItemScore]]]:
    maker = Maker(n_rows)
    items: dict[str, list[ItemScore]] = {}
    cells: list[CellRecord] = []

    def add(name: str, level: float, **fields: object) -> None:
        items[name] = maker.items(level, int(str(fields.get("k", 0))))
        cells.append(make_cell(name, items[name], **fields))

    add("zero_shot/default", 5.46)
    add("zero_shot/emotional", 5.44)
    for index, k in enumerate(ks):
        for seed in seeds:
            level = 4.96 - 0.25 * index / max(1, len(ks) - 1) + 0.03 * seed
            add(f"few_shot/default/k={k}/draw=item/seed={seed}", level, k=k, seed=seed, draw="item")
    add("qlora/default", 3.39, adapter_sha256=ADAPTER)
    record = RunRecord(
        name="Classical Chinese translation, Taiwan-LLM-7B",
        cells=tuple(cells),
        few_shot=summarise_few_shot(cells),
        curve=make_curve(maker, items["qlora/default"], dev=dev),
        comparisons=comparisons(cells, items),
        tune=make_tune(),
        prompts={
            "default": make_prompt("", source="the study"),
            "emotional": make_prompt("這對我來說很重要。", source="EmotionPrompt, arXiv 2307.11760"),
        },
        warnings=("Two test rows also occur in the training file (ids row-004, row-017).",),
        provenance={
            "command": "triptych run study.yaml",
            "model": {"id": "yentinglin/Taiwan-LLM-7B-v2.0-chat", "sha256": "3" * 64, "quantize": "nf4"},
            "data": {"train_sha256": "4" * 64, "test_sha256": "5" * 64},
            "versions": {"triptych": "0.1.0", "torch": "2.13.0"},
            "machine": {"gpu": "RTX 3070 8 GB", "os": "Linux"},
        },
    )
    return record, items


def make_grid(n_rows: int = 60, *, train_seeds: Sequence[int] = (0, 1, 2)) -> tuple[RunRecord, Items]:
    """A run beyond the study's: chosen demonstrations, several trainings, compositions, a search."""
    maker = Maker(n_rows, seed=11)
    items: Items = {}
    cells: list[CellRecord] = []

    def add(name: str, level: float, **fields: object) -> None:
        items[name] = maker.items(level, int(str(fields.get("k", 0))))
        cells.append(make_cell(name, items[name], **fields))

    add("zero_shot/default", 5.46)
    for k in (1, 4):
        for seed in (0, 1, 2):
            add(
                f"few_shot/default/k={k}/draw=item/seed={seed}",
                4.9 - 0.04 * k + 0.03 * seed,
                **drawn(k, seed, "random"),
            )
            add(
                f"few_shot/default/k={k}/select=same/draw=item/seed={seed}", 4.7 - 0.03 * seed, **drawn(k, seed, "same")
            )
        for order in ("nearest-last", "nearest-first"):
            chosen = {"k": k, "select": "bm25", "order": order, "demo_similarity_mean": 0.1 + 0.05 * k}
            add(f"few_shot/default/k={k}/select=bm25/order={order}", 4.2, **chosen)
    for seed in train_seeds:
        for trained_k in (0, 2):
            where = f"/trained_k={trained_k}" * bool(trained_k) + f"/train_seed={seed}" * (seed != train_seeds[0])
            known = {
                **{"training": f"default{'/k=2' * bool(trained_k)}/train_seed={seed}", "trained_prompt": "default"},
                **{"trained_k": trained_k, "train_seed": seed, "adapter_sha256": f"{seed}{trained_k}" * 32},
            }
            add(f"qlora/default{where}", 3.4 + 0.05 * seed - 0.1 * bool(trained_k), **known)
            add(f"qlora/emotional/trained=default{where}", 3.5 + 0.05 * seed, **known)
            for draw in (0, 1):
                add(
                    f"qlora/default/k=2/draw=item/seed={draw}{where}",
                    3.3 + 0.1 * draw,
                    **known,
                    **drawn(2, draw, "random"),
                )
    add("few_shot/default/k=8/select=bm25/order=nearest-last/search", 4.1, k=8, select="bm25", searched=12)
    trainings = tuple(
        make_tune(name=f"default{'/k=2' * bool(k)}/train_seed={seed}", k=k, seed=seed, adapter_sha256=f"{seed}{k}" * 32)
        for k in (0, 2)
        for seed in train_seeds
    )
    plain, _ = make_run(5)
    candidates = tuple(
        Candidate(cell=c, rounds=r, n_rows=16 * r, ppl_mean=4.0 + r) for c, r in (("bm25 8", 2), ("zero", 1))
    )
    record = plain.model_copy(
        update={
            "cells": tuple(cells),
            "few_shot": summarise_few_shot(cells),
            "comparisons": comparisons(cells, items),
            "tune": trainings[0],
            "trainings": trainings,
            "further_curves": {str(t.name): plain.curve for t in trainings[1:]},
            "search": SearchRecord(winner="bm25 8", candidates=candidates, rows_scored=48, n_dev=32, seconds=3.0),
        }
    )
    return record, items


OPTIONS = ("anger", "fear", "joy", "love", "sadness")


def make_classified(
    n_rows: int = 60,
    *,
    metrics: tuple[str, ...] = ("accuracy", "perplexity"),
    skill: Mapping[str, float] = MappingProxyType({"zero_shot": 0.4, "few_shot": 1.4, "qlora": 3.0}),
    level: Mapping[str, float] = MappingProxyType({"zero_shot": 6.0, "few_shot": 3.0, "qlora": 2.0}),
    options: Sequence[str] = OPTIONS,
) -> tuple[RunRecord, Items]:
    """Rows with options; a row in ten has a reference that is none of them.

    Args:
        skill: strategy -> by how many nats the right option is ahead in the mean.
        level: strategy -> perplexity of the reference output.
    """
    random = np.random.default_rng(23)
    tokens = random.integers(2, 5, n_rows)
    correct = [None if i % 10 == 9 else int(random.integers(len(options))) for i in range(n_rows)]
    items: Items = {}
    cells: list[CellRecord] = []

    def add(name: str, **fields: object) -> None:
        strategy = name.partition("/")[0]
        items[name] = [
            _classified(i, int(tokens[i]), correct[i], random, skill[strategy], level[strategy], options, metrics)
            for i in range(n_rows)
        ]
        cells.append(make_cell(name, items[name], options_sha256="6" * 64, **fields))

    add("zero_shot/default")
    add("zero_shot/emotional")
    for k in (1, 4):
        for seed in (0, 1):
            add(f"few_shot/default/k={k}/draw=item/seed={seed}", **drawn(k, seed, "random"))
    add("qlora/default", adapter_sha256=ADAPTER)
    plain, _ = make_run(5)
    record = plain.model_copy(
        update={
            "name": "Emotions of tweets",
            "metrics": metrics,
            "choices": tuple(options),
            "majority": 0.3,
            "cells": tuple(cells),
            "few_shot": summarise_few_shot(cells),
            "comparisons": comparisons(cells, items, metrics),
            "warnings": (),
        }
    )
    return record, items


def _classified(
    place: int,
    n_tokens: int,
    correct: int | None,
    random: np.random.Generator,
    skill: float,
    level: float,
    options: Sequence[str],
    metrics: Sequence[str],
) -> ItemScore:
    nll = random.gamma(4.0, 1.0, len(options)) + 2
    if correct is not None:
        nll[correct] = max(0.05, nll[correct] - skill)
    chosen = int(np.argmin(nll))
    right = float(chosen == correct)
    per_token = math.log(level) + float(random.normal(0, 0.2))
    values = {"accuracy": right, "accuracy_token": right, "accuracy_char": float(place % 3 > 0)}
    values |= {"accuracy_no_eos": right, "accuracy_no_eos_char": right}
    values |= {name: round(0.5 * right + 0.5 * float(random.random()), 6) for name in metrics if name == "f1"}
    values |= {name: float(right and place % 4 > 0) for name in metrics if name == "exact_match"}
    return ItemScore(
        id=f"row-{place:03}",
        nll_nats=max(0.05, per_token) * n_tokens,
        n_tokens=n_tokens,
        n_chars=n_tokens * 2,
        metrics=values,
        chosen=options[chosen],
        option_nll=tuple(float(value) for value in nll),
        correct=correct,
    )


def drawn(k: int, seed: int, select: str) -> dict[str, object]:
    return {"k": k, "seed": seed, "draw": "item", "select": select}


def study_of(cells: Sequence[CellRecord], items: Items | None = None, **fields: object) -> Study:
    """A study of these cells; `fields` of the record, which is otherwise empty."""
    none: dict[str, object] = {"few_shot": (), "curve": (), "comparisons": (), "tune": None, "prompts": {}}
    facts = {"name": "made up", **none, "warnings": (), "provenance": {}, **fields}
    return Study(RunRecord.model_validate({"cells": tuple(cells), **facts}), items or {})


def save_run(folder: Path, record: RunRecord, items: dict[str, list[ItemScore]]) -> Path:
    write_json(folder / "results.json", record)
    write_items(folder / "items.parquet", items)
    return folder


def instruction_of(index: int) -> str:
    return f"翻譯成文言文：\n第{index}句話很短。" if index % 2 else f"第{index}句甚短。\n幫我把這句話翻譯成現代文"


def save_texts(
    folder: Path,
    items: dict[str, list[ItemScore]],
    texts: dict[str, tuple[str, str]] | None = None,
    columns: Callable[[int], dict[str, str]] = lambda place: {},
) -> dict[str, Row]:
    """`rows.parquet` and `tokens.parquet` to fit the numbers; `texts` replaces some rows' texts. Returns the rows.

    `columns`: a row's place -> its further columns.
    """
    first = next(iter(items.values()))
    known = {item.id: (instruction_of(i), f"第{i}句之譯文也") for i, item in enumerate(first)} | (texts or {})
    rows = {id_: Row(id_, *pair, tuple(columns(i).items())) for i, (id_, pair) in enumerate(known.items())}
    demos = sorted({demo for scored in items.values() for item in scored for demo in item.demo_ids})
    shown = {demo: Row(demo, f"{demo} 問 {{k}}", f"{demo} 答 {{instruction}}") for demo in demos}
    write_rows(folder / "rows.parquet", {"test": rows.values(), "demo": shown.values()})
    pieces = {item.id: _pieces(rows[item.id].target(), item.n_tokens) for item in first}
    random = np.random.default_rng(5)
    nll = {cell: [_shared_out(item, random) for item in scored] for cell, scored in items.items()}
    write_tokens(folder / "tokens.parquet", pieces, nll)
    return {**rows, **shown}


def _shared_out(item: ItemScore, random: np.random.Generator) -> list[float]:
    """A row's NLL over its tokens, unevenly as in life: most tokens are easy, a few are not."""
    shares = random.gamma(0.5, size=item.n_tokens)
    found: list[float] = (item.nll_nats * shares / shares.sum()).tolist()
    return found


def _pieces(text: str, n_tokens: int) -> list[tuple[str, int]]:
    """The text a character a token, the last piece taking what is left; then the end token."""
    characters = list(text)[: n_tokens - 1]
    size = n_tokens - 1 - len(characters)
    parts = [(character, 1) for character in characters[:-1]]
    return [*parts, ("".join(text[len(parts) :]), size + 1), ("</s>", 1)]


TEXT_CELLS = ("zero_shot/emotional", "few_shot/default/k=10/draw=item/seed=0", "qlora/default")


def reference_of(place: int) -> str:
    """A sentence of its own for each row, so that texts can be near it or far."""
    known = "春風又綠江南岸明月何時照我還少小離家老大回鄉音無改鬢毛衰"
    return "".join(known[(place * 7 + step * (place % 5 + 1)) % len(known)] for step in range(14 + place % 9))


def write_texts(
    folder: Path,
    record: RunRecord,
    rows: dict[str, Row],
    *,
    cells: Sequence[str] = TEXT_CELLS,
    texts: Callable[[str, Row], str] | None = None,
) -> RunRecord:
    """What models never wrote: each cell's texts in `folder`, and the record with their true scores, saved.

    Later cells keep more of the reference; `texts`: (cell, row) -> text in its place.
    """
    random, made = np.random.default_rng(3), []
    ids = [row for row in rows if row.startswith(("row-", "<b"))]
    for level, cell in enumerate(cells):
        said = {}
        for row in ids:
            reference = rows[row].target()
            kept = [c if random.random() < 0.25 + 0.2 * level else "某" for c in reference]
            said[row] = texts(cell, rows[row]) if texts else "".join(kept) or "無"
        write_written(folder, cell, said)
        made.append(generation(cell, said, {row: rows[row].target() for row in ids}))
    record = record.model_copy(update={"generations": tuple(made), "text_comparisons": text_comparisons(made)})
    write_json(folder / "results.json", record)
    return record


def generation(cell: str, said: dict[str, str], references: dict[str, str]) -> GenerationRecord:
    quality = measure_quality(list(said.values()), list(references.values()))
    return GenerationRecord(
        cell=cell,
        n_rows=len(said),
        n_tokens=sum(map(len, said.values())),
        stopped_by={"eos": len(said) - 2, "length": 2},
        findings={"cut": 2, "loop": 1},
        **{"chrf": quality.chrf, "bleu": quality.bleu},
        **{"chrf_signature": quality.chrf_signature, "bleu_signature": quality.bleu_signature},
        row_chrf=dict(zip(said, quality.row_chrf, strict=True)),
        settings={"max_new_tokens": 256, "temperature": 0.0, "beams": 1, "seed": 0},
        seconds=31.0,
    )


def write_written(folder: Path, cell: str, said: dict[str, str]) -> Path:
    """A cell's texts and their record, as a run leaves them."""
    path = predictions_path(folder, cell)
    content = json.dumps([{"id": row, "output": text} for row, text in said.items()], ensure_ascii=False)
    write_text(path, content)
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    write_json(path.with_suffix(".record.json"), {"out_sha256": sha256, "facts": {"cell": cell}})
    return path
