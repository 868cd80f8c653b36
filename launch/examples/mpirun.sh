#!/usr/bin/env bash
# Open MPI (or MPICH) on two nodes of 8 processes; ranks come through mpi4py, which is installed with the package.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec mpirun -np 16 --host node1:8,node2:8 --bind-to none .venv/bin/python \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
