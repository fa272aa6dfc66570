package consensus

import (
	"errors"
	"fmt"
)

// The errors that a caller must answer differently. All are tested with errors.Is; each is returned wrapped with what was being done and where.
var (
	// ErrSealed: the loglet takes no more appends, and the record of the call is surely not in it. From Follow: there is no entry at this
	// offset and there never will be. VirtualLog answers it by going to the next segment, so its own callers never see it.
	ErrSealed = errors.New("sealed")

	// ErrTrimmed: an entry asked for lies at or below the trim point and is gone from this node.
	ErrTrimmed = errors.New("trimmed")

	// ErrUnwritten: a position asked for lies at or past the tail.
	ErrUnwritten = errors.New("unwritten")

	// ErrTooLarge: the encoded record is larger than MaxRecordBytes. Surely not appended.
	ErrTooLarge = errors.New("record too large")

	// ErrInvalid: an argument can never be right: a malformed record, a Seal that ValidSeal refuses, an upside-down range. A record refused with
	// it is surely not in the log.
	ErrInvalid = errors.New("invalid")

	// ErrClosed: the log, or the node's copy of it, was closed. It comes alone when the record of the call is surely not in, and together with
	// ErrUnknownFate when it may be.
	ErrClosed = errors.New("closed")

	// ErrCorrupt: what is stored is not what was written: a digest does not match, a value does not decode, an entry is missing from the middle.
	// The error names the LSN where it can be known, and a CorruptError can be had with errors.As.
	ErrCorrupt = errors.New("corrupt")

	// ErrUnknownFate: the record was handed over and may or may not be, or become, part of the log. Appending it again under the same id is
	// safe. It is joined with its cause.
	ErrUnknownFate = errors.New("fate unknown")

	// ErrFailed: the storage has failed (a write, an fsync) and this node's copy takes no more writes until the process is started again.
	ErrFailed = errors.New("storage failed")

	// ErrDiverged: this node's history is not the members': what it stored or executed contradicts what they agree on. It must not go on.
	ErrDiverged = errors.New("diverged from the members")

	// ErrCutOff: the segment was recovered without this node (Recovery), which holds entries that are not part of the log any more. It must not go on:
	// the entries are cut off, by Store.Recover, when the node is stopped.
	ErrCutOff = errors.New("cut off by a recovery")

	// ErrEngineFailed: the engine of the last segment has stopped by itself on this node, for a reason that is none of the log's. It must not go on as it is:
	// the process should be started again.
	ErrEngineFailed = errors.New("engine failed")

	// ErrNotMember: this node must not order in the segment: the segment's spec does not name it, or its disk is not the one with which it may have
	// taken part before (Store.Vouched). It can follow as an observer, and become a member by a reconfiguration.
	ErrNotMember = errors.New("not a member of the segment")

	// ErrUnknownNode: this node has nothing to do with the other one that it was to ask: that is no member of a segment that this one knows, nor on its list of
	// observers. It stays so until one of these changes.
	ErrUnknownNode = errors.New("unknown here: no member, and not on this node's list of observers")

	// ErrWrongNetwork: the directory holds the log of another network.
	ErrWrongNetwork = errors.New("log of another network")

	// ErrLocked: another process (or another log in this one) has the directory open.
	ErrLocked = errors.New("locked by another process")
)

// A DuplicateError says that a record is in the log already, at LSN, in an earlier segment than the one it was offered to: so a loglet cannot
// answer with an offset of its own. VirtualLog turns it into a success.
type DuplicateError struct{ LSN LSN }

func (e DuplicateError) Error() string { return fmt.Sprintf("already ordered as lsn %d", e.LSN) }

// A LaterError says that a record, by the word of another node, is in the log at LSN, in a later segment than the one it was offered to. VirtualLog sees for itself when
// this node has come to there: until then it does not offer the record again, which by then could be so far behind that nobody knows it for the same.
type LaterError struct{ LSN LSN }

func (e LaterError) Error() string { return fmt.Sprintf("said to be ordered as lsn %d", e.LSN) }

// A CorruptError is an ErrCorrupt with its place.
type CorruptError struct {
	LSN   LSN
	Cause error
}

func (e *CorruptError) Error() string        { return fmt.Sprintf("lsn %d: corrupt: %v", e.LSN, e.Cause) }
func (e *CorruptError) Unwrap() error        { return e.Cause }
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(lsn LSN, format string, args ...any) error {
	return &CorruptError{LSN: lsn, Cause: fmt.Errorf(format, args...)}
}
