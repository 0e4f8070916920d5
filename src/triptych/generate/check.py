"""Checking a file of predictions against the rows it is for.

Hard findings say that the file is wrong: rows missing, repeated or in another order, texts that are no answers (special
tokens, broken characters, the prompt's own texts, the instruction repeated), empty ones. When more than half of all
rows contain their instruction, prompts were decoded along with the outputs, and the finding is `echo`. Soft findings
say that a text looks odd: far too long, cut, repeating itself or, from a model that was tuned for conversations,
beginning with a greeting where the answer belongs. A model may really answer so.
"""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from triptych.data import Row, normalise
from triptych.errors import DataError
from triptych.generate.settings import StoppedBy

_SPECIAL = re.compile(
    r"<\|[^|<>\s]{1,40}\|>|</?s>|<(?:bos|eos|pad|unk|mask)>|<(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|<0x[0-9A-F]{2}>"
)
_GREETING = re.compile(
    r"""[\s"'“”「『*]*
    (?: (?:sure|certainly|of\ course|absolutely|okay|hello|hi|hi\ there|(?:great|good)\ question|thank\ you) \s* [,.!:]
      | sure \s+ (?:thing|here) \b
      | here (?:\ is|\ are|['’]s) \b
      | (?:i\ am|i['’]m) \ (?:so\ |very\ )? (?:sorry|happy\ to|glad\ to|unable\ to) \b
      | (?:sorry\b | i \ apologi[sz]e\b | my \ apologies\b | as\ an\ ai\b | i (?:\ would|['’]d) \ be \ (?:happy|glad)\b)
      | i \ can (?:not|['’]t) \ (?:help|assist|provide|answer|fulfill) \b
      | (?:好的|当然|當然|没问题|沒問題|您好|你好|明白了?|了解) \s* [，,。！!：:～~]
      | (?:当然|當然) 可以
      | 以下是 | 下面是 | (?:很|非常)?抱歉 | (?:对|對)不起 | 作[为為](?:一[个個名])?(?:AI|人工智[能慧]|[语語]言模型)
      | 我?(?:很|非常)(?:[乐樂]意|高[兴興])(?:[为為]您|[为為]你|帮|幫)
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_ECHO_CHARACTERS = 8  # an instruction shorter than this may well occur in an output
_FAR_LONGER = 4  # times the median length
_LONG_CHARACTERS = 80  # an output shorter than this is never "far longer"
_LOOP_CHARACTERS = 16
_LOOP_TIMES = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """A kind of fault and the rows with it."""

    kind: str
    hard: bool
    says: str
    row_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """The findings; `ok` if none is hard."""

    n_rows: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether the file can be handed in."""
        return not any(finding.hard for finding in self.findings)


_KINDS = {
    "missing": (True, "rows of the data have no prediction"),
    "unknown": (True, "predictions for ids that the data doesn't have"),
    "repeated": (True, "ids that occur more than once"),
    "order": (True, "rows in another order than in the data"),
    "empty": (True, "outputs with no visible text"),
    "special": (True, "outputs with special tokens or byte tokens in their text"),
    "broken": (True, "outputs with U+FFFD: bytes that make no character"),
    "echo": (True, "outputs that contain the prompt"),
    "parrot": (True, "outputs that repeat their instruction"),
    "cut": (False, "outputs that were cut at the limit of new tokens"),
    "long": (False, f"outputs more than {_FAR_LONGER} times as long as usual"),
    "loop": (False, "outputs that repeat themselves to the end"),
    "greeting": (False, "outputs that begin like an assistant's greeting or excuse, not like an answer"),
}


def read_predictions(path: Path) -> list[tuple[str, str]]:
    """(id, output) of a JSON list `[{"id", "output"}]`; integer ids become text.

    Raises:
        DataError: the file isn't such a list; the first entry that is wrong is named.
    """
    expected = 'a JSON list of {"id": "…", "output": "…"}'
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            "the predictions can't be read", where=str(path), found=str(error), expected=expected
        ) from error
    if not isinstance(value, list):
        raise DataError("the predictions are no list", where=str(path), found=type(value).__name__, expected=expected)
    predictions = []
    for number, entry in enumerate(value, 1):
        match entry:
            case {"id": (str() | int()) as row_id, "output": str() as output} if not isinstance(row_id, bool):
                predictions.append((str(row_id), output))
            case _:
                raise DataError(
                    "a prediction has no id or no text",
                    where=f"{path}, entry {number}",
                    found=json.dumps(entry, ensure_ascii=False)[:120],
                    expected=expected,
                )
    return predictions


def check_predictions(
    predictions: Sequence[tuple[str, str]],
    rows: Sequence[Row],
    *,
    stopped_by: Mapping[str, StoppedBy] | None = None,
    special: Collection[str] = (),
    prompt_texts: Sequence[re.Pattern[str]] = (),
    chat: bool = False,
) -> Check:
    """Check every prediction.

    Args:
        predictions: (id, output), in the file's order.
        rows: of the data, in its order.
        stopped_by: what ended each row, where a file's record has it.
        special: the tokenizer's special tokens; the usual ones are searched for in any case.
        prompt_texts: fixed texts of the prompt that no output should have.
        chat: whether prompt or model is made for conversations, so that greetings are looked for; one that begins the
            row's own output too is none.
    """
    found: defaultdict[str, list[str]] = defaultdict(list)
    _check_ids([row_id for row_id, _ in predictions], [row.id for row in rows], found)
    asked = {row.id: row.instruction for row in rows}
    wanted = {row.id: row.output or "" for row in rows}
    usual = statistics.median(len(text) for _, text in predictions) if predictions else 0
    for row_id, text in predictions:
        if not text.strip():
            found["empty"].append(row_id)
        if _SPECIAL.search(text) or any(token in text for token in special):
            found["special"].append(row_id)
        if "\ufffd" in text:
            found["broken"].append(row_id)
        if any(pattern.search(text) for pattern in prompt_texts):
            found["echo"].append(row_id)
        elif _echoes(text, asked.get(row_id, "")):
            found["parrot"].append(row_id)
        if (stopped_by or {}).get(row_id) == "length":
            found["cut"].append(row_id)
        if len(text) > max(_LONG_CHARACTERS, _FAR_LONGER * usual):
            found["long"].append(row_id)
        if loops(text):
            found["loop"].append(row_id)
        if chat and greets(text) and not greets(wanted.get(row_id, "")):
            found["greeting"].append(row_id)
    if 2 * len(found["parrot"]) > len(predictions):
        found["echo"] += found.pop("parrot")
    findings = [Finding(kind, *_KINDS[kind], tuple(found[kind])) for kind in _KINDS if found[kind]]
    return Check(len(predictions), tuple(findings))


def _check_ids(ids: Sequence[str], expected: Sequence[str], found: defaultdict[str, list[str]]) -> None:
    counts, place = Counter(ids), {row_id: at for at, row_id in enumerate(expected)}
    found["missing"] = [row_id for row_id in expected if row_id not in counts]
    found["unknown"] = [row_id for row_id in counts if row_id not in place]
    found["repeated"] = [row_id for row_id, count in counts.items() if count > 1 and row_id in place]
    present = [row_id for row_id in counts if row_id in place]  # in the order in which they first occur
    in_order = sorted(present, key=place.__getitem__)
    found["order"] = [row_id for row_id, right in zip(present, in_order, strict=True) if row_id != right]


def _echoes(text: str, instruction: str) -> bool:
    asked = normalise(instruction)
    return len(asked) >= _ECHO_CHARACTERS and asked in normalise(text)


def greets(text: str) -> bool:
    """Whether a text begins as an assistant begins to talk: "Sure, ", "Here is", "I'm sorry", "好的，", "当然！"."""
    return _GREETING.match(text) is not None


def loops(text: str) -> bool:
    """Whether a text ends in a stretch repeated four times or more, of sixteen characters or more in all."""
    text = text.rstrip()
    for size in range(1, len(text) // _LOOP_TIMES + 1):
        unit = text[-size:]
        times = 1
        while text.endswith(unit * (times + 1)):
            times += 1
        if times >= _LOOP_TIMES and times * size >= _LOOP_CHARACTERS:
            return True
    return False
