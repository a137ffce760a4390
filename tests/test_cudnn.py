"""cuDNN's harnesses on a fake device and a fake cuDNN that calculates: names, refusals, workspaces, results."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.fake_cuda import FakeCuda
from microbench.backends import cuda
from microbench.kernels import conv, rnn
from microbench.kernels.conv import ConvProblem
from microbench.kernels.rnn import RnnProblem
from microbench.problem import PRECISIONS, Case, Kernel
from microbench.store import Run
from microbench.verification import Check, numpy_type
from test_conv import problems

NO_LIMIT = 2**63 - 1
ROOT = Path(__file__).parent.parent
FORWARD = (
    "implicit_gemm", "implicit_precomp_gemm", "gemm", "direct", "fft", "fft_tiling", "winograd", "winograd_nonfused",
)  # fmt: skip
SMALL = ConvProblem(w=7, h=6, c=8, n=2, k=4, filter_w=3, filter_h=3, pad_w=1, pad_h=1, stride_w=1, stride_h=1)
LAYER = RnnProblem("lstm", hidden_size=8, batch_size=3, time_steps=4)


@st.composite
def layers(draw: st.DrawFn) -> RnnProblem:
    """Any small stack that cuDNN has."""
    return RnnProblem(
        draw(st.sampled_from(("vanilla", "vanilla_tanh", "lstm", "gru"))),
        hidden_size=draw(st.integers(1, 9)),
        batch_size=draw(st.integers(1, 3)),
        time_steps=draw(st.integers(1, 4)),
        input_size=draw(st.integers(0, 7)),
        layers=draw(st.integers(1, 3)),
        bidirectional=draw(st.booleans()),
    )


@pytest.fixture(scope="module")
def fake() -> FakeCuda:
    return FakeCuda.built()


def request(fake: FakeCuda, case: Case, limit: int = NO_LIMIT) -> Any:
    return fake.module.Request(
        kernel=case.problem.kernel,
        library="cudnn",
        library_path=fake.library("cudnn"),
        algorithm=case.algorithm,
        precision=case.precision.name,
        problem={**dataclasses.asdict(case.problem), "pass": case.pass_, "layout": case.layout},
        threads=1,
        workspace_limit=limit,
    )


def conv_case(
    precision: str = "fp32",
    pass_: str = "forward",
    layout: str = "nchw",
    algorithm: str = "auto",
    problem: ConvProblem = SMALL,
) -> Case:
    return Case(problem, PRECISIONS[precision], pass_, layout, algorithm)


def rnn_case(
    problem: RnnProblem = LAYER, pass_: str = "forward", precision: str = "fp32", algorithm: str = "auto"
) -> Case:
    return Case(problem, PRECISIONS[precision], pass_, "tnc", algorithm)


def opened(fake: FakeCuda, case: Case, limit: int = NO_LIMIT) -> Any:
    return fake.module.Session(request(fake, case, limit))


def judged(fake: FakeCuda, case: Case, seed: int = 0, cold: bool = False) -> Check:
    """The result of the second of two executions on random inputs, the outputs poisoned before."""
    session = opened(fake, case)
    kernel: Kernel = {"conv": conv, "rnn": rnn}[case.problem.kernel]
    case = dataclasses.replace(case, implementation=session.implementation)
    operands = {}
    for name, (element_type, is_output) in session.operands.items():
        operands[name] = session.memory(name).view(numpy_type(element_type))
        if is_output:
            session.memory(name)[:] = 0xFF
    kernel.fill(case, operands, np.random.default_rng(seed), exact=False)
    session.prepare()
    session.measure(2, 1, fake.module.CacheFlusher(1 << 12) if cold else None)
    session.collect()
    return kernel.check(case, operands, exact=False)


def assert_right(fake: FakeCuda, case: Case, seed: int = 0, cold: bool = False) -> None:
    check = judged(fake, case, seed, cold)
    assert check.ok, f"{case}: {check.reason}"


def algorithms(fake: FakeCuda, case: Case) -> list[str]:
    names: list[str] = fake.module.algorithms(request(fake, case))
    return names


def log(fake: FakeCuda) -> list[str]:
    """What was called since the log was last read."""
    library = ctypes.CDLL(fake.library("cudnn"))
    library.fake_cudnn_log.restype = ctypes.c_char_p
    lines: str = library.fake_cudnn_log().decode()
    library.fake_cudnn_forget()
    return lines.splitlines()


# ---------------------------------------------------------------------------------------------- convolution


@pytest.mark.parametrize(
    ("pass_", "names"),
    [
        ("forward", FORWARD),
        ("backward_data", ("algo_0", "algo_1", "fft", "fft_tiling", "winograd", "winograd_nonfused")),
        (
            "backward_weights",
            ("algo_0", "algo_1", "fft", "algo_3", "winograd", "winograd_nonfused", "fft_tiling"),
        ),
    ],
)
def test_every_algorithm_of_the_classic_interface_has_its_name(
    fake: FakeCuda, pass_: str, names: tuple[str, ...]
) -> None:
    offered = algorithms(fake, conv_case(pass_=pass_))
    assert [name for name in offered if not name.startswith("engine_")] == [*names, "find"]


@pytest.mark.parametrize(
    ("precision", "names"),
    [
        # Heuristic A, then B, then the fallback's, then the rest; 3 takes nothing, 5 sums up in less than fp32.
        ("fp16", ["engine_1_k2=5_k13=1", "engine_0", "engine_2", "engine_1", "engine_4", "engine_6"]),
        # The same graph: only those that leave tensor cores alone, and only those that use them.
        ("fp32", ["engine_0", "engine_2", "engine_4"]),
        ("tf32", ["engine_1_k2=5_k13=1", "engine_1", "engine_6"]),
    ],
)
def test_engines_come_in_the_heuristics_order_and_in_their_precision(
    fake: FakeCuda, precision: str, names: list[str]
) -> None:
    offered = algorithms(fake, conv_case(precision))
    assert [name for name in offered if name.startswith("engine_")] == names


@settings(max_examples=60, deadline=None)
@given(
    problems(largest=7, channels=3),
    st.sampled_from(conv.PASSES),
    st.sampled_from(conv.LAYOUTS),
    st.sampled_from(("fp64", "fp32", "tf32", "fp16", "bf16")),
    st.integers(0, 99),
)
def test_every_algorithm_does_every_convolution(
    problem: ConvProblem, pass_: str, layout: str, precision: str, seed: int
) -> None:
    fake = FakeCuda.built()
    case = conv_case(precision, pass_, layout, problem=problem)
    refusing = {"direct", "winograd", "fft", "winograd_nonfused"}
    for name in ["auto", *algorithms(fake, case)]:
        try:
            assert_right(fake, dataclasses.replace(case, algorithm=name), seed)
        except fake.module.Unsupported:
            if name not in refusing:
                raise


def test_inputs_that_change_their_place_are_found(fake: FakeCuda) -> None:
    for algorithm in ("engine_0", "implicit_gemm"):
        assert_right(fake, conv_case(algorithm=algorithm), cold=True)


@pytest.mark.parametrize(("layout", "c"), [("nhwc", 8), ("nchw", 8), ("nhwc", 6)])
def test_int8_is_asked_of_cudnn(fake: FakeCuda, layout: str, c: int) -> None:
    case = conv_case(
        "int8", layout=layout, algorithm="implicit_gemm", problem=dataclasses.replace(SMALL, c=c)
    )
    if (layout, c) == ("nhwc", 8):
        assert_right(fake, case)
        return
    with pytest.raises(fake.module.Unsupported, match="int8 needs NHWC and multiples of 4 channels"):
        opened(fake, case)


@pytest.mark.parametrize(
    ("algorithm", "precision", "reason"),
    [
        (
            "direct",
            "fp32",
            "cudnnGetConvolutionForwardWorkspaceSize.*NOT_SUPPORTED.*DIRECT is not implemented",
        ),
        ("winograd", "fp32", "ARCH_MISMATCH.*WINOGRAD is not supported on this device"),
        ("engine_3", "fp32", "NOT_SUPPORTED_LAYOUT.*engine 3 takes no such layout"),
        ("engine_99", "fp32", "there is no engine 99"),
        ("engine_1", "fp32", "engine_1 does no fp32: it rounds fp32 operands for tensor cores"),
        ("engine_0", "tf32", "engine_0 does no tf32: it multiplies in fp32"),
        ("engine_5", "fp16", "engine_5 does no fp16: it sums up in less than fp32"),
        ("engine_01", "fp32", "no convolution algorithm 'engine_01'"),
        ("engine_1_k13=1_k2=5", "fp16", "no convolution algorithm"),
        ("engine_1 ", "fp16", "no convolution algorithm"),
        ("engine_1_k2=99", "fp16", "cudnnBackendFinalize: .*: this tile does not compile"),
        ("algo_1", "fp32", "no convolution algorithm 'algo_1' for this pass"),
        ("auto", "fp8_e4m3", "not for fp8_e4m3"),
        ("auto", "fp8_e5m2", "not for fp8_e5m2"),
    ],
)
def test_refusals_say_the_reason(fake: FakeCuda, algorithm: str, precision: str, reason: str) -> None:
    with pytest.raises(fake.module.Unsupported, match=reason):
        opened(fake, conv_case(precision, algorithm=algorithm))


@pytest.mark.parametrize(
    ("algorithm", "precision", "needed"),
    [("gemm", "fp32", 2000), ("engine_4", "fp32", 65536), ("engine_1_k2=5_k13=1", "fp16", 4096 + 6)],
)
def test_workspace_is_what_cudnn_asks_for_and_limited(
    fake: FakeCuda, algorithm: str, precision: str, needed: int
) -> None:
    case = conv_case(precision, algorithm=algorithm)
    assert opened(fake, case, limit=needed).workspace_bytes == needed
    with pytest.raises(fake.module.WorkspaceExceeded, match=f"needs {needed} bytes of workspace"):
        opened(fake, case, limit=needed - 1)


def test_auto_is_the_first_recommended_engine_that_can_be_had(fake: FakeCuda) -> None:
    def chosen(precision: str, limit: int) -> str:
        implementation: str = opened(fake, conv_case(precision), limit).implementation
        return implementation.split(":")[0].split(",")[0]

    assert chosen("fp16", NO_LIMIT) == "engine_1_k2=5_k13=1"
    assert chosen("fp16", 4101) == "engine_0"
    assert chosen("fp32", NO_LIMIT) == "engine_0"
    with pytest.raises(fake.module.WorkspaceExceeded, match="needs 4102 bytes"):
        opened(fake, conv_case("tf32"), 4101)


@pytest.mark.parametrize(
    ("algorithm", "limit", "chosen"),
    [
        ("heuristic_a", NO_LIMIT, "engine_1_k2=5_k13=1"),
        ("heuristic_a", 4101, "engine_0"),
        ("heuristic_b", NO_LIMIT, "engine_2"),
        ("heuristic_b", 1 << 19, "engine_1_k2=5_k13=1"),
        ("heuristic_fallback", NO_LIMIT, "engine_0"),
    ],
)
def test_a_heuristic_picks_the_first_of_its_own_that_can_be_had(
    fake: FakeCuda, algorithm: str, limit: int, chosen: str
) -> None:
    case = conv_case("fp16", algorithm=algorithm)
    assert opened(fake, case, limit).implementation.split(":")[0].split(",")[0] == chosen
    # Offered to who names it, since the places of all configurations say the same.
    assert algorithm in algorithms(fake, case)
    assert algorithm not in algorithms(fake, conv_case("fp16"))
    assert_right(fake, case)


def test_an_engine_of_another_precision_is_known_to_who_names_it_so_that_opening_says_why(
    fake: FakeCuda,
) -> None:
    assert "engine_1" not in algorithms(fake, conv_case("fp32"))
    assert "engine_1" in algorithms(fake, conv_case("fp32", algorithm="engine_1"))
    assert "engine_99" not in algorithms(fake, conv_case("fp32", algorithm="engine_99"))


def test_heuristics_that_know_nothing_pick_nothing(fake: FakeCuda) -> None:
    grouped = conv_case("fp16", algorithm="heuristic_b", problem=dataclasses.replace(SMALL, groups=2))
    with pytest.raises(fake.module.Unsupported, match="recommend none"):
        opened(fake, grouped)


@pytest.mark.parametrize(
    ("pass_", "needed", "picked", "given", "place", "smallest"),
    [
        ("forward", 7000, "winograd_nonfused", 7000, "1 of 8", "implicit_gemm"),
        # The fastest adds gradients in 16 bits by atomics, which is passed over.
        ("backward_data", 5000, "winograd_nonfused", 5000, "2 of 7", "algo_0"),
        ("backward_weights", 5000, "winograd_nonfused", 6000, "2 of 7", "algo_0"),
    ],
)
def test_find_is_the_fastest_that_cudnn_finds_within_the_limit(
    fake: FakeCuda, pass_: str, needed: int, picked: str, given: int, place: str, smallest: str
) -> None:
    case = conv_case("fp16", pass_, algorithm="find")
    log(fake)
    session = opened(fake, case)
    assert session.workspace_bytes == needed
    assert session.implementation == f"classic find: {picked}, tensor_op_math, deterministic, find {place}"
    assert opened(fake, case, 1999).workspace_bytes == 1000
    assert log(fake) == [f"find in {given} bytes", "find in 1000 bytes"]
    assert opened(fake, case, 0).implementation.startswith(f"classic find: {smallest},")
    assert_right(fake, case)


def test_find_in_fp32_leaves_tensor_cores_alone(fake: FakeCuda) -> None:
    log(fake)
    session = opened(fake, conv_case(algorithm="find"))
    assert session.implementation == "classic find: winograd_nonfused, fma_math, deterministic, find 2 of 9"
    session.measure(1)
    assert log(fake)[1:] == ["convolve algorithm 7 math 3"]
    assert (
        ", tensor_op_math_allow_conversion"
        in opened(fake, conv_case("tf32", algorithm="find")).implementation
    )


@pytest.mark.parametrize(
    ("case", "told"),
    [
        (
            conv_case("fp16", algorithm="engine_1_k2=5_k13=1"),
            "engine_1_k2=5_k13=1: tensor_core runtime_compilation, heuristic A 1 of 3, heuristic B 2 of 2",
        ),
        (conv_case(algorithm="engine_0"), "engine_0, heuristic A 2 of 3, heuristic fallback 1 of 1"),
        (conv_case(algorithm="engine_4"), "engine_4: winograd winograd_tile_6x6"),
        (conv_case("fp16", algorithm="engine_6"), "engine_6: tensor_core note_50 note_40"),
        (
            conv_case(algorithm="engine_2", problem=dataclasses.replace(SMALL, groups=2)),
            "engine_2: fft nondeterministic, heuristic A 3 of 3",
        ),
        (
            conv_case(algorithm="implicit_precomp_gemm"),
            "classic implicit_precomp_gemm, fma_math, deterministic, heuristic v7 1 of 2",
        ),
        (conv_case(algorithm="gemm"), "classic gemm"),
        (conv_case(pass_="backward_weights", algorithm="algo_0"), "classic algo_0"),
    ],
)
def test_the_implementation_says_notes_and_ranks(fake: FakeCuda, case: Case, told: str) -> None:
    assert opened(fake, case).implementation == told


@pytest.mark.parametrize(("precision", "math"), [("fp32", 3), ("tf32", 0), ("fp16", 1), ("fp64", 0)])
def test_tensor_cores_stay_out_of_fp32(fake: FakeCuda, precision: str, math: int) -> None:
    log(fake)
    opened(fake, conv_case(precision, algorithm="implicit_gemm")).measure(1)
    assert log(fake) == [f"convolve algorithm 0 math {math}"]


def test_tensor_cores_in_fp32_would_be_found(fake: FakeCuda) -> None:
    tf32 = conv_case("tf32", algorithm="implicit_gemm")
    session = opened(fake, tf32)
    operands = {name: session.memory(name).view(np.float32) for name in session.operands}
    conv.fill(tf32, operands, np.random.default_rng(0), exact=False)
    session.prepare()
    session.measure(1)
    session.collect()
    assert conv.check(tf32, operands, exact=False).ok
    assert not conv.check(conv_case("fp32", algorithm="implicit_gemm"), operands, exact=False).ok


def test_int8_has_no_backward(fake: FakeCuda) -> None:
    for call in (opened, algorithms):
        with pytest.raises(fake.module.Unsupported, match="only the forward pass"):
            call(fake, conv_case("int8", "backward_data", "nhwc", "algo_1"))


# -------------------------------------------------------------------------------------- recurrent layers


@settings(max_examples=60, deadline=None)
@given(
    layers(),
    st.sampled_from(rnn.PASSES),
    st.sampled_from(("fp64", "fp32", "tf32", "fp16", "bf16")),
    st.integers(0, 99),
)
def test_recurrent_layers_in_every_pass(problem: RnnProblem, pass_: str, precision: str, seed: int) -> None:
    assert_right(FakeCuda.built(), rnn_case(problem, pass_, precision), seed)


@pytest.mark.parametrize(
    "algorithm", ["standard", "persist_static", "persist_dynamic", "persist_static_small_h"]
)
@pytest.mark.parametrize("pass_", rnn.PASSES)
def test_every_algorithm_of_recurrent_layers(fake: FakeCuda, algorithm: str, pass_: str) -> None:
    assert algorithm in algorithms(fake, rnn_case())
    assert_right(fake, rnn_case(pass_=pass_, algorithm=algorithm))
    assert opened(fake, rnn_case(algorithm=algorithm)).implementation == algorithm


def test_a_backward_consumes_a_training_forward(fake: FakeCuda) -> None:
    log(fake)
    session = opened(fake, rnn_case(pass_="backward", algorithm="persist_dynamic"))
    session.prepare()
    session.measure(2)
    backward = ["backward data", "backward weights"]
    assert log(fake)[1:] == ["build for batch 3", "forward training", *backward, *backward]


def test_reserve_space_is_workspace_where_a_backward_may_follow(fake: FakeCuda) -> None:
    needed = {pass_: opened(fake, rnn_case(pass_=pass_)).workspace_bytes for pass_ in rnn.PASSES}
    assert needed["forward"] == 512 < needed["forward_training"] == needed["backward"]
    limit = needed["backward"] - 1
    with pytest.raises(fake.module.WorkspaceExceeded, match=f"needs {limit + 1} bytes"):
        opened(fake, rnn_case(pass_="backward"), limit)


@pytest.mark.parametrize(
    ("precision", "told"),
    [
        ("fp32", "type 0 compute 0 math 3"),
        ("tf32", "type 0 compute 0 math 0"),
        ("fp16", "type 2 compute 0 math 1"),
        ("bf16", "type 9 compute 0 math 1"),
        ("fp64", "type 1 compute 1 math 0"),
    ],
)
def test_recurrent_precisions(fake: FakeCuda, precision: str, told: str) -> None:
    log(fake)
    opened(fake, rnn_case(precision=precision))
    assert log(fake) == [f"rnn algorithm 0 {told}"]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (rnn_case(dataclasses.replace(LAYER, hidden_size=9), algorithm="persist_static"), "multiples of 8"),
        (rnn_case(dataclasses.replace(LAYER, cell="gru_original")), "multiplies by the reset gate after"),
        (rnn_case(precision="int8"), "no int8 recurrent layers"),
        (rnn_case(algorithm="fused"), "no recurrent algorithm 'fused'"),
    ],
)
def test_recurrent_refusals(fake: FakeCuda, case: Case, reason: str) -> None:
    with pytest.raises(fake.module.Unsupported, match=reason):
        opened(fake, case)


# ---------------------------------------------------------------------------------------------- whole runs


def test_a_run_from_the_command_line(fake: FakeCuda, tmp_path: Path) -> None:
    environment = {**os.environ, **fake.environment(tmp_path)}
    convolution = "w=7,h=6,c=8,n=2,k=4,filter_w=3,filter_h=3,pad_w=1,pad_h=1,stride_w=1,stride_h=1"
    layer = "cell=gru,hidden_size=8,batch_size=3,time_steps=4"
    runs = {}
    for kernel, problem, asked in (
        ("conv", convolution, ["--algorithm", "all", "--workspace-limit", "64KiB", "--mode", "graph"]),
        ("rnn", layer, ["--pass", "all", "--library", "cudnn", "--mode", "cold"]),
    ):
        process = subprocess.run(
            [
                *(sys.executable, "-m", "microbench", kernel, "--backend", "cuda", "--problem", problem),
                *(*asked, "--min-time", "0", "--max-samples", "30", "--output", kernel),
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode in (0, 1), process.stdout + process.stderr
        runs[kernel] = list(Run.load(tmp_path / kernel).records())
    statuses = {(r.library, r.algorithm): r.status for r in runs["conv"]}
    assert statuses.pop(("cudnn", "direct")) == statuses.pop(("cudnn", "winograd")) == "unsupported"
    assert statuses.pop(("cudnn", "engine_2")) == "workspace_exceeded"
    assert set(statuses.values()) == {"ok"}
    assert {("microbench", "im2col"), ("cudnn", "engine_4"), ("cudnn", "gemm")} <= set(statuses)
    assert {(r.pass_, r.status) for r in runs["rnn"]} == {(pass_, "ok") for pass_ in rnn.PASSES}
    assert {r.facts["implementation"] for r in runs["rnn"]} == {"standard"}


def test_cudnn_has_every_function_that_is_called() -> None:
    path = cuda.LIBRARIES["cudnn"].path()
    if not path:
        pytest.skip("no cuDNN is installed: pip install nvidia-cudnn-cu13")
    library = ctypes.CDLL(path)
    sources = [*(ROOT / "kernels").glob("*/cudnn*"), *(ROOT / "kernels/common/cuda").glob("cudnn*")]
    called = {name for file in sources for name in re.findall(r"\bcudnn[A-Z]\w+(?=[,)])", file.read_text())}
    functions = {name for name in called if not name.endswith(("_t", "_struct"))}
    assert {"cudnnBackendExecute", "cudnnConvolutionForward", "cudnnRNNForward"} <= functions
    assert not {name for name in functions if not hasattr(library, name)}
