#!/usr/bin/env bash
# DeepSpeed's launcher on the nodes of `hostfile`: needs pdsh here, ssh without a password to each node, and the clone with
# its .venv at the same path on all. A remote shell reads what follows --set: write lists and sections into the YAML file.
# On one node: .venv/bin/deepspeed --num_gpus 8 launch/train.py --config ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec .venv/bin/deepspeed --hostfile launch/examples/hostfile --master_addr node1 --master_port 29500 \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
