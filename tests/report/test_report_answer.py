from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from made_up_run import make_cell, make_run, rows_from_ppl, study_of

from triptych.records import CellRecord, ItemScore
from triptych.report import answer, comparisons, dominated, row_warnings, summarise_few_shot

RANDOM = np.random.default_rng(4)
HARDNESS = RANDOM.normal(0, 0.4, 80)


def rows(level: float, noise: float = 0.02) -> list[ItemScore]:
    return rows_from_ppl((level * np.exp(HARDNESS + RANDOM.normal(0, noise, 80))).tolist())


def ask(levels: dict[str, float], noise: float = 0.02) -> list[str]:
    items = {name: rows(level, noise) for name, level in levels.items()}
    cells = [cell(name, items[name]) for name in levels]
    return answer(study_of(cells, comparisons=comparisons(cells, items), few_shot=summarise_few_shot(cells)))


def cell(name: str, scored: Sequence[ItemScore]) -> CellRecord:
    if name.startswith("few_shot"):
        k = int(name.split("k=")[1].split("/", maxsplit=1)[0])
        return make_cell(name, scored, k=k, draw="item", seed=int(name[-1]))
    return make_cell(name, scored, **({"adapter_sha256": "a" * 64} if name.startswith("qlora") else {}))


FEW = "few_shot/default/k=10/draw=item/seed=0"


def test_the_studys_comparisons_and_labels() -> None:
    record, _ = make_run()
    few = "few_shot/default/k=10/draw=item"
    assert [(c.a, c.b) for c in record.comparisons] == [
        ("qlora/default", few),
        ("qlora/default", "zero_shot/default"),
        (few, "zero_shot/default"),
        ("zero_shot/emotional", "zero_shot/default"),
    ]
    assert all(c.p_holm >= c.p_value for c in record.comparisons)


def test_the_tuned_model_wins() -> None:
    sentences = ask({"zero_shot/default": 5.4, FEW: 4.7, "qlora/default": 3.4})
    assert sentences[0].startswith("Use QLoRA: its mean perplexity, 3.")
    assert "Worse beyond chance: the few-shot setting (k=10, draw=item, one seed) with" in sentences[0]
    assert sentences[1].startswith("QLoRA lowers mean perplexity by 1.")
    assert "p < 0.001 after Holm correction, better on 80 of 80 rows." in sentences[1]
    assert "QLoRA < few-shot < zero-shot" in sentences[-1]


def test_the_tuned_model_loses() -> None:
    sentences = ask({"zero_shot/default": 3.4, FEW: 4.7, "qlora/default": 5.4})
    assert sentences[0].startswith("Use zero-shot (default): its mean perplexity, 3.")
    assert sentences[1].startswith("QLoRA raises mean perplexity by 0.")
    assert "worse on 80 of 80 rows." in sentences[1]
    assert "lowers" not in " ".join(sentences)


def test_what_cannot_be_told_apart_is_not_claimed() -> None:
    sentences = ask({"zero_shot/default": 4.0, "qlora/default": 3.99}, noise=0.5)
    assert sentences[0].startswith("Zero-shot (default) is enough on this evidence") or "Use zero-shot" in sentences[0]
    assert "can't be told from zero on 80 rows" in sentences[1]
    assert "Not run: few-shot." in sentences[0]


def test_the_cheapest_unbeaten_strategy_is_named_and_the_lowest_too() -> None:
    items = {
        "zero_shot/default": rows_from_ppl([4.0, 5.0, 6.0] * 10),
        "qlora/default": rows_from_ppl([4.0, 5.0, 6.0] * 10),
    }
    items["qlora/default"][0] = rows_from_ppl([3.9])[0]
    cells = [cell(name, found) for name, found in items.items()]
    first = answer(study_of(cells, comparisons=comparisons(cells, items)))[0]
    assert first.startswith("Zero-shot (default) is enough on this evidence: it costs less")
    assert "can't be told from the lowest, QLoRA's 5.00, on 30 rows." in first


def test_prompts_are_compared_with_the_default_one_in_either_direction() -> None:
    levels = {"zero_shot/default": 5.0, "zero_shot/terse": 5.5, "zero_shot/emotional": 4.5}
    sentences = ask(levels)
    text = " ".join(sentences)
    assert "The terse prompt raises mean perplexity by" in text
    assert "The emotional prompt lowers mean perplexity by" in text
    assert "against the default prompt" in text
    assert "The best of 3 zero-shot prompts was chosen on the test rows" in text
    assert sentences[0].startswith("Only zero-shot was run")


def test_without_a_default_prompt_the_first_one_stands_in() -> None:
    items = {name: rows(5.0) for name in ("zero_shot/one", "zero_shot/two")}
    cells = [cell(name, found) for name, found in items.items()]
    assert [(c.a, c.b) for c in comparisons(cells, items)] == [("zero_shot/two", "zero_shot/one")]


def test_one_cell_is_compared_with_nothing() -> None:
    sentences = ask({"qlora/default": 3.4})
    assert len(sentences) == 1
    assert sentences[0].startswith("Only QLoRA was run (mean perplexity 3.")
    assert answer(study_of(())) == ["Nothing was scored, so there is no answer yet."]


def test_without_comparisons_nothing_is_called_certain() -> None:
    cells = [cell(name, rows(level)) for name, level in {"zero_shot/default": 5.0, "qlora/default": 3.0}.items()]
    assert answer(study_of(cells))[0].endswith("untested.")


def test_several_adapters_are_told_apart_by_label() -> None:
    text = " ".join(ask({"zero_shot/default": 5.0, "qlora/default": 3.4, "qlora/emotional": 3.6}))
    assert "QLoRA (default) lowers mean perplexity" in text
    assert "against QLoRA (emotional)" in text


def test_an_order_that_hangs_on_the_average_is_said() -> None:
    few_hard = {"zero_shot/default": rows_from_ppl([4.0] * 80), "qlora/default": rows_from_ppl([3.0] * 79 + [200.0])}
    cells = [cell(name, found) for name, found in few_hard.items()]
    text = " ".join(answer(study_of(cells, comparisons=comparisons(cells, few_hard))))
    assert "By geometric perplexity the order is another one: QLoRA < zero-shot." in text


def test_dominated_names_rows_and_alternatives() -> None:
    text = dominated(rows_from_ppl([4.0] * 95 + [500.0] * 5))
    assert text is not None
    assert "5 of 100 carry 87% of its sum" in text
    assert "ppl_corpus" in text
    assert "ppl_geometric" in text
    assert dominated(rows_from_ppl([4.0] * 100)) is None
    assert dominated(rows_from_ppl([4.0, 900.0])) is None


def test_dropped_demonstrations_are_a_warning() -> None:
    scored = rows(5.0)
    short = make_cell(FEW, scored, k=10, draw="item", seed=0, rows_with_demos_dropped=12, demos_dropped=30)
    (text,) = row_warnings(study_of([short], {FEW: list(scored)}))
    assert "1 of 1 cells" in text
    assert "up to 12 rows" in text
