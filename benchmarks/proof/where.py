"""Where things are: the only file of the proof that imports Triptych. After code has moved, only this file changes.

Each function is one thing the proof needs of Triptych, in terms that don't depend on how the code is cut: files and
settings in; token ids, tensors, hashes and texts out. `COMMAND` is the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))  # `fake_model` is there
COMMAND = [sys.executable, "-m", "triptych"]
ARCHITECTURES = ("llama", "qwen3", "gemma3", "mistral", "gpt2")


@dataclass(frozen=True)
class Seen:
    """One rendered row: its token ids, of which `ids[n_prompt:]` are scored."""

    row: str
    ids: tuple[int, ...]
    n_prompt: int
    n_chars: int
    demos: tuple[str, ...]
    n_dropped: int


# --- token ids of an experiment


def prompt_names() -> list[str]:
    """Every prompt that ships."""
    from triptych.prompts.named import catalogue

    return sorted(catalogue())


class Experiment:
    """An experiment's rows and grid, without its model's weights.

    Args:
        path: its YAML.
        sets: assignments over it, as `--set` takes them.
        vectors: an embedding for each instruction, for selections that rank by vectors.
    """

    def __init__(self, path: Path, sets: Sequence[str], vectors: Any) -> None:
        from triptych.config.read import read_config
        from triptych.grid.cells import grid
        from triptych.grid.rows import ExperimentRows

        self.config = read_config(path, sets)
        self.cells = grid(self.config)
        first = ExperimentRows.read(self.config)
        rows = (*first.data.train, *first.data.dev, *first.data.test)
        known = {row.instruction: vectors(row.instruction) for row in rows}
        parts = (self.config, first.data, first.templates, first.profile, first.limit)
        self.rows = ExperimentRows(*parts, vectors=lambda: known)

    def views(self, train_rows: int) -> Iterator[tuple[str, list[Seen]]]:
        """Every cell (and candidate of a search) and every training (`training NAME`), and its rows.

        Args:
            train_rows: how many training rows are rendered, the first ones; demonstrations come from all.
        """
        from triptych.grid.cells import trainings
        from triptych.grid.rendered import render_experiment

        self.rows.data = replace(self.rows.data, train=self.rows.data.train[:train_rows])
        rendered = render_experiment(self.rows)
        for part in rendered.parts:
            yield part.name, [_seen(row) for row in part.rendered]
        by_name = {cell.name: cell for cell in self.cells}
        for name in rendered.left_out:  # those that rank by vectors
            if name in by_name:
                yield name, [_seen(row) for row in self.rows.cell(by_name[name]).rows]
            else:
                spec = next(one for one in trainings(self.config) if f"training {one.name}" == name)
                limit = self.rows.limit.tokens
                yield name, [_seen(self.rows.row(spec, row, limit)) for row in self.rows.data.train]

    def prompts(self, rows: int) -> Iterator[tuple[str, list[tuple[str, tuple[int, ...], tuple[int, ...]]]]]:
        """Every cell, and what the model would continue in it: row id, token ids, the ids that end an answer."""
        few = self.rows.data.test[:rows]
        for cell in self.cells:
            found = self.rows.prompts(cell, few, reserve=64)
            yield cell.name, [(one.row_id, one.ids, one.stop_ids) for one in found]


def _seen(row: Any) -> Seen:
    return Seen(row.row_id, row.ids, row.n_prompt, row.n_chars, row.demo_ids, row.n_demos_dropped)


# --- tiny models


def write_tiny_model(folder: Path, architecture: str, scale: float = 0.3) -> Path:
    """Write a tiny model with a tokenizer of bytes; weights have standard deviation `scale`."""
    from fake_model import write_fake_model

    return write_fake_model(folder, architecture, scale=scale)  # type: ignore[arg-type]


class Tiny:
    """A loaded tiny model, on which everything is computed through the engine that a run uses."""

    def __init__(self, folder: Path, dtype: str, quantize: str) -> None:
        from triptych.config.model import ModelConfig
        from triptych.models import load_model

        self.loaded = load_model(
            ModelConfig(name=str(folder), quantize=quantize, dtype=dtype, device="cpu", threads=1)  # type: ignore[arg-type]
        )
        self.adapter: Any = None

    def attach(self, seed: int) -> None:
        """Put a LoRA adapter on, with a B that is not zero."""
        import torch

        from triptych.models import LoraSettings, attach_adapter

        self.adapter = attach_adapter(self.loaded, LoraSettings(r=4, alpha=8.0), seed=seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for name, parameter in self.adapter.parameters().items():
                if "lora_B" in name:
                    parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))

    def render(self, pairs: Sequence[tuple[str, str]], templates: Sequence[str]) -> list[Any]:
        """Rows for `nll` and `gradient`: row i under template i modulo their number."""
        from triptych.data import Row
        from triptych.prompts import render, template_from_text

        made = [template_from_text(text) for text in templates]
        rows = [Row(f"row-{i}", *pair) for i, pair in enumerate(pairs)]
        return [render(row, made[i % len(made)], self.loaded.profile) for i, row in enumerate(rows)]

    def nll(self, rows: Sequence[Any], budget: int | None, packed: bool | None = None) -> Iterator[tuple[float, bytes]]:
        """Of each row, its NLL in nats and the float32 NLL of every scored token."""
        from triptych.likelihood.score import Scorer

        scorer = Scorer(self.loaded, budget_tokens=budget, packed=packed)
        for row in scorer.score(rows):
            yield row.nll_nats, row.tokens.tobytes()

    def gradient(self, rows: Sequence[Any], *, max_rows: int, share_prefix: bool) -> tuple[float, dict[str, Any]]:
        """Of one training step: the sum of NLL, and the gradient of every trainable parameter by name."""
        from triptych.likelihood.head import head_of
        from triptych.training.step import accumulate_gradient

        parameters = self.adapter.parameters()
        for parameter in parameters.values():
            parameter.grad = None
        options: dict[str, Any] = {"max_rows": max_rows, "max_tokens": 1 << 20, "share_prefix": share_prefix}
        nll = accumulate_gradient(self.loaded, head_of(self.loaded.model), rows, **options)
        return nll, {name: parameter.grad for name, parameter in parameters.items()}

    def write(self, texts: Sequence[str], **settings: Any) -> dict[str, list[int]]:
        """Continue prompts: row id -> new tokens. Greedy unless the settings say otherwise."""
        from triptych.generate.engine import generate_rows
        from triptych.generate.settings import GenerationSettings
        from triptych.progress import Silent
        from triptych.prompts import RenderedPrompt

        profile = self.loaded.profile
        start = () if profile.bos_id is None else (profile.bos_id,)
        prompts = [
            RenderedPrompt(f"row-{i}", (*start, *profile.encode(text)), stop_ids=(profile.eos_id,))
            for i, text in enumerate(texts)
        ]
        found = generate_rows(self.loaded, prompts, GenerationSettings(**settings), Silent())
        return {row.row_id: list(row.ids) for row in found}

    def vectors(self, texts: Sequence[str]) -> Mapping[str, Any]:
        """The model's own embedding of each text."""
        from triptych.models.embed import embed_texts

        return embed_texts(texts, model=self.loaded)
