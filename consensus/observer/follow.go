package observer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
)

// How take ends the following of a node.
var (
	errSealed = errors.New("the Seal is applied")
	errStop   = errors.New("observer cannot go on") // joined with the cause
)

// A contradiction is an entry of another node that does not continue this node's log.
type contradiction struct {
	lsn   consensus.LSN
	cause string
}

func (c *contradiction) Error() string {
	return fmt.Sprintf("lsn %d contradicts this node's log: %s", c.lsn, c.cause)
}

// Bounds of the pause after a round in which nobody had anything.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// rest waits for the pause, or less if ctx ends or now is ready, and doubles it.
func rest(ctx context.Context, now <-chan struct{}, pause *time.Duration) {
	t := time.NewTimer(*pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-now:
	case <-ctx.Done():
	}
	*pause = min(2**pause, maxPause)
}

// follow follows one node after the other. nil at the Seal or the end of ctx; any other error is the end of this loglet.
func (l *Loglet) follow(ctx context.Context) error {
	for pause := minPause; ctx.Err() == nil; {
		next := l.replica.Position().Next
		left, err := l.round(ctx)
		switch {
		case errors.Is(err, errSealed):
			return nil
		case errors.Is(err, errStop):
			return err
		case l.replica.Position().Next > next:
			pause = minPause
			continue
		case left:
			continue
		}
		l.mu.Lock()
		l.mu.problem = err
		l.mu.Unlock()
		l.lookNow()
		l.logger.Debug("nobody to follow", "lsn", uint64(next), "err", err)
		rest(ctx, nil, &pause)
	}
	return nil
}

// round goes through the nodes, until one has given something, or was left for a better one, or all have failed.
func (l *Loglet) round(ctx context.Context) (left bool, err error) {
	var errs []error
	for _, m := range l.candidates() {
		next := l.replica.Position().Next
		left, err := l.followOne(ctx, m, next)
		if left || ctx.Err() != nil || errors.Is(err, errSealed) || errors.Is(err, errStop) || l.replica.Position().Next > next {
			return left, err
		}
		errs = append(errs, fmt.Errorf("member %d: %w", m.ID, err))
		var c *contradiction
		if errors.As(err, &c) {
			if err := l.contradicted(m, c); err != nil {
				return false, err
			}
		}
	}
	if len(errs) == 0 {
		errs = append(errs, errors.New("no other node is known"))
	}
	return false, errors.Join(errs...)
}

// candidates returns whom to follow, best first: whom the watch has found ahead, who gave something last, the others.
func (l *Loglet) candidates() []consensus.Member {
	all := l.opts.Peers.Known(l.seg.Spec.Members)
	l.mu.Lock()
	first, last := l.mu.first, l.mu.source
	l.mu.first = consensus.Member{}
	l.mu.Unlock()
	rank := func(m consensus.Member) int {
		switch {
		case sameNode(m, first):
			return 0
		case sameNode(m, last):
			return 1
		}
		return 2
	}
	slices.SortStableFunc(all, func(a, b consensus.Member) int { return rank(a) - rank(b) })
	return all
}

func sameNode(a, b consensus.Member) bool { return slices.Equal(a.NodeKey, b.NodeKey) }

// followOne follows a node until it fails, the watch has it left, or there is nothing more to apply.
func (l *Loglet) followOne(ctx context.Context, m consensus.Member, from consensus.LSN) (left bool, err error) {
	following, leave := context.WithCancel(ctx)
	defer leave()
	l.mu.Lock()
	l.mu.source, l.mu.leave = m, leave
	l.mu.Unlock()
	err = l.opts.Peers.Follow(following, m, from, func(entries []consensus.Entry) error { return l.take(following, m, entries) })
	l.mu.Lock()
	l.mu.leave = nil
	l.mu.Unlock()
	if err == nil {
		err = errors.New("ended") // what was asked for has no end
	}
	return following.Err() != nil, err
}

// take verifies entries that a node has sent, and applies them.
func (l *Loglet) take(ctx context.Context, from consensus.Member, entries []consensus.Entry) error {
	at := l.replica.Position()
	if at.Sealed { // a recovery has ended the segment where this node stood
		return errSealed
	}
	good, sealed, contradicts := l.verify(at, entries)
	if len(good) > 0 {
		proof, err := l.prove(ctx, from, good[len(good)-1])
		if err != nil {
			return err
		}
		if err := l.apply(good, proof); err != nil {
			return err
		}
		l.progress()
	}
	switch {
	case sealed, l.sealed():
		return errSealed
	case contradicts != nil:
		return contradicts
	}
	return nil
}

// verify returns those entries that continue the log from a position (invariant 1), up to the Seal if it is among them, or to where a recovery ends the
// segment, and what is wrong with the next.
func (l *Loglet) verify(at consensus.Position, entries []consensus.Entry) (good []consensus.Entry, sealed bool, wrong error) {
	good, sealed, wrong = l.linked(at, entries)
	items := make([]consensus.Item, len(good))
	for i, e := range good {
		items[i] = consensus.Item{UnixMilli: e.UnixMilli, Record: e.Record}
	}
	verdicts, err := l.replica.Judge(items)
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errStop, err)
	}
	for i, v := range verdicts {
		switch {
		case v.Kind != consensus.Data:
			return good[:i], false, &contradiction{good[i].LSN, fmt.Sprintf("by the rules it is no entry: %v of lsn %d (%v)", v.Kind, v.LSN, v.Err)}
		case v.Next != nil: // the Seal
			return good[:i+1], true, nil
		}
	}
	return good, sealed, wrong
}

// linked is verify without the rules by which a record is an entry.
func (l *Loglet) linked(at consensus.Position, entries []consensus.Entry) (good []consensus.Entry, sealed bool, wrong error) {
	next, digest, millis, limit := at.Next, at.Digest, at.UnixMilli, l.replica.Limit()
	for i, e := range entries {
		if limit != 0 && next == limit {
			return entries[:i], true, nil
		}
		bad := func(format string, args ...any) ([]consensus.Entry, bool, error) {
			return entries[:i], false, &contradiction{next, fmt.Sprintf(format, args...)}
		}
		switch {
		case e.LSN != next:
			return bad("the entry says that it is lsn %d", e.LSN)
		case e.Epoch != l.seg.Epoch:
			return bad("it is of epoch %d, here epoch %d is not at its end", e.Epoch, l.seg.Epoch)
		case e.UnixMilli < millis:
			return bad("its time is %d, its predecessor's %d", e.UnixMilli, millis)
		}
		if err := e.Verify(digest); err != nil {
			return bad("%v", err)
		}
		next, digest, millis = e.LSN+1, e.Digest, e.UnixMilli
	}
	return entries, false, nil
}

// prove has it proven that the members ordered the log up to an entry, if that is asked for. The proof is nil if it is not.
func (l *Loglet) prove(ctx context.Context, from consensus.Member, last consensus.Entry) ([]byte, error) {
	if l.opts.Prove == nil {
		return nil, nil
	}
	proof, err := l.opts.Prove(ctx, from, l.seg, last.LSN, last.Digest)
	if errors.Is(err, consensus.ErrInvalid) {
		l.logger.Warn("peer tells what it cannot prove", "member", from.ID, "lsn", uint64(last.LSN), "err", err)
	}
	if err != nil { // %v: an error of another node's log is never one of this loglet (invariant 5)
		return nil, fmt.Errorf("lsn %d is not proven: %v", last.LSN, err)
	}
	return proof, nil
}

// apply applies entries that continue the log, with a proof of the last, and makes sure that they became what they were.
func (l *Loglet) apply(entries []consensus.Entry, proof []byte) error {
	last := entries[len(entries)-1]
	// The engine's position is the LSN. Should this disk have ordered in the epoch before, it has a higher one, which must stay.
	b := consensus.Batch{Applied: max(l.replica.Applied(), uint64(last.LSN)), Items: make([]consensus.Item, len(entries)), Sync: true, Observed: true, Proof: proof}
	for i, e := range entries {
		b.Items[i] = consensus.Item{UnixMilli: e.UnixMilli, Record: e.Record}
	}
	verdicts, err := l.replica.Apply(b)
	if err != nil {
		return fmt.Errorf("%w: %w", errStop, err)
	}
	for i, v := range verdicts {
		if errors.Is(v.Err, consensus.ErrSealed) { // by a recovery, which has come meanwhile
			return errSealed
		}
		if e := entries[i]; v.Kind != consensus.Data || v.Entry.Digest != e.Digest {
			return fmt.Errorf("%w: %w: the entry at lsn %d is none by this node's rules (%v: %v)", errStop, consensus.ErrDiverged, e.LSN, v.Kind, v.Err)
		}
	}
	return nil
}

// progress notes that the log has grown.
func (l *Loglet) progress() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.problem, l.mu.trimmed = nil, false
	clear(l.mu.against)
}

// contradicted counts the members whose log is not this node's. Too many: it is this node's that is wrong.
func (l *Loglet) contradicted(m consensus.Member, c *contradiction) error {
	key := string(m.NodeKey)
	l.mu.Lock()
	_, known := l.mu.against[key]
	l.mu.against[key] = m
	against := 0
	for _, m := range l.mu.against {
		if _, ok := l.seg.Spec.Member(m.NodeKey); ok {
			against++
		}
	}
	l.mu.Unlock()
	if !known {
		l.logger.Warn("peer contradicts this node's log", "member", m.ID, "lsn", uint64(c.lsn), "err", c)
	}
	if bearable := faulty(l.seg.Spec); against > bearable {
		return fmt.Errorf("%w: %w: %d of %d members contradict, the last: %w", errStop, consensus.ErrDiverged, against, len(l.seg.Spec.Members), c)
	}
	return nil
}

// faulty returns how many members may say something false before it is taken for true.
func faulty(s consensus.Spec) int {
	n := len(s.Members)
	if s.Faults == consensus.ByzantineFaults {
		return (n - 1) / 3
	}
	return n / 2
}

func (l *Loglet) lookNow() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// maxPatience is how many looks a node that gives nothing is followed at most, while another one is ahead.
const maxPatience = 32

// watch asks the others how far they are, and sees to it that the follower does not wait for nothing. Each time that it has had a node left in vain it waits
// twice as long for the next: over a slow line the first chunk takes its time.
func (l *Loglet) watch(ctx context.Context) {
	t := time.NewTicker(l.opts.CheckInterval)
	defer t.Stop()
	last := consensus.LSN(0)
	for still, patience := 0, 1; ; {
		next := l.replica.Position().Next
		if still++; next != last {
			last, still, patience = next, 0, 1
		}
		told := l.askAll(ctx)
		if l.replica.Position().Next == next && l.judge(next, told, still >= patience) {
			still, patience = 0, min(2*patience, maxPatience)
		}
		select {
		case <-t.C:
		case <-l.look:
		case <-ctx.Done():
			return
		}
	}
}

// A told is what a node has said of its log.
type told struct {
	from          consensus.Member
	tail, trimmed consensus.LSN
}

// askAll asks all nodes at once, and waits for no answer longer than until it has to ask again.
func (l *Loglet) askAll(ctx context.Context) []told {
	ctx, cancel := context.WithTimeout(ctx, l.opts.CheckInterval)
	defer cancel()
	var (
		mu   sync.Mutex
		all  []told
		asks errgroup.Group
	)
	asks.SetLimit(16)
	for _, m := range l.opts.Peers.Known(l.seg.Spec.Members) {
		asks.Go(func() error {
			if s, err := l.opts.Peers.Status(ctx, m); err == nil {
				mu.Lock()
				defer mu.Unlock()
				all = append(all, told{m, s.Tail, s.Trimmed})
			}
			return nil
		})
	}
	_ = asks.Wait() // who does not answer has nothing to say
	return all
}

// judge draws the consequences of what was told while the log stood at next: stuck says that it has stood there for a while. It reports whether it has had a
// node left for another.
func (l *Loglet) judge(next consensus.LSN, all []told, stuck bool) (left bool) {
	var best *told
	ahead, heard := 0, next
	l.mu.Lock()
	for i, t := range all {
		heard = max(heard, t.tail)
		if t.tail <= next {
			continue
		}
		ahead++
		if t.trimmed < next && !sameNode(t.from, l.mu.source) && (best == nil || t.tail > best.tail) {
			best = &all[i]
		}
	}
	gone := ahead > 0 && !slices.ContainsFunc(all, func(t told) bool { return t.tail > next && t.trimmed < next })
	begins := gone && !l.mu.trimmed
	l.mu.heard, l.mu.trimmed = heard, gone
	if stuck && best != nil && l.mu.leave != nil {
		l.mu.first, left = best.from, true
		l.mu.leave()
	}
	err := fmt.Errorf("lsn %d: %w", next, ErrNeedsSnapshot)
	switch {
	case gone:
		l.mu.problem = err
	case ahead == 0 && l.mu.leave != nil: // nobody has anything that is not here
		l.mu.problem = nil
	}
	l.mu.Unlock()
	if begins {
		l.logger.Warn("observer", "err", err)
		l.opts.OnStuck(err)
	}
	return left
}
