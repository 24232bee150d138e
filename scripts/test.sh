#!/usr/bin/env bash
# All tests: the engine crates, the extension inside PostgreSQL, and clusters with Garage and Redis.
# A part that fails does not keep the others from running. Leaves nothing running.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Everything the tests start keeps its files here. Short, because Unix socket paths are limited.
RUN=$(mktemp -d /tmp/s3vt.XXXXXX)
chmod 755 "$RUN"
FAILED=()
PASSED_TESTS=0
FAILED_TESTS=0

cleanup() {
    local status=$?
    end_step
    stop_servers_below "$RUN"
    rm -rf "$RUN"
    if [ "$status" != 0 ]; then
        printf '\nlogs: %s\n' "$LOGS" >&2
    fi
}
trap cleanup EXIT

# part NAME COMMAND…: runs tests, their lines shown and kept in a log, and counts results.
part() {
    local name=$1 log=$LOGS/test-$1.log start=$SECONDS status=0 passed failed
    shift
    "$@" 2>&1 </dev/null 9>&- | tee "$log" || status=$?
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | paste -sd+ | bc_sum)
    failed=$(sed -n 's/^test result: .* \([0-9]*\) failed.*/\1/p' "$log" | paste -sd+ | bc_sum)
    PASSED_TESTS=$((PASSED_TESTS + passed))
    FAILED_TESTS=$((FAILED_TESTS + failed))
    if [ "$status" != 0 ]; then
        FAILED+=("$name")
        # A part that fails before or after its tests has failed all the same.
        [ "$failed" != 0 ] || FAILED_TESTS=$((FAILED_TESTS + 1))
    fi
    SUMMARY+=("$(printf '%-10s %4d passed, %d failed  (%s)' "$name" "$passed" "$failed" "$(duration $((SECONDS - start)))")")
}

# "1+2+3" on standard input → 6; nothing → 0
bc_sum() {
    local sum
    read -r sum || true
    printf '%d\n' "$((${sum:-0}))"
}

SUMMARY=()
START=$SECONDS

heading "Setup"
lock_cache
"$ROOT/scripts/setup.sh"
export_tools
export S3VECTOR_TEST_DIR=$RUN
cd "$ROOT"
ENGINE=(--workspace --exclude s3vector --exclude s3vector-tests)
step "compile the engine's tests" "$LOGS/build-engine.log" cargo test --no-run "${ENGINE[@]}"

heading "Engine crates"
part engine cargo test --no-fail-fast "${ENGINE[@]}"

heading "Counted instructions"
step "compile what is counted" "$LOGS/build-counts.log" cargo test --release --no-run -p s3vector-hnsw --test instructions
part counts cargo test --release -p s3vector-hnsw --test instructions

heading "The extension inside PostgreSQL"
PGRX_TEST=(cargo pgrx test "pg$PG_MAJOR" --pgdata "$RUN/pgrx")
if [ "$(id -u)" = 0 ]; then
    install -d -o postgres -g postgres "$RUN/pgrx"
    PGRX_TEST+=(--runas postgres)
fi
part extension "${PGRX_TEST[@]}"

heading "Fault points"
# What the tests inside PostgreSQL have installed is the build that has them.
if step "compile the tests of fault points" "$LOGS/build-faults.log" \
    cargo test --no-run -p s3vector-tests --features faults --test faults; then
    part faults cargo test --no-fail-fast -p s3vector-tests --features faults --test faults
else
    FAILED+=(faults)
    FAILED_TESTS=$((FAILED_TESTS + 1))
fi

heading "Clusters"
# The tests of crashes and concurrency are for the build that users run.
if "$ROOT/scripts/install.sh" &&
    step "compile the cluster tests" "$LOGS/build-clusters.log" cargo test --no-run -p s3vector-tests; then
    part clusters cargo test --no-fail-fast -p s3vector-tests
else
    FAILED+=(clusters)
    FAILED_TESTS=$((FAILED_TESTS + 1))
fi

heading "Summary ($(duration $((SECONDS - START))))"
printf '  %s\n' "${SUMMARY[@]}"
if [ ${#FAILED[@]} -gt 0 ]; then
    printf '  %sfailed: %s%s\n' "$RED" "${FAILED[*]}" "$PLAIN"
fi
printf '\n%d passed, %d failed\n' "$PASSED_TESTS" "$FAILED_TESTS"
[ ${#FAILED[@]} -eq 0 ]
