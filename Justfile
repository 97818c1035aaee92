# The one list of commands. `just` shows it; CI runs `just check`.

set shell := ["bash", "-euo", "pipefail", "-c"]

export PATH := justfile_directory() / ".tools/venv/bin" + ":" + env("PATH")

bins := "-p streamgate -p streamgate-encoder -p streamgate-integration"

# The newest release that this commit stands on; empty before the first.
release := `git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true`

# Show this list.
default:
    @just --list --unsorted

# Everything that CI runs, cheapest first.
check: fmt-check proto deny lint test

# Format the code.
fmt:
    cargo fmt --all

fmt-check:
    cargo fmt --all --check

# Clippy over everything, warnings denied.
lint:
    cargo clippy --workspace --all-targets -- -D warnings

# Lint the contracts, and refuse what would break clients of the last release.
proto:
    node_modules/.bin/buf lint proto
    {{ if release == "" { "" } else { "node_modules/.bin/buf breaking proto --against '.git#tag=" + release + ",subdir=proto'" } }}

# Licences, bans and sources of the dependencies.
deny:
    cargo deny --all-features check bans licenses sources

# Every test: units, services, and the whole system on the real binary.
test: build-for-tests
    cargo test --workspace --quiet --no-fail-fast

# Only the whole-system tests. FILTER is a test file, such as main_job.
test-system FILTER="": build-for-tests
    cargo test -p streamgate-integration {{ if FILTER == "" { "" } else { "--test " + FILTER } }} -- --nocapture

# The whole-system tests on the cluster of `just mesh`, or with FORM=nine on nine processes with embedded engines.
test-mesh FILTER="" FORM="mesh": build-for-tests
    STREAMGATE_TEST_SHAPE={{ FORM }} cargo test -p streamgate-integration {{ if FILTER == "" { "" } else { "--test " + FILTER } }} -- --nocapture

# The real binaries that system tests start. The whole workspace, so that `test` finds the same features built.
[private]
build-for-tests:
    cargo build --workspace --bins

# Requests made up from the OpenAPI document, EXAMPLES for each operation, in every phase (10 take about 5 minutes).
schemathesis EXAMPLES="10": build-for-tests
    STREAMGATE_EXAMPLES={{ EXAMPLES }} cargo test -p streamgate-integration --test undocumented -- --nocapture

# One crate: `just check-crate upload`.
check-crate NAME:
    cargo clippy -p streamgate-{{ NAME }} --all-targets -- -D warnings
    cargo test -p streamgate-{{ NAME }}

# Benchmarks: `just bench transcode`. Each figure is a line `bench NAME METRIC ours=… peer=… ratio=…`.
bench *NAMES:
    cargo build --release {{ bins }} --bins
    for name in {{ NAMES }}; do "scripts/bench/$name"; done

# Start the platform from a debug build.
dev:
    cargo build -p streamgate -p streamgate-encoder
    STREAMGATE_DATA_DIR="${STREAMGATE_DATA_DIR:-data}" target/debug/streamgate serve

# The main job end to end against a local EVM node.
demo *VIDEO:
    scripts/run demo {{ VIDEO }}

# The demo on a cluster: PostgreSQL, Redis, NATS, S3 and an EVM node on free ports, the nine binaries in nine processes.
mesh *VIDEO:
    scripts/install-for-tests
    cargo build --workspace --bins
    target/debug/demo --platform mesh {{ VIDEO }}

# Rounds of faults on the cluster of `just mesh`: `just rounds kill 20` kills each of the nine 20 times.
rounds *ARGUMENTS:
    scripts/install-for-tests
    cargo build --workspace --bins
    target/debug/rounds {{ ARGUMENTS }}

# Rebuild the demo's contract.
contracts:
    node integration/contracts/compile.mjs
