package peer

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
)

var (
	// ErrRefused: the other node does not grant the right to what was asked.
	ErrRefused = errors.New("refused by the peer")

	// ErrNotServing: the node cannot be reached, or does not serve its log now. Another one may, or this one later. A record that was to be appended was
	// not handed over.
	ErrNotServing = errors.New("peer is not serving")

	// ErrNoSnapshot: no node that answered has the snapshot that was asked for, or any that will do.
	ErrNoSnapshot = errors.New("no such snapshot")
)

// wire maps what callers must tell apart to its form between nodes. The first kind of an error that stands here gives the code.
var wire = []struct {
	kind     peerpb.Failure_Kind
	sentinel error
	code     connect.Code
}{
	{peerpb.Failure_KIND_UNKNOWN_FATE, consensus.ErrUnknownFate, connect.CodeAborted},
	{peerpb.Failure_KIND_SEALED, consensus.ErrSealed, connect.CodeFailedPrecondition},
	{peerpb.Failure_KIND_TRIMMED, consensus.ErrTrimmed, connect.CodeOutOfRange},
	{peerpb.Failure_KIND_UNWRITTEN, consensus.ErrUnwritten, connect.CodeOutOfRange},
	{peerpb.Failure_KIND_TOO_LARGE, consensus.ErrTooLarge, connect.CodeInvalidArgument},
	{peerpb.Failure_KIND_INVALID, consensus.ErrInvalid, connect.CodeInvalidArgument},
	{peerpb.Failure_KIND_CORRUPT, consensus.ErrCorrupt, connect.CodeDataLoss},
	{peerpb.Failure_KIND_FAILED, consensus.ErrFailed, connect.CodeInternal},
	{peerpb.Failure_KIND_WRONG_NETWORK, consensus.ErrWrongNetwork, connect.CodeFailedPrecondition},
	{peerpb.Failure_KIND_NOT_MEMBER, consensus.ErrNotMember, connect.CodeFailedPrecondition},
	{peerpb.Failure_KIND_DIVERGED, consensus.ErrDiverged, connect.CodeFailedPrecondition},
	{peerpb.Failure_KIND_NO_SNAPSHOT, ErrNoSnapshot, connect.CodeNotFound},
	{peerpb.Failure_KIND_REFUSED, ErrRefused, connect.CodePermissionDenied},
	{peerpb.Failure_KIND_NOT_SERVING, ErrNotServing, connect.CodeUnavailable},
	{peerpb.Failure_KIND_CLOSED, consensus.ErrClosed, connect.CodeUnavailable},
}

// toWire makes an error that another node can read. The text of one that is none of ours stays here: it may name paths.
func toWire(err error) *connect.Error {
	failure := &peerpb.Failure{}
	code := connect.Code(0)
	for _, w := range wire {
		if errors.Is(err, w.sentinel) {
			failure.Kinds = append(failure.Kinds, w.kind)
			if code == 0 {
				code = w.code
			}
		}
	}
	var corrupt *consensus.CorruptError
	if errors.As(err, &corrupt) {
		failure.Lsn = uint64(corrupt.LSN)
	}
	switch {
	case code != 0:
	case errors.Is(err, context.Canceled):
		return connect.NewError(connect.CodeCanceled, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeDeadlineExceeded, context.DeadlineExceeded)
	default:
		return connect.NewError(connect.CodeInternal, errors.New("internal error"))
	}
	out := connect.NewError(code, errors.New(err.Error()))
	if detail, err := connect.NewErrorDetail(failure); err == nil {
		out.AddDetail(detail)
	}
	return out
}

// A remoteError is an error of another node, as it is known here.
type remoteError struct {
	text  string
	kinds []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.kinds }

// fromWire turns the error of a call into what the same call on this node would have returned. Any other error is returned as it is.
func fromWire(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if !errors.As(err, &ce) || !connect.IsWireError(ce) {
		return err // of our own making: a connection, a context
	}
	remote := &remoteError{text: fmt.Sprintf("%v: %s", ce.Code(), ce.Message())}
	for _, detail := range ce.Details() {
		if value, err := detail.Value(); err == nil {
			if failure, ok := value.(*peerpb.Failure); ok {
				remote.kinds = append(remote.kinds, kindsOf(failure, ce.Message())...)
			}
		}
	}
	switch {
	case len(remote.kinds) > 0:
	case ce.Code() == connect.CodeCanceled:
		remote.kinds = []error{context.Canceled}
	case ce.Code() == connect.CodeDeadlineExceeded:
		remote.kinds = []error{context.DeadlineExceeded}
	}
	return remote
}

func kindsOf(failure *peerpb.Failure, text string) []error {
	var kinds []error
	for _, w := range wire {
		for _, kind := range failure.GetKinds() {
			if kind != w.kind {
				continue
			}
			if kind == peerpb.Failure_KIND_CORRUPT && failure.GetLsn() != 0 {
				kinds = append(kinds, &consensus.CorruptError{LSN: consensus.LSN(failure.GetLsn()), Cause: errors.New(text)})
			} else {
				kinds = append(kinds, w.sentinel)
			}
			break // a kind that is repeated counts once
		}
	}
	return kinds
}
