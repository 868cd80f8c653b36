"""All that a training imports is imported, so that processes forked from the one that imported this begin at once."""

import os
import sys

# Before anything is computed: equal rows give equal numbers in batches of any size (MKL's AVX-512 kernels differ), one
# thread each, and DeepSpeed, which chooses a device when it is imported, has the one of the configuration.
os.environ |= {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}

MODULES = (
    *("nid_dist.cli.entry", "nid_dist.cli.options", "nid_dist.training.run", "nid_dist.tasks.images.task"),
    *("nid_dist.parallel.launch.failures", "nid_dist.parallel.process_group_world"),
    *("nid_dist.parallel.engines.deepspeed_engine", "nid_dist.parallel.engines.fairscale_engine"),
    *("setuptools", "skimage.transform", "torch._dynamo", "torch.distributed.checkpoint", "torch.distributed.tensor"),
    *("deepspeed.ops", "torch.utils.tensorboard"),
)
"""What `python -m nid_dist.cli.train` comes to import; by name, since a benchmark has nothing to do with commands."""

for name in MODULES:
    __import__(name)

# DeepSpeed takes a second to look for compilers, which it does when it is asked for this.
COMPATIBLE = sys.modules["deepspeed.ops"].__compatible_ops__
