"""`steel submission diff A B`: where two submissions of the same strips differ, and how much."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import metrics, rle
from steel.competition import CLASSES, HEIGHT, N_CLASSES, WIDTH
from steel.data.images import list_images, read_strip
from steel.errors import UserError, shorten
from steel.kaggle.check import Submission
from steel.kaggle.score import count_pixels
from steel.report.overlay import compare, write_png
from steel.report.sheets import N_SHOWN, caption
from steel.report.text import text_table

N_LISTED = 10  # strips named as the most different


@dataclass(frozen=True)
class Difference:
    """Two submissions of the same n strips.

    Attributes:
        a, b: the two; strips are taken in A's order.
        a_px, b_px, overlap_px: px shown by A, by B and by both, each (n, 4) int64.
    """

    a: Submission
    b: Submission
    a_px: NDArray[np.int64]
    b_px: NDArray[np.int64]
    overlap_px: NDArray[np.int64]

    @property
    def px(self) -> NDArray[np.int64]:
        """Px that only one of the two shows, (n, 4)."""
        return self.a_px + self.b_px - 2 * self.overlap_px

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice between the two, (n, 4); 1 where both show nothing."""
        return metrics.dice(self.a_px, self.b_px, self.overlap_px)

    @property
    def rows(self) -> list[int]:
        """Strips that differ, the most different first: those of the least Dice over the classes, then of most px."""
        order = np.lexsort((-self.px.sum(1), self.dice.sum(1)))
        return [int(i) for i in order if self.px[i].any()]


def diff(a: Submission, b: Submission) -> Difference:
    """Compare two submissions; strips that only one of them has are a UserError."""
    for one, other in ((a, b), (b, a)):
        if missing := sorted(set(one.image_ids) - set(other.image_ids)):
            raise UserError(f"{other.path} has no row for {shorten(missing)} of {one.path}: expected the same strips")
    return Difference(a, b, *count_pixels(a.image_ids, a.masks, b.masks))


def format_difference(found: Difference) -> str:
    """A table by class (strips shown by each, rows and px that differ, mean Dice), and the most different strips."""
    rows = [_row(f"class {k}", found, np.s_[:, k - 1]) for k in CLASSES] + [_row("all", found, np.s_[:, :])]
    lines = [f"A: {found.a.path}", f"B: {found.b.path}", f"{len(found.px)} strips, {len(found.rows)} of them differ"]
    lines.append(text_table(["", "A shows", "B shows", "rows differ", "px differ", "mean Dice"], rows))
    if found.rows:
        lines.append("the most different strips:")
    for i in found.rows[:N_LISTED]:
        lines.append(f"  {found.a.image_ids[i]}  {_words(found, i)}")
    return "\n".join(lines)


def check_gallery(images: Path, out: Path) -> None:
    """Refuse a folder of strips or a PNG with which `write_gallery` could do nothing: before the long work."""
    if out.suffix != ".png":
        raise UserError(f"--out: {out} is not a PNG; allowed: a name that ends in .png")
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; allowed: a file that ends in .png")
    list_images(images)


def write_gallery(found: Difference, images: Path, out: Path) -> None:
    """Write the most different strips as PNG, A above and B below, outlined; `images` is the folder of the strips."""
    if not found.rows:
        raise UserError(f"--out: {out}: nothing to draw, {found.a.path} and {found.b.path} show the same")
    parts = [caption("A above, B below", legend=True)]
    for i in found.rows[:N_SHOWN]:
        image_id = found.a.image_ids[i]
        strip = read_strip(images / image_id)
        parts.append(caption(f"{image_id}  {_words(found, i)}"))
        parts.append(compare(strip, _masks(found.a, image_id), _masks(found.b, image_id)))
    write_png(out, np.concatenate(parts))


def _row(name: str, found: Difference, part: tuple) -> list[str]:
    """One line of the table, of the (strip, class) pairs that `part` picks."""
    shows = [str(np.count_nonzero(px[part])) for px in (found.a_px, found.b_px)]
    px = found.px[part]
    return [name, *shows, str(np.count_nonzero(px)), str(px.sum()), f"{found.dice[part].mean():.5f}"]


def _words(found: Difference, i: int) -> str:
    """What differs on a strip."""
    texts = []
    for k in np.flatnonzero(found.px[i]):
        shown = f"A {found.a_px[i, k]} px, B {found.b_px[i, k]} px"
        texts.append(f"class {k + 1}: {shown}, Dice {found.dice[i, k]:.3f}")
    return "; ".join(texts)


def _masks(found: Submission, image_id: str) -> NDArray[np.bool_]:
    """The masks of a strip, (4, 256, 1600)."""
    masks = np.zeros((N_CLASSES, HEIGHT, WIDTH), np.bool_)
    for k in CLASSES:
        if text := found.masks.get((image_id, k)):
            masks[k - 1] = rle.decode(text)
    return masks
