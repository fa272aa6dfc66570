package comet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestBlockGone: of four members one may lie, so two have to say that the block is gone; and one that claims to have it is believed for as long as it may take to send it.
func TestBlockGone(t *testing.T) {
	behind, has, dropped := report{height: 9, base: 1}, report{height: 20, base: 5}, report{height: 20, base: 15}
	for name, tt := range map[string]struct {
		heard   []report
		waiting time.Duration
		gone    bool
	}{
		"nobody is there":           {},
		"nobody is ahead":           {heard: []report{behind, behind, behind}, waiting: time.Hour},
		"one says so, and may lie":  {heard: []report{dropped, behind, behind}, waiting: time.Hour},
		"two say so":                {heard: []report{dropped, dropped}, gone: true},
		"one has it":                {heard: []report{dropped, dropped, has}},
		"one has it, and sends not": {heard: []report{dropped, dropped, has}, waiting: strandedAfter + 1, gone: true},
		"all have it":               {heard: []report{has, has, has}, waiting: time.Hour},
		"the next one is the first": {heard: []report{{height: 20, base: 10}, dropped, dropped}},
	} {
		require.Equal(t, tt.gone, blockGone(10, tt.heard, 1, tt.waiting), name)
	}
}
