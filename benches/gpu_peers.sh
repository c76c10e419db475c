#!/usr/bin/env bash
# PyTorch's rates on the same weights and images as ours, on a machine with a card: beside
# benches/gpu.sh, whose folder and settings it takes. Its compilations take minutes; the rates come from
# the likely best to the slowest. PYTHON is an interpreter with torch and safetensors; LIMIT the seconds
# for all (default 300).
#
# Exits with 2 where there is no card or no PyTorch.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if ! nvidia-smi -L 2>/dev/null; then
    echo "$(basename "$0"): no NVIDIA GPU on this machine (nvidia-smi lists none); nothing measured" >&2
    exit 2
fi
if ! "$python" -c 'import torch, safetensors'; then
    echo "$(basename "$0"): no torch and safetensors in $python (set PYTHON)" >&2
    exit 2
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ ! -x "$here/gpu-bench" ]; then
    bash "$here/gpu.sh" prepare "$scratch/built" || exit 1
    here=$scratch/built
fi
wheels=$("$python" - <<'END'
import glob, os, sys
found = {os.path.dirname(f) for p in sys.path for f in glob.glob(os.path.join(p, "nvidia/*/lib/lib*.so*"))}
print(":".join(sorted(found)))
END
)
export LD_LIBRARY_PATH=$wheels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export VQTOK_PEERS=$here/peers
timeout --kill-after=5 "${LIMIT:-300}" "$here/gpu-bench" --step peers --python "$python" \
    --precision bf16 --rounds "${ROUNDS:-10}" --model "${MODEL:-$scratch/model}"
