"""A training step does not ask the kernel for the memory of its gradients again and again."""

import subprocess
import sys

PROGRAM = """
import resource
import torch
from nid_dist.benchmarks.step import StepCase
from nid_dist.memory import keep_freed_memory, release_freed_memory

torch.set_num_threads(1)
if {keep}:
    keep_freed_memory()

def faults(case):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    case.step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

case = StepCase(16384, 16, 256)  # a gradient of 50 MB, above what glibc maps anew each time
for _ in range(4):
    faults(case)
steps = sum(faults(case) for _ in range(4))
case.clear()
release_freed_memory()
print(steps, faults(case))
"""


def page_faults(keep: bool) -> list[int]:
    command = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def test_steps_use_freed_memory_again() -> None:
    # The better of two runs: on a machine short of memory the kernel takes pages back by itself.
    kept, released = min(page_faults(True) for _ in range(2))
    default, _ = page_faults(False)
    assert default > 4 * 10_000
    assert kept < default / 4
    # Once handed back it must be fetched anew.
    assert released > 10_000
