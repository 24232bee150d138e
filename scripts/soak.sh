#!/usr/bin/env bash
# The tests that go on for as long as one likes: clients while everything around them is killed, then
# random plans compared with sequential scans. Leaves nothing running.
#
# usage: scripts/soak.sh SECONDS     how long each of them takes
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

[[ ${1:-} =~ ^[1-9][0-9]*$ ]] || die "SECONDS is a number, not '${1:-}'"
# Short, because Unix socket paths are limited.
RUN=$(mktemp -d /tmp/s3vt.XXXXXX)
chmod 755 "$RUN"

cleanup() {
    end_step
    stop_servers_below "$RUN"
    rm -rf "$RUN"
}
trap cleanup EXIT

heading "Setup"
lock_cache
"$ROOT/scripts/setup.sh" postgres pgrx
"$ROOT/scripts/install.sh"
export_tools
export S3VECTOR_TEST_DIR=$RUN S3VECTOR_SOAK_SECONDS=$1 S3VECTOR_PLANS_SECONDS=$1
cd "$ROOT"
step "compile the tests" "$LOGS/build-soak.log" \
    cargo test --no-run -p s3vector-tests --test soak --test plans
heading "Soak, $(duration "$1") each"
FAILED=()
for name in soak plans; do
    cargo test -p s3vector-tests --test "$name" -- --nocapture 2>&1 </dev/null 9>&- | tee "$LOGS/$name.log" ||
        FAILED+=("$name")
done
[ ${#FAILED[@]} -eq 0 ] || die "failed: ${FAILED[*]}" "logs: $LOGS"
