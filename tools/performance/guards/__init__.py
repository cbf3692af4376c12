"""Guard rails of the kernels' speed: each kernel's share of a roof that is measured beside it, and what it was before.

`kernels` says what is measured, `bench` how, `records` what a result is compared with, `worker` does it in a process
of its own. `tests/perf/test_guards.py` fails when a share is lost; `tools.performance.record_guards` records them anew.
"""
