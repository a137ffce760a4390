"""The command line with the fake library in place of the real ones, as a process that tests can interrupt."""

import os
import sys
from pathlib import Path

from microbench.backends import cpu
from microbench.backends.library import Library
from microbench.cli import main

HERE = str(Path(__file__).parent)


def install() -> None:
    """Makes ``fake`` the only library of the CPU backend, in this process and its workers."""
    path = os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])
    cpu.LIBRARIES.clear()
    cpu.LIBRARIES["fake"] = Library("fake", "fake_library", lambda: "", "n/a", {"PYTHONPATH": path})
    cpu.library_status.cache_clear()


if __name__ == "__main__":
    install()
    sys.exit(main())
