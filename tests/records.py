"""Runs and records made up for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from microbench.record import Record
from microbench.store import Run, RunInfo, RunWriter

SIZES: dict[str, dict[str, Any]] = {
    "gemm": {"m": 1760, "n": 16, "k": 1760, "a_transposed": False, "b_transposed": True},
    "conv": {
        "w": 56,
        "h": 56,
        "c": 64,
        "n": 8,
        "k": 64,
        "filter_w": 3,
        "filter_h": 3,
        "pad_w": 1,
        "pad_h": 1,
        "stride_w": 1,
        "stride_h": 1,
        "dilation_w": 1,
        "dilation_h": 1,
        "groups": 1,
    },
    "rnn": {"cell": "lstm", "hidden_size": 512, "batch_size": 16, "time_steps": 25},
}
LAYOUTS = {"gemm": "column_major", "conv": "nchw", "rnn": "tnc"}


def make_record(**changes: Any) -> Record:
    """A record of a measurement that went well, as a run holds it, with ``changes``."""
    kernel = changes.get("kernel", "gemm")
    fields: dict[str, Any] = {
        "kernel": kernel,
        "library": "onednn",
        "algorithm": "auto",
        "precision": "fp32",
        "pass_": "forward",
        "layout": LAYOUTS.get(kernel, ""),
        "problem": SIZES.get(kernel, {}),
        "labels": {"suite": "training", "application": "DeepSpeech"},
        "backend": "cpu",
        "mode": "cold",
        "threads": 4,
        "repeat": 0,
        "index": 0,
        "status": "ok",
        "reason": "",
        "samples_s": [1.25e-3, 1e-3, 1.01e-3, 0.99e-3, 1.0e-3, 1.02e-3, 0.98e-3, 1.03e-3],
        "median_s": 1.005e-3,
        "ci_low_s": 0.99e-3,
        "ci_high_s": 1.03e-3,
        "confidence": 0.99,
        "effective_n": 8.0,
        "flops": 99_123_200,
        "bytes": 12_728_320,
        "workspace_bytes": 0,
        "peak_flops_per_s": 2.5e11,
        "max_error": 3e-7,
        "frobenius_error": 1e-7,
        "tolerance": 2e-6,
        "summary": {"min": 0.98e-3, "mean": 1.035e-3},
        "measuring_s": 0.5,
    }
    return Record(**(fields | changes))


def not_measured(status: str, reason: str, **changes: Any) -> Record:
    """A record of a measurement that gave no time."""
    unknown = dict.fromkeys(("median_s", "ci_low_s", "ci_high_s", "confidence", "effective_n", "max_error"))
    return make_record(status=status, reason=reason, samples_s=[], summary={}, **(unknown | changes))


def make_info(**changes: Any) -> RunInfo:
    fields: dict[str, Any] = {
        "microbench_version": "0.1.0",
        "created": "2025-01-02T03:04:05+00:00",
        "command": ["microbench", "gemm"],
        "kernel": "gemm",
        "problem_set": "smoke",
        "planned_records": 12,
    }
    return RunInfo(**(fields | changes))


def create(folder: Path, *records: Record) -> Path:
    with RunWriter.create(folder, make_info()) as writer:
        for record in records:
            writer.append(record)
    return folder


def records_of(folder: Path) -> list[Record]:
    return list(Run.load(folder).records())


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs ``program``, which finds what the tests find."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
