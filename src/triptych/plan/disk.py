"""How many bytes an experiment writes, and which of its trainings are done."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from triptych.config.experiment import ExperimentConfig
from triptych.grid.cells import TrainingSpec
from triptych.models import LoraSettings
from triptych.models.cache import cache_folder
from triptych.models.header import ModelHeader
from triptych.models.shape import ModelShape
from triptych.plan.rows import Gathered
from triptych.records.disk import is_there
from triptych.records.run_files import ADAPTER_RECORD
from triptych.runner.folder import RunFolder
from triptych.training import read_summary

_TOKENIZER = 20 << 20  # adapters are saved with a README and a config only; a model's folder has its tokenizer
_REPORT = 4 << 20  # figures, tables, HTML and Markdown without rows (measured: 3.1 MB)
_ROW, _TOKEN = 400, 16  # bytes of a scored row and of each of its tokens over all records (measured: 330 and 12)
_CACHED_ROW, _CACHED_TOKEN = 80, 4


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """Bytes to be written to one place."""

    what: str
    where: str
    needed: int
    free: int

    @property
    def fits(self) -> bool:
        """Whether there is room."""
        return self.needed <= self.free


def disk_needs(
    config: ExperimentConfig, shape: ModelShape, work: Gathered, header: ModelHeader, out: Path
) -> list[DiskNeed]:
    """What is written, place by place. Weights are counted in 16 bits, as nearly all are published."""
    lora = LoraSettings.of(config.tune)
    adapter = 4 * shape.lora_parameters(lora.r, lora.target_modules)
    # AdamW's two moments beside each checkpoint's weights; the newest is whole before the oldest goes
    checkpoints = 3 * adapter * (config.tune.keep + 1 + (config.tune.select != "last"))
    rows = [cell.work for cell in work.cells]
    n_rows, n_scored = sum(w.rows for w in rows), sum(w.scored for w in rows)
    places = [
        ("adapters", out, 2 * adapter * len(work.trainings)),
        ("checkpoints", out, checkpoints * len(work.trainings)),
        ("records and report", out, _REPORT + _ROW * n_rows + _TOKEN * n_scored),
    ]
    if config.cache:
        n_rows += sum(t.curve_work.rows for t in work.trainings)
        n_scored += sum(t.curve_work.scored for t in work.trainings)
        places.append(("scores by content", cache_folder(), _CACHED_ROW * n_rows + _CACHED_TOKEN * n_scored))
    if header.to_unpack:
        places.append(("GGUF, dequantized once", cache_folder(), 2 * shape.parameters + _TOKENIZER))
    if header.to_download:
        from huggingface_hub.constants import HF_HUB_CACHE

        places.append(("weights from the hub", Path(HF_HUB_CACHE), 2 * shape.parameters + _TOKENIZER))
    return [DiskNeed(what, str(where), needed, _free(where)) for what, where, needed in places if needed]


def training_done(folder: RunFolder, spec: TrainingSpec) -> tuple[int, bool]:
    """Optimizer steps of the newest checkpoint or the finished training; and whether a run would skip this training."""
    work = folder.tune_of(spec)
    if (summary := read_summary(work)) is not None:
        return summary.steps, (folder.adapter_of(spec) / ADAPTER_RECORD).exists()
    names = [path.parent.name for path in (work / "checkpoints").glob("step-*/state.json")]
    return max((int(name.removeprefix("step-")) for name in names), default=0), False


def _free(path: Path) -> int:
    path = path.absolute()
    while not is_there(path):
        path = path.parent
    return shutil.disk_usage(path).free
