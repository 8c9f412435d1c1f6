"""Numbers and tables as text."""


def text_table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        [cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in [head, ["-" * w for w in widths], *rows]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Four decimals, or a dash for a value that does not exist."""
    return "–" if value is None else f"{value:.4f}"
