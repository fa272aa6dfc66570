//go:build !byzantine

package node

import (
	"log/slog"

	"ledgerd/consensus/comet"
)

// misbehave does nothing: only a build with the tag byzantine has members that lie.
func misbehave(*comet.Options, *slog.Logger) error { return nil }
