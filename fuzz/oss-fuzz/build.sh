#!/bin/bash -eu
# Builds every target and packs its seeds, as OSS-Fuzz wants them.
cd "$SRC/rinfer"
cargo run --quiet -p rinfer-tests --bin seeds -- fuzz/corpus
cargo fuzz build -O --fuzz-dir fuzz
for source in fuzz/fuzz_targets/*.rs; do
  target=$(basename "$source" .rs)
  cp "fuzz/target/x86_64-unknown-linux-gnu/release/$target" "$OUT/"
  if [ -d "fuzz/corpus/$target" ]; then
    zip -qjr "$OUT/${target}_seed_corpus.zip" "fuzz/corpus/$target"
  fi
done
