"""Progress of a run: a bar where tqdm is installed, and lines otherwise."""

from __future__ import annotations

import sys
import time
from typing import Any, Optional


def _bar() -> Any:
    """Returns the bar of tqdm that fits a terminal or a notebook; None without tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm


class Progress:
    """Shows the steps of a run while it trains."""

    def __init__(self, shown: Optional[bool]) -> None:
        # In logs of other programs a bar is noise.
        self._shown = sys.stderr.isatty() or _in_notebook() if shown is None else shown
        self._tqdm = _bar() if self._shown else None
        self._shown_bar: Any = None
        self._last = 0.0

    def step(self, step: int, steps: int, epoch: int, epochs: int, loss: float, rate: float) -> None:
        """Shows where training stands."""
        if not self._shown:
            return
        text = f"epoch {min(epoch + 1, epochs)}/{epochs}, loss {loss:.4f}, {rate:.0f} samples/s"
        if self._tqdm is not None:
            if self._shown_bar is None:
                self._shown_bar = self._tqdm(total=steps, initial=step, unit="step", leave=False)
            self._shown_bar.n = step
            self._shown_bar.set_postfix_str(text, refresh=False)
            self._shown_bar.refresh()
            return
        now = time.monotonic()
        if now - self._last >= 5.0:
            self._last = now
            print(f"step {step}/{steps}, {text}", file=sys.stderr)

    def close(self) -> None:
        """Removes the bar."""
        if self._shown_bar is not None:
            self._shown_bar.close()


def _in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell = get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
