"""How the demo prints: at most 100 columns, colours only on a terminal."""

import os
import sys

WIDTH = 98
_COLOURS = sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _code(number):
    return lambda text: f"\x1b[{number}m{text}\x1b[0m" if _COLOURS else str(text)


bold = _code(1)
dim = _code(2)
green = _code(32)
cyan = _code(36)


def heading(text):
    """A heading over a part of the demo."""
    print(f"\n{bold(f'== {text} ==')}", flush=True)


def line(text=""):
    """One line, indented."""
    print(f"  {text}".rstrip(), flush=True)


def fit(text, width):
    """`text` cut to `width` columns, the cut shown."""
    return text if len(text) <= width else text[: width - 1] + "…"


def size(count):
    """Bytes as people say them, decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000


def milliseconds(value):
    """A duration in milliseconds, three digits that count."""
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def count(number, thing):
    """A number of things, with the plural where it belongs."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"
