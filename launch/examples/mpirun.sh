#!/usr/bin/env bash
# Open MPI (or MPICH) on two nodes of 8 processes, which it reaches by ssh; ranks come through mpi4py, which is installed
# with the package and must find the libmpi.so of this mpirun (LD_LIBRARY_PATH, or MPI4PY_LIBMPI with its path).
# kill -USR1 to mpirun stops the training with a checkpoint; Ctrl-C ends all at once, without one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
exec mpirun -np 16 --host node1:8,node2:8 --bind-to none .venv/bin/python \
    launch/train.py --config configs/large/images_16384.yaml --resume auto \
    --set signals.path=/data/images logging.run_dir=/shared/runs/images
