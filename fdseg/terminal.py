"""What commands print for a person to read."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and what it counts: ``1 run``, ``3 runs``, ``2 studies``."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
