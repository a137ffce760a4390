"""Judging runs against each other: which is faster at what, by how much, and how sure that is.

`matching` finds what may be compared and says why the rest may not, `judging` compares it, `setup` lists what else
differs, `report` puts it together, `text` writes it down. `gate` is the regression check and `recipes` has fixed
lists of problems.
"""

from microbench.comparison.report import Report, compare

__all__ = ["Report", "compare"]
