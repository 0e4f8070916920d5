"""`make bench-choices`: which of 77 intents, by option likelihood, against lm-eval's `multiple_choice`.

    lm-eval    a task of its own (`ConfigurableTask`) through `evaluate`, the fastest of batch sizes 1, 8, 32
    ours       each prompt once, its options as a trie

Both compute with the same weights, prompts and options, on one thread. First the predictions must be the same, ties
aside (lm-eval's `acc` is our `accuracy_no_eos`, its `acc_norm` our `accuracy_no_eos_char`); then time is looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from tabulate import tabulate

from triptych.config.model import ModelConfig
from triptych.data import Row, outputs_of, read_rows
from triptych.likelihood.options import OptionsNLL, score_options
from triptych.likelihood.score import Scorer
from triptych.metrics.choose import choices_by
from triptych.metrics.options import options_of
from triptych.models import LoadedModel, load_model
from triptych.prompts import RenderedOptions, draw_demos, render_options, template_from_mapping

ASKED = "Which intent does this message to a bank have? Answer with the name of the intent alone."
FEW = {"head": ASKED + "\n\n", "demo": "{instruction}\n{output}\n\n", "tail": "{instruction}"}
TEMPLATES = {
    "chat": template_from_mapping(
        {"style": "chat", "zero_shot": ASKED + "\n\n{instruction}", "few_shot": FEW}, name="chat", where="bench"
    ),
    "multiturn": template_from_mapping(
        {"style": "multiturn", "system": ASKED, "zero_shot": "{instruction}"}, name="multiturn", where="bench"
    ),
}
"""Demonstrations in the user's one turn, and as turns (what chat models get where nobody names a prompt)."""
COLUMNS = {"instruction": "text", "output": "category"}
TIE = 1e-3
"""Nats between the best two options, below which either may be chosen."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/banking77"))
    parser.add_argument("--model", default="demo-chat")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rows", type=int, default=50, help="test rows")
    parser.add_argument("--k", default="0,10,10", help="demonstrations of each line of the table")
    parser.add_argument("--draws", default="seed,seed,item", help="whether they are the same for all rows")
    parser.add_argument("--styles", default="chat,multiturn,multiturn", help="how the prompt is written")
    parser.add_argument("--peer-rows", default="50,50,50", help="rows that lm-eval gets; its time is scaled")
    parser.add_argument("--sizes", default="1,8,32", help="batch sizes that lm-eval tries on one row")
    parser.add_argument("--bench-python", default=".bench-venv/bin/python", help="interpreter that has lm-eval")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    loaded = load_model(ModelConfig(name=given.model, quantize="none", dtype=given.dtype, threads=1))
    train = read_rows(given.data / "train.csv", columns=COLUMNS)
    test = read_rows(given.data / "test.csv", columns=COLUMNS)
    test = test[:: len(test) // given.rows][: given.rows]  # the file is sorted by intent
    options = options_of("auto", outputs_of(train), test).same
    print(f"{given.model}, {given.dtype}, one thread; {len(test)} rows, {len(options)} options", flush=True)
    table = []
    with tempfile.TemporaryDirectory() as folder:
        loaded.model.save_pretrained(folder)
        loaded.profile.tokenizer.save_pretrained(folder)
        asked = (given.k, given.draws, given.styles, given.peer_rows)
        for k, draw, style, peer_rows in zip(*(one.split(",") for one in asked), strict=True):
            setting = Setting(int(k), cast(Literal["seed", "item"], draw), style, int(peer_rows))
            table.append(measure(loaded, test, train, options, setting, Path(folder), given))
    headers = [
        "k",
        "draw",
        "style",
        "tokens of a prompt",
        "ours s",
        "lm-eval s",
        "rows",
        "batch",
        "lm-eval / ours",
        "acc",
        "acc_norm",
    ]
    print(tabulate(table, headers, tablefmt="github", stralign="right"))


@dataclass(frozen=True)
class Setting:
    """A line of the table."""

    k: int
    draw: Literal["seed", "item"]
    style: str
    peer_rows: int


def measure(
    loaded: LoadedModel,
    test: list[Row],
    train: list[Row],
    options: tuple[str, ...],
    setting: Setting,
    folder: Path,
    given: argparse.Namespace,
) -> list[Any]:
    """One line of the table: agreement first."""
    demos = {row.id: draw_demos(train, setting.k, seed=0, draw=setting.draw, row_id=row.id) for row in test}
    answers: dict[str, tuple[int, ...]] = {}
    asked = [
        render_options(
            row,
            options,
            TEMPLATES[setting.style],
            loaded.profile,
            answers=answers,
            demos=demos[row.id],
            max_tokens=8000,
        )
        for row in test
    ]
    scorer = Scorer(loaded)
    score_options(scorer, asked[:2])  # the first pass of a process is slower
    half = len(asked) // 2  # the others after lm-eval: the machine may become slower or faster meanwhile
    scored, before = timed(scorer, asked[:half])
    tokenizer = loaded.profile.tokenizer
    task = []
    for row, one in zip(test[: setting.peer_rows], asked, strict=False):
        prompt = list(one.row.ids[: one.row.n_prompt])
        context = tokenizer.decode(prompt, clean_up_tokenization_spaces=False)
        if tokenizer.encode(context, add_special_tokens=False) != prompt:
            raise SystemExit(f"the prompt of row {row.id} is other tokens when it is read back")
        task.append({"context": context, "options": list(options), "gold": options.index(row.target())})
    theirs = peer(task, folder, given)
    others, after = timed(scorer, asked[half:])
    scored, seconds = [*scored, *others], before + after
    chosen = [choices_by(one.options, row.n_chars) for one, row in zip(scored, asked, strict=True)]
    differ = []
    for place, (ours, acc, acc_norm) in enumerate(zip(chosen, theirs["acc"], theirs["acc_norm"], strict=False)):
        gold = task[place]["gold"]
        same = (float(ours["accuracy_no_eos"] == gold), float(ours["accuracy_no_eos_char"] == gold)) == (acc, acc_norm)
        if not same and not near_tie(scored[place].options, asked[place].n_chars):
            differ.append(test[place].id)
    if differ:
        raise SystemExit(f"k={setting.k}: other predictions than lm-eval's on rows {', '.join(differ)}")
    correct = [options.index(row.target()) for row in test]
    shares = [
        sum(one[name] == right for one, right in zip(chosen, correct, strict=True)) / len(test)
        for name in ("accuracy_no_eos", "accuracy_no_eos_char")
    ]
    ratio = theirs["seconds"] / setting.peer_rows / (seconds / len(test))
    prompt = sum(row.row.n_prompt for row in asked) / len(asked)
    line = [setting.k, setting.draw, setting.style, f"{prompt:.0f}", f"{before:.1f} + {after:.1f}"]
    line += [f"{theirs['seconds']:.1f}", f"{len(test)}, {setting.peer_rows}"]
    line += [theirs["batch"], f"{ratio:.1f}x", *(f"{share:.2f}" for share in shares)]
    print(*line, flush=True)
    return line


def timed(scorer: Scorer, asked: Sequence[RenderedOptions]) -> tuple[list[OptionsNLL], float]:
    """All rows' options, and the seconds that they took."""
    began = time.perf_counter()
    scored = score_options(scorer, asked)
    return scored, time.perf_counter() - began


def near_tie(options: Any, n_chars: tuple[int, ...]) -> bool:
    """Whether the best two options are as good by either of lm-eval's ways."""
    sums = [float(tokens[:-1].sum()) for tokens in options]
    ways = (sorted(sums), sorted(value / n for value, n in zip(sums, n_chars, strict=True)))
    return any(values[1] - values[0] < TIE for values in ways)


def peer(task: list[dict[str, Any]], folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """What lm-eval gives for these rows, in an environment of its own."""
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, task)), encoding="utf-8")
    command = [given.bench_python, str(Path(__file__).parent / "worker.py"), str(folder), given.dtype, given.sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    main()
