package comet

import "github.com/cometbft/cometbft/types"

// A villain is a member that lies. It sits where a member signs, and where it proposes. Only a build with the tag byzantine has one.
type villain interface {
	types.PrivValidator

	// begin is called once the member takes part.
	begin()
	// propose returns what stands in the block of a height instead of what an honest member would propose.
	propose(height int64, txs [][]byte) [][]byte
}
