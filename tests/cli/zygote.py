"""A process with everything imported that is forked for each command: a real `triptych` to kill, without its start-up.

Reads JSON lines. {"argv": [...], "out": file, "cache": folder} forks one and answers its pid; {"wait": pid} answers how
it ended. Its reports' figures are sketches.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import bitsandbytes  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import peft  # noqa: F401
import rich.progress  # noqa: F401
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from drawing import sketched
from triptych.cli.main import main


def child(argv: list[str], out: str, cache: str) -> None:
    """Become the command; never returns."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.nice(5)  # whoever is to kill us at a certain moment must not wait for a core
    with Path(out).open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["triptych", *argv]
    os.environ["TRIPTYCH_CACHE"] = cache
    code = 70
    try:
        main()
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def serve() -> None:
    """Answer until stdin ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1])
        else:
            answer = os.fork()
            if answer == 0:
                child(asked["argv"], asked["out"], asked["cache"])
        print(answer, flush=True)


if __name__ == "__main__":
    print("ready", flush=True)
    with sketched():
        serve()
