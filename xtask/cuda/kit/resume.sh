#!/bin/bash
# Trains on a device, trains again with a kill and a resume, and compares the checkpoints: resume.sh FOLDER
set -euo pipefail

KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RUNS=$1
EQUIMOD=("$KIT/equimod" pretrain --device "${DEVICE:-cuda:0}" --no-eval)

# The newest checkpoint of a run.
newest() {
  echo "$RUNS/$1/checkpoints/$(tr -d '[:space:]' <"$RUNS/$1/checkpoints/latest")"
}

rm -rf "$RUNS"
mkdir -p "$RUNS"
"${EQUIMOD[@]}" --recipe "$KIT/training.toml" --out "$RUNS/whole"

"${EQUIMOD[@]}" --recipe "$KIT/training.toml" --out "$RUNS/killed" &
child=$!
trap 'kill -KILL "$child" 2>/dev/null || true' EXIT
while [[ ! -f $RUNS/killed/checkpoints/latest ]]; do
  kill -0 "$child" 2>/dev/null || { echo "the run that was to be killed ended without a checkpoint"; exit 1; }
  sleep 0.02
done
kill -KILL "$child" || { echo "the run ended before it could be killed; train for more epochs"; exit 1; }
wait "$child" || true
trap - EXIT

"${EQUIMOD[@]}" --resume --out "$RUNS/killed"
for file in model.safetensors optimizer.safetensors; do
  cmp "$(newest whole)/$file" "$(newest killed)/$file"
done
echo "the checkpoints of the resumed run and of the whole one are the same bits"
