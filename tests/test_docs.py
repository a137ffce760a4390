"""Every command of the README and the docs, in an empty folder with made-up runs where it reads some."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import collectives
import test_cli
from fixtures.fake_cuda import FakeCuda
from fixtures.installations import installation
from microbench.network.machine import MACHINES
from microbench.store import RunWriter
from records import SIZES, create, make_info, make_record

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# What a sweep of the docs is cut down to: one size of DeepBench's, few samples.
QUICK = test_cli.QUICK
SHORT = {
    "gemm": [*QUICK, "--where", "m=1760", "n=16", "k=1760"],
    "conv": [*QUICK, "--where", "w=7", "c=512", "k=512", "n=1"],
    "rnn": [*QUICK, "--where", "hidden_size=512", "batch_size=32", "time_steps=1"],
}

COLLECTIVES = ("allreduce", "reduce_scatter", "allgather", "broadcast", "alltoall")


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [line[line.index("python -m microbench") :] for line in lines if "python -m microbench" in line]


def make_run(folder: Path) -> None:
    """A run under the name that the docs give it."""
    if folder.name in ("two", "four"):
        ranks = (2,) if folder.name == "two" else (4,)
        collectives.store(folder, collectives.made_up(MACHINES["tukey"], 0.02, 1, ranks))
        return
    problem = {**SIZES["gemm"], "b_transposed": False}  # one that DeepBench published figures of
    if folder.name == "conv":
        ways = {"im2col": (1 << 20, 2e-3), "winograd_4x4": (2 << 20, 1e-3)}
        with RunWriter.create(folder, make_info(kernel="conv")) as writer:
            for algorithm, (workspace, seconds) in ways.items():
                times = {"median_s": seconds, "ci_low_s": 0.99 * seconds, "ci_high_s": 1.01 * seconds}
                ours = {"kernel": "conv", "library": "microbench", "algorithm": algorithm}
                writer.append(make_record(**ours, workspace_bytes=workspace, **times))
        return
    rng = np.random.default_rng(sum(folder.name.encode()))
    records = []
    for repeat in range(8):
        for library in ("onednn", "openblas"):
            samples = (1e-3 * (1 + 0.01 * rng.random(30))).tolist()
            median = float(np.median(samples))
            times = {"median_s": median, "ci_low_s": 0.999 * median, "ci_high_s": 1.001 * median}
            records.append(
                make_record(
                    problem=problem, library=library, repeat=repeat, mode="hot", samples_s=samples, **times
                )
            )
    create(folder, *records)


@pytest.mark.parametrize("command", [command for page in PAGES for command in commands(page)])
def test_commands_of_the_docs_work(command: str, tmp_path: Path) -> None:
    words = shlex.split(command, comments=True)[3:]
    (tmp_path / "my_sizes.csv").write_text("m,n,k,suite\n1760,16,1760,inference\n")
    if "--resume" in words:
        folder = words[words.index("--output") + 1]
        start = test_cli.call(["gemm", *SHORT["gemm"], "--library", "openblas", "--output", folder], tmp_path)
        assert start.returncode in (0, 1), start.stderr
    elif words[0] in SHORT:
        words += QUICK if "--problem" in words or "smoke" in words else SHORT[words[0]]
        words += ["--repeat", "2"] if "--repeat" in words else []
    elif words[0] == "study" and "--measure" in words:
        layer = ["--where", "w=7", "c=512", "k=512", "n=1", "filter_w=3", "--batch", "2", "--sizes", "1"]
        words += ["--max-time", "0.05", "--library", "microbench"] + ([] if "--problem" in words else layer)
    elif words[0] == "selftest":
        words += ["--max-time", "0.01", "--runs", "2"]
    elif words[0] in COLLECTIVES:
        few = ["--min-time", "0", "--max-time", "0.05", "--max-samples", "8", "--max-bytes", "1KiB"]
        words += few if "--min-bytes" in words else few[:-2]
        words += ["--where", "elements<=1000000"] if "gradients" in words else []
        fake: dict[str, str] = {}
        if "nccl" in words:
            fake = {**FakeCuda.built().environment(tmp_path), "FAKE_CUDA_DEVICES": "16"}
        process = installation("mpich").run(2, "-m", "microbench", *words, cwd=tmp_path, timeout=200, **fake)
        assert process.returncode in (0, 1), process.stderr
        assert "Traceback" not in process.stderr
        return
    else:
        for word in dict.fromkeys(word for word in words if word.startswith("runs/")):
            make_run(tmp_path / word)
    process = test_cli.call(words, tmp_path)
    assert process.returncode in (0, 1), process.stderr
    assert "Traceback" not in process.stderr
