"""Numbers as a report writes them."""


def format_number(value: float, digits: int = 4) -> str:
    """To so many significant digits, never with an exponent where the number is at least one."""
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")
