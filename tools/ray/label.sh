#!/usr/bin/env bash
# Labels a planned store on a Ray cluster; to be run on its head node, or anywhere that reaches RAY_ADDRESS:
#   bash tools/ray/label.sh STORE [WORKERS]
# Lost workers and nodes are survived; run it again after the driver died. Edit two lines: what a worker takes, and where it runs.
set -euo pipefail
WORKER=(--cpus 2 --gpus 0 --readers 1)
DEVICE=cpu
export OMP_NUM_THREADS=1
exec asrkd label run "${1:?usage: label.sh STORE [WORKERS]}" --backend ray --address "${RAY_ADDRESS:-auto}" \
  --workers "${2:-8}" --device "$DEVICE" "${WORKER[@]}"
