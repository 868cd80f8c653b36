#!/usr/bin/env bash
# DeepSpeed's launcher without ssh: run this on every node, with the node's number (0, 1, ...) as its argument.
# Stop it by Ctrl-C: a signal to this command alone would leave the processes that it has started.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec .venv/bin/deepspeed --hostfile launch/examples/hostfile --no_ssh --node_rank "$1" \
    --master_addr node1 --master_port 29500 \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
