package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/common/lru"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"
	"github.com/gorilla/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/rpc/feed/protocol"
)

// Backend is what a feed asks of the ledger; *ledger.Ledger has it. Methods may be called concurrently. What they return is shared and must not be changed.
type Backend interface {
	ChainConfig() *params.ChainConfig
	// CurrentHeader returns the head: the newest block of which everything can be queried.
	CurrentHeader() *types.Header
	// The lookups return nil for what is not held or lies beyond the head.
	HeaderByNumber(number uint64) *types.Header
	BlockByHash(hash common.Hash) *types.Block
	ReceiptsByHash(hash common.Hash) types.Receipts
	// SearchLogs returns the matching logs of the blocks from q.From up to, not including, next. It stops before q.To at a block with which there
	// would be more than q.Limit, if others come before it, and when ctx ends, with ctx's error.
	SearchLogs(ctx context.Context, q ledger.LogQuery) (logs []*types.Log, next uint64, err error)
	// AccountBlocks calls f with the number of every block in [from, to] that may hold a transaction which dealt with an account of each list, ascending,
	// until f returns false. An empty list demands nothing.
	AccountBlocks(ctx context.Context, lists [][]common.Address, from, to uint64, f func(number uint64) (bool, error)) error
	// SubscribeHeads announces new heads; see ledger.HeadEvent.
	SubscribeHeads(ch chan<- ledger.HeadEvent) event.Subscription
	// Applied is the LSN of the newest entry that was executed; Drain returns when what was executed before the call is published.
	Applied() consensus.LSN
	Drain(ctx context.Context) error
}

// Forms makes the JSON forms of what happened, those of the JSON-RPC methods. Logs are *types.Log.
type Forms interface {
	Header(h *types.Header) any
	Transaction(tx *types.Transaction, block *types.Header, hash common.Hash, index uint64) any
	// Receipt wants the derived fields.
	Receipt(r *types.Receipt, tx *types.Transaction) any
	// Segment must not say how the segment ends: an event does not change.
	Segment(s consensus.Segment) any
}

// Options say how much a feed allows. Zero means the default.
type Options struct {
	// Segments returns the chain of segments of the log, by epoch from 1. Nil: there are no events of kind segment.
	Segments func() []consensus.Segment
	// OriginAllowed says whether the web page that makes a request may. Nil: any.
	OriginAllowed func(*http.Request) bool
	// Peer names who makes a request, as far as that decides what share of a limit it has; local: from this machine. Nil: all are one, and local.
	Peer func(*http.Request) (name string, local bool)

	MaxClients      int           // websockets and streams at a time, half of them of one peer that is not local. Default 1000
	MaxRequestBytes int           // of a request. Default 256 KiB
	MaxFilters      int           // of a subscription. Default 32
	MaxCriteria     int           // addresses and topics in all of them. Default 2000
	MaxCredit       uint64        // more than this is as much as this. Default 1<<20
	RequestTimeout  time.Duration // between the upgrade and the request. Default 10 s
	Heartbeat       time.Duration // as often as this a client that has no events to get gets a cursor, and a websocket is pinged. Default 15 s
	Progress        time.Duration // as often as this a cursor is sent while the past is being searched. Default 1 s
	ReadTimeout     time.Duration // a websocket from which nothing came for so long, not even a pong, is dead. Default 60 s
	WriteTimeout    time.Duration // for one message to be taken by the network. Default 60 s
	SegmentInterval time.Duration // how often the log is asked for new segments. Default 500 ms
	Logger          *slog.Logger  // nil discards
	Registerer      prometheus.Registerer
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	o.MaxClients = cmp.Or(o.MaxClients, 1000)
	o.MaxRequestBytes = cmp.Or(o.MaxRequestBytes, 256<<10)
	o.MaxFilters = cmp.Or(o.MaxFilters, 32)
	o.MaxCriteria = cmp.Or(o.MaxCriteria, 2000)
	o.MaxCredit = cmp.Or(o.MaxCredit, 1<<20)
	o.RequestTimeout = cmp.Or(o.RequestTimeout, 10*time.Second)
	o.Heartbeat = cmp.Or(o.Heartbeat, 15*time.Second)
	o.Progress = cmp.Or(o.Progress, time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, time.Minute)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.SegmentInterval = cmp.Or(o.SegmentInterval, 500*time.Millisecond)
	if o.Segments == nil {
		o.Segments = func() []consensus.Segment { return nil }
	}
	if o.OriginAllowed == nil {
		o.OriginAllowed = func(*http.Request) bool { return true }
	}
	if o.Peer == nil {
		o.Peer = func(*http.Request) (string, bool) { return "", true }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Registerer == nil {
		o.Registerer = prometheus.NewRegistry()
	}
}

// Validate reports every problem at once.
func (o *Options) Validate() error {
	var errs []error
	for name, n := range map[string]int64{
		"MaxClients": int64(o.MaxClients), "MaxRequestBytes": int64(o.MaxRequestBytes), "MaxFilters": int64(o.MaxFilters), "MaxCriteria": int64(o.MaxCriteria),
		"RequestTimeout": int64(o.RequestTimeout), "Heartbeat": int64(o.Heartbeat), "Progress": int64(o.Progress), "ReadTimeout": int64(o.ReadTimeout),
		"WriteTimeout": int64(o.WriteTimeout), "SegmentInterval": int64(o.SegmentInterval),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s is negative", name))
		}
	}
	if o.ReadTimeout != 0 && o.ReadTimeout <= o.Heartbeat {
		errs = append(errs, fmt.Errorf("ReadTimeout %v must be above Heartbeat %v, at which a client is asked whether it lives", o.ReadTimeout, o.Heartbeat))
	}
	return errors.Join(errs...)
}

// Feed serves the feed of one ledger. New makes it, ServeHTTP serves a client, and Run brings what is new.
type Feed struct {
	backend  Backend
	forms    Forms
	opts     Options
	chain    string // chain id, in decimal
	signer   types.Signer
	metrics  *metrics
	upgrader websocket.Upgrader

	recent    *lru.Cache[common.Hash, *block] // near the head, shared by the subscriptions
	window    window
	searching chan struct{}                 // a token for each search of the past
	wake      atomic.Pointer[chan struct{}] // closed when there is something new
	settled   atomic.Uint64                 // epoch: every block of the epochs before it is published

	stopping chan struct{} // closed when Run ends
	clients  struct {
		sync.Mutex
		sync.WaitGroup
		open    int
		peers   map[string]*peer // whose they are; none has none
		stopped bool
	}
}

// New makes a feed.
func New(backend Backend, forms Forms, opts Options) (*Feed, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("feed options: %w", err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("feed metrics: %w", err)
	}
	f := &Feed{
		backend:   backend,
		forms:     forms,
		opts:      opts,
		chain:     backend.ChainConfig().ChainID.String(),
		signer:    types.LatestSigner(backend.ChainConfig()),
		metrics:   m,
		recent:    lru.NewCache[common.Hash, *block](2 * near),
		window:    defaultWindow,
		searching: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)),
		stopping:  make(chan struct{}),
	}
	f.clients.peers = make(map[string]*peer)
	f.upgrader = f.newUpgrader()
	f.wake.Store(new(make(chan struct{})))
	return f, nil
}

// Run wakes the subscriptions when there is something new, until ctx ends; then it ends them, and returns when the last has ended. Without it they see only
// what is past.
func (f *Feed) Run(ctx context.Context) error {
	heads := make(chan ledger.HeadEvent, 16)
	sub := f.backend.SubscribeHeads(heads)
	defer sub.Unsubscribe()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		ended := sub.Err()
		for {
			select {
			case <-heads:
				f.wakeAll()
			case <-ended: // the ledger was closed: nothing more comes
				ended = nil
			case <-gctx.Done():
				return nil
			}
		}
	})
	g.Go(func() error { return f.watchSegments(gctx) })
	err := g.Wait()
	f.clients.Lock()
	f.clients.stopped = true
	f.clients.Unlock()
	close(f.stopping)
	f.clients.Wait()
	return err
}

// wakeAll never blocks (invariant 5).
func (f *Feed) wakeAll() { close(*f.wake.Swap(new(make(chan struct{})))) }

// watchSegments looks whether the log has begun another segment, of which no block tells yet.
func (f *Feed) watchSegments(ctx context.Context) error {
	tick := time.NewTicker(f.opts.SegmentInterval)
	defer tick.Stop()
	for {
		if err := f.settle(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("feed: %w", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *Feed) settle(ctx context.Context) error {
	segments := f.opts.Segments()
	for i := len(segments) - 1; i >= 0 && uint64(segments[i].Epoch) > f.settled.Load(); i-- {
		if f.backend.Applied()+1 < segments[i].Base {
			continue
		}
		if err := f.backend.Drain(ctx); err != nil {
			return err
		}
		f.settled.Store(uint64(segments[i].Epoch))
		f.wakeAll()
	}
	return nil
}

// segment returns the form of a segment. One that the log does not list (an imported chain has none) is its epoch alone.
func (f *Feed) segment(epoch consensus.Epoch) any {
	for _, s := range f.opts.Segments() {
		if s.Epoch == epoch {
			return f.forms.Segment(s)
		}
	}
	return struct {
		Epoch hexutil.Uint64 `json:"epoch"`
	}{hexutil.Uint64(epoch)}
}

// block returns the events of a block, shared if it is near the head.
func (f *Feed) block(number, head uint64) (*block, error) {
	if number+near < head {
		return f.load(number)
	}
	header := f.backend.HeaderByNumber(number)
	if header == nil {
		return nil, errPruned
	}
	hash := header.Hash()
	if b, ok := f.recent.Get(hash); ok {
		return b, nil
	}
	b, err := f.load(number)
	if err == nil {
		b.shared = true
		f.recent.Add(hash, b)
	}
	return b, err
}

// open checks a request against the limits and the chain, and makes its reader. Its error is a *protocol.Error.
func (f *Feed) open(q *protocol.Request, p *peer) (*reader, error) {
	r, err := f.openReader(q, p)
	if err != nil {
		e := f.explain(err)
		f.metrics.refused.WithLabelValues(string(e.Code)).Inc()
		return nil, e
	}
	return r, nil
}

func (f *Feed) openReader(q *protocol.Request, p *peer) (*reader, error) {
	if len(q.Filters) > f.opts.MaxFilters {
		return nil, protocol.Errorf(protocol.CodeLimitExceeded, "%d filters, at most %d", len(q.Filters), f.opts.MaxFilters)
	}
	size := 0
	for i := range q.Filters {
		size += q.Filters[i].Size()
	}
	if size > f.opts.MaxCriteria {
		return nil, protocol.Errorf(protocol.CodeLimitExceeded, "%d addresses and topics, at most %d", size, f.opts.MaxCriteria)
	}
	at, err := f.start(q)
	if err != nil {
		return nil, err
	}
	return newReader(f, p, q.Filters, at), nil
}
