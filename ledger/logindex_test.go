package ledger

import (
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/stretchr/testify/require"
)

// TestPostingsTellValuesApart guards against an index that is right and useless: numbers and addresses as topics begin with
// zeros, byte strings end with them.
func TestPostingsTellValuesApart(t *testing.T) {
	seen := map[postingValue]string{}
	add := func(what string, p postingValue) {
		require.Empty(t, seen[p], "%s has the posting of", what)
		seen[p] = what
	}
	for i := int64(0); i < 1000; i++ {
		n := big.NewInt(i)
		add("number "+n.String(), topicPosting(1, common.BigToHash(n)))
		add("string "+n.String(), topicPosting(1, common.Hash(common.RightPadBytes([]byte("s"+n.String()+"."), 32))))
		add("address "+n.String(), addressPosting(common.BigToAddress(n)))
	}
	add("another position", topicPosting(2, common.BigToHash(big.NewInt(1))))
}
