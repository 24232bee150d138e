#!/usr/bin/env bash
# Builds the extension for production and installs it into the cached PostgreSQL.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

lock_cache
export_tools
cd "$ROOT"
step "build and install the extension" "$LOGS/install.log" \
    cargo pgrx install --release --pg-config "$S3VECTOR_PG_CONFIG"
