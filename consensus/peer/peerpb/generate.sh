#!/usr/bin/env bash
# Writes the Go code beside peer.proto; with --check it compares instead. The plugins are those of the
# versions in go.mod. protoc is the machine's own (Debian: protobuf-compiler); where there is none, a
# check is skipped with a message.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v protoc >/dev/null; then
	echo 'protoc is not installed: the code made from peer.proto cannot be made here' >&2
	[ "${1:-}" = --check ] && { echo 'SKIPPED: is peerpb fresh?'; exit 0; }
	exit 1
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mkdir "$out/bin"
go build -o "$out/bin/" google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
PATH="$out/bin:$PATH" protoc -I . \
	--go_out="$out" --go_opt=module=ledgerd/consensus/peer/peerpb \
	--connect-go_out="$out" --connect-go_opt=module=ledgerd/consensus/peer/peerpb,simple=false \
	peer.proto
# The version of protoc stands in a comment; it does not change the code, and machines differ in it.
find "$out" -name '*.go' -exec sed -i '/^\/\/ \tprotoc  *v/d' {} +

status=0
for f in $(cd "$out" && find . -name '*.go'); do
	if [ "${1:-}" = --check ]; then
		diff -u "$f" "$out/$f" || { echo "$f is stale: go generate ./consensus/peer/..." >&2; status=1; }
	else
		mkdir -p "$(dirname "$f")" && cp "$out/$f" "$f"
	fi
done
exit $status
