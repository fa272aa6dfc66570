package consensus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

func TestAppending(t *testing.T) {
	seg := consensus.Segment{Epoch: 2, Base: 10}
	lost := errors.New("connection lost")
	unknown := func(err error) error { return fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err) }
	for _, c := range []struct {
		name    string
		before  error // an answer that came before
		offset  consensus.Offset
		err     error
		over    bool
		lsn     consensus.LSN
		next    consensus.AppendNext
		unknown bool // what is said in the end
	}{
		{"in", nil, 3, nil, false, 13, consensus.AppendDone, false},
		{"in at last", lost, 3, nil, true, 13, consensus.AppendDone, true},
		{"in an earlier segment", nil, 0, consensus.DuplicateError{LSN: 4}, false, 4, consensus.AppendDone, false},
		{"said to be in a later segment", nil, 0, fmt.Errorf("forwarded: %w", consensus.LaterError{LSN: 14}), false, 14, consensus.AppendLook, true},
		{"never", nil, 0, consensus.ErrInvalid, false, 0, consensus.AppendEnd, false},
		{"too large", nil, 0, consensus.ErrTooLarge, false, 0, consensus.AppendEnd, false},
		{"invalid by now", lost, 0, consensus.ErrInvalid, false, 0, consensus.AppendEnd, true},
		{"disk failed", nil, 0, consensus.ErrFailed, false, 0, consensus.AppendEnd, false},
		{"diverged", nil, 0, consensus.ErrDiverged, false, 0, consensus.AppendEnd, false},
		{"sealed", nil, 0, consensus.ErrSealed, false, 0, consensus.AppendElsewhere, false},
		{"sealed, but it may be in from before", lost, 0, consensus.ErrSealed, false, 0, consensus.AppendElsewhere, true},
		{"engine closed before it was handed over", nil, 0, consensus.ErrClosed, false, 0, consensus.AppendElsewhere, false},
		{"engine closed after", nil, 0, unknown(consensus.ErrClosed), false, 0, consensus.AppendElsewhere, true},
		{"given up before it was handed over", nil, 0, context.Canceled, true, 0, consensus.AppendEnd, false},
		{"given up after", nil, 0, unknown(context.Canceled), true, 0, consensus.AppendEnd, true},
		{"lost", nil, 0, lost, false, 0, consensus.AppendAgain, true},
		{"lost while it was given up", nil, 0, lost, true, 0, consensus.AppendEnd, true},
		{"lost, and given up", lost, 0, lost, true, 0, consensus.AppendEnd, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a consensus.Appending
			if c.before != nil {
				_, next := a.Answered(seg, 0, c.before, false)
				require.Equal(t, consensus.AppendAgain, next)
			}
			lsn, next := a.Answered(seg, c.offset, c.err, c.over)
			require.Equal(t, c.lsn, lsn)
			require.Equal(t, c.next, next)
			cause := c.err
			if cause == nil {
				cause = context.Canceled
			}
			err := a.Err(cause)
			require.ErrorIs(t, err, cause)
			require.Equal(t, c.unknown, errors.Is(err, consensus.ErrUnknownFate))
		})
	}
}
