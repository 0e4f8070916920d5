"""`file#500`: seeded, whatever the order and the format, nested, and in memory for the sample alone."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.config.sources import split_sample
from triptych.data import Row, load_dataset, read_rows, read_source
from triptych.data.row import RawRow
from triptych.data.sampling import sample
from triptych.errors import DataError


def write(path: Path, objects: list[dict[str, str]]) -> Path:
    lines = [json.dumps(row, ensure_ascii=False) for row in objects]
    path.write_text("\n".join(lines) if path.suffix == ".jsonl" else f"[{','.join(lines)}]", encoding="utf-8")
    return path


OBJECTS = [{"id": f"r{n}", "instruction": f"問{n}", "output": f"答{n}"} for n in range(200)]


def drawn(values: list[str], n: int, seed: int = 0) -> list[str]:
    rows, total = sample((RawRow(at, {"x": value}) for at, value in enumerate(values, 1)), n, seed, "file")
    assert total == len(values)
    assert [row.number for row in rows] == sorted(row.number for row in rows)
    return [row.values["x"] for row in rows]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.integers(0, 3), st.randoms())
def test_the_order_of_rows_changes_nothing_and_samples_are_nested(
    values: list[str], seed: int, order: random.Random
) -> None:
    """Copies included: letters repeat."""
    shuffled = values.copy()
    order.shuffle(shuffled)
    smaller: Counter[str] = Counter()
    for n in range(1, len(values) + 1):
        rows = Counter(drawn(values, n, seed))
        assert rows.total() == n
        assert rows == Counter(drawn(shuffled, n, seed))
        assert smaller <= rows
        smaller = rows
    assert smaller == Counter(values)


def test_a_row_that_is_repeated_doesnt_fill_the_sample() -> None:
    values = ["same"] * 5000 + [f"row {n}" for n in range(500)]
    taken = [Counter(drawn(values, 50, seed)) for seed in range(30)]
    assert max(len(rows) for rows in taken) == 50  # mostly it isn't drawn at all
    assert min(len(rows) for rows in taken) > 1


def test_every_row_is_as_likely() -> None:
    values = [str(n) for n in range(20)]
    times = Counter(value for seed in range(400) for value in drawn(values, 5, seed))
    assert all(60 < times[value] < 145 for value in values)  # 100 expected, standard deviation 8.7


def test_files(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", OBJECTS)
    read = read_source(f"{path}#20")
    assert (len(read.rows), read.n_in_file) == (20, 200)
    assert set(read.rows) < {Row(**row) for row in OBJECTS}
    assert read_rows(tmp_path / "rows.jsonl#20") == read.rows
    assert read_rows(f"{write(tmp_path / 'rows.json', OBJECTS)}#20") == read.rows
    assert set(read_rows(f"{write(tmp_path / 'b.jsonl', OBJECTS[::-1])}#20")) == set(read.rows)
    assert read_rows(f"{path}#20", seed=1) != read.rows
    assert len(read_rows(f"{path}#200")) == 200


def test_rows_without_ids_are_called_by_their_place_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{k: v for k, v in row.items() if k != "id"} for row in OBJECTS])
    for row in read_rows(f"{path}#20"):
        assert row.instruction == f"問{int(row.id.removeprefix('row-')) - 1}"


@pytest.mark.parametrize(("asked", "found"), [("201", "201 asked for, 200 there"), ("0", "0 asked for, 200 there")])
def test_a_sample_that_cant_be_drawn(tmp_path: Path, asked: str, found: str) -> None:
    path = write(tmp_path / "rows.jsonl", OBJECTS)
    with pytest.raises(DataError, match="can't be drawn") as caught:
        read_rows(f"{path}#{asked}")
    assert caught.value.found == found
    assert caught.value.where == f"{path}#{asked}"


def test_a_number_sign_in_a_name_is_part_of_it(tmp_path: Path) -> None:
    path = write(tmp_path / "rows#1.jsonl", OBJECTS)
    assert split_sample(path) == (path, None)
    assert len(read_rows(path)) == 200
    assert len(read_rows(f"{path}#7")) == 7
    (tmp_path / "rows.jsonl#5").mkdir()
    assert split_sample(f"{tmp_path}/rows.jsonl#5")[1] is None
    assert split_sample("rows.jsonl#x") == ("rows.jsonl#x", None)
    assert split_sample("owner/name:train#50") == ("owner/name:train", 50)


def test_in_an_experiment(tmp_path: Path) -> None:
    write(tmp_path / "rows.jsonl", OBJECTS)
    settings = {"folder": tmp_path, "test": None, "train_rows": None, "test_rows": None}
    data = load_dataset(train="rows.jsonl#20", **settings)  # type: ignore[arg-type]
    facts = data.files["train"]
    assert (facts["n_rows"], facts["n_rows_used"]) == (200, 20)
    assert facts["path"] == str(tmp_path / "rows.jsonl#20")
    whole = load_dataset(train="rows.jsonl", **settings)  # type: ignore[arg-type]
    assert facts["sha256"] == whole.files["train"]["sha256"]
    assert load_dataset(train="rows.jsonl#20", seed=3, **settings).train != data.train  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".jsonl.gz", ".parquet"])
def test_a_sample_of_many_rows_takes_memory_for_the_sample_alone(tmp_path: Path, suffix: str) -> None:
    """2 million rows of 200 characters; the peak may grow by 150 MB over the interpreter's own."""
    code = """
import gzip, resource, sys
from pathlib import Path
from triptych.data import read_source
path = Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read = read_source(f"{path}#500")
assert (len(read.rows), read.n_in_file) == (500, 2_000_000), read.n_in_file
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    path = tmp_path / f"rows{suffix}"
    write_many(path, 2_000_000)
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 150, done.stdout


def write_many(path: Path, n: int) -> None:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    text = "x" * 180
    if path.suffix == ".parquet":
        with pq.ParquetWriter(path, pa.schema([("instruction", pa.string()), ("output", pa.string())])) as writer:
            for start in range(0, n, 100_000):
                asked = [f"{number} {text}" for number in range(start, start + 100_000)]
                writer.write_table(pa.table({"instruction": asked, "output": ["y"] * 100_000}))
        return
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("instruction,output\n")
        for number in range(n):
            line = (
                f"{number} {text},y\n"
                if path.suffix == ".csv"
                else f'{{"instruction":"{number} {text}","output":"y"}}\n'
            )
            file.write(line)
