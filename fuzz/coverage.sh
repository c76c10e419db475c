#!/usr/bin/env bash
# Stands between cargo and rustc, so that stable builds targets whose libFuzzer sees the coverage
# of vqtok and of the readers behind its doors:
#   RUSTC_WRAPPER=$PWD/fuzz/coverage.sh cargo build --release --manifest-path fuzz/Cargo.toml \
#       --target-dir target/fuzz
#   target/fuzz/release/TARGET CORPUS SEEDS -max_total_time=600
rustc=$1
shift
name='' previous=''
for word in "$@"; do
    [ "$previous" = --crate-name ] && name=$word
    previous=$word
done
case $name in
vqtok | image | plan | shard | recipe | pickle | parquet | toml | toml_edit | toml_parser | \
    png | fdeflate | zune_jpeg | image_webp | gif | weezl | tiff | qoi)
    exec "$rustc" "$@" -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$rustc" "$@" ;;
esac
