#!/usr/bin/env bash
# Everything there is to know about the GPU engine on one machine with a card, in a few minutes:
# golden tokens, tokens against the CPU engine, the share bfloat16 flips, rates beside PyTorch's,
# every stage's time, and the whole job from JPEG. Prints tables; exits 0 where float32 tokens are
# right, 1 where they differ, 2 where there is no card.
#
#   benches/gpu.sh prepare DIR      without a card: builds, and puts all that a card's machine needs
#                                   into DIR (about 30 MB; add golden cases and photos yourself)
#   DIR/gpu.sh                      with a card: runs what is in DIR, builds nothing
#   benches/gpu.sh                  with a card and a toolchain: both
#
# Settings by environment: PYTHON (an interpreter with torch; default python3), GOLDEN and PHOTOS
# (folders; default DIR/golden and DIR/photos, else those beside the checkout), COUNT (images of
# the whole job, default 4096), ROUNDS.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

prepare() {
    local to=$1 root
    root=$(dirname "$here")
    mkdir -p "$to/peers"
    cd "$root"
    cargo build --release --features cuda
    local bench
    bench=$(cargo build --release --features cuda --bench gpu --message-format json |
        sed -n 's/.*"executable":"\([^"]*gpu-[^"]*\)".*/\1/p')
    cp target/release/vqtok "$to/vqtok"
    cp "$bench" "$to/gpu-bench"
    cp benches/peers/encode_torch.py benches/peers/encode_torch_cuda.py "$to/peers/"
    cp benches/gpu.sh "$to/gpu.sh"
}

# The first of the folders that is there.
folder() {
    local path
    for path in "$@"; do
        if [ -n "$path" ] && [ -d "$path" ]; then echo "$path" && return; fi
    done
}

if [ "${1:-}" = prepare ]; then
    prepare "${2:?benches/gpu.sh prepare DIR}"
    exit 0
fi

if ! nvidia-smi -L 2>/dev/null; then
    echo 'benches/gpu.sh: no NVIDIA GPU on this machine (nvidia-smi lists none); nothing measured' >&2
    exit 2
fi
nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit,memory.total --format=csv

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ ! -x "$here/gpu-bench" ]; then
    prepare "$scratch/built"
    here=$scratch/built
fi
python=${PYTHON:-python3}
golden=$(folder "${GOLDEN:-}" "$here/golden" "$(dirname "$0")/../../shared/golden")
photos=$(folder "${PHOTOS:-}" "$here/photos" "$(dirname "$0")/../../shared/images/photos")

# The libraries of PyTorch's wheels serve us too; never a `stubs` folder.
wheels=$("$python" - <<'END' 2>/dev/null || true
import glob, os, sys
found = {os.path.dirname(f) for p in sys.path for f in glob.glob(os.path.join(p, "nvidia/*/lib/lib*.so*"))}
print(":".join(sorted(found)))
END
)
export LD_LIBRARY_PATH=$wheels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export VQTOK_PEERS=$here/peers

arguments=(--rounds "${ROUNDS:-10}" --model "$scratch/model")
[ -n "$golden" ] && arguments+=(--golden "$golden")
if "$python" -c 'import torch, safetensors' 2>/dev/null; then
    arguments+=(--python "$python")
else
    echo "no torch and safetensors in $python: its rates are left out (set PYTHON)"
fi
status=0
"$here/gpu-bench" "${arguments[@]}" || status=$?
[ "$status" = 2 ] && exit 2

# The whole job: the photos under as many names as it takes, from JPEG to shards.
if [ -z "$photos" ]; then
    echo 'no photos (set PHOTOS): the whole job is left out'
    exit "$status"
fi
mkdir "$scratch/images"
mapfile -t files < <(find "$photos" -type f -iname '*.jp*g' | sort)
count=${COUNT:-4096}
for ((i = 0; i < count; i++)); do
    file=${files[i % ${#files[@]}]}
    name=$scratch/images/$(printf %06d "$i").jpg
    ln "$file" "$name" 2>/dev/null || cp "$file" "$name"
done
echo
echo "the whole job, $count photos of ${#files[@]} JPEG files, $(nproc) cores:"
for precision in bf16 f32; do
    "$here/vqtok" tokenize "$scratch/images" --model "$scratch/model" --out "$scratch/out-$precision" \
        --device cuda --precision "$precision" --json |
        grep -E '"event":"(tokenized|dataset)"' | cut -c1-400
    "$here/vqtok" verify "$scratch/out-$precision"
done
exit "$status"
