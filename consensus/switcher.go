package consensus

import (
	"crypto/ed25519"
	"errors"
	"time"
)

// A Role is what a node is to a segment.
type Role int

const (
	// Orders: the node runs the segment's engine.
	Orders Role = iota
	// Observes: the node follows the members' log, and hands them its appends.
	Observes
)

func (r Role) String() string { return [...]string{"orders", "observes"}[r] }

// A Switcher decides what serves the last segment of a node's chain. It is a step function: what has happened in, what is to be done out, no clock, no
// goroutine, no I/O; VirtualLog performs it, and so does package sim.
//
//	          the chain has a new last segment
//	                      │
//	  member of it, and it is not known to be dead? ──no──────────┐
//	                      │yes                                    │
//	sealed here just now? ──yes──┐                                │
//	                      │no    │                                │
//	ask peers: has it ended? ─no─┤                                │
//	                      │yes   ▼                                ▼
//	                      │    open engine ──ErrNotMember──► open observer
//	                      │      │                                ▲
//	                      │    nobody orders for AskAfter: ask    │
//	                      │      │ it has ended: close engine     │
//	                      └──────┴────────────────────────────────┘
//
// An engine whose segment was sealed stays up until its members have all heard of the Seal, or for Linger. One whose segment has ended elsewhere is never
// started again (the entries that it misses come by the log service), so what is stored here cannot fall behind what its old peers have forgotten.
//
// An observer asks now and then too: the end of a dead segment (Recovery) is no entry that it could come upon.
//
// Not safe for concurrent use.
type Switcher struct {
	opts  SwitcherOptions
	seg   Segment // the last one; Epoch 0 before the first step
	phase phase
	role  Role // that is being opened, or runs

	fresh  bool // this node ordered up to the segment's base: it cannot have ended
	denied bool // the engine said ErrNotMember
	dead   bool // it was recovered, and this node does not hold all of it yet
	asking bool
	lost   time.Time // since when nobody orders; zero: somebody does
	asked  time.Time // last answer
	until  time.Time // end of a pause
	pause  time.Duration
	linger map[Epoch]time.Time // sealed engines that are up, with their end
}

type phase int

const (
	deciding phase = iota
	opening
	running
	closing // an engine, to observe instead
	pausing // after an error
)

// SwitcherOptions are what a Switcher goes by.
type SwitcherOptions struct {
	// Self is the node's key; nil: every segment is this node's to order.
	Self ed25519.PublicKey
	// Alone: there are no peers to ask, and nothing to observe.
	Alone bool

	Linger   time.Duration // of a sealed engine whose members did not all report the Seal. Default 30 s
	AskAfter time.Duration // without anybody who orders, until peers are asked, and between two such questions. Default 1 s
	AskEvery time.Duration // while observing. Default 10 s
}

// EnsureDefaults fills in what is zero.
func (o *SwitcherOptions) EnsureDefaults() {
	if o.Linger == 0 {
		o.Linger = 30 * time.Second
	}
	if o.AskAfter == 0 {
		o.AskAfter = time.Second
	}
	if o.AskEvery == 0 {
		o.AskEvery = 10 * time.Second
	}
}

// NewSwitcher returns a Switcher that has decided nothing yet.
func NewSwitcher(opts SwitcherOptions) *Switcher {
	opts.EnsureDefaults()
	return &Switcher{opts: opts, linger: map[Epoch]time.Time{}}
}

// SwitchInputs are what has happened since the last step. All but Now may be empty.
type SwitchInputs struct {
	Now     time.Time
	Last    *Segment     // the chain's last one, if it is another than before
	Opened  *OpenAnswer  // to SwitchActions.Open
	Ended   *EndedAnswer // to SwitchActions.Ask
	Closed  Epoch        // an engine that was to be closed is; 0: none
	Drained []Epoch      // engines whose members have all heard of the Seal
	Lost    bool         // the last segment's engine knows of nobody who orders
	Pending Epoch        // the last segment's, if a recovery ends it behind what this node holds; 0: none does
}

// OpenAnswer says what became of an Open.
type OpenAnswer struct {
	Epoch Epoch
	Err   error
}

// EndedAnswer says what became of an Ask. Where nobody answered, it has not ended as far as anybody can tell.
type EndedAnswer struct {
	Epoch Epoch
	Ended bool
}

// SwitchActions are what is to be done.
type SwitchActions struct {
	Ask   *Segment // ask peers whether the segment has ended
	Open  *Opening
	Close []Epoch // close these epochs' loglets; report it in SwitchInputs.Closed
}

// An Opening is a loglet to be opened for the last segment.
type Opening struct {
	Segment Segment
	Role    Role
}

// Step takes in what has happened and returns what is to be done.
func (s *Switcher) Step(in SwitchInputs) (act SwitchActions) {
	if in.Last != nil && in.Last.Epoch > s.seg.Epoch {
		s.extend(in, &act)
	}
	if in.Pending != 0 && in.Pending == s.seg.Epoch {
		s.dead = true
	}
	if a := in.Opened; a != nil {
		s.opened(*a, in.Now, &act)
	}
	if a := in.Ended; a != nil && a.Epoch == s.seg.Epoch {
		s.ended(*a, in.Now, &act)
	}
	if in.Closed != 0 && in.Closed == s.seg.Epoch && s.phase == closing {
		s.open(Observes, &act)
	}
	s.watch(in, &act)
	if s.phase == pausing && !in.Now.Before(s.until) {
		s.phase = deciding
	}
	if s.phase == deciding {
		s.decide(&act)
	}
	s.retire(in, &act)
	return act
}

// Role returns what this node is, or is about to be, to the last segment.
func (s *Switcher) Role() Role { return s.role }

// Running reports whether a loglet serves the last segment.
func (s *Switcher) Running() bool { return s.phase == running }

// extend begins anew with the next segment. What served the one before has had its last entry.
func (s *Switcher) extend(in SwitchInputs, act *SwitchActions) {
	s.fresh = false
	switch {
	case s.seg.Epoch == 0, s.phase == deciding, s.phase == pausing, s.phase == opening: // what is being opened, opened retires
	case s.role == Orders && s.phase == running && in.Last.Recovery == 0:
		s.fresh = in.Last.Epoch == s.seg.Epoch+1
		s.linger[s.seg.Epoch] = in.Now.Add(s.opts.Linger)
	case s.phase == running:
		act.Close = append(act.Close, s.seg.Epoch)
	}
	s.seg, s.phase = *in.Last, deciding
	s.denied, s.dead, s.asking, s.lost, s.pause = false, false, false, time.Time{}, 0
}

func (s *Switcher) decide(act *SwitchActions) {
	_, member := s.seg.Spec.Member(s.opts.Self)
	switch {
	case s.dead:
		s.open(Observes, act)
	case s.opts.Alone, s.opts.Self == nil, len(s.seg.Spec.Members) == 0:
		s.open(Orders, act)
	case !member || s.denied:
		s.open(Observes, act)
	case s.fresh:
		s.open(Orders, act)
	default:
		s.ask(act)
	}
}

func (s *Switcher) open(role Role, act *SwitchActions) {
	s.phase, s.role = opening, role
	act.Open = &Opening{Segment: s.seg, Role: role}
}

func (s *Switcher) ask(act *SwitchActions) {
	if !s.asking {
		seg := s.seg
		s.asking, act.Ask = true, &seg
	}
}

func (s *Switcher) opened(a OpenAnswer, now time.Time, act *SwitchActions) {
	switch {
	case a.Epoch != s.seg.Epoch: // sealed while it was being opened
		if a.Err == nil {
			s.linger[a.Epoch] = now.Add(s.opts.Linger)
		}
	case a.Err == nil:
		s.phase, s.pause = running, 0
	case errors.Is(a.Err, ErrNotMember) && s.role == Orders && !s.opts.Alone:
		s.denied, s.phase = true, deciding
	default:
		s.phase = pausing
		s.pause = min(max(2*s.pause, minBackoff), maxBackoff)
		s.until = now.Add(s.pause)
	}
}

func (s *Switcher) ended(a EndedAnswer, now time.Time, act *SwitchActions) {
	s.asking, s.asked = false, now
	switch {
	case s.phase == deciding && a.Ended:
		s.open(Observes, act)
	case s.phase == deciding:
		s.open(Orders, act)
	case s.phase == running && s.role == Orders && a.Ended:
		s.phase = closing
		act.Close = append(act.Close, s.seg.Epoch)
	}
}

// watch asks peers when the engine has found nobody to order with for long, since they may have gone on without this node; and when observing.
func (s *Switcher) watch(in SwitchInputs, act *SwitchActions) {
	if s.phase != running || s.opts.Alone || s.opts.Self == nil {
		s.lost = time.Time{}
		return
	}
	since := in.Now.Sub(s.asked)
	switch {
	case s.role == Observes:
		if !s.dead && since >= s.opts.AskEvery {
			s.ask(act)
		}
	case !in.Lost:
		s.lost = time.Time{}
	case s.lost.IsZero():
		s.lost = in.Now
	case in.Now.Sub(s.lost) >= s.opts.AskAfter && since >= s.opts.AskAfter:
		s.ask(act)
	}
}

// retire closes the sealed engines that nobody needs any more.
func (s *Switcher) retire(in SwitchInputs, act *SwitchActions) {
	for _, epoch := range in.Drained {
		if _, ok := s.linger[epoch]; ok {
			s.linger[epoch] = in.Now
		}
	}
	for epoch := Epoch(1); epoch < s.seg.Epoch && len(s.linger) > 0; epoch++ { // in order: a map's would be another input
		if end, ok := s.linger[epoch]; ok && !in.Now.Before(end) {
			delete(s.linger, epoch)
			act.Close = append(act.Close, epoch)
		}
	}
}
