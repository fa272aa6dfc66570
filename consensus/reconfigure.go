package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// How Reconfigure and Prepare look at what no event tells, and what they allow one question to a peer.
const (
	attemptTick    = 5 * time.Millisecond
	prepareTimeout = 10 * time.Second
	statusTimeout  = time.Second
	maxPrepared    = 8
)

// Reconfigure ends the last segment and begins the one that the request asks for: other members, another engine, other administrators or parameters. It
// returns when a quorum of the next members holds everything that lies before the new segment, so that members which are not among them can be turned off;
// the log takes appends throughout. progress, if not nil, is called with each change.
//
// It may be called on any node, and again, there or elsewhere, with the same request: that takes up where the first call was. If ctx ends after the Seal
// is in, the members go on by themselves.
//
// ErrInvalid: the request is not for the next epoch, not authorised, too late, or not what the application takes; ErrSuperseded: another one was sealed.
// Other errors before the Seal say why not enough members got ready; then nothing has happened.
func (v *VirtualLog) Reconfigure(ctx context.Context, q Request, signatures []Signature, progress func(Progress)) (Progress, error) {
	a, err := v.attempt(q, signatures)
	if err != nil {
		return Progress{Stage: Abandoned, Err: err}, fmt.Errorf("reconfigure: %w", err)
	}
	if a.stage == Preparing && slices.ContainsFunc(q.Spec.Members, v.isSelf) {
		_ = v.enlist(ctx, q.Segment()) // so that the other next members are known here before they are asked; what is wrong with it, Prepare says
	}
	v.logger.Info("reconfigure", "segment", q.Epoch, "engine", q.Spec.Engine, "members", len(q.Spec.Members), "lsn", a.at)
	last, err := v.runAttempt(ctx, a, progress)
	if err == nil {
		err = last.Err
	}
	if err != nil {
		return last, fmt.Errorf("reconfigure: epoch %d, %v: %w", q.Epoch, last.Stage, err)
	}
	return last, nil
}

func (v *VirtualLog) attempt(q Request, signatures []Signature) (*Attempt, error) {
	if err := v.live(); err != nil {
		return nil, err
	}
	a, err := NewAttempt(v.opts.Attempt, v.store.Segments(), q, signatures, v.applied(), time.Now())
	if err != nil || a.stage != Preparing {
		return a, err
	}
	return a, v.acceptable(q.Spec)
}

// acceptable says what this node knows to be wrong with a spec that nobody has sealed yet.
func (v *VirtualLog) acceptable(spec Spec) error {
	if v.opts.Engines[spec.Engine] == nil {
		return fmt.Errorf("%w: engine %q is not known to this ledgerd", ErrInvalid, spec.Engine)
	}
	if spec.keyed() && v.opts.Peers == nil {
		return fmt.Errorf("%w: this node cannot reach the members: it has no peers", ErrInvalid)
	}
	if err := v.opts.Application.validSpec(spec); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// applied returns the LSN up to which the application has played the log.
func (v *VirtualLog) applied() LSN {
	held := v.store.Next() - 1
	if v.opts.Application.Applied == nil {
		return held
	}
	return min(held, v.opts.Application.Applied())
}

// runAttempt performs an Attempt until it is complete, abandoned, or ctx ends.
func (v *VirtualLog) runAttempt(ctx context.Context, a *Attempt, progress func(Progress)) (Progress, error) {
	ctx, cancel := context.WithCancel(ctx)
	events := make(chan func(*AttemptInputs), 16)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	do := func(call func() func(*AttemptInputs)) {
		asking.Go(func() {
			event := call()
			select {
			case events <- event:
			case <-ctx.Done():
			}
		})
	}
	ticker := time.NewTicker(attemptTick)
	defer ticker.Stop()
	event, before := func(*AttemptInputs) {}, Progress{Stage: -1}
	for {
		extended := v.store.Extended()
		in := AttemptInputs{Now: time.Now(), Segments: v.store.Segments(), Based: v.store.based()}
		event(&in)
		v.attend(ctx, a, a.Step(in), do)
		now := a.Progress()
		if changed := now.Stage != before.Stage || len(now.Ready) != len(before.Ready) || len(now.Over) != len(before.Over); changed && progress != nil {
			progress(now)
		}
		if before = now; now.Stage == Complete || now.Stage == Abandoned {
			return now, nil
		}
		event = func(*AttemptInputs) {}
		select {
		case event = <-events:
		case <-extended:
		case <-ticker.C:
		case <-v.closing:
			return now, ErrClosed
		case <-ctx.Done():
			return now, ctx.Err()
		}
		if err := v.live(); err != nil {
			return now, err
		}
	}
}

// attend does what an Attempt asks for.
func (v *VirtualLog) attend(ctx context.Context, a *Attempt, act AttemptActions, do func(func() func(*AttemptInputs))) {
	for _, m := range act.Prepare {
		do(func() func(*AttemptInputs) {
			begun := time.Now()
			ready, err := v.prepareAt(ctx, m, a.Prepare())
			if err != nil && ctx.Err() == nil {
				v.logger.Warn("member is not ready", "segment", a.request.Epoch, "member", m.ID, "took", time.Since(begun).Round(time.Millisecond), "err", err)
			}
			return func(in *AttemptInputs) { in.Prepared = []PrepareAnswer{{Member: m.ID, Ready: ready, Err: err}} }
		})
	}
	for _, m := range act.Ask {
		do(func() func(*AttemptInputs) {
			s, err := v.statusAt(ctx, m)
			return func(in *AttemptInputs) {
				in.Statuses = []StatusAnswer{{Member: m.ID, Epoch: s.Epoch, Based: s.Based, Err: err}}
			}
		})
	}
	if r := act.Append; r != nil {
		do(func() func(*AttemptInputs) {
			_, err := v.Append(ctx, *r)
			return func(in *AttemptInputs) { in.Appended = &AppendAnswer{Err: err} }
		})
	}
}

// prepareAt asks a member, which may be this node, to get ready.
func (v *VirtualLog) prepareAt(ctx context.Context, m Member, p Prepare) (Ready, error) {
	if v.isSelf(m) {
		return v.Prepare(ctx, p)
	}
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	return v.opts.Peers.Prepare(ctx, m, p)
}

func (v *VirtualLog) statusAt(ctx context.Context, m Member) (Status, error) {
	if v.isSelf(m) {
		return v.Status(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return v.opts.Peers.Status(ctx, m)
}

func (v *VirtualLog) isSelf(m Member) bool {
	return v.opts.Self != nil && publicOf(v.opts.Self).Equal(m.NodeKey)
}

// Prepare gets this node ready to order the epoch that a signed request asks for, as one of its members, and states that it is. Steps, each of which may
// be repeated:
//
//	learn from a quorum that the epoch has not begun, and catch up with the log
//	let the other next members connect, and the engine prepare
//	note that this disk may take on a membership from that epoch on
//	wait until the application has reached p.At
//
// ErrInvalid: the request is not for the next epoch, not authorised, not for this node, or not what the application or this program takes.
func (v *VirtualLog) Prepare(ctx context.Context, p Prepare) (Ready, error) {
	r, err := v.prepare(ctx, p)
	if err != nil {
		return Ready{}, fmt.Errorf("prepare epoch %d: %w", p.Request.Epoch, err)
	}
	return r, nil
}

func (v *VirtualLog) prepare(ctx context.Context, p Prepare) (Ready, error) {
	q := p.Request
	if v.opts.Self == nil {
		return Ready{}, fmt.Errorf("%w: this node has no key", ErrInvalid)
	}
	if _, ok := q.Spec.Member(publicOf(v.opts.Self)); !ok {
		return Ready{}, fmt.Errorf("%w: this node is not among the members", ErrInvalid)
	}
	if err := errors.Join(q.Spec.Validate(), v.acceptable(q.Spec)); err != nil {
		return Ready{}, err
	}
	tail, err := v.Tail(ctx, Consistent)
	if err != nil {
		return Ready{}, err
	}
	if err := v.waitFor(ctx, func() bool { return v.store.Next() >= tail }); err != nil {
		return Ready{}, fmt.Errorf("catch up to lsn %d: %w", tail-1, err)
	}
	segments := v.store.Segments()
	if err := q.Authorised(segments[len(segments)-1], p.Signatures); err != nil {
		return Ready{}, err
	}
	if err := v.enlist(ctx, q.Segment()); err != nil {
		return Ready{}, err
	}
	if err := v.store.Vouch(q.Epoch); err != nil {
		return Ready{}, err
	}
	return v.state(ctx, q, p.At)
}

// enlist adds an epoch to those that are prepared.
func (v *VirtualLog) enlist(ctx context.Context, next Segment) error {
	v.mu.Lock()
	known := slices.ContainsFunc(v.mu.prepared, func(s Segment) bool { return s.Identity == next.Identity })
	if !known {
		v.mu.prepared = append(slices.Clone(v.mu.prepared), next)
		if n := len(v.mu.prepared) - maxPrepared; n > 0 {
			v.mu.prepared = v.mu.prepared[n:] // the oldest is forgotten: its members ask again, or have given up
		}
	}
	v.mu.Unlock()
	if !known {
		v.announce()
	}
	return v.opts.Engines[next.Spec.Engine].Prepare(ctx, v.store, next)
}

// state waits until the application has reached an LSN, and makes the statement.
func (v *VirtualLog) state(ctx context.Context, q Request, at LSN) (Ready, error) {
	if err := v.waitFor(ctx, func() bool { return v.applied() >= at }); err != nil {
		return Ready{}, fmt.Errorf("apply up to lsn %d, now at %d: %w", at, v.applied(), err)
	}
	digest, err := v.store.DigestAt(at)
	if err != nil {
		return Ready{}, err
	}
	head, err := v.opts.Application.fingerprint(at)
	if err != nil {
		return Ready{}, err
	}
	return SignReady(v.opts.Self, q.Hash(), at, digest, head, v.opts.Application.Rules), nil
}

// waitFor looks until something has come true. What it looks at changes with entries, so within milliseconds.
func (v *VirtualLog) waitFor(ctx context.Context, done func() bool) error {
	ticker := time.NewTicker(attemptTick)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-v.closing:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return v.live()
}

// Attest returns a proof of the log up to and including an LSN, for nodes that do not trust this one; the engine of its segment says how it is verified
// (Attester). ErrUnwritten if this node can prove nothing about that LSN, ErrTrimmed if it cannot any more, ErrInvalid if the engine has no proofs.
func (v *VirtualLog) Attest(_ context.Context, lsn LSN) ([]byte, error) {
	if err := v.live(); err != nil {
		return nil, err
	}
	if lsn == 0 || lsn >= v.store.Next() {
		return nil, fmt.Errorf("attest lsn %d: tail is %d: %w", lsn, v.store.Next(), ErrUnwritten)
	}
	at, _ := v.at(lsn)
	if end, ended, err := v.store.SegmentEnd(at.seg.Epoch); err != nil {
		return nil, err
	} else if ended && end.Seal.LSN == lsn && len(end.Proof) > 0 {
		return end.Proof, nil
	}
	a, ok := v.opts.Engines[at.seg.Spec.Engine].(Attester)
	if !ok {
		return nil, fmt.Errorf("attest lsn %d: %w: engine %q has no proofs", lsn, ErrInvalid, at.seg.Spec.Engine)
	}
	return a.Attest(v.store, at.seg, lsn)
}

// SegmentEnd returns how a segment of the chain ended; false if it did not, as far as this node knows.
func (v *VirtualLog) SegmentEnd(_ context.Context, epoch Epoch) (SegmentEnd, bool, error) {
	if err := v.live(); err != nil {
		return SegmentEnd{}, false, err
	}
	return v.store.SegmentEnd(epoch)
}
