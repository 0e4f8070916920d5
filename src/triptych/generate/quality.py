"""How near texts come to references: chrF++ and BLEU, both sacrebleu's, with the signatures that make them comparable.

chrF++ (Popović 2017): F2 of character 1- to 6-grams and word 1- and 2-grams, 0 to 100. BLEU (Papineni et al. 2002):
precision of 1- to 4-grams with a brevity penalty, 0 to 100; Chinese is cut into characters first (sacrebleu's `zh`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from triptych.data.language import in_chinese_characters


@dataclass(frozen=True, slots=True)
class Quality:
    """Scores of a set of texts; all are 0 to 100, more is nearer."""

    chrf: float
    """chrF++ over the corpus: n-gram counts are summed over rows before they are compared."""
    bleu: float
    """BLEU over the corpus."""
    chrf_signature: str
    bleu_signature: str
    row_chrf: tuple[float, ...]
    """chrF++ of each row alone, in the order given: what paired statistics are made from. (Their mean isn't `chrf`.)"""

    @property
    def n_rows(self) -> int:
        """Rows compared."""
        return len(self.row_chrf)

    def record(self) -> dict[str, Any]:
        """For records."""
        return {**asdict(self), "row_chrf": list(self.row_chrf), "n_rows": self.n_rows}


def measure_quality(hypotheses: Sequence[str], references: Sequence[str]) -> Quality:
    """Compare texts with one reference each; ValueError where their numbers differ or are 0."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    if len(hypotheses) != len(references) or not hypotheses:
        raise ValueError(f"{len(hypotheses)} texts and {len(references)} references can't be compared")
    chrf, bleu = CHRF(word_order=2), BLEU(tokenize=tokenize_for(references))
    texts, expected = list(hypotheses), [list(references)]
    pairs = zip(hypotheses, references, strict=True)
    rows = tuple(float(chrf.sentence_score(text, [reference]).score) for text, reference in pairs)
    return Quality(
        chrf=float(chrf.corpus_score(texts, expected).score),
        bleu=float(bleu.corpus_score(texts, expected).score),
        chrf_signature=str(chrf.get_signature()),
        bleu_signature=str(bleu.get_signature()),
        row_chrf=rows,
    )


def tokenize_for(references: Sequence[str]) -> Literal["zh", "13a"]:
    """`zh` where more than half of the references' letters are Chinese characters, else sacrebleu's default `13a`."""
    return "zh" if in_chinese_characters("".join(references)) else "13a"
