#!/usr/bin/env bash
# Formatting and lints of everything, warnings being errors.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

heading "Lint"
"$ROOT/scripts/setup.sh" postgres pgrx
export_tools
cd "$ROOT"
step "cargo fmt --check" "$LOGS/fmt.log" cargo fmt --all --check
step "cargo clippy, every crate and target" "$LOGS/clippy.log" \
    cargo clippy --workspace --all-targets --features s3vector/pg_test,s3vector-tests/faults -- -D warnings
step "python -m compileall" "$LOGS/compileall.log" \
    env PYTHONPYCACHEPREFIX="$S3VECTOR_CACHE/pycache" "$S3VECTOR_PYTHON" -W error -m compileall -q benches demo examples tests
step "licences of linked crates" "$LOGS/licences.log" python3 scripts/licences.py --check
if command -v shellcheck >/dev/null; then
    step "shellcheck" "$LOGS/shellcheck.log" shellcheck -x scripts/*.sh scripts/cargo-pgrx .ci/run
fi
