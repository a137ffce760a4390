"""Who may import whom, and what the command line loads before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import microbench
from microbench.commands import NAMES

PACKAGE = Path(microbench.__file__).parent
COMPILED = {f"microbench.{name}" for name in ("_cpu", "_onednn", "_probe", "_cuda", "_mpi")}
READERS = (
    "store.py",
    "figures.py",
    "formats.py",
    "summarise.py",
    "sources.py",
    "roofline.py",
    "published/*.py",
    "comparison/*.py",
    "report/*.py",
    "model/*.py",
    "network/*.py",
    "study/*.py",
)
MEASURING = {"microbench.runner", "microbench.worker", "microbench.process", "microbench.measuring"}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, wherever in it, except for type checking."""
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    checking = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in checking:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("microbench")}


def modules(*patterns: str) -> list[Path]:
    files = [path for pattern in patterns for path in sorted(PACKAGE.glob(pattern))]
    assert files
    return files


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", modules("stats.py"), ids=name_of)
def test_statistics_know_arrays_only(path: Path) -> None:
    assert imports(path) == set()


@pytest.mark.parametrize(
    "path", [path for path in modules(*READERS) if path.name != "measure.py"], ids=name_of
)
def test_readers_of_stores_need_no_measuring(path: Path) -> None:
    forbidden = COMPILED | MEASURING | {"microbench.backends"}
    assert not {name for name in imports(path) if any(name.startswith(each) for each in forbidden)}


@pytest.mark.parametrize("path", modules("kernels/*.py"), ids=name_of)
def test_kernels_know_neither_compiled_modules_nor_each_other(path: Path) -> None:
    if path.name == "__init__.py":
        return
    names = [module.stem for module in modules("kernels/*.py")]
    own = {name for name in names if path.stem.startswith(name)} | {f"{path.stem}_reference"}
    others = {f"microbench.kernels.{name}" for name in names if name not in own and name != "__init__"}
    assert not imports(path) & (COMPILED | {"microbench.stats"} | others)


def test_a_record_does_no_input_or_output() -> None:
    assert imports(PACKAGE / "record.py") <= {"microbench.problem", "microbench.problem.Scalar"}


def test_only_main_imports_the_command_line() -> None:
    users = {path.name for path in modules("**/*.py") if "microbench.cli" in imports(path)}
    assert users == {"__main__.py"}


def test_nothing_above_the_backends_names_one() -> None:
    for path in modules("*.py"):
        assert '"cuda"' not in path.read_text(), path.name


@pytest.mark.parametrize(
    "arguments", [["--help"], *([name, "--help"] for name in ("gemm", *NAMES)), ["--version"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from microbench.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'rich', 'tabulate', 'ml_dtypes', 'plotly', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr


def test_every_harness_file_is_free_of_clocks_output_and_environment() -> None:
    sources = Path(__file__).parents[1] / "kernels"
    for path in sorted(sources.glob("*/*.[ch]pp")):
        if path.parent.name == "common":
            continue
        text = path.read_text()
        for forbidden in ("<chrono>", "<iostream>", "getenv", "printf"):
            assert forbidden not in text, f"{path.name} has {forbidden}"
