"""A process with everything imported that is forked for each command (`fork_server.Commands`): a `triptych` to kill.

Its reports' figures are sketches.
"""

from __future__ import annotations

import os
import signal
import sys

import bitsandbytes  # noqa: F401
import matplotlib.backends.backend_agg
import matplotlib.figure  # noqa: F401
import pandas  # noqa: F401
import peft  # noqa: F401
import rich.progress  # noqa: F401
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

from drawing import sketched
from fork_server import serve
from triptych.cli.main import main


def command(argv: list[str], cache: str) -> int:
    """Run `triptych ARGV`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["triptych", *argv]
    os.environ["TRIPTYCH_CACHE"] = cache
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    raise AssertionError("main() returned instead of exiting")


if __name__ == "__main__":
    with sketched():
        serve(command)
