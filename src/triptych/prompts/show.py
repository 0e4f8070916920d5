"""A prompt on a row of the bundled sample, for people to read."""

from __future__ import annotations

from pathlib import Path

from triptych.data import read_rows, sample_folder
from triptych.errors import ConfigError
from triptych.prompts.demonstrations import draw_demos
from triptych.prompts.named import catalogue, find_template, template_from_text


def show_on_sample(name: str, k: int = 0) -> str:
    """What a prompt says and where it comes from, then the sample's first test row in it, with k demonstrations.

    Args:
        name: a prompt of the catalogue, a template file, or a text with {instruction}.
        k: demonstrations, drawn at random (seed 0) from the sample's training rows.

    Raises:
        TemplateError: there is no such prompt, or the template is malformed.
        ConfigError: the sample has fewer than k training rows.
    """
    own = name not in catalogue() and ("{" in name or Path(name).suffix in {".yaml", ".yml", ".txt"})
    template = template_from_text(name) if own else find_template(name)
    folder = str(sample_folder())
    row = read_rows(f"{folder}/test.json")[0]
    pool = read_rows(f"{folder}/train.json")
    if k > len(pool):
        raise ConfigError(
            "more demonstrations are asked for than the bundled sample has",
            where="--k",
            found=f"{k}, {len(pool)} training rows",
        )
    demos = draw_demos(pool, k, seed=0, draw="item", row_id=row.id)
    facts = {
        "prompt": template.name,
        "language": template.language,
        "style": template.style,
        "what it does": template.description,
        "source": template.source,
        "sha256": template.sha256,
        "row": row.id,
        "demonstrations": ", ".join(demo.id for demo in demos),
    }
    lines = [f"{fact}: {value}" for fact, value in facts.items() if value]
    turns = template.turns(row.instruction, demos)
    if template.style == "plain":
        parts = [("prompt", turns[0][1]), ("answer, which is scored", row.target())]
    else:  # the markup between the turns is the model's, and is known with the model only
        parts = [*turns, ("assistant, which is scored", row.target())]
    return "\n".join([*lines, *(f"\n--- {title}\n{text}" for title, text in parts)])
