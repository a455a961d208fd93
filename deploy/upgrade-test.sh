#!/usr/bin/env bash
# Runs a rolling upgrade from the version at a commit, tag or branch to what is in this work tree, and back, under load.
# The earlier version is built in a work tree of its own, which is removed afterwards.
#   deploy/upgrade-test.sh REF
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ref=${1:?a commit, tag or branch to upgrade from}

if ! git rev-parse -q --verify "$ref^{commit}" >/dev/null; then
  echo "$ref is no commit of this repository (a shallow clone? git fetch --unshallow)" >&2
  exit 1
fi
dir=$(mktemp -d)
finish() {
  git worktree remove --force "$dir/tree" 2>/dev/null || true
  git worktree prune
  rm -rf "$dir"
}
trap finish EXIT
git worktree add -q --detach "$dir/tree" "$ref"
echo "building $(git -C "$dir/tree" log -1 --format='%h %s')"
(cd "$dir/tree" && go build -trimpath -ldflags "-X main.version=$(git rev-parse --short HEAD)" -o "$dir/tocsin-old" ./cmd/tocsin)
go run ./internal/postgres/postgrestest/withpostgres \
  go test -count=1 -v -timeout 30m -run '^TestRollingUpgrade$' ./internal/e2e -e2e.old="$dir/tocsin-old"
