#!/usr/bin/env bash
# DeepSpeed's launcher on the nodes of `hostfile` (passwordless ssh, the same path to the clone and its .venv on each).
# On one node: deepspeed --num_gpus 8 launch/train.py --config ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec .venv/bin/deepspeed --hostfile launch/examples/hostfile --master_addr node1 --master_port 29500 \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
