#!/bin/bash
# sbatch --nodes 4 --gpus-per-node 8 slurm_torchrun.sh pretrain --model core-ecg --dataset BUILT --output RUN --resume
#
# One process per GPU on every node of the job, started by torchrun, which also runs finetune. With --resume the same
# line begins a run, or goes on from its newest complete checkpoint. All paths must be on storage that every node sees.
#SBATCH --job-name=ecg-hf
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
set -euo pipefail

if (( $# == 0 )); then
    echo "usage: sbatch [OPTIONS] $0 COMMAND OF ECG-HF ..." >&2
    exit 2
fi
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}  # srun does not take it over from sbatch
read -r first < <(scontrol show hostnames "${SLURM_JOB_NODELIST:?not in a Slurm job}")

srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:${RENDEZVOUS_PORT:-29500}" \
    -m ecg_hf.cli "$@"
