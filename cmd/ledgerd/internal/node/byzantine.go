//go:build byzantine

package node

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"ledgerd/consensus/comet"
)

// liesVariable names the lies that this member tells where CometBFT orders, by commas (comet.Lies). It is for tests of what a network bears, and in their build only.
const liesVariable = "LEDGERD_BYZANTINE"

// misbehave has this member lie, if it is told to.
func misbehave(o *comet.Options, logger *slog.Logger) error {
	lies := os.Getenv(liesVariable)
	if lies == "" {
		return nil
	}
	if err := o.Misbehave(strings.Split(lies, ",")...); err != nil {
		return fmt.Errorf("%s: %w", liesVariable, err)
	}
	logger.Warn("this member is going to lie", "lies", lies)
	return nil
}
