package consensus

import (
	"context"
	"errors"
	"fmt"
)

// An Appending is what is known of one record on its way into the log, over as many attempts and segments as it takes: what a loglet's answer means, and
// what may be said of the record if the caller gives up. It is what VirtualLog.Append goes by, and package sim. The zero value is that of a record which
// was not offered to anybody yet.
type Appending struct {
	unknown bool // some attempt may have, or may yet, put the record in
}

// An AppendNext says how an append goes on.
type AppendNext int

const (
	// AppendDone: the record is in.
	AppendDone AppendNext = iota
	// AppendEnd: no further attempt can do better. What to say of the record is Err's.
	AppendEnd
	// AppendElsewhere: the segment is over, or its engine was closed since it is. In either case another is coming, or the log closes.
	AppendElsewhere
	// AppendAgain: in the same segment, under the same id.
	AppendAgain
	// AppendLook: when this node has come to the LSN that Answered returns, the record is there and this is AppendDone, or it is AppendAgain.
	AppendLook
)

func (n AppendNext) String() string {
	return [...]string{"done", "end", "elsewhere", "again", "look"}[n]
}

// Answered takes in what the loglet of a segment answered (Loglet.Append). over: the caller does not wait any longer.
func (a *Appending) Answered(seg Segment, o Offset, err error, over bool) (LSN, AppendNext) {
	var duplicate DuplicateError
	var later LaterError
	switch {
	case err == nil:
		return seg.LSN(o), AppendDone
	case errors.As(err, &duplicate):
		return duplicate.LSN, AppendDone
	case errors.As(err, &later):
		a.unknown = true
		return later.LSN, AppendLook
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrTooLarge), errors.Is(err, ErrFailed), errors.Is(err, ErrCorrupt), errors.Is(err, ErrDiverged):
		return 0, AppendEnd
	case errors.Is(err, ErrSealed), errors.Is(err, ErrClosed):
		a.unknown = a.unknown || errors.Is(err, ErrUnknownFate)
		return 0, AppendElsewhere
	case over:
		a.unknown = a.unknown || !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
		return 0, AppendEnd
	}
	a.unknown = true
	return 0, AppendAgain
}

// Err returns the error with which the append ends: joined with ErrUnknownFate unless the record is surely not in.
func (a *Appending) Err(err error) error {
	if a.unknown && !errors.Is(err, ErrUnknownFate) {
		return fmt.Errorf("%w: %w", ErrUnknownFate, err)
	}
	return err
}
