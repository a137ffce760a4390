"""Problem tables: what comes with the program, what is refused and how, and choosing rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microbench.errors import InputError
from microbench.kernels import KERNELS, kernel
from microbench.kernels.gemm import GemmProblem
from microbench.kernels.sparse_gemm import SparseGemmProblem
from microbench.problem import ITEM_BYTES, PRECISIONS, Precision
from microbench.tables import (
    Row,
    distinct,
    filter_rows,
    load_problems,
    parse_problem,
    problem_sets,
    read_table,
    table_path,
)

SUITES = ("training", "inference_server", "inference_device")
HEADER = "suite,m,n,k,a_transposed,b_transposed,application\n"
GOOD = HEADER + "training,1760,16,1760,false,false,DeepSpeech\n"


@dataclass(frozen=True)
class AnyProblem:
    """A problem with a column of each kind."""

    kernel: ClassVar[str] = "any"

    size: int
    pad: int = field(metadata={"minimum": 0})
    mode: str = field(metadata={"choices": ("fast", "slow")})
    share: float = field(metadata={"minimum": 0})
    name: str = "x"
    width: int = 0
    flag: bool = False

    def __post_init__(self) -> None:
        if self.pad > self.size:
            raise InputError(f"pad {self.pad} is larger than size {self.size}; lower it")

    def flops(self) -> int:
        return self.size

    def bytes(self, precision: Precision) -> int:
        return self.size * ITEM_BYTES[precision.storage]


def columns(row: Row) -> dict[str, Any]:
    return vars(row.problem)


def written(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "sizes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def fault(path: Path, problem_type: type = GemmProblem) -> str:
    """The message of the InputError that reading gives: one line, and the file named first."""
    with pytest.raises(InputError) as caught:
        read_table(path, problem_type)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert ";" in message  # the remedy
    return message.removeprefix(str(path))


def rows_or_message(call: Callable[[], list[Row]]) -> list[Row] | str:
    try:
        return call()
    except InputError as error:
        return str(error)


# What comes with the program


@pytest.mark.parametrize(
    ("name", "training", "inference_server", "inference_device"),
    [
        ("gemm", 160, 75, 13),
        ("conv", 94, 107, 16),
        ("rnn", 53, 69, 3),
        ("allreduce", 7, 0, 0),
        ("sparse_gemm", 0, 24, 8),
    ],
)
def test_every_deepbench_problem_is_there(
    name: str, training: int, inference_server: int, inference_device: int
) -> None:
    rows = load_problems(name, "deepbench")
    suites = Counter(row.labels["suite"] for row in rows)
    assert [suites[suite] for suite in SUITES] == [training, inference_server, inference_device]
    assert len(rows) == training + inference_server + inference_device
    assert [row.labels["suite"] for row in rows] == sorted(
        (row.labels["suite"] for row in rows), key=SUITES.index
    )


def test_the_deepbench_products_amount_to_their_operations() -> None:
    rows = load_problems("gemm", "deepbench")
    assert sum(row.problem.flops() for row in rows) == 28_532_714_000_000
    assert rows[0].problem == GemmProblem(1760, 16, 1760)
    assert Counter((columns(row)["a_transposed"], columns(row)["b_transposed"]) for row in rows) == {
        (False, False): 165,
        (True, False): 73,
        (False, True): 10,
    }
    assert len(distinct(rows)) == 243


@pytest.mark.parametrize("name", KERNELS)
def test_every_set_can_be_read_and_says_where_it_comes_from(name: str) -> None:
    assert {"deepbench", "smoke"} <= set(problem_sets(name))
    for table in problem_sets(name):
        rows = load_problems(name, table)
        assert {type(row.problem) for row in rows} == {kernel(name).PROBLEM}
        text = table_path(name, table).read_text()
        comment = text[: text.index("\n", text.rindex("#"))]
        assert re.search("DeepBench|arXiv|CVPR", comment)
        assert [row.source for row in rows] == [
            f"{table_path(name, table)}:{comment.count(chr(10)) + 3 + index}" for index in range(len(rows))
        ]


@pytest.mark.parametrize("name", KERNELS)
def test_smoke_is_small_and_uses_every_option(name: str) -> None:
    rows = load_problems(name, "smoke")
    assert len(rows) == len(distinct(rows))
    assert sum(row.problem.flops() for row in rows) < 10**9
    assert sum(row.problem.bytes(PRECISIONS["fp64"]) for row in rows) < 10**9
    for column in columns(rows[0]):
        assert len({columns(row)[column] for row in rows}) > 1, column
    assert any(row.labels["source"] == "odd" for row in rows)


def test_smoke_has_the_four_pairs_of_transposes_and_every_cell() -> None:
    for name in ("gemm", "sparse_gemm"):
        rows = load_problems(name, "smoke")
        assert len({(columns(row)["a_transposed"], columns(row)["b_transposed"]) for row in rows}) == 4
    assert {columns(row)["cell"] for row in load_problems("rnn", "smoke")} >= {"vanilla", "lstm", "gru"}


@pytest.mark.parametrize("name", KERNELS)
def test_problems_are_hashable_and_measurable_in_every_precision(name: str) -> None:
    for row in load_problems(name, "deepbench"):
        assert row.problem in {row.problem}
        assert all(row.problem.bytes(precision) > 0 for precision in PRECISIONS.values())


# Reading


def test_a_table_is_read_in_order_with_its_labels_and_lines(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "# made up\n# for a test\nnetwork, layer, k ,n,m,b_transposed\n"
        '"#1", "a, b", 3 ,\t2,1,true\n\n,,6,5,4,false\n,,6,5,4,false\n',
    )
    first = Row(GemmProblem(1, 2, 3, False, True), {"network": "#1", "layer": "a, b"}, f"{path}:4")
    second = Row(GemmProblem(4, 5, 6), {"network": "", "layer": ""}, f"{path}:6")
    assert read_table(path, GemmProblem) == [first, second, Row(second.problem, second.labels, f"{path}:7")]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_byte_order_marks_and_line_ends_do_not_matter(
    tmp_path: Path, mark: bytes, line_end: bytes, last: bool
) -> None:
    content = mark + ("# Größe\n" + GOOD).encode().replace(b"\n", line_end)
    path = written(tmp_path, content if last else content.removesuffix(line_end))
    assert read_table(path, GemmProblem) == [
        Row(GemmProblem(1760, 16, 1760), {"suite": "training", "application": "DeepSpeech"}, f"{path}:3")
    ]


def test_every_kind_of_column_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "name,size,flag,pad,share,mode\ny,2,true,0,.5,slow\nz,3,false,1,1e-3,fast\n")
    assert [row.problem for row in read_table(path, AnyProblem)] == [
        AnyProblem(2, 0, "slow", 0.5, "y", flag=True),
        AnyProblem(3, 1, "fast", 0.001, "z"),
    ]


def test_the_value_of_a_column_left_out_may_be_written(tmp_path: Path) -> None:
    path = written(tmp_path, "size,pad,mode,share,width\n2,0,slow,0,0\n")
    assert read_table(path, AnyProblem)[0].problem == AnyProblem(2, 0, "slow", 0.0)


sizes = st.integers(1, 2**31 - 1)
problems = st.builds(GemmProblem, sizes, sizes, sizes, st.booleans(), st.booleans()).filter(
    lambda problem: problem.flops() < 2**63 and problem.bytes(PRECISIONS["fp64"]) < 2**63
)
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), max_size=20
).filter(
    lambda text: not text.startswith("#")  # a comment, unless it is quoted
)


@given(st.lists(st.tuples(problems, texts), min_size=1, max_size=5), st.permutations(range(7)))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[GemmProblem, str]], order: list[int]
) -> None:
    names = ["m", "n", "k", "a_transposed", "b_transposed", "batch", "application"]
    path = tmp_path_factory.mktemp("table") / "sizes.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([names[index] for index in order])
        for problem, text in rows:
            cells = [*(str(value).lower() for value in vars(problem).values()), text]
            writer.writerow([cells[index] for index in order])
    read = read_table(path, GemmProblem)
    assert [row.problem for row in read] == [problem for problem, _ in rows]
    assert [row.labels["application"] for row in read] == [text.strip(" \t") for _, text in rows]


# Refusing


def table_with(cell: str, column: str = "m") -> str:
    cells = {"m": "1", "n": "2", "k": "3", "a_transposed": "false", column: cell}
    return ",".join(cells) + "\n" + ",".join(cells.values()) + "\n"


@pytest.mark.parametrize(
    "cell",
    [
        "1.0",
        "1e3",
        "0x10",
        "1_000",
        "+5",
        "five",
        "NaN",
        "inf",
        "1,5",
        "-",
        "--",
        "1-",
        "５",
        "²",
        "\xa01760",
        "1760\xa0",
        "0b1",
        "true",
    ],
)
def test_sizes_are_whole_numbers_in_digits(tmp_path: Path, cell: str) -> None:
    message = fault(written(tmp_path, table_with(f'"{cell}"')))
    assert message.startswith(":2: m is ")
    assert "whole number in digits" in message


@pytest.mark.parametrize("cell", ["0", "-1", "-0", "00", "-99999999999999999999"])
def test_sizes_are_positive(tmp_path: Path, cell: str) -> None:
    assert re.match(r":2: m is '.*'; it must be at least 1$", fault(written(tmp_path, table_with(cell))))


@pytest.mark.parametrize("cell", [str(2**31), "9" * 20, "9" * 10_000])
def test_sizes_have_a_limit(tmp_path: Path, cell: str) -> None:
    message = fault(written(tmp_path, table_with(cell)))
    assert message.endswith("the largest size is 2147483647")
    assert len(message) < 200


@pytest.mark.parametrize("cell", ["", " ", "\t"])
def test_empty_cells_are_refused(tmp_path: Path, cell: str) -> None:
    assert fault(written(tmp_path, table_with(cell))) == ":2: m is empty; write a value"


@pytest.mark.parametrize("cell", ["True", "FALSE", "1", "0", "yes", "t", "N"])
def test_options_are_true_or_false(tmp_path: Path, cell: str) -> None:
    message = fault(written(tmp_path, table_with(cell, "a_transposed")))
    assert message == f":2: a_transposed is '{cell}'; write true or false"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("2,-1,fast,0", "pad is '-1'; it must be at least 0"),
        ("2,0,quick,0", "mode is 'quick'; it must be one of fast, slow"),
        ("2,0,fast,nan", "share is 'nan'; write a number such as 0.95"),
        ("2,0,fast,1e999", "share is '1e999'; write a number such as 0.95"),
        ("2,0,fast,-0.5", "share is '-0.5'; it must be at least 0"),
        ("2,3,fast,0", "pad 3 is larger than size 2; lower it"),
    ],
)
def test_the_limits_of_a_column_and_of_a_problem_hold(tmp_path: Path, cells: str, message: str) -> None:
    assert fault(written(tmp_path, f"size,pad,mode,share\n{cells}\n"), AnyProblem) == f":2: {message}"


@pytest.mark.parametrize("sparsity", ["1", "1.5", "1e9"])
def test_a_sparse_matrix_has_non_zeros(tmp_path: Path, sparsity: str) -> None:
    message = fault(written(tmp_path, f"m,n,k,sparsity\n1,1,1,{sparsity}\n"), SparseGemmProblem)
    assert "share of zeros in 0 <= sparsity < 1" in message


@pytest.mark.parametrize(
    ("row", "what"),
    [("2147483647,2147483647,2147483647", "operations"), ("2147483647,1073741824,1", "bytes")],
)
def test_problems_too_large_to_count_are_refused(tmp_path: Path, row: str, what: str) -> None:
    assert fault(written(tmp_path, f"m,n,k\n{row}\n")) == (
        f":2: the problem has 2^63 {what} or more; choose smaller sizes"
    )


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("m,n", ":1: the header lacks k; add it and a cell to each row"),
        ("suite", ":1: the header lacks m, n, k; add it and a cell to each row"),
        (
            "m,n,k,a_transpose",
            ":1: no column 'a_transpose' (did you mean a_transposed?); there are m, n, k, ",
        ),
        ("M,n,k", ":1: no column 'M' (did you mean m?); there are m, n, k, "),
        ("m,n,k,precision", ":1: no column 'precision'; there are m, n, k, "),
        ("m,n,k,", ":1: no column ''; there are m, n, k, "),
        ("m,n,k,m", ":1: column m is there 2 times; keep one"),
        ("m,n,k,suite,suite,suite", ":1: column suite is there 3 times; keep one"),
        ("m;n;k", ":1: no column 'm;n;k'"),
    ],
)
def test_headers_are_held_to_the_problem(tmp_path: Path, header: str, message: str) -> None:
    assert fault(written(tmp_path, f"{header}\n1,2,3\n")).startswith(message)


@pytest.mark.parametrize("row", ["1,2", "1,2,3,4", "1", "1,2,3,"])
def test_rows_have_a_cell_for_each_column(tmp_path: Path, row: str) -> None:
    message = fault(written(tmp_path, f"# a comment\nm,n,k\n1,2,3\n{row}\n"))
    count = row.count(",") + 1
    assert message == f":4: {count} cells where the header names 3 columns; write one for each of m,n,k"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ": the table is empty; its header must name m,n,k"),
        (b"\n\n", ": the table is empty; its header must name m,n,k"),
        (b"\xef\xbb\xbf", ": the table is empty; its header must name m,n,k"),
        (b"# only a comment\n", ": the table is empty; its header must name m,n,k"),
        (b"# c\nm,n,k\n\n", ":2: no problem follows the header; add a row with m,n,k"),
        (b"m,n,k\n1,2,3\n# late\n", ":3: a comment below the header; comments come before it"),
        ("m,n,k\n1,2,3\n".encode("utf-16"), ":1: byte 0xff is not UTF-8; "),
        ("m,n,k\n1,2,3\n".encode("utf-16-be"), ":1: control character '\\x00'; "),
        (b"m,n,k\n1,2,3\0\n", ":2: control character '\\x00'; "),
        (b"m,n,k,layer\n1,2,3,\x1b[31m\n", ":2: control character '\\x1b'; "),
        (b"m,n,k\r1,2,3\r", ":1: control character '\\r'; "),
        ("m,n,k,suite\n1,2,3,Größe\n".encode("latin-1"), ":2: byte 0xf6 is not UTF-8; "),
        (b'm,n,k,suite\n1,2,3,"open\n4,5,6,x\n', ":2: not a row of CSV ("),
        (b'm,n,k,suite\n1,2,3,"a"b\n', ":2: not a row of CSV ("),
        (b"m,n,k,suite\n1,2,3," + b"x" * 200_000 + b"\n", ":2: not a row of CSV ("),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    assert fault(written(tmp_path, content)).startswith(message)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert fault(tmp_path) == ": cannot be read (Is a directory); name a CSV file"
    assert "No such file" in fault(tmp_path / "nothing.csv")


@given(st.binary(max_size=200) | st.text(alphabet='mnk,"123\n#-.truefals \r', max_size=200).map(str.encode))
def test_whatever_the_bytes_are_the_answer_is_rows_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("table") / "sizes.csv"
    for prefix in (b"", b"m,n,k\n"):
        path.write_bytes(prefix + content)
        answer = rows_or_message(lambda: read_table(path, GemmProblem))
        if isinstance(answer, str):
            assert answer.startswith(str(path))
            assert answer.isprintable()
        else:
            assert answer
            assert all(isinstance(row.problem, GemmProblem) for row in answer)


# Finding


def test_a_set_is_found_by_name_and_a_table_by_path(tmp_path: Path) -> None:
    assert table_path("gemm", "smoke").name == "smoke.csv"
    path = written(tmp_path, GOOD)
    assert table_path("gemm", str(path)) == path
    assert [row.problem for row in load_problems("gemm", str(path))] == [GemmProblem(1760, 16, 1760)]


@pytest.mark.parametrize("name", ["smok", "depbench", "", "no/such/file.csv", "x\0y", "y" * 5000, "a\nb"])
def test_what_is_neither_lists_the_sets(name: str) -> None:
    with pytest.raises(InputError) as caught:
        table_path("gemm", name)
    message = str(caught.value)
    assert message.startswith("--problems '")
    assert message.endswith("; the sets are deepbench, smoke")
    assert message.isprintable()
    assert ("(did you mean smoke?)" in message) == (name == "smok")
    assert ("(did you mean deepbench?)" in message) == (name == "depbench")


def test_kernels_are_imported_by_name() -> None:
    for name in KERNELS:
        assert kernel(name).PROBLEM.kernel == name
    with pytest.raises(
        InputError, match="no kernel 'gem'; there are gemm, conv, rnn, allreduce, sparse_gemm"
    ):
        kernel("gem")


# One problem


def test_a_problem_from_the_command_line() -> None:
    row = parse_problem("gemm", "k=3, m=1 ,n=2,b_transposed=true")
    assert row.problem == GemmProblem(1, 2, 3, False, True)
    assert row.labels == {}
    assert row.source == "--problem k=3, m=1 ,n=2,b_transposed=true"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is not COLUMN=VALUE; write as in m=64,n=64,k=64"),
        ("m=1,n=2", "k not given; write as in m=64,n=64,k=64"),
        ("m=1,n=2,k", "'k' is not COLUMN=VALUE; write as in m=64,n=64,k=64"),
        ("m=1,n=2,k=3,", "'' is not COLUMN=VALUE; write as in m=64,n=64,k=64"),
        ("m=1,n=2,k=3,k=3", "k is given twice; give it once"),
        ("m=1,n=2,k=", "k is empty; write a value"),
        ("m=1,n=2,k=3=4", "k is '3=4'; write a whole number in digits, such as 1760"),
        ("m=1,n=2,k=0", "k is '0'; it must be at least 1"),
        ("m=1,n=2,k=3,b_transposed=T", "b_transposed is 'T'; write true or false"),
        (
            "m=1,n=2,kk=3",
            "no column 'kk' (did you mean k?); there are m, n, k, a_transposed, b_transposed, batch",
        ),
        ("m=1,n=2,k=3,suite=x", "no column 'suite'; there are m, n, k, a_transposed, b_transposed, batch"),
    ],
)
def test_faults_of_a_problem_name_the_option(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_problem("gemm", text)
    assert str(caught.value) == f"--problem {text}: {message}"


@given(st.text())
def test_any_text_is_a_problem_or_one_sentence(text: str) -> None:
    answer = rows_or_message(lambda: [parse_problem("gemm", text)])
    if isinstance(answer, str):
        assert answer.startswith("--problem ")
        assert answer.isprintable()
    else:
        assert isinstance(answer[0].problem, GemmProblem)


# Choosing


def rows_of(*problems: GemmProblem, **labels: str) -> list[Row]:
    return [Row(problem, dict(labels), f"t.csv:{index}") for index, problem in enumerate(problems, 2)]


small = st.builds(GemmProblem, st.integers(1, 4), st.just(1), st.just(1), st.booleans())


@given(st.lists(small, min_size=1), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 5))
def test_numbers_compare_as_in_python(problems: list[GemmProblem], symbol: str, value: int) -> None:
    rows = rows_of(*problems)
    operator = "==" if symbol == "=" else symbol
    expected = [row for row in rows if eval(f"{columns(row)['m']} {operator} {value}")]
    for expression in (f"m{symbol}{value}", f" m {symbol} {value}.0 "):
        if expected:
            assert filter_rows(rows, [expression]) == expected
        else:
            with pytest.raises(InputError, match="no problem is left"):
                filter_rows(rows, [expression])


@pytest.mark.parametrize(
    ("expressions", "count"),
    [
        ([], 248),
        (["suite=training"], 160),
        (["suite!=training"], 88),
        (["suite=inference_*"], 88),
        (["suite=*_device"], 13),
        (["suite!=*_*"], 160),
        (["a_transposed=true"], 73),
        (["a_transposed!=true"], 175),
        (["a_transposed=false", "b_transposed=false"], 165),
        (["application="], 17),
        (["application=DeepSpeech, gru*"], 33),
        (["suite = training", "n >= 1500", "n<=7000"], 9),
    ],
)
def test_rows_are_chosen_by_options_and_labels(expressions: list[str], count: int) -> None:
    rows = load_problems("gemm", "deepbench")
    chosen = filter_rows(rows, expressions)
    assert len(chosen) == count
    assert [row for row in rows if row in chosen] == chosen


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("q=3", "no column 'q'; there are m, n, k, a_transposed, b_transposed, batch, suite"),
        ("a_transpose=true", "no column 'a_transpose' (did you mean a_transposed?); there are m, n, k, "),
        ("m", "not COLUMN OP VALUE; write as in m>=1024 or suite=training"),
        ("=3", "not COLUMN OP VALUE; write as in m>=1024 or suite=training"),
        ("m==3", "no operator ==; there are = != < <= > >="),
        ("m=>3", "no operator =>; there are = != < <= > >="),
        ("m<>3", "no operator <>; there are = != < <= > >="),
        ("m<many", "the column holds numbers, 'many' is none; write digits"),
        ("m=", "the column holds numbers, '' is none; write digits"),
        ("a_transposed=1", "'1' is no boolean; write true or false"),
        ("a_transposed<true", "the column holds true or false, which < does not compare; use = or !="),
        ("suite<training", "the column holds text, which < does not compare; use = or !="),
        ("m>2", "no problem is left of 2; m is 1 to 2 in them"),
        ("suite=tr.*", "no problem is left of 2; suite is 'training' in them"),
        ("a_transposed=true", "no problem is left of 2; a_transposed is false in them"),
    ],
)
def test_faults_of_a_filter_name_it(expression: str, message: str) -> None:
    rows = rows_of(GemmProblem(1, 1, 1), GemmProblem(2, 1, 1), suite="training")
    with pytest.raises(InputError) as caught:
        filter_rows(rows, [expression])
    assert str(caught.value).startswith(f"--where {expression}: {message}")


def test_each_problem_once_with_the_labels_of_all_its_rows() -> None:
    first, other = GemmProblem(1, 1, 1), GemmProblem(1, 1, 1, True)
    rows = [
        Row(first, {"suite": "training", "application": ""}, "t.csv:2"),
        Row(other, {"suite": "training"}, "t.csv:3"),
        Row(first, {"suite": "inference", "application": "x"}, "t.csv:4"),
        Row(first, {"suite": "training", "layer": "7"}, "t.csv:5"),
    ]
    assert distinct(rows) == [
        Row(first, {"suite": "training; inference", "application": "x", "layer": "7"}, "t.csv:2"),
        rows[1],
    ]
    assert rows[0].labels == {"suite": "training", "application": ""}


@given(st.lists(small))
def test_distinct_keeps_order_and_loses_no_problem(problems: list[GemmProblem]) -> None:
    rows = distinct(rows_of(*problems))
    assert [row.problem for row in rows] == list(dict.fromkeys(problems))
    assert distinct(rows) == rows
