"""The worker's log on the console of `dev`: the lines that its runs write, out of Dagster's output."""

import sys
from pathlib import Path

from matching_pipeline.logs import MARK


class LogFollower:
    """Prints the lines that came since the last call: warnings and errors, with `verbose` all."""

    def __init__(self, log: Path, *, verbose: bool) -> None:
        self._log = log
        self._verbose = verbose
        self._read = log.stat().st_size
        self._rest = b""

    def __call__(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        self._read += len(new)
        *lines, self._rest = (self._rest + new).split(b"\n")
        for line in lines:
            before, mark, _ = line.decode(errors="replace").partition(MARK)
            if mark and (self._verbose or not before.endswith((" INFO", " DEBUG"))):
                print(line.decode(errors="replace"), file=sys.stderr, flush=True)
