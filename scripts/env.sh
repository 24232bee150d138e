#!/usr/bin/env bash
# Prints the environment the Makefile gives to cargo, for work by hand:
#     eval "$(scripts/env.sh)"
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

export_tools
for name in S3VECTOR_CACHE S3VECTOR_PG_CONFIG S3VECTOR_PYTHON S3VECTOR_GARAGE PGRX_HOME \
    S3VECTOR_NODE S3VECTOR_NODE_MODULES S3VECTOR_CHROMIUM \
    CARGO_TARGET_DIR CARGO_PGRX CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND \
    AWS_EC2_METADATA_DISABLED; do
    printf 'export %s=%q\n' "$name" "${!name}"
done
# shellcheck disable=SC2016 # expands where it is evaluated
printf 'export PATH=%q:"$PATH"\n' "$TOOLS/bin"
