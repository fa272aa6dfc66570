package peer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// A LogClient is the log of the other nodes. It asks one of them, and the next one if that fails; who has answered is asked first the next time. Its methods
// may be called concurrently, and end with ErrClosed when the Node is closed.
//
// Entries come in order and without a gap, but it is for the caller to verify their digests against the one before: a node may lie.
type LogClient struct {
	node    *Node
	members func() []consensus.Member
	last    *atomic.Pointer[publicKey] // who answered last
}

// LogClient returns a client that asks the members which the function returns, among whom this node is skipped. It is called for each attempt, may be called
// concurrently, and does not block.
func (n *Node) LogClient(members func() []consensus.Member) *LogClient {
	return &LogClient{node: n, members: members, last: new(atomic.Pointer[publicKey])}
}

// A logPeer holds the connections to one node's log service. They are apart from the link's.
type logPeer struct {
	address   atomic.Pointer[string]
	transport *http.Transport
	client    peerpbconnect.LogClient
}

// logPeer returns the connections to a member's log service, which are kept until Close.
func (n *Node) logPeer(m consensus.Member) (*logPeer, error) {
	key, ok := keyOf(m.NodeKey)
	if !ok {
		return nil, fmt.Errorf("%w: member %d has no node key", ErrNotServing, m.ID)
	}
	if n.opts.Roster.Rights(key[:]).Stranger() {
		return nil, fmt.Errorf("%w: node %x: %w", ErrNotServing, []byte(m.NodeKey), consensus.ErrUnknownNode)
	}
	address := n.opts.Resolve(m)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed {
		return nil, consensus.ErrClosed
	}
	p := n.mu.logs[key]
	if p == nil {
		p = &logPeer{}
		p.transport = n.newTransport(key, func() string { return *p.address.Load() }, n.opts.PingInterval, n.opts.PingTimeout)
		p.client = peerpbconnect.NewLogClient(&http.Client{Transport: p.transport}, "https://"+serverName(n.opts.Network, key), clientOptions(maxEntriesBytes)...)
		n.mu.logs[key] = p
	}
	p.address.Store(&address)
	return p, nil
}

// candidates returns whom to ask, best first: the hint, whoever answered last, the others.
func (c *LogClient) candidates(hint uint64) []consensus.Member {
	last := c.last.Load()
	rank := func(m consensus.Member) int {
		switch {
		case hint != 0 && m.ID == hint:
			return 0
		case last != nil && last.is(m.NodeKey):
			return 1
		default:
			return 2
		}
	}
	var ranked [3][]consensus.Member
	for _, m := range c.members() {
		if !c.node.key.is(m.NodeKey) {
			ranked[rank(m)] = append(ranked[rank(m)], m)
		}
	}
	return append(append(ranked[0], ranked[1]...), ranked[2]...)
}

// attempt makes one call at one member. A bound of 0 is none. An error that is none of the other node's is about the way there, and says ErrNotServing if
// the call surely did not arrive.
func (c *LogClient) attempt(ctx context.Context, m consensus.Member, bound time.Duration, call func(context.Context, peerpbconnect.LogClient) error) error {
	if !c.node.begin() {
		return fmt.Errorf("%w: %w", ErrNotServing, consensus.ErrClosed)
	}
	defer c.node.wait.Done()
	peer, err := c.node.logPeer(m)
	if err != nil {
		return err
	}
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	if bound > 0 {
		bounded, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	defer until(c.node.closing, cancel)()
	err = fromWire(call(bounded, peer.client))
	switch {
	case err == nil:
		c.answered(m)
		return nil
	case c.node.closed():
		return fmt.Errorf("member %d: %w: %w", m.ID, consensus.ErrClosed, err)
	case bounded.Err() != nil && ctx.Err() == nil: // %v: it is not the caller's time that is up
		return fmt.Errorf("member %d: no answer within %v: %v", m.ID, bound, err)
	default:
		return fmt.Errorf("member %d: %w", m.ID, err)
	}
}

func (c *LogClient) answered(m consensus.Member) {
	key := publicKey(m.NodeKey)
	c.last.Store(&key)
}

// ask makes a call at one member after the other, once each, until one answers. The error has those of all.
func (c *LogClient) ask(ctx context.Context, hint uint64, call func(context.Context, peerpbconnect.LogClient) error) error {
	return c.askThese(ctx, c.candidates(hint), call)
}

func (c *LogClient) askThese(ctx context.Context, members []consensus.Member, call func(context.Context, peerpbconnect.LogClient) error) error {
	var errs []error
	for _, m := range members {
		err := c.attempt(ctx, m, c.node.opts.CallTimeout, call)
		if err == nil {
			return nil
		}
		errs = append(errs, asNotServing(err))
		if ctx.Err() != nil || c.node.closed() {
			break
		}
	}
	if len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%w: nobody to ask", ErrNotServing))
	}
	return errors.Join(append(errs, ctx.Err())...)
}

// asNotServing makes an ErrNotServing of an error that is about the way to the other node. It is for calls by which nothing is done: whether one has arrived
// is all one.
func asNotServing(err error) error {
	var remote *remoteError
	if errors.As(err, &remote) || errors.Is(err, ErrNotServing) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotServing, err)
}

func (n *Node) closed() bool {
	select {
	case <-n.closing:
		return true
	default:
		return false
	}
}

// Bounds of the pause between two rounds of attempts.
const (
	minPause = 5 * time.Millisecond
	maxPause = time.Second
)

// pause waits, and doubles what it waits the next time.
func (c *LogClient) pause(ctx context.Context, pause *time.Duration) {
	t := time.NewTimer(*pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-c.node.closing:
	}
	*pause = min(2**pause, maxPause)
}

// Append lets a member order r, and returns its LSN once it is durable at a quorum. Like consensus.VirtualLog.Append it goes on, under the same id, at one
// member after the other until it knows or ctx ends. ErrInvalid, ErrTooLarge, and ErrClosed or a context error without ErrUnknownFate, mean that r is surely
// not in the log. Unlike there, the entry need not be readable on this node when it returns.
func (c *LogClient) Append(ctx context.Context, r consensus.Record) (consensus.LSN, error) {
	if err := r.Validate(); err != nil {
		return 0, fmt.Errorf("append %s record %v: %w", r.App, r.ID, err)
	}
	req := &peerpb.AppendRequest{Record: consensus.AppendRecord(make([]byte, 0, r.Size()), r)}
	unknown := false
	end := func(err error) (consensus.LSN, error) {
		if unknown && !errors.Is(err, consensus.ErrUnknownFate) {
			err = fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err)
		}
		return 0, fmt.Errorf("append %s record %v: %w", r.App, r.ID, err)
	}
	var last error
	for pause := minPause; ; c.pause(ctx, &pause) {
		for _, m := range c.candidates(0) {
			if ctx.Err() != nil || c.node.closed() {
				break
			}
			lsn, err := c.appendAt(ctx, m, req)
			if err == nil {
				return lsn, nil
			}
			last = err
			unknown = unknown || !surelyNot(err)
			if errors.Is(err, consensus.ErrInvalid) || errors.Is(err, consensus.ErrTooLarge) {
				return end(err)
			}
		}
		if c.node.closed() {
			return end(errors.Join(consensus.ErrClosed, last))
		}
		if err := ctx.Err(); err != nil {
			return end(errors.Join(err, last))
		}
	}
}

func (c *LogClient) appendAt(ctx context.Context, m consensus.Member, req *peerpb.AppendRequest) (lsn consensus.LSN, err error) {
	err = c.attempt(ctx, m, c.node.opts.CallTimeout, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Append(ctx, connect.NewRequest(req))
		if err == nil {
			lsn = consensus.LSN(resp.Msg.GetLsn())
		}
		return err
	})
	return lsn, err
}

// surelyNot reports whether a record is not in the log, and will not be, after this error of an attempt to append it.
func surelyNot(err error) bool {
	if errors.Is(err, consensus.ErrUnknownFate) {
		return false
	}
	if errors.Is(err, ErrNotServing) {
		return true
	}
	var remote *remoteError
	if !errors.As(err, &remote) {
		return false
	}
	for _, kind := range []error{ErrRefused, consensus.ErrInvalid, consensus.ErrTooLarge, consensus.ErrClosed, consensus.ErrSealed} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// Tail returns the first unwritten LSN of the member that answers, or with Consistent that of the log.
func (c *LogClient) Tail(ctx context.Context, consistency consensus.Consistency) (tail consensus.LSN, err error) {
	err = c.ask(ctx, 0, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Tail(ctx, connect.NewRequest(&peerpb.TailRequest{Consistent: consistency == consensus.Consistent}))
		if err == nil {
			tail = consensus.LSN(resp.Msg.GetLsn())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("tail of peers: %w", err)
	}
	return tail, nil
}

// Fetch returns entries from an LSN on: at least one, none at or past end, and as many as one answer holds. The hint is the member to ask first, 0: any.
// ErrTrimmed, ErrUnwritten or others if that is what members have answered, of whom none had the entries.
func (c *LogClient) Fetch(ctx context.Context, hint uint64, from, end consensus.LSN) (entries []consensus.Entry, err error) {
	if from == 0 || from >= end {
		return nil, fmt.Errorf("fetch lsn %d to %d: %w", from, end, consensus.ErrInvalid)
	}
	err = c.ask(ctx, hint, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Read(ctx, connect.NewRequest(&peerpb.ReadRequest{From: uint64(from), End: uint64(end)}))
		if err == nil {
			if entries, err = decodeEntries(resp.Msg, from, end); err != nil {
				return nonsense(err)
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("fetch lsn %d to %d: %w", from, end, err)
	}
	return entries, nil
}

// Read returns the entries in [lo, hi). All of the range is held in memory: use Follow to walk. lo == hi reads nothing. Errors as in Fetch.
func (c *LogClient) Read(ctx context.Context, lo, hi consensus.LSN) ([]consensus.Entry, error) {
	if lo == 0 || lo > hi {
		return nil, fmt.Errorf("read lsn %d to %d: %w", lo, hi, consensus.ErrInvalid)
	}
	var all []consensus.Entry
	for lo < hi {
		entries, err := c.Fetch(ctx, 0, lo, hi)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
		lo += consensus.LSN(len(entries))
	}
	return all, nil
}

// Follow walks the log from an LSN on, and waits at its end for what comes. When a member fails it goes on at another, where it was. It ends with an error
// when ctx ends, when the node is closed, and with ErrTrimmed or ErrInvalid when all members that answer say so.
//
// A member that is cut off from the others does not fail, it only has nothing new. Who must know compares with a consistent Tail.
func (c *LogClient) Follow(ctx context.Context, from consensus.LSN) iter.Seq2[[]consensus.Entry, error] {
	return func(yield func([]consensus.Entry, error) bool) {
		next := from
		for pause := minPause; ; c.pause(ctx, &pause) {
			start := next
			enough, final, err := c.followRound(ctx, &next, func(entries []consensus.Entry) bool { return yield(entries, nil) })
			switch {
			case enough:
				return
			case c.node.closed():
				final, err = true, errors.Join(consensus.ErrClosed, err)
			case ctx.Err() != nil:
				final, err = true, errors.Join(ctx.Err(), err)
			}
			if final {
				yield(nil, fmt.Errorf("follow peers from lsn %d: %w", next, err))
				return
			}
			c.node.opts.Logger.Debug("follow peers", "lsn", uint64(next), "err", err)
			if next > start {
				pause = minPause
			}
		}
	}
}

// followRound follows one member after the other, until the reader has enough, or one has given something and then failed, or all have failed. It is final
// when of those who answered, at least one, each has said that there are no such entries: then to ask again does not help.
func (c *LogClient) followRound(ctx context.Context, next *consensus.LSN, yield func([]consensus.Entry) bool) (enough, final bool, err error) {
	var errs []error
	answers, noes := 0, 0
	for _, m := range c.candidates(0) {
		start := *next
		err := c.followOne(ctx, m, next, yield)
		if err == nil {
			return true, false, nil
		}
		errs = append(errs, err)
		if *next > start || ctx.Err() != nil || c.node.closed() {
			return false, false, errors.Join(errs...)
		}
		var remote *remoteError
		if errors.As(err, &remote) && !errors.Is(err, ErrNotServing) {
			answers++
			if errors.Is(err, consensus.ErrTrimmed) || errors.Is(err, consensus.ErrInvalid) {
				noes++
			}
		}
	}
	return false, answers > 0 && answers == noes, errors.Join(errs...)
}

// followOne follows one member until it fails, or, without an error, until the reader has enough.
func (c *LogClient) followOne(ctx context.Context, m consensus.Member, next *consensus.LSN, yield func([]consensus.Entry) bool) error {
	return c.attempt(ctx, m, 0, func(ctx context.Context, log peerpbconnect.LogClient) error {
		stream, err := log.Follow(ctx, connect.NewRequest(&peerpb.FollowRequest{From: uint64(*next)}))
		if err != nil {
			return err
		}
		defer func() { _ = stream.Close() }()
		for stream.Receive() {
			entries, err := decodeEntries(stream.Msg(), *next, 0)
			if err != nil {
				return nonsense(err)
			}
			c.answered(m)
			*next += consensus.LSN(len(entries))
			if !yield(entries) {
				return nil
			}
		}
		if err := stream.Err(); err != nil {
			return err
		}
		return errors.New("stream ended") // what was asked for has no end
	})
}

// nonsense hides the sentinels of an error that is about what a peer has sent: ErrInvalid would be taken for the peer's judgement on what it was asked.
func nonsense(err error) error { return fmt.Errorf("answer makes no sense: %v", err) }

// Segments returns the chain as the member that answers has stored it.
func (c *LogClient) Segments(ctx context.Context) (segments []consensus.Segment, err error) {
	err = c.ask(ctx, 0, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Segments(ctx, connect.NewRequest(&peerpb.SegmentsRequest{}))
		if err != nil {
			return err
		}
		segments = nil
		for _, b := range resp.Msg.GetSegments() {
			seg, err := consensus.DecodeSegment(b)
			if err != nil {
				return nonsense(err)
			}
			segments = append(segments, seg)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("segments of peers: %w", err)
	}
	return segments, nil
}

// Status returns the state of one member's log.
func (c *LogClient) Status(ctx context.Context, member uint64) (status consensus.Status, err error) {
	var asked []consensus.Member
	for _, m := range c.candidates(member) {
		if m.ID == member {
			asked = append(asked, m)
		}
	}
	if len(asked) == 0 {
		return status, fmt.Errorf("status of peer: %w: no other member has the number %d", consensus.ErrInvalid, member)
	}
	if status, err = c.statusOf(ctx, asked); err != nil {
		return consensus.Status{}, fmt.Errorf("status of peer: %w", err)
	}
	return status, nil
}

func (c *LogClient) statusOf(ctx context.Context, members []consensus.Member) (status consensus.Status, err error) {
	err = c.askThese(ctx, members, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.Status(ctx, connect.NewRequest(&peerpb.StatusRequest{}))
		if err != nil {
			return err
		}
		if status, err = decodeStatus(resp.Msg); err != nil {
			return nonsense(err)
		}
		return nil
	})
	return status, err
}
