"""A twin of a tokenizer that knows control tokens by private-use characters, and their spelling as letters only."""

from __future__ import annotations

import json
import re
from typing import Any

from triptych.errors import DataError, ModelError


class TwinTokenizer:
    """A tokenizer in which control tokens are private-use characters, from U+`start` on.

    Args:
        backend: of the `tokenizers` library; not changed.
        control: spelling and id of the control tokens.
        start: first of 2 n + 1 characters: n marks (they are the tokens), n masks (they hide a spelling from the
            template), and the boundary.
    """

    def __init__(self, backend: Any, control: dict[str, int], start: int) -> None:
        from tokenizers import Tokenizer

        marks = {spelled: chr(start + i) for i, spelled in enumerate(control)}
        masks = {spelled: chr(start + len(control) + i) for i, spelled in enumerate(control)}
        self.boundary = chr(start + 2 * len(control))
        longest_first = sorted(control, key=len, reverse=True)
        self._spelled = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self._marks, self._masks = marks, masks
        self._unmask = str.maketrans({mask: spelled for spelled, mask in masks.items()})
        self._end = re.compile(f"[^{''.join(marks.values())}]*[{''.join(marks.values())}]+") if marks else None

        content = json.loads(backend.to_str())
        unknown = content["model"].get("unk_token")  # stands for letters that aren't in the vocabulary, and may
        self._control_ids = frozenset(id for spelled, id in control.items() if spelled != unknown)
        added = content["added_tokens"]
        real_ids = [token["id"] for token in added]
        for token in added:
            token["content"] = marks.get(token["content"], token["content"])
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        added.append({"id": 1 + max(real_ids, default=0), "content": self.boundary, **flags})
        content |= {"post_processor": None, "truncation": None, "padding": None}
        self._tokenizer = Tokenizer.from_str(json.dumps(content))
        # renamed tokens are numbered anew
        ids = [self._tokenizer.token_to_id(token["content"]) for token in added[:-1]]
        self._real_id = dict(zip(ids, real_ids, strict=True))
        own = {self._tokenizer.token_to_id(c) for c in (*marks.values(), self.boundary)}
        if not own.isdisjoint(self._tokenizer.get_vocab(with_added_tokens=False).values()):
            raise ModelError(
                "the model's chat template can't be used",
                found="the vocabulary's ids have holes, so tokens can't be numbered anew",
                fix="use a prompt with `style: plain`",
            )

    def mask(self, text: str) -> str:
        """Hide the control tokens that a text spells."""
        return self._spelled.sub(lambda match: self._masks[match[0]], text)

    def unmask(self, text: str) -> str:
        """Show them again."""
        return text.translate(self._unmask)

    def mark(self, text: str) -> str:
        """Make the control tokens that a text spells control tokens."""
        return self._spelled.sub(lambda match: self._marks[match[0]], text)

    def end_of_turn(self, after: str) -> str:
        """What ends a turn: all up to the end of the first run of control tokens, nothing if there is none.

        What follows, a line break often, belongs to the next turn.
        """
        match = self._end.match(after) if self._end else None
        return match[0] if match else ""

    def ids(self, text: str, *, apart: bool = False) -> list[int]:
        """Token ids of a marked text; `apart` as it is tokenized behind something that ends before it."""
        ids: list[int] = self._tokenizer.encode(self.boundary * apart + text, add_special_tokens=False).ids
        # an id that no mark has and a control token has: the tokenizer put the token together from its letters
        for id in sorted(self._control_ids.intersection(ids) - set(self._real_id)):
            raise DataError(
                "a row spells a control token of the model, and its tokenizer can't read it as letters",
                found=str(self._tokenizer.id_to_token(id)),
                fix="remove it from the row, or use a prompt with `style: plain`",
            )
        return [self._real_id.get(id, id) for id in ids[apart:]]
