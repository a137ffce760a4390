"""The set-up a number was measured on, and what disturbed the measuring.

`capture` reads once per run everything that could explain a number; `differences` names the factors in which
two captured environments differ, `warnings` what is wrong with one and what to do about it, and `describe`
shows it. `counters` and `difference` are for every batch: steal time, context switches, page faults, throttling
and the clock.
"""

from microbench.environment.activity import Counters, counters, difference
from microbench.environment.factors import differences
from microbench.environment.reading import capture
from microbench.environment.text import describe, warnings

__all__ = ["Counters", "capture", "counters", "describe", "difference", "differences", "warnings"]
