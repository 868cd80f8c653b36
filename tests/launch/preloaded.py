"""All that a training imports is imported, so that processes forked from the one that imported this begin at once."""

import importlib
import os

# DeepSpeed chooses a device when it is imported; the trainings' configuration says that it is the CPU.
os.environ["DS_ACCELERATOR"] = "cpu"

_MODULES = """
    nid_dist.cli.train nid_dist.tasks.images.task nid_dist.parallel.launch.failures
    nid_dist.parallel.process_group_world
    nid_dist.parallel.engines.deepspeed_engine nid_dist.parallel.engines.fairscale_engine
    setuptools skimage.transform torch._dynamo torch.distributed.checkpoint torch.distributed.tensor
"""
for name in _MODULES.split():
    importlib.import_module(name)

# DeepSpeed takes a second to look for compilers, which it does when it is asked for this.
COMPATIBLE = importlib.import_module("deepspeed.ops").__compatible_ops__
