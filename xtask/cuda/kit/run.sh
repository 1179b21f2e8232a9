#!/bin/bash
# Checks and measures equimod on a machine with an NVIDIA GPU, without Rust and without a network.
#
# Usage: ./run.sh [checks|benchmarks]   (both by default)
#
# Variables: OUT       folder of results, ./out by default
#            DEVICE    cuda:0 by default
#            PYTHON    a Python with PyTorch, python3 by default
#            SECONDS_IN_ALL   seconds after which no part runs, 475 by default
set -uo pipefail

KIT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
OUT=${OUT:-$PWD/out}
DEVICE=${DEVICE:-cuda:0}
PYTHON=${PYTHON:-python3}
LAST=${SECONDS_IN_ALL:-475}
WHAT=${1:-all}
SECONDS=0
END=$LAST

# Folders with the CUDA libraries that came with Python's PyTorch, separated by colons.
libraries() {
  "$PYTHON" - <<'PYTHON'
import glob, importlib.util, os
spec = importlib.util.find_spec("nvidia")
roots = list(spec.submodule_search_locations) if spec else []
print(":".join(folder for root in roots for folder in sorted(glob.glob(os.path.join(root, "*", "lib")))))
PYTHON
}

# Writes down how a part ended: note KIND VERDICT SECONDS NAME REMARK
note() {
  printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$OUT/parts.tsv"
  printf '  %s %s (%s s) %s\n' "$2" "$4" "$3" "$5"
}

# The reason of a failure, in one line: failed tests by name, else the last line of the output.
reason() {
  local failed
  failed=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$1" | paste -s -d ' ' -)
  [[ -n $failed ]] || failed=$(grep -v '^[[:space:]]*$' "$1" | tail -n 1)
  printf '%s' "$failed" | tr '\t\r' '  ' | cut -c 1-200
}

# Runs a command for some seconds at most and writes down how it ended: part KIND NAME SECONDS COMMAND…
part() {
  local kind=$1 name=$2 most=$3 left=$((END - SECONDS)) start=$SECONDS status
  shift 3
  local log=$OUT/$name.txt
  if ((left < 2)); then
    note "$kind" skipped 0 "$name" "no time was left"
    return 1
  fi
  ((most < left)) || most=$left
  timeout --kill-after=5 "$most" "$@" >"$log" 2>&1
  status=$?
  local took=$((SECONDS - start))
  if ((status == 124 || status == 137)); then
    note "$kind" failed "$took" "$name" "not done after $most seconds"
  elif ((status != 0)); then
    note "$kind" failed "$took" "$name" "$(reason "$log")"
  elif grep -q '^test result: ok\. 0 passed' "$log"; then
    note "$kind" failed "$took" "$name" "no test has run"
  else
    note "$kind" passed "$took" "$name" ""
  fi
  return "$status"
}

# What the machine has.
machine() {
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null ||
    echo "a card that nvidia-smi does not show"
  uname -sr
  "$PYTHON" -c 'import torch; print("PyTorch", torch.__version__, "CUDA", torch.version.cuda, \
"cuDNN", torch.backends.cudnn.version())' 2>&1 | tail -n 1
  "$KIT/equimod" --version
}

# Ends if the programs do not find their libraries.
find_libraries() {
  local missing
  missing=$(ldd "$KIT/equimod" "$KIT"/tests/* 2>/dev/null | sed -n 's/^[[:space:]]*\(.*\) => not found$/\1/p' |
    sort -u | paste -s -d ' ' -)
  if [[ -n $missing ]]; then
    echo "error: $missing not found; libcuda.so.1 belongs to NVIDIA's driver, the others to PyTorch for CUDA 13:" \
      "install them, name another Python in PYTHON, or set LD_LIBRARY_PATH" >&2
    exit 2
  fi
}

# compute-sanitizer over the tests of convolution and batch norm, if it is installed.
sanitizer() {
  local program
  program=$(PATH=$PATH:/usr/local/cuda/bin type -P compute-sanitizer)
  if [[ -z $program ]]; then
    note check skipped 0 compute-sanitizer "it is not installed"
    return
  fi
  part check compute-sanitizer 60 "$program" --error-exitcode 9 "$KIT/tests/lib" \
    cuda::convolutions cuda::fused cuda::batch_norm cuda::statistics --test-threads 1
}

checks() {
  END=$((SECONDS + (LAST - SECONDS) / 2))
  export EQUIMOD_TEST_DEVICE=$DEVICE EQUIMOD_GOLDEN_DIR=$KIT/golden
  part check kernels 60 "$KIT/tests/lib" cuda::
  part check golden-networks 40 "$KIT/tests/golden_networks" in_f32
  part check golden-trajectory 60 "$KIT/tests/golden_trajectory" in_f32
  part check devices 60 "$KIT/tests/devices"
  part check nccl 60 "$KIT/tests/lib" nccl::
  part check doctor 40 "$KIT/equimod" doctor --device "$DEVICE"
  part check kill-and-resume 60 env DEVICE="$DEVICE" "$KIT/resume.sh" "$OUT/runs"
  sanitizer
}

# Measures one case: measure ARCHITECTURE BATCH PRECISION [OPTION…]
measure() {
  local arch=$1 batch=$2 precision=$3
  shift 3
  local name=equimod-$arch-$batch-$precision${1:-}
  part benchmark "$name" 30 "$KIT/equimod" bench step --device "$DEVICE" --arch "$arch" --size 224 \
    --batch "$batch" --precision "$precision" --steps 10 --json "$@"
  collect "$name"
}

# Adds the results in a part's output to those of all.
collect() {
  if [[ -f $OUT/$1.txt ]]; then
    grep '^{' "$OUT/$1.txt" >>"$OUT/results.jsonl"
  fi
}

# Counts the kernels that a step launches, by runs of two and of four steps.
launches() {
  local steps of=$OUT/launches
  for steps in 2 4; do
    part benchmark "launches-$steps" 40 env LD_PRELOAD="$KIT/launches.so" LAUNCHES="$of-$steps" "$KIT/equimod" \
      bench step --device "$DEVICE" --arch resnet50 --size 224 --batch 64 --precision bf16 --steps "$steps" || return
  done
  printf '{"what": "launches", "arch": "resnet50", "batch": 64, "precision": "bf16", "launches": %d}\n' \
    $((($(<"$of-4") - $(<"$of-2")) / 2)) >>"$OUT/results.jsonl"
}

benchmarks() {
  local begin=$SECONDS arch batch precision mode
  END=$((begin + (LAST - begin) * 45 / 100))
  for batch in 64 128 16; do
    for arch in resnet18 resnet50; do
      for precision in f32 tf32 bf16; do
        measure "$arch" "$batch" "$precision" --autotune
      done
    done
  done
  measure resnet50 64 bf16
  measure resnet50 64 bf16 --no-fusion --autotune
  launches
  for mode in eager compile; do
    END=$LAST
    [[ $mode == compile ]] || END=$((SECONDS + (LAST - SECONDS) * 40 / 100))
    part benchmark "pytorch-$mode" 200 "$PYTHON" "$KIT/torch_step.py" --device "$DEVICE" --mode "$mode" \
      --seconds $((END - SECONDS - 10))
    collect "pytorch-$mode"
  done
}

main() {
  case $WHAT in
    all | checks | benchmarks) ;;
    *) echo "usage: $0 [checks|benchmarks]" >&2 && exit 2 ;;
  esac
  mkdir -p "$OUT" || exit 1
  rm -f "$OUT"/parts.tsv "$OUT"/results.jsonl
  touch "$OUT/results.jsonl"
  LD_LIBRARY_PATH=$(libraries):/usr/local/cuda/lib64:/usr/local/nvidia/lib64:${LD_LIBRARY_PATH:-}
  export LD_LIBRARY_PATH PYTHONUNBUFFERED=1
  find_libraries
  machine 2>&1 | tee "$OUT/machine.txt"
  [[ $WHAT == benchmarks ]] || checks
  [[ $WHAT == checks ]] || benchmarks
  "$PYTHON" "$KIT/table.py" "$OUT" | tee "$OUT/summary.md"
}

main
