#!/usr/bin/env bash
# Measures the index beside others, see benches/bench.py; leaves nothing running.
#
# usage: scripts/bench.sh QUICK DATA [ARGUMENT…]
#        QUICK  empty: the whole run; anything: five minutes, and the docs stay as they are
#        DATA   a folder with wordnet_base.npy and wordnet_query.npy, or empty
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

QUICK=${1:-} DATA=${2:-}
shift $(($# < 2 ? $# : 2))
BENCH=$S3VECTOR_CACHE/bench
PARTS=(postgres pgrx garage bench)
ARGUMENTS=(--folder "$BENCH" --node-modules "$BENCH_NODE_MODULES")
if [ -n "$DATA" ]; then
    [ -d "$DATA" ] || die "DATA names no folder: $DATA"
    ARGUMENTS+=(--data "$(realpath "$DATA")")
elif [ -z "$QUICK" ]; then
    # The definitions are embedded with the examples' language model.
    PARTS+=(examples)
fi
[ -z "$QUICK" ] || ARGUMENTS+=(--quick)

cleanup() {
    end_step
    stop_servers_below "$BENCH/run"
    rm -rf "$BENCH/run"
}

heading "Setup"
lock_cache
trap cleanup EXIT
"$ROOT/scripts/setup.sh" "${PARTS[@]}"
"$ROOT/scripts/install.sh"
export_tools
cd "$ROOT"
step "compile the proxy that makes a store distant" "$LOGS/build-proxy.log" \
    cargo build --release -p s3vector-tests --bin latency-proxy
# What an interrupted run left.
rm -rf "$BENCH/run"
mkdir -p "$BENCH/run"
heading "Benchmark"
"$S3VECTOR_PYTHON" "$ROOT/benches/bench.py" "${ARGUMENTS[@]}" \
    --proxy "$CARGO_TARGET_DIR/release/latency-proxy" "$@" 9>&-
