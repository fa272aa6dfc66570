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
		heard  []report
		waited time.Duration
		gone   bool
	}{
		"nobody is there":           {},
		"nobody is ahead":           {heard: []report{behind, behind, behind}, waited: time.Hour},
		"one says so, and may lie":  {heard: []report{dropped, behind, behind}, waited: time.Hour},
		"two say so":                {heard: []report{dropped, dropped}, gone: true},
		"one has it":                {heard: []report{dropped, dropped, has}},
		"one has it, and sends not": {heard: []report{dropped, dropped, has}, waited: strandedAfter + 1, gone: true},
		"all have it":               {heard: []report{has, has, has}, waited: time.Hour},
		"the next one is the first": {heard: []report{{height: 20, base: 10}, dropped, dropped}},
	} {
		require.Equal(t, tt.gone, blockGone(10, tt.heard, 1, tt.waited), name)
	}
}

// TestOffer: what counts is how long this node could have been sent the block that it needs next: not how long it needs it, nor how long it was cut off or stopped.
func TestOffer(t *testing.T) {
	type step struct {
		after  time.Duration
		height uint64
		heard  []report
		times  int // 0: 1
		gone   bool
	}
	has, dropped := report{height: 20, base: 5}, report{height: 20, base: 15}
	behind := []report{{height: 9, base: 1}, {height: 9, base: 1}}
	all, gone, alone := []report{dropped, dropped, has}, []report{dropped, dropped}, []report{has}
	const long, looks = time.Hour, int(strandedAfter / time.Second)
	for name, steps := range map[string][]step{
		"offered for long":                 {{height: 10, heard: all}, {after: time.Second, height: 10, heard: all, times: looks}, {after: time.Second, height: 10, heard: all, gone: true}},
		"idle for long, then cut off":      {{height: 10, heard: behind}, {after: long, height: 10, heard: nil}, {after: long, height: 10, heard: all}, {after: time.Second, height: 10, heard: all}},
		"cut off while it catches up":      {{height: 10, heard: all}, {after: time.Second, height: 10, heard: nil, times: 2 * looks}, {after: time.Second, height: 10, heard: all}},
		"stopped while it catches up":      {{height: 10, heard: all}, {after: long, height: 10, heard: all}},
		"another block":                    {{height: 10, heard: all}, {after: time.Second, height: 10, heard: all, times: looks}, {after: time.Second, height: 11, heard: all}},
		"offered before others dropped it": {{height: 10, heard: alone}, {after: time.Second, height: 10, heard: alone, times: looks}, {after: 2 * time.Second, height: 10, heard: all, gone: true}},
		"whoever offers it comes and goes": {
			{height: 10, heard: all}, {after: time.Second, height: 10, heard: all, times: looks}, {after: time.Second, height: 10, heard: gone, gone: true},
			{after: time.Second, height: 10, heard: all}, {after: time.Second, height: 10, heard: all, gone: true},
		},
	} {
		var o offer
		now := time.Now()
		for i, s := range steps {
			for range max(1, s.times) {
				now = now.Add(s.after)
				require.Equal(t, s.gone, blockGone(s.height, s.heard, 1, o.look(s.height, s.heard, now)), "%s, step %d", name, i)
			}
		}
	}
}
