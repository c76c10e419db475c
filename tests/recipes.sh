#!/usr/bin/env bash
# Trains every recipe for one step on drawn pictures and tokenizes with the result.
# usage: recipes.sh VQTOK SCRATCH, where SCRATCH holds the images of a quickstart.
set -euo pipefail
vqtok=$1 scratch=$2
images=$scratch/smoke
mkdir -p "$images/a"
for motif in discs hills plasma rings; do
    for number in 000 001; do
        cp "$scratch/vqtok-quickstart/images/$motif/$number.png" "$images/a/$motif-$number.png"
    done
done
"$vqtok" recipe list | while read -r name _; do
    echo "recipe $name"
    # 64 px and one image a batch: a step of the 256 px recipes takes minutes on two cores.
    "$vqtok" train "$images" --recipe "$name" --size 64 --steps 1 --batch-size 1 \
        --model "$scratch/smoke-$name/model"
    "$vqtok" tokenize "$images" --model "$scratch/smoke-$name/model" --out "$scratch/smoke-$name/tokens"
done
