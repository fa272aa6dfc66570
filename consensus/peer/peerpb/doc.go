// Package peerpb is what peer.proto says, as Go. It is made by generate.sh and committed, so that a build needs no protoc.
package peerpb

//go:generate ./generate.sh
