package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
	"ledgerd/rpc"
)

// What an attempt may take, and how many are remembered for those who come back to ask.
const (
	attemptTimeout = 5 * time.Minute
	attemptsKept   = 8
)

// How members are asked for their status.
const (
	memberTimeout = time.Second
	membersAsked  = 16 // at a time
)

// reconfigurable is what reconfigurations ask of the log; *consensus.VirtualLog has it.
type reconfigurable interface {
	Reconfigure(ctx context.Context, q consensus.Request, signatures []consensus.Signature, progress func(consensus.Progress)) (consensus.Progress, error)
	Segments() []consensus.Segment
}

// reconfigurations are this node's attempts to change the chain of segments, which outlive the requests that begin them. It is an
// rpc.Reconfigurer. Nothing of it is stored: an attempt that ends with its node has either done nothing, or is brought to its end by the members.
type reconfigurations struct {
	log   reconfigurable
	self  ed25519.PublicKey // nil: this node has no key
	peers consensus.Peers   // nil: this node has no peers
	ctx   context.Context   // of all attempts
	stop  context.CancelFunc
	over  sync.WaitGroup

	mu struct {
		sync.Mutex
		attempts []*attempt // oldest first
		closed   bool
	}
}

// attempt is one call of Reconfigure. Its fields but begun belong to reconfigurations.mu.
type attempt struct {
	hash  consensus.Digest
	state rpc.Reconfiguration
	// begun is closed when the log has taken the request up, or refused it.
	begun   chan struct{}
	waiting bool  // begun is not closed
	refused error // nothing was begun
}

func newReconfigurations(log reconfigurable, self ed25519.PublicKey, peers consensus.Peers) *reconfigurations {
	r := &reconfigurations{log: log, self: self, peers: peers}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// openReconfigurations makes those of an open log, until the node is closed.
func (n *Node) openReconfigurations() *reconfigurations {
	var self ed25519.PublicKey
	var peers consensus.Peers
	if n.peers != nil {
		self, peers = n.peers.publicKey(), n.peers.all
	}
	r := newReconfigurations(n.log, self, peers)
	n.onClose(r.Close)
	return r
}

// Close ends the attempts.
func (r *reconfigurations) Close() error {
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.stop()
	r.over.Wait()
	return nil
}

// BeginReconfiguration implements rpc.Reconfigurer.
func (r *reconfigurations) BeginReconfiguration(ctx context.Context, q consensus.Request, signatures []consensus.Signature) (rpc.Reconfiguration, error) {
	a, err := r.take(q, signatures)
	if err != nil {
		return rpc.Reconfiguration{}, err
	}
	select {
	case <-a.begun:
	case <-ctx.Done():
		return rpc.Reconfiguration{}, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.state, a.refused
}

// take finds the attempt to join, or begins one.
func (r *reconfigurations) take(q consensus.Request, signatures []consensus.Signature) (*attempt, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		return nil, consensus.ErrClosed
	}
	hash := q.Hash()
	for _, a := range r.mu.attempts {
		if a.hash == hash && (a.state.Running || a.state.Progress.Stage == consensus.Complete) {
			return a, nil
		}
	}
	for _, a := range r.mu.attempts { // one that has switched only watches the members come over
		if a.state.Running && a.state.Progress.Stage < consensus.Completing {
			return nil, fmt.Errorf("%w, to epoch %d", rpc.ErrReconfiguring, a.state.Request.Epoch)
		}
	}
	a := &attempt{hash: hash, state: rpc.Reconfiguration{Request: q, Running: true}, begun: make(chan struct{}), waiting: true}
	r.forget(func(other *attempt) bool { return other.hash == hash })
	r.mu.attempts = append(r.mu.attempts, a)
	if n := len(r.mu.attempts) - attemptsKept; n > 0 {
		r.mu.attempts = slices.Delete(r.mu.attempts, 0, n)
	}
	r.over.Go(func() { r.run(a, q, signatures) })
	return a, nil
}

// run brings an attempt to its end.
func (r *reconfigurations) run(a *attempt, q consensus.Request, signatures []consensus.Signature) {
	ctx, cancel := context.WithTimeout(r.ctx, attemptTimeout)
	defer cancel()
	last, err := r.log.Reconfigure(ctx, q, signatures, func(p consensus.Progress) {
		r.mu.Lock()
		defer r.mu.Unlock()
		a.state.Progress = p
		a.open()
	})
	if last.Err != nil {
		err = last.Err // without what the caller knows: which epoch, which stage
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("not over after %v: %w", attemptTimeout, err)
	}
	if errors.Is(err, consensus.ErrUnknownFate) {
		last.Stage = consensus.Sealing // it may still be sealed: nobody must take it for abandoned
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a.state.Progress, a.state.Running, a.state.Err = last, false, err
	// That another request was sealed first is how this one ended, however soon it turns out.
	if a.waiting && err != nil && !errors.Is(err, consensus.ErrSuperseded) {
		a.refused = err
		r.forget(func(other *attempt) bool { return other == a })
	}
	a.open()
}

// open lets those go on who wait for the first word.
func (a *attempt) open() {
	if a.waiting {
		a.waiting = false
		close(a.begun)
	}
}

func (r *reconfigurations) forget(which func(*attempt) bool) {
	r.mu.attempts = slices.DeleteFunc(r.mu.attempts, which)
}

// Reconfiguration implements rpc.Reconfigurer.
func (r *reconfigurations) Reconfiguration(epoch consensus.Epoch) (rpc.Reconfiguration, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range slices.Backward(r.mu.attempts) {
		if a.state.Request.Epoch == epoch && !a.waiting {
			return a.state, true
		}
	}
	return rpc.Reconfiguration{}, false
}

// Members implements rpc.Reconfigurer.
func (r *reconfigurations) Members(ctx context.Context) []rpc.MemberStatus {
	segments := r.log.Segments()
	last := segments[len(segments)-1]
	members := everMembers(segments)
	var asking errgroup.Group
	asking.SetLimit(membersAsked)
	for i := range members {
		asking.Go(func() error {
			members[i].Epoch = r.epochOf(ctx, members[i].Member, last.Epoch)
			return nil
		})
	}
	_ = asking.Wait() // there are no errors but silence
	over := 0
	for _, m := range members {
		if m.InSegment && m.Epoch >= last.Epoch {
			over++
		}
	}
	for i := range members {
		members[i].MayStop = !members[i].InSegment && over >= last.Spec.Quorum()
	}
	return members
}

// everMembers are the nodes that are or were members, each as the newest segment that has it knows it.
func everMembers(segments []consensus.Segment) (all []rpc.MemberStatus) {
	for i, seg := range slices.Backward(segments) {
		for _, m := range seg.Spec.Members {
			same := func(other rpc.MemberStatus) bool {
				return other.NodeKey.Equal(m.NodeKey) && (len(m.NodeKey) > 0 || other.ID == m.ID)
			}
			if !slices.ContainsFunc(all, same) {
				all = append(all, rpc.MemberStatus{Member: m, InSegment: i == len(segments)-1})
			}
		}
	}
	return all
}

// epochOf asks a member for the last epoch that it knows; 0 if it does not answer. A member without a key has no peers: it is the node that has this log.
func (r *reconfigurations) epochOf(ctx context.Context, m consensus.Member, here consensus.Epoch) consensus.Epoch {
	if len(m.NodeKey) == 0 || r.self.Equal(m.NodeKey) {
		return here
	}
	if r.peers == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	s, err := r.peers.Status(ctx, m)
	if err != nil {
		return 0
	}
	return s.Epoch
}
