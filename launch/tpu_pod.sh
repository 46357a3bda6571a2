#!/usr/bin/env bash
# Untested (written without a TPU at hand).
# A TPU pod slice (Cloud TPU VMs): the same command on every host, JAX asks the slice who is who.
#
#   TPU=name ZONE=us-central2-b launch/tpu_pod.sh CONFIG /mnt/shared/RUN [flags of train.py]
#
# The repository and its requirements (pip install "jax[tpu]" -r requirements.txt) are in ~/hfsgm_jax of every host.
# The run's folder has to be one that all hosts share: a mounted Filestore or Cloud Storage FUSE folder.
# A host of a slice drives its own chips; a slice with a single host needs no --coordinator.
set -euo pipefail
config=$1 workdir=$2
shift 2
on_all_hosts() {  # %q: another shell reads the arguments there
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="cd ~/hfsgm_jax && $(printf '%q ' "$@")"
}
on_all_hosts python train.py --coordinator=auto "--config=$config" "--workdir=$workdir" "$@"
on_all_hosts python evaluate.py --coordinator=auto "--workdir=$workdir" --tasks=all
