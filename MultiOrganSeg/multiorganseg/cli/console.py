"""The consoles that every command writes to."""

from rich.console import Console

out = Console(highlight=False)
"""Standard output: results."""

err = Console(stderr=True, highlight=False)
"""Standard error: errors, warnings and progress."""
