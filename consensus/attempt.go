package consensus

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrSuperseded: another request was sealed for the epoch that was asked for. What was asked for did not happen, and will not.
var ErrSuperseded = errors.New("another request was sealed first")

// An Attempt is one node's attempt to bring a request through: prepare, seal, wait until the new segment orders, wait until the old members can go. It is
// a step function, as the Switcher is. Nothing is lost if it stops anywhere: before the Seal is in, nothing has happened; from then on the members go on
// by themselves. Another Attempt at the same request, on whatever node, takes up where this one stopped.
//
// Not safe for concurrent use.
type Attempt struct {
	opts    AttemptOptions
	seg     Segment // that the request is to end
	request Request
	sigs    []Signature
	hash    Digest
	next    Segment // identity and spec
	at      LSN

	stage    Stage
	seal     *Record   // what is being appended
	unsealed bool      // its append has failed; it may be in all the same
	again    time.Time // not to be appended before
	members  []*nextMember
	begun    time.Time
	enough   time.Time // when a quorum agreed that it is ready
	sealed   time.Time // when the chain was seen extended
	ordering time.Time // when the new segment was seen ordering
	base     LSN
	based    bool // a member says that the new segment orders
	result   error
}

// A Stage of an Attempt.
type Stage int

const (
	Preparing  Stage = iota // the next members get ready
	Sealing                 // the Seal is being ordered
	Switching               // sealed; the next segment does not order yet
	Completing              // switched; old members may still be needed
	Complete                // a quorum of the next members holds everything below the base, synced
	Abandoned               // it failed, and nothing has happened
)

func (s Stage) String() string {
	return [...]string{"preparing", "sealing", "switching", "completing", "complete", "abandoned"}[s]
}

// MarshalText lets a stage appear in JSON by its name.
func (s Stage) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// nextMember is what is known of a next member.
type nextMember struct {
	Member
	asking bool
	after  time.Time // not to be asked before
	tried  bool      // it has answered, one way or the other
	ready  *Ready
	err    error
	lost   bool // it does not get ready in this attempt
	over   bool // it is in the new epoch
}

// AttemptOptions are what an Attempt goes by. Zero means the default.
type AttemptOptions struct {
	Patience time.Duration // for a quorum to get ready. Default 30 s
	Grace    time.Duration // for the others, once a quorum is. Default 2 s
	Retry    time.Duration // between two questions to one member. Default 100 ms
}

// EnsureDefaults fills in what is zero.
func (o *AttemptOptions) EnsureDefaults() {
	o.Patience = cmp.Or(o.Patience, 30*time.Second)
	o.Grace = cmp.Or(o.Grace, 2*time.Second)
	o.Retry = cmp.Or(o.Retry, 100*time.Millisecond)
}

// AttemptInputs are what has happened since the last step. All but Now and Segments may be empty.
type AttemptInputs struct {
	Now      time.Time
	Segments []Segment // the chain
	Based    bool      // the chain's last segment orders
	Prepared []PrepareAnswer
	Appended *AppendAnswer
	Statuses []StatusAnswer
}

// PrepareAnswer is a member's, to AttemptActions.Prepare.
type PrepareAnswer struct {
	Member uint64
	Ready  Ready
	Err    error
}

// AppendAnswer is the log's, to AttemptActions.Append.
type AppendAnswer struct{ Err error }

// StatusAnswer is a member's, to AttemptActions.Ask.
type StatusAnswer struct {
	Member uint64
	Epoch  Epoch
	Based  bool // Status.Based
	Err    error
}

// AttemptActions are what is to be done.
type AttemptActions struct {
	Prepare []Member // ask them, with Attempt.Prepare
	Append  *Record
	Ask     []Member // their status
}

// NewAttempt begins. chain is the node's; at is the LSN at which the next members are to compare themselves, which this node's application has reached.
// An ErrInvalid says what is wrong with the request, ErrSuperseded that it comes too late.
func NewAttempt(opts AttemptOptions, chain []Segment, q Request, sigs []Signature, at LSN, now time.Time) (*Attempt, error) {
	opts.EnsureDefaults()
	a := &Attempt{opts: opts, request: q, sigs: sigs, hash: q.Hash(), next: q.Segment(), at: at, begun: now}
	for _, m := range q.Spec.Members {
		a.members = append(a.members, &nextMember{Member: m})
	}
	last := chain[len(chain)-1]
	if q.Epoch < 2 || q.Epoch > last.Epoch+1 || q.NetworkID != last.Network {
		return nil, fmt.Errorf("%w: request for epoch %d of network %v; the next is %d of %v", ErrInvalid, q.Epoch, q.NetworkID, last.Epoch+1, last.Network)
	}
	a.seg = chain[q.Epoch-2]
	if q.Epoch <= last.Epoch { // it is in the chain, or another is
		if chain[q.Epoch-1].Identity != a.next.Identity {
			return nil, fmt.Errorf("epoch %d: %w", q.Epoch, ErrSuperseded)
		}
		a.stage = Switching
		return a, nil
	}
	if err := errors.Join(q.Spec.Validate(), q.Authorised(a.seg, sigs)); err != nil {
		return nil, err
	}
	if at >= q.NotAfter {
		return nil, fmt.Errorf("%w: request was good up to lsn %d, the log is at %d", ErrInvalid, q.NotAfter, at)
	}
	return a, nil
}

// Prepare returns what the next members are asked.
func (a *Attempt) Prepare() Prepare {
	return Prepare{Request: a.request, Signatures: a.sigs, At: a.at}
}

// Step takes in what has happened and returns what is to be done.
func (a *Attempt) Step(in AttemptInputs) (act AttemptActions) {
	a.answers(in)
	a.followChain(in)
	switch a.stage {
	case Preparing:
		a.prepare(in.Now, &act)
	case Sealing:
		if a.unsealed && !in.Now.Before(a.again) {
			a.unsealed, act.Append = false, a.seal
		}
	case Switching:
		a.ask(in.Now, &act) // this node may be none of the members, and learn of the segment's beginning only with its first entry
	case Completing:
		a.complete(in.Now, &act)
	}
	return act
}

// followChain sees what was sealed, by whomever.
func (a *Attempt) followChain(in AttemptInputs) {
	if len(in.Segments) < int(a.request.Epoch) || a.stage == Abandoned {
		return
	}
	got := in.Segments[a.request.Epoch-1]
	if got.Identity != a.next.Identity {
		a.abandon(fmt.Errorf("epoch %d: %w", a.request.Epoch, ErrSuperseded))
		return
	}
	if a.stage <= Switching && a.sealed.IsZero() {
		a.stage, a.sealed, a.base = Switching, in.Now, got.Base
		for _, m := range a.members {
			m.after = time.Time{}
		}
	}
	if a.stage == Switching && (in.Based || a.based || len(in.Segments) > int(a.request.Epoch)) {
		a.stage, a.ordering = Completing, in.Now
	}
}

func (a *Attempt) abandon(err error) {
	if a.stage < Switching {
		a.stage, a.result = Abandoned, err
	}
}

func (a *Attempt) answers(in AttemptInputs) {
	for _, p := range in.Prepared {
		if m := a.member(p.Member); m != nil {
			m.asking, m.tried, m.after = false, true, in.Now.Add(a.opts.Retry)
			if m.err = p.Err; m.err == nil {
				m.err = a.good(m.Member, p.Ready)
			}
			m.lost = errors.Is(m.err, ErrUnknownNode)
			if m.err == nil {
				m.ready = &p.Ready
			}
		}
	}
	for _, s := range in.Statuses {
		if m := a.member(s.Member); m != nil {
			m.asking, m.after = false, in.Now.Add(a.opts.Retry/4)
			if s.Err == nil && s.Epoch >= a.request.Epoch {
				m.over = true
				a.based = a.based || s.Based || s.Epoch > a.request.Epoch
			}
		}
	}
	if in.Appended != nil && in.Appended.Err != nil && a.stage == Sealing {
		if errors.Is(in.Appended.Err, ErrInvalid) { // surely not in, and never
			a.abandon(in.Appended.Err)
		} else { // it may be in: the same record again does no harm
			a.unsealed, a.again = true, in.Now.Add(a.opts.Retry)
		}
	}
}

func (a *Attempt) good(m Member, r Ready) error {
	switch {
	case !bytes.Equal(r.Key, m.NodeKey) || !r.Verify(a.hash):
		return fmt.Errorf("%w: the statement is not the member's", ErrInvalid)
	case r.At != a.at:
		return fmt.Errorf("%w: the statement is about lsn %d, asked for %d", ErrInvalid, r.At, a.at)
	}
	return nil
}

func (a *Attempt) member(id uint64) *nextMember {
	if i := slices.IndexFunc(a.members, func(m *nextMember) bool { return m.ID == id }); i >= 0 {
		return a.members[i]
	}
	return nil
}

// prepare asks members until a quorum agrees, and a little longer for the others.
func (a *Attempt) prepare(now time.Time, act *AttemptActions) {
	agreed, all, possible := a.agreed(), true, 0
	for _, m := range a.members {
		all = all && m.tried
		if !m.lost {
			possible++
		}
		if m.ready == nil && !m.lost && !m.asking && !now.Before(m.after) && len(m.NodeKey) > 0 {
			m.asking = true
			act.Prepare = append(act.Prepare, m.Member)
		}
	}
	if want := readyQuorum(a.request.Spec); len(agreed) >= want {
		if a.enough.IsZero() {
			a.enough = now
		}
		if want == 0 || all || len(agreed) == len(a.members) || now.Sub(a.enough) >= a.opts.Grace {
			r := Seal{Request: a.request, Signatures: a.sigs, Ready: agreed}.Record()
			a.stage, a.seal, act.Append, act.Prepare = Sealing, &r, &r, nil
		}
		return
	}
	if possible < readyQuorum(a.request.Spec) || now.Sub(a.begun) >= a.opts.Patience {
		a.abandon(a.unready(agreed))
	}
}

// agreed returns the largest set of statements that agree.
func (a *Attempt) agreed() (most []Ready) {
	for _, m := range a.members {
		if m.ready == nil {
			continue
		}
		var same []Ready
		for _, other := range a.members {
			if other.ready != nil && other.ready.Agrees(*m.ready) {
				same = append(same, *other.ready)
			}
		}
		if len(same) > len(most) {
			most = same
		}
	}
	return most
}

// unready explains why no quorum is ready.
func (a *Attempt) unready(agreed []Ready) error {
	errs := []error{fmt.Errorf("%d of the next members are ready, it takes %d", len(agreed), readyQuorum(a.request.Spec))}
	for _, m := range a.members {
		switch {
		case m.err != nil:
			errs = append(errs, fmt.Errorf("member %d: %w", m.ID, m.err))
		case m.ready == nil:
			errs = append(errs, fmt.Errorf("member %d does not answer", m.ID))
		case !slices.ContainsFunc(agreed, m.ready.Agrees):
			errs = append(errs, fmt.Errorf("member %d has another history, or other rules: at lsn %d digest %v, head %v, rules %d",
				m.ID, m.ready.At, m.ready.Digest, m.ready.Head, m.ready.Rules))
		}
	}
	return errors.Join(errs...)
}

// complete asks until a quorum of the next members is known to have the Seal stored, and so all that lies before it.
func (a *Attempt) complete(now time.Time, act *AttemptActions) {
	over := 0
	for _, m := range a.members {
		if m.over {
			over++
		}
	}
	if over >= readyQuorum(a.request.Spec) {
		a.stage = Complete
		return
	}
	a.ask(now, act)
}

// ask asks the members of whom more is to be known how their log is.
func (a *Attempt) ask(now time.Time, act *AttemptActions) {
	for _, m := range a.members {
		if (!m.over || a.stage == Switching) && !m.asking && !now.Before(m.after) && len(m.NodeKey) > 0 {
			m.asking = true
			act.Ask = append(act.Ask, m.Member)
		}
	}
}

// Progress is how an attempt stands.
type Progress struct {
	Stage Stage
	Ready []uint64      // members that said so
	Over  []uint64      // members that are known to hold everything below the base
	Base  LSN           // of the new segment; 0 before it is sealed
	Gap   time.Duration // from the Seal to the first item of the new segment, as seen here; 0 before that, and if it was over when the attempt began
	Err   error         // why it was abandoned
}

// Progress returns how the attempt stands.
func (a *Attempt) Progress() Progress {
	p := Progress{Stage: a.stage, Base: a.base, Err: a.result}
	for _, m := range a.members {
		if m.ready != nil {
			p.Ready = append(p.Ready, m.ID)
		}
		if m.over {
			p.Over = append(p.Over, m.ID)
		}
	}
	if a.stage >= Completing {
		p.Gap = a.ordering.Sub(a.sealed)
	}
	return p
}
