package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"ledgerd/rpc/feed/protocol"
)

// transport brings messages to a client. Its methods are called by one goroutine; they wait as long as the network does, but not for ever. An error means
// that the client is gone.
type transport interface {
	event(m *message) error
	message(m *protocol.Message) error
	// heartbeat shows a client that has nothing to hear that the connection stands.
	heartbeat() error
}

// subscription sends what a reader reads.
type subscription struct {
	*reader
	to     transport
	credit *credit // nil: without bounds

	toldLive  bool
	toldAt    time.Time
	heartbeat *time.Ticker
}

// credit is how many events a client has room for. One goroutine takes, any may grant.
type credit struct {
	left    atomic.Uint64
	granted chan struct{} // capacity 1
	limit   uint64
}

func newCredit(initial, limit uint64) *credit {
	c := &credit{granted: make(chan struct{}, 1), limit: limit}
	c.left.Store(min(initial, limit))
	return c
}

// grant adds n; beyond the limit there is no more to have.
func (c *credit) grant(n uint64) {
	for {
		left := c.left.Load()
		if c.left.CompareAndSwap(left, left+min(n, c.limit-left)) {
			break
		}
	}
	select {
	case c.granted <- struct{}{}:
	default:
	}
}

func (s *subscription) hasCredit() bool { return s.credit == nil || s.credit.left.Load() > 0 }

// granted is closed, or has something, when there may be credit.
func (s *subscription) granted() <-chan struct{} {
	if s.credit == nil {
		return nil
	}
	return s.credit.granted
}

// run sends events until ctx ends or the client is gone, which is nil, or something ends the subscription: an error that the client should be told.
func (s *subscription) run(ctx context.Context) *protocol.Error {
	s.heartbeat = time.NewTicker(s.feed.opts.Heartbeat)
	defer s.heartbeat.Stop()
	for ctx.Err() == nil {
		wake := *s.feed.wake.Load() // before looking: what comes after that wakes
		more, err := s.send(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if !more && !s.wait(ctx, wake) {
			return nil
		}
	}
	return nil
}

// gone is the error of a transport, which nobody is left to be told.
var gone = &protocol.Error{}

// send sends the next event, or tells how far the search has come. more says that there may be another.
func (s *subscription) send(ctx context.Context) (more bool, problem *protocol.Error) {
	if !s.hasCredit() {
		return false, nil
	}
	m, err := s.next(ctx)
	if err != nil {
		return false, s.feed.explain(err)
	}
	if m == nil {
		// What the client does not know yet: that it has all there is; or, now and then, how far the search has come.
		if s.live && !s.toldLive || !s.live && time.Since(s.toldAt) >= s.feed.opts.Progress {
			return !s.live, s.tell()
		}
		return !s.live, nil
	}
	if s.to.event(m) != nil {
		return false, gone
	}
	if s.credit != nil {
		s.credit.left.Add(^uint64(0))
	}
	s.toldAt = time.Now()
	s.feed.metrics.events.WithLabelValues(string(m.kind)).Inc()
	select {
	case <-s.heartbeat.C: // a client that gets events without end should be asked too whether it lives
		if s.to.heartbeat() != nil {
			return false, gone
		}
	default:
	}
	return true, nil
}

// wait returns when there may be something to send; false: never again.
func (s *subscription) wait(ctx context.Context, wake <-chan struct{}) bool {
	if !s.hasCredit() {
		wake = nil
	}
	select {
	case <-wake:
		return true
	case <-s.granted():
		return true
	case <-s.heartbeat.C:
		// A browser does not see pings, so something that it sees comes too.
		return s.to.heartbeat() == nil && s.tell() == nil
	case <-ctx.Done():
		return false
	}
}

// tell sends a cursor.
func (s *subscription) tell() *protocol.Error {
	c, err := s.cursor()
	if err != nil {
		return s.feed.explain(err)
	}
	live := s.live && s.at.Block > s.feed.backend.CurrentHeader().Number.Uint64() // it may be a while since it looked
	err = s.to.message(&protocol.Message{Type: protocol.TypeProgress, Cursor: c.String(), Head: s.feed.head(), Live: &live})
	if err != nil {
		return gone
	}
	s.toldAt, s.toldLive = time.Now(), live
	return nil
}

// head is the number of the head, as messages have it.
func (f *Feed) head() string {
	return hexutil.EncodeUint64(f.backend.CurrentHeader().Number.Uint64())
}

// greeting is the answer to a request.
func (s *subscription) greeting() (*protocol.Message, *protocol.Error) {
	c, err := s.cursor()
	if err != nil {
		return nil, s.feed.explain(err)
	}
	s.toldAt = time.Now()
	return &protocol.Message{
		Type: protocol.TypeSubscribed, Cursor: c.String(), ChainID: hexutil.EncodeBig(s.feed.backend.ChainConfig().ChainID), Head: s.feed.head(),
	}, nil
}

// farewell is the last message.
func farewell(e *protocol.Error) *protocol.Message {
	return &protocol.Message{Type: protocol.TypeError, Code: e.Code, Text: e.Message, Cursor: e.Cursor}
}

// encode makes JSON of a message, which always succeeds.
func encode(m *protocol.Message) []byte {
	text, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("feed: %v", err))
	}
	return text
}
