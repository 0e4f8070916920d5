"""From what each record of a run is made: the one place that says which facts decide a cell, a training, a search.

model       weights, config.json and tokenizer as read (and the chat template, for prompts that use it), quantization,
            dtype, how the weights are stored; quantized weights differ between a CPU and a GPU, so the device too
engine      its generation
prompt      the template's hash
rows        every row that is scored or trained on, whole
demonstrations    how they are chosen, and every row they are chosen from
training    of a QLoRA cell: the identity of its training
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triptych.config.choices import Select
from triptych.config.generate import DecodingConfig
from triptych.config.metrics import needs_texts
from triptych.config.strategies import SearchConfig
from triptych.data import Row
from triptych.grid.cells import CellSpec, Subset, TrainingSpec, candidates
from triptych.grid.rows import ExperimentRows
from triptych.likelihood.cache import ENGINE
from triptych.models.cache import sha256_of_large_file
from triptych.models.device import choose_device
from triptych.prompts import Template
from triptych.prompts.selection import BY_VECTORS
from triptych.records.disk import at_home, is_there
from triptych.records.identity import MadeFrom, sha256_of


def model_of_lock(templates: Mapping[str, Template], identity: Mapping[str, str]) -> dict[str, str]:
    """What a run's lock holds of its model: the hashes of `models.identify` that decide this run's numbers."""
    names = ["weights_sha256", "config_sha256", "tokenizer_sha256"]
    if any(template.style != "plain" for template in templates.values()):
        names.append("chat_template_sha256")
    return {name: identity[name] for name in names if name in identity}


class RunFacts:
    """The facts of one run, whose model has the hashes `model` (`models.identify`).

    `compute` gives `dtype` and `weights_held`: of the loaded model, or of the process that began the run.
    """

    def __init__(
        self, rows: ExperimentRows, model: Mapping[str, str], compute: Callable[[], Mapping[str, Any]]
    ) -> None:
        self.config, self.data, self.templates = rows.config, rows.data, rows.templates
        self.options = rows.options
        self.options_sha256 = rows.options.sha256(rows.data.test) if rows.options else None
        """Of the test rows' options; None where none are scored."""
        self._identity, self._compute = model, compute
        self._labelled, self._demos = rows.labelled, rows.demonstrations
        self._hashes: dict[tuple[str, Subset | None], str] = {}

    def cell(self, cell: CellSpec) -> MadeFrom:
        """What decides a cell's scores."""
        facts = {
            **self._base(self.templates[cell.prompt]),
            "rows_sha256": self._rows("test"),
            "demonstrations": self._demonstrations(cell.k, cell.select, cell.seed, cell.draw, cell.order, cell.subset),
            "training": self.training(cell.training).sha256 if cell.training else None,
        }
        return MadeFrom(facts)

    def training(self, training: TrainingSpec) -> MadeFrom:
        """What decides a training and its learning curve."""
        tune = self.config.tune.model_copy(update={"seed": training.seed}).model_dump(mode="json")
        if tune["min_steps"] is None:
            del tune["min_steps"]  # so that trainings from before there was this key go on
        facts = {
            **self._base(self.templates[training.prompt]),
            "rows_sha256": {name: self._rows(name, training.subset) for name in ("train", "dev", "test")},
            "demonstrations": self._demonstrations(
                training.k, training.select, training.seed, None, None, training.subset
            ),
            "tune": tune,
        }
        return MadeFrom(facts)

    def adapter(self, training: TrainingSpec, model: Mapping[str, Any]) -> dict[str, Any]:
        """What a training's adapter is saved with; `model` is the `info` of the loaded base."""
        return {
            "base_model": self.config.model.name,
            "base_weights_sha256": model["weights_sha256"],
            "base_config_sha256": model["config_sha256"],
            "quantize": self.config.model.quantize,
            "prompt": training.prompt,
            "prompt_sha256": self.templates[training.prompt].sha256,
            "trained_k": training.k,
            **self.training(training).record(),
        }

    def search(self, config: SearchConfig) -> MadeFrom:
        """What decides the scores that a search made on dev rows."""
        tried = candidates(config)
        shown = int(any(cell.k for cell in tried))
        by_vectors = next((cell.select for cell in tried if cell.select in BY_VECTORS), None)
        base = self._base(self.templates[tried[0].prompt])
        del base["prompt_sha256"]
        facts = {
            **base,
            "prompts": {cell.prompt: self.templates[cell.prompt].sha256 for cell in tried},
            "rows_sha256": self._rows("dev"),
            "demonstrations": self._demonstrations(shown, by_vectors, None, None, None),
            "candidates": sorted(cell.name for cell in tried),
        }
        metric, generate = self.config.metrics[0], self.config.generate
        if metric != "perplexity":
            facts["metric"] = metric
        if self.options is not None and metric == "accuracy":
            facts["options_sha256"] = self.options.sha256(self.data.dev)
        if generate is not None and needs_texts([metric]):
            facts["generation"] = generate.model_dump(include=set(DecodingConfig.model_fields))
        return MadeFrom(facts)

    def _base(self, template: Template) -> dict[str, Any]:
        model, spec = dict(self._identity), self.config.model
        model.pop("generation_config_sha256", None)  # a run's texts follow its own settings alone
        if template.style == "plain":
            model.pop("chat_template_sha256", None)
        quantized: dict[str, Any] = {}
        if spec.quantize != "none":
            quantized = {"double_quant": spec.double_quant, "device": choose_device(spec.device).type}
        return {
            "model": {**model, "quantize": spec.quantize, **quantized, **self._compute()},
            "engine": ENGINE,
            "prompt_sha256": template.sha256,
            "max_tokens": self.config.max_tokens,
        }

    def _demonstrations(
        self,
        k: int,
        select: Select | None,
        seed: int | None,
        draw: str | None,
        order: str | None,
        subset: Subset | None = None,
    ) -> dict[str, Any] | None:
        if not k:
            return None
        rules = self.config.strategies.demos
        how = {"k": k, "select": select, "seed": seed, "draw": draw, "order": order}
        vectors = {"embedding_sha256": _folder_sha256(rules.embedding)} if select in BY_VECTORS else {}
        return {**how, **vectors, "rules": rules.model_dump(mode="json"), "pool_sha256": self._rows("pool", subset)}

    def _rows(self, name: str, subset: Subset | None = None) -> str:
        """Hash of the train, dev or test rows, or of the pool of demonstrations; of the first and the last, those of a
        subset of the labelled rows. Each is computed once.
        """
        key = (name, subset if name in ("train", "pool") else None)
        if key not in self._hashes:
            self._hashes[key] = sha256_of([asdict(row) for row in self._rows_of(*key)])
        return self._hashes[key]

    def _rows_of(self, name: str, subset: Subset | None) -> Sequence[Row]:
        if name == "pool":
            return self._demos.pool_of(subset)
        return self._labelled(subset) if name == "train" else getattr(self.data, name)


def _folder_sha256(name: str) -> str | None:
    """Of the files of an embedding model that is a folder; None for the model itself, and for a name on the hub."""
    folder = Path(at_home(name))
    if name == "model" or not is_there(folder, Path.is_dir):
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256_of({str(path.relative_to(folder)): sha256_of_large_file(path) for path in files})
