"""Which algorithm at which workspace: what stored runs of convolution say, and how to measure more (``measure``)."""

from __future__ import annotations

from microbench.study.layers import Study
from microbench.study.reading import load
from microbench.study.section import Question, Section, section, section_of
from microbench.study.tables import Table

__all__ = ["Question", "Section", "Study", "Table", "load", "section", "section_of"]
