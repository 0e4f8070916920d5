"""Rows: reading them, dividing them, and checking that train and test are apart. No torch here."""

from triptych.data.checks import Overlap, empty_outputs, find_overlap, normalise
from triptych.data.dataset import Dataset, load_dataset, outputs_of
from triptych.data.readers import GivenRows, RowsRead, read_rows, read_source, sample_folder
from triptych.data.row import Row
from triptych.data.sampling import split_dev, take

__all__ = [
    "Dataset",
    "GivenRows",
    "Overlap",
    "Row",
    "RowsRead",
    "empty_outputs",
    "find_overlap",
    "load_dataset",
    "normalise",
    "outputs_of",
    "read_rows",
    "read_source",
    "sample_folder",
    "split_dev",
    "take",
]
