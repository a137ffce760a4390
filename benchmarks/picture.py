"""Draws a stored run as the terminal shows it, as an SVG file.

python benchmarks/picture.py results/DEVICE/gemm-smoke docs/gemm.svg
"""

from __future__ import annotations

import argparse
import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from microbench.figures import WIDTH
from microbench.formats import write
from microbench.store import Run


def main() -> None:
    """Reads the run and writes the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--precision", default="fp32", help="whose rows are drawn (default: fp32)")
    arguments = parser.parse_args()
    table = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    rows = [row for row in Run.load(arguments.run).summaries() if row.precision == arguments.precision]
    write(rows, "table", table)
    table.seek(0)
    console = Console(record=True, width=WIDTH + 8, file=io.StringIO())
    for line in table.read().splitlines():
        console.print(Text(line), soft_wrap=True)
    picture = console.export_svg(title=f"microbench show {arguments.run}")
    # Fonts from elsewhere would be fetched by whoever looks at the page.
    picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
    arguments.picture.write_text(picture.replace("Fira Code", "DejaVu Sans Mono"))


if __name__ == "__main__":
    main()
