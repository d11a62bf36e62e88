#!/bin/bash
# sbatch --nodes 4 --cpus-per-task 32 slurm_dask.sh embed --dataset BUILT --output EMBEDDINGS
#
# A Dask scheduler, one worker of one thread for each core of the job, and the given ecg-hf command on them. After a
# crash or the end of the time limit the same line goes on where it stopped. All paths must be on storage that every
# node sees. With GPUs, a worker for each: --ntasks-per-node 4 --gpus-per-task 1 --cpus-per-task 1.
# Whoever reaches the scheduler's port can run code under your name: on a shared network set up Dask's TLS
# (DASK_DISTRIBUTED__COMM__TLS__... or ~/.config/dask), which this script leaves as it is.
#SBATCH --job-name=ecg-hf
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
set -euo pipefail

if (( $# == 0 )); then
    echo "usage: sbatch [OPTIONS] $0 COMMAND OF ECG-HF ..." >&2
    exit 2
fi
export OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
workers=${SLURM_CPUS_PER_TASK:-1}
export SRUN_CPUS_PER_TASK=$workers  # srun does not take it over from sbatch

folder=$(mktemp -d "$PWD/.dask-${SLURM_JOB_ID:?not in a Slurm job}.XXXXXX")
scheduler=$folder/scheduler.json
started=()
finish() {
    kill "${started[@]}" 2>/dev/null || true
    wait || true
    rm -rf "$folder"
}
trap finish EXIT

dask scheduler --port 0 --no-dashboard --scheduler-file "$scheduler" &
started+=($!)
for _ in $(seq 120); do
    [[ -s $scheduler ]] && break
    sleep 1
done
[[ -s $scheduler ]] || { echo "the Dask scheduler does not start" >&2; exit 1; }
srun dask worker --scheduler-file "$scheduler" --nworkers "$workers" --nthreads 1 --no-dashboard \
    --local-directory "${TMPDIR:-/tmp}" --death-timeout 60 &
started+=($!)

ecg-hf "$@" --engine dask --address "$scheduler"
