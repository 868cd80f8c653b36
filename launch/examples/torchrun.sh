#!/usr/bin/env bash
# torchrun on two nodes of 8 processes: run this on both. After a failure all start again, at most 3 times, and resume
# from the last checkpoint. The nodes must know each other by the names that `hostname -f` gives, or get --local_addr.
# On one node: .venv/bin/torchrun --standalone --nproc_per_node 8 --max-restarts 3 launch/train.py --resume auto ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export OMP_NUM_THREADS=8  # cores of a process; torchrun would make it 1
exec .venv/bin/torchrun --nnodes 2 --nproc_per_node 8 --max-restarts 3 \
    --rdzv_backend c10d --rdzv_endpoint node1:29500 --rdzv_id images \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
