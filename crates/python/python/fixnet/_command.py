"""The command ``fixnet``."""

from __future__ import annotations

import signal
import sys

from . import _fixnet


def main() -> None:
    """Runs the command with the arguments of this process."""
    # The command handles Ctrl-C itself: it saves a run that trains.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(_fixnet.run_command(["fixnet", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
