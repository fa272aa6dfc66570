package consensus

import "fmt"

// A Kind is what a Sequencer made of an ordered item.
type Kind int

const (
	// Data: the record is an entry. The segment's Seal is one too.
	Data Kind = iota
	// Duplicate: the record is void, since its key is that of an entry in the dedup window.
	Duplicate
	// Void: the record is void for another reason, given in Verdict.Err.
	Void
	// Based: the record is the segment's Base, which takes no position.
	Based
)

func (k Kind) String() string { return [...]string{"data", "duplicate", "void", "base"}[k] }

// A Verdict is the Sequencer's answer to one item.
type Verdict struct {
	Kind  Kind
	LSN   LSN      // of the entry; for a Duplicate, of the original; 0 if Void
	Entry Entry    // only if Data
	Next  *Segment // only if the entry is the Seal: the segment it opens
	Err   error    // only if Void: ErrSealed for what is ordered after the Seal, ErrDiverged for a Base of another log, else ErrInvalid or ErrTooLarge
}

// State is where a log has come to. It is a function of the entries alone, so void items leave no trace in it, and every node that holds the same
// entries has the same State, whichever engine brought them.
type State struct {
	Next      LSN     // the next entry's
	Digest    Digest  // digest(Next-1)
	UnixMilli uint64  // of the entry at Next-1; 0 in an empty log
	Window    *Window // keys of the last entries
	Sealed    bool    // the entry at Next-1 is the segment's Seal
}

// A Sequencer turns the items that an engine has ordered into the entries of one segment. It is deterministic: it sees no clock, no randomness and
// no I/O, and all replicas of a segment go through the same states. Every engine has one (inside its Replica), so that what void, duplicate, sealed
// and time mean is written once. Not safe for concurrent use.
//
// The rules, in the order in which they are asked:
//
//	record malformed or too large                   void      only a Byzantine engine lets it come this far
//	key was ordered at l, and next - l <= W         duplicate  of l: also after the Seal, since it *is* in the log
//	app `log`, a Base                               based      if it is this segment's; else void: ErrInvalid, or ErrDiverged
//	segment is sealed                               void      ErrSealed
//	app `log`, and ValidSeal refuses it             void      ErrInvalid
//	app `log`, a claim that is not a member's       void      ErrInvalid
//	otherwise                                       data      takes the next LSN; if it is the Seal, the segment's last
type Sequencer struct {
	seg   Segment
	state State
}

// NewSequencer continues a segment from base, whose Window it takes over. base is the segment's beginning, or any later state in it.
func NewSequencer(seg Segment, base State) *Sequencer {
	if base.Next < seg.Base || base.Window == nil {
		panic(fmt.Sprintf("consensus: epoch %d with base %d cannot start at lsn %d", seg.Epoch, seg.Base, base.Next))
	}
	return &Sequencer{seg: seg, state: base}
}

// State returns the current state. The Window is shared, not copied.
func (s *Sequencer) State() State { return s.state }

// Next judges the next item in the engine's order. unixMilli is the raw clock that the engine stamped it with.
func (s *Sequencer) Next(unixMilli uint64, r Record) Verdict {
	if err := r.Validate(); err != nil {
		return Verdict{Kind: Void, Err: err}
	}
	if lsn, ok := s.state.Window.Lookup(r.Key()); ok {
		return Verdict{Kind: Duplicate, LSN: lsn}
	}
	if IsBase(r) {
		if err := ValidBase(s.seg, r); err != nil {
			return Verdict{Kind: Void, Err: err}
		}
		return Verdict{Kind: Based}
	}
	if s.state.Sealed {
		return Verdict{Kind: Void, Err: fmt.Errorf("epoch %d ends at lsn %d: %w", s.seg.Epoch, s.state.Next-1, ErrSealed)}
	}
	switch {
	case r.App != AppLog:
		return s.data(unixMilli, r)
	case isClaim(r):
		if err := validClaim(s.seg, s.state.Next, r); err != nil {
			return Verdict{Kind: Void, Err: err}
		}
		return s.data(unixMilli, r)
	default:
		return s.seal(unixMilli, r)
	}
}

func (s *Sequencer) data(unixMilli uint64, r Record) Verdict {
	e := Entry{LSN: s.state.Next, Epoch: s.seg.Epoch, UnixMilli: max(s.state.UnixMilli, unixMilli), Record: r}
	e.Digest = NextDigest(s.state.Digest, e)
	s.state.Window.add(e.LSN, r.Key())
	s.state.Next, s.state.Digest, s.state.UnixMilli = e.LSN+1, e.Digest, e.UnixMilli
	return Verdict{Kind: Data, LSN: e.LSN, Entry: e}
}

func (s *Sequencer) seal(unixMilli uint64, r Record) Verdict {
	if err := ValidSeal(s.seg, s.state.Next, r); err != nil {
		return Verdict{Kind: Void, Err: err}
	}
	v := s.data(unixMilli, r)
	next, err := nextSegment(s.seg, v.Entry)
	if err != nil {
		panic(fmt.Sprintf("consensus: a valid Seal at lsn %d does not decode: %v", v.LSN, err))
	}
	s.state.Sealed = true
	v.Next = &next
	return v
}

// A Window remembers the keys of the last W entries of the log, across segments. W is a constant of the network: replicas with different ones would
// judge differently.
type Window struct {
	lsn    map[RecordKey]LSN
	ring   []RecordKey // ring[lsn%W], valid for lsn in [first, next)
	first  LSN
	next   LSN
	parent *Window // of a fork, which has no ring: its keys are those of the parent and its own
}

// NewWindow returns the empty window of a log whose next entry is next. size is W, at least 1.
func NewWindow(size int, next LSN) *Window {
	if size < 1 {
		panic(fmt.Sprintf("consensus: dedup window of %d", size))
	}
	return &Window{lsn: map[RecordKey]LSN{}, ring: make([]RecordKey, size), first: next, next: next}
}

// fork returns a window that begins as w is now, and whose keys are not w's. It is good for as long as w does not change.
func (w *Window) fork() *Window {
	return &Window{lsn: map[RecordKey]LSN{}, next: w.next, parent: w}
}

// Size returns W.
func (w *Window) Size() int {
	if w.parent != nil {
		return w.parent.Size()
	}
	return len(w.ring)
}

// Lookup says whether key belongs to one of the last W entries, and to which.
func (w *Window) Lookup(key RecordKey) (LSN, bool) {
	lsn, ok := w.lsn[key]
	if !ok && w.parent != nil {
		lsn, ok = w.parent.Lookup(key)
	}
	return lsn, ok && w.next-lsn <= LSN(w.Size())
}

// add enters the key of the next entry, which is not in the window yet, and forgets the oldest if there are W. The LSN is an argument only to be
// checked.
func (w *Window) add(lsn LSN, key RecordKey) {
	if lsn != w.next {
		panic(fmt.Sprintf("consensus: key of lsn %d added to a window that ends before %d", lsn, w.next))
	}
	if w.parent == nil {
		size := LSN(len(w.ring))
		slot := &w.ring[lsn%size]
		if w.next-w.first == size {
			delete(w.lsn, *slot)
			w.first++
		}
		*slot = key
	}
	w.lsn[key] = lsn
	w.next++
}
