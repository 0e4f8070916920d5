from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from made_up_run import make_run, rows_from_ppl, study_of

from triptych.report import Study, compare, interval
from triptych.report.power import detectable, rows_to_settle, settle_table, uncertainty_table, would_settle


def shifted(n_rows: int, mean: float, deviation: float, seed: int = 0) -> tuple[list[float], list[float]]:
    """Pairs whose differences have exactly this mean and this standard deviation (n-1)."""
    random = np.random.default_rng(seed)
    noise = random.normal(0, 1, n_rows)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    base = random.uniform(20, 30, n_rows)
    return list(base + mean + deviation * noise), list(base)


def test_effect_size_is_the_mean_over_the_deviation_of_the_differences() -> None:
    a, b = shifted(50, 0.5, 2.0)
    assert compare("a", rows_from_ppl(a), "b", rows_from_ppl(b)).effect_size == pytest.approx(0.25)
    same = compare("a", rows_from_ppl(b), "b", rows_from_ppl(b))
    assert same.effect_size is None
    assert rows_to_settle(same, 3) is None
    assert "No number of rows" in would_settle(same, 3)


def test_rows_to_settle_by_hand() -> None:
    a, b = shifted(50, 0.5, 2.0)
    found = compare("a", rows_from_ppl(a), "b", rows_from_ppl(b))
    # one comparison, alpha 0.05 two-sided, power 0.8: ((1.95996 + 0.84162) / 0.25)^2 = 125.58
    assert rows_to_settle(found, 1) == 126
    # four comparisons: level 0.0125, z = 2.49771: ((2.49771 + 0.84162) / 0.25)^2 = 178.42
    assert rows_to_settle(found, 4) == 179
    assert detectable(found, 1) == pytest.approx(2.80158 * 2.0 / math.sqrt(50), rel=1e-4)
    assert "about 180 rows would settle it" in would_settle(found, 4)


def test_that_many_rows_have_the_power_that_is_promised() -> None:
    random = np.random.default_rng(3)
    # normal differences, effect size 0.25: 126 rows should find it in 80 % of samples
    samples = random.normal(0.25, 1, (4000, 126))
    found = np.abs(samples.mean(axis=1) / (samples.std(axis=1, ddof=1) / math.sqrt(126))) > 1.96
    assert abs(float(found.mean()) - 0.8) < 0.03


def test_hopeless_and_close_calls_are_said() -> None:
    a, b = shifted(50, 0.001, 2.0)
    hopeless = compare("a", rows_from_ppl(a), "b", rows_from_ppl(b))
    assert "not even 1,000,000 rows" in would_settle(hopeless, 1)
    assert settle_table(study_of((), comparisons=(hopeless,))).rows[0][-1] == "over 1,000,000"
    a, b = shifted(50, 1.0, 2.0)
    close = compare("a", rows_from_ppl(a), "b", rows_from_ppl(b)).model_copy(update={"p_holm": 0.06})
    assert "close call" in would_settle(close, 1)


def test_the_two_uncertainties_stand_apart() -> None:
    record, items = make_run()
    table = uncertainty_table(study := Study(record, items))
    by_name = {str(row[0]): row for row in table.rows}
    assert by_name["QLoRA"][2:4] == (1, None)
    assert by_name["QLoRA"][5] == study.intervals["qlora/default"]
    over = next(summary for summary in record.few_shot if summary.k == 3).ppl_mean
    assert by_name["Few-shot, k=3"][1:4] == (over.mean, 3, over.std)
    assert "one seed" in table.note


def test_open_comparisons_are_named_for_people() -> None:
    record, _ = make_run()
    table = settle_table(Study(record))
    assert table.rows[0][0] == "QLoRA − Few-shot, k=10"
    assert {row[-1] for row in table.rows if row[0] == "QLoRA − Few-shot, k=10"} == {"settled"}
    assert dataclasses.is_dataclass(table)


@pytest.mark.slow
def test_intervals_cover_the_truth_in_95_percent_of_1000_samples() -> None:
    random = np.random.default_rng(11)
    # 250 rows with the skew of real perplexities: log-normal, SD of the logarithm 0.5
    mean = math.exp(1.5 + 0.5**2 / 2)
    covered = 0
    for sample in random.lognormal(1.5, 0.5, (1000, 250)):
        low, high = interval(sample, draws=2000)
        covered += low <= mean <= high
    print(f"coverage {covered / 1000:.1%}")
    assert 930 <= covered <= 970


@pytest.mark.slow
def test_intervals_of_paired_differences_cover_in_95_percent_of_1000_samples() -> None:
    random = np.random.default_rng(12)
    covered = 0
    for _ in range(1000):
        hardness = random.lognormal(1.5, 0.5, 250)
        a, b = (hardness * random.lognormal(shift, 0.1, 250) for shift in (-0.05, 0.0))
        low, high = interval(a - b, draws=2000)
        covered += low <= math.exp(1.5 + 0.125) * (math.exp(-0.05) - 1) * math.exp(0.005) <= high
    print(f"coverage {covered / 1000:.1%}")
    assert 930 <= covered <= 970
