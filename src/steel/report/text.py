"""Numbers and tables as text."""

from collections.abc import Sequence

from steel.report.section import Numbers, Section


def of_section(section: Section) -> list[str]:
    """Paragraphs of Markdown: heading, paragraphs, and each table below its caption and what it means."""
    lines = [f"## {section.title}", *section.lead]
    for block in section.blocks:
        if isinstance(block, Numbers):
            lines += [f"{block.caption}:", *([block.note] if block.note else []), text_table(block.head, block.rows)]
    return lines


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up in plain text too."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        [cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in [head, ["-" * w for w in widths], *rows]
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None) -> str:
    """Four decimals, or a dash for a value that does not exist."""
    return "–" if value is None else f"{value:.4f}"
