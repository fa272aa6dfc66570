package txpool

import (
	"sync"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/prometheus/client_golang/prometheus"
)

// feed hands new transactions to subscribers without ever waiting for one. event.Feed waits until every channel
// has taken the value, so that one slow websocket would hold up Add for everybody.
type feed struct {
	missed prometheus.Counter

	mu struct {
		sync.Mutex
		subs   map[*subscription]struct{}
		closed bool
	}
}

// subscription implements event.Subscription.
type subscription struct {
	feed *feed
	ch   chan<- []*types.Transaction
	err  chan error
	once sync.Once
}

var _ event.Subscription = (*subscription)(nil)

func (f *feed) subscribe(ch chan<- []*types.Transaction) *subscription {
	s := &subscription{feed: f, ch: ch, err: make(chan error)}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.closed {
		s.end()
		return s
	}
	if f.mu.subs == nil {
		f.mu.subs = make(map[*subscription]struct{})
	}
	f.mu.subs[s] = struct{}{}
	return s
}

func (f *feed) send(txs []*types.Transaction) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := range f.mu.subs {
		select {
		case s.ch <- txs:
		default:
			f.missed.Add(float64(len(txs)))
		}
	}
}

func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.closed = true
	for s := range f.mu.subs {
		s.end()
	}
	f.mu.subs = nil
}

func (s *subscription) end() { s.once.Do(func() { close(s.err) }) }

// Err returns a channel that is closed when the subscription ends.
func (s *subscription) Err() <-chan error { return s.err }

// Unsubscribe ends the subscription. Nothing is sent once it has returned.
func (s *subscription) Unsubscribe() {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	delete(s.feed.mu.subs, s)
	s.end()
}
