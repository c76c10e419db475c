#!/usr/bin/env bash
# What the GPU engine is and does on a machine with a card, in the order in which it decides something:
# versions and the fastest of cuDNN's configurations for each convolution, golden tokens, NVIDIA's own
# checks, every family's golden case, bits from batch to batch, tokens and pictures against the CPU engine,
# rates with one and two batches in flight, every stage's time, the whole job from JPEG and back to pictures,
# on all cards where there are several, and a few steps of training. Each step has a time limit and a log
# of its own; one that fails costs no other, none begins once LIMIT is spent, and the summary comes last.
# About five minutes on an H200 (an estimate: no card has run it). PyTorch's rates are benches/gpu_peers.sh's.
#
#   benches/gpu.sh prepare DIR      without a card: builds, and puts all that a card's machine needs
#                                   into DIR (about 30 MB, and a trainer where there is nvcc; add golden
#                                   cases and photos yourself)
#   DIR/gpu.sh                      with a card: runs what is in DIR, builds nothing
#   benches/gpu.sh                  with a card and a toolchain: both
#
# Settings by environment: GOLDEN and PHOTOS (folders; default DIR/golden and DIR/photos, else those
# beside the checkout), COUNT (images of the whole job, default 2048), ROUNDS (default 20), LIMIT (seconds
# for all steps, default 480), TRAINER (a vqtok built with candle-cuda, default DIR/vqtok-train; where there
# is none, training is left out; see the README for how to build it), STEPS (of training, default 20), LOGS (a
# folder for the logs; default a temporary one), MODEL (the f16 model, made where it isn't there),
# PYTHON (an interpreter whose packages hold CUDA's libraries, such as PyTorch's; default python3), SIDE
# (of the images, default 256: with another MODEL the steps run on stand-ins for a card, too).
#
# Exits with 0 where every step was right, 1 where one wasn't, 2 where there is no card.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

prepare() {
    local to=$1 root
    root=$(dirname "$here")
    mkdir -p "$to/peers"
    cd "$root" || return
    cargo build --release --features cuda || return
    local bench
    bench=$(cargo build --release --features cuda --bench gpu --message-format json |
        sed -n 's/.*"executable":"\([^"]*gpu-[^"]*\)".*/\1/p')
    cp target/release/vqtok "$to/vqtok" && cp "$bench" "$to/gpu-bench" &&
        cp benches/peers/encode_torch.py benches/peers/encode_torch_cuda.py "$to/peers/" &&
        cp benches/gpu.sh benches/gpu_peers.sh "$to/"
}

# Training needs a binary of its own, which starts only where CUDA is. Minutes of nvcc: never on a card's time.
prepare_trainer() {
    local to=$1
    command -v nvcc >/dev/null || return 0
    cd "$(dirname "$here")" || return
    if cargo build --release --features candle-cuda --target-dir target/candle-cuda; then
        cp target/candle-cuda/release/vqtok "$to/vqtok-train"
    else
        echo 'gpu.sh: no build with candle-cuda, so that training will be left out' >&2
    fi
}

# The first of the folders that is there.
folder() {
    local path
    for path in "$@"; do
        if [ -n "$path" ] && [ -d "$path" ]; then echo "$path" && return; fi
    done
}

if [ "${1:-}" = prepare ]; then
    mkdir -p "${2:?benches/gpu.sh prepare DIR}" || exit
    to=$(cd "$2" && pwd)
    prepare "$to" && prepare_trainer "$to"
    exit
fi

if ! nvidia-smi -L 2>/dev/null; then
    echo "$(basename "$0"): no NVIDIA GPU on this machine (nvidia-smi lists none); nothing measured" >&2
    exit 2
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
if [ ! -x "$here/gpu-bench" ]; then
    prepare "$scratch/built" || exit 1
    here=$scratch/built
fi
logs=${LOGS:-$(mktemp -d)}
mkdir -p "$logs"
golden=$(folder "${GOLDEN:-}" "$here/golden" "$(dirname "$0")/../../shared/golden")
photos=$(folder "${PHOTOS:-}" "$here/photos" "$(dirname "$0")/../../shared/images/photos")
# The same model for all steps and for the peers.
model=${MODEL:-$logs/model}
trainer=${TRAINER:-$here/vqtok-train}

# The libraries of PyTorch's wheels serve us too; never a `stubs` folder.
python=${PYTHON:-python3}
wheels=$("$python" - <<'END' 2>/dev/null || true
import glob, os, sys
found = {os.path.dirname(f) for p in sys.path for f in glob.glob(os.path.join(p, "nvidia/*/lib/lib*.so*"))}
print(":".join(sorted(found)))
END
)
export LD_LIBRARY_PATH=$wheels${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

summary=()
failed=0
deadline=$((SECONDS + ${LIMIT:-480}))
# step NAME SECONDS COMMAND...: under its time limit, with its own log; what it found is kept for the end.
step() {
    local name=$1 limit=$2 status=0 started=$SECONDS
    shift 2
    if ((SECONDS >= deadline)); then
        summary+=("$name: left out, the ${LIMIT:-480} s for all steps are spent") && failed=1
        return 0
    fi
    ((limit = limit < deadline - SECONDS ? limit : deadline - SECONDS))
    timeout --kill-after=5 "$limit" "$@" >"$logs/$name.log" 2>&1 || status=$?
    case $status in
    0) ;;
    124 | 137) summary+=("$name: over its $limit s") && failed=1 ;;
    *) summary+=("$name: exit code $status; $(tail -1 "$logs/$name.log")") && failed=1 ;;
    esac
    printf '%-24s %4s s, exit code %s\n' "$name" $((SECONDS - started)) "$status"
    local line
    while IFS= read -r line; do summary+=("$name: ${line#= }"); done \
        < <(grep '^= ' "$logs/$name.log")
    return 0
}
bench=("$here/gpu-bench" --model "$model" --side "${SIDE:-256}" --step)

step card 10 nvidia-smi --query-gpu=name,driver_version,clocks.max.sm,power.limit,memory.total --format=csv
step versions 90 "${bench[@]}" versions
if [ -n "$golden" ]; then
    first=(--golden "$golden" --case taming_vq)
    step golden-first-f32 20 "${bench[@]}" golden "${first[@]}" --precision f32
    step golden-first-bf16 20 "${bench[@]}" golden "${first[@]}" --precision bf16
    if grep -q 'exit code' <<<"${summary[*]}"; then
        # Each call waits for its work: the log names the one that faults.
        step golden-blocking 30 env CUDA_LAUNCH_BLOCKING=1 "${bench[@]}" golden "${first[@]}"
    fi
    if command -v compute-sanitizer >/dev/null; then
        for tool in memcheck racecheck initcheck; do
            step "$tool" 30 compute-sanitizer --tool "$tool" --error-exitcode 9 \
                "${bench[@]}" golden "${first[@]}" --precision f32
        done
    fi
    # All families; their tokens on the CPU are most of the time.
    step golden-f32 60 "${bench[@]}" golden --golden "$golden" --precision f32
    step golden-bf16 60 "${bench[@]}" golden --golden "$golden" --precision bf16
else
    summary+=('no golden cases (set GOLDEN): their tokens were not compared')
fi
step bits 30 "${bench[@]}" bits
step exact 60 "${bench[@]}" exact
step decode 60 "${bench[@]}" decode --rounds 3
step rate-bf16 30 "${bench[@]}" rate --precision bf16 --rounds "${ROUNDS:-20}"
step profile 20 "${bench[@]}" profile --precision bf16
step rate-f32 30 "${bench[@]}" rate --precision f32 --rounds 3

# The whole job: the photos under as many names as it takes, from JPEG to shards.
whole_job() {
    local precision=$1 count=$2 device=${3:-cuda} files i name
    local images=$scratch/images-$1-${device/:/-} out=$scratch/out-$1-${device/:/-}
    mkdir "$images"
    mapfile -t files < <(find -L "$photos" -type f -iname '*.jp*g' | sort)
    if [ ${#files[@]} = 0 ]; then echo "no JPEG in $photos" && return 1; fi
    for ((i = 0; i < count; i++)); do
        name=$images/$(printf %06d "$i").jpg
        ln "${files[i % ${#files[@]}]}" "$name" 2>/dev/null || cp "${files[i % ${#files[@]}]}" "$name"
    done
    "$here/vqtok" tokenize "$images" --model "$model" --out "$out" --shard-rows 512 \
        --device "$device" --precision "$precision" --json >"$out.json" || return
    grep -E '"event":"(device|tokenized|dataset)"' "$out.json" | cut -c1-400 | sed 's/^/= /'
    "$here/vqtok" verify "$out"
}

# The pictures of a whole job's first shard.
decode_job() {
    local out=$scratch/out-bf16-cuda shard
    shard=$(find "$out" -name '*.parquet' -path '*/tokens/*' 2>/dev/null | sort | head -n 1)
    if [ -z "$shard" ]; then echo 'job-bf16 left no shard to decode' && return 1; fi
    "$here/vqtok" decode "$shard" --model "$model" --out "$scratch/pictures" --device cuda \
        --precision bf16 --json >"$scratch/pictures.json" || return
    echo "= $(find "$scratch/pictures" -name '*.png' | wc -l) pictures of one shard"
}

# A few steps of a recipe.
train_job() {
    local precision=$1 steps=$2 trained=$scratch/trained-$1
    "$trainer" train "$photos" --model "$trained" --recipe vqgan-f16-256 --steps "$steps" --device cuda \
        --precision "$precision" --seed 1 --json >"$trained.json" || return
    grep -E '"event":"(look|trained)"' "$trained.json" | tail -n 2 | cut -c1-400 | sed 's/^/= /'
    echo "= $SECONDS s for $steps steps, with what is evaluated before and behind them"
}
if [ -n "$photos" ]; then
    export -f whole_job decode_job train_job
    export here scratch photos model trainer
    step job-bf16 60 bash -c 'whole_job bf16 "$0"' "${COUNT:-2048}"
    step job-decode 60 bash -c decode_job
    step job-f32 60 bash -c 'whole_job f32 256'
    if [ "$(nvidia-smi -L | wc -l)" -gt 1 ]; then
        step job-all-cards 60 bash -c 'whole_job bf16 "$0" cuda:all' "${COUNT:-2048}"
    fi
    if [ -x "$trainer" ]; then
        step train-f32 60 bash -c 'train_job f32 "$0"' "${STEPS:-20}"
        step train-bf16 60 bash -c 'train_job bf16 "$0"' "${STEPS:-20}"
    else
        summary+=('no vqtok with candle-cuda (set TRAINER): training was left out')
    fi
else
    summary+=('no photos (set PHOTOS): the whole job was left out')
fi

echo
cat "$logs/profile.log" 2>/dev/null
printf '\nsummary (logs in %s, %s s):\n' "$logs" "$SECONDS"
printf '  %s\n' "${summary[@]}"
exit "$failed"
