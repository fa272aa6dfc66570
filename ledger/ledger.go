package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/lru"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/event"
	"github.com/ethereum/go-ethereum/params"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ledgerd/consensus"
	"ledgerd/consensus/view"
	"ledgerd/ledger/genesis"
	"ledgerd/ledger/txpool"
	"ledgerd/vm"
)

// App is the name under which the ledger's records are in the log.
const App = "ledger"

var (
	// ErrDivergence means that a block which is executed again has another hash than it had: the store, the log or the
	// program is not what it was. Nothing may be served from such a ledger.
	ErrDivergence = errors.New("divergence")
	// ErrLogBehind means that the log does not hold what the ledger has applied: it is another log, or it lost its end.
	ErrLogBehind = errors.New("log does not hold what the ledger has applied")
)

// Options configure a ledger. The zero value is usable.
type Options struct {
	// CacheMiB is memory for pebble's blocks and for clean trie nodes and flat state. Default 256.
	CacheMiB int
	// FileHandles is how many files pebble may hold open. Default 1024.
	FileHandles int
	// StateHistory is how many blocks back the state can be read. 0: all, an archive.
	StateHistory uint64
	// ArchiveProofs also keeps the trie nodes of every block, for proofs on old states (some 3 KB a transaction).
	ArchiveProofs bool
	// PipelineDepth is how many executed blocks may wait to be written. Default 4.
	PipelineDepth int
	// SyncInterval is how often the store is synced, which moves Durable(). Default 3 s.
	SyncInterval time.Duration
	// FlushInterval is after how much time at most the state is written to disk. Default 60 s.
	FlushInterval time.Duration
	// FlushDebt bounds how much execution a restart after a crash has to repeat: the state is written to disk when the
	// blocks whose state is not there took this long to execute. Default 3 s.
	FlushDebt time.Duration

	Pool    txpool.Options
	Batcher txpool.BatcherOptions

	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	defTime := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&o.CacheMiB, 256)
	def(&o.FileHandles, 1024)
	def(&o.PipelineDepth, 4)
	defTime(&o.SyncInterval, 3*time.Second)
	defTime(&o.FlushInterval, time.Minute)
	defTime(&o.FlushDebt, 3*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Pool.Logger == nil {
		o.Pool.Logger = o.Logger
	}
	if o.Pool.Registerer == nil {
		o.Pool.Registerer = o.Registerer
	}
}

// Ledger is the EVM ledger. Open makes it a view that a player can drive; Run drives it from a log and takes in
// transactions. Its read methods may be called concurrently and see the published head.
type Ledger struct {
	dir      string
	opts     Options
	genesis  *genesis.Genesis
	first    *types.Header // the genesis block's
	store    *store
	executor *vm.Executor
	engine   *beacon.Beacon
	pool     *txpool.Pool
	metrics  *metrics

	player  atomic.Pointer[view.Player]  // set while Run runs
	head    atomic.Pointer[types.Header] // the published one
	newest  atomic.Pointer[types.Header] // of the newest executed block: exec.head, for those who do not hold exec
	applied atomic.Uint64                // LSN; written under exec, after newest
	durable atomic.Uint64                // LSN
	next    atomic.Pointer[Parameters]   // of the block after head; changed by the writer, in its order
	heads   event.FeedOf[HeadEvent]
	recent  recentBlocks

	addresses addressMarks

	prepared  sync.Map      // consensus.LSN -> *preparation
	preparing chan struct{} // bounds how many batches are prepared at once
	unwritten sync.Map      // common.Hash -> *types.Header, executed and not yet in the store

	// exec is the serial stage: what the next block is executed on. Its holder may do I/O; nobody waits for it but
	// the player, the periodic flush and Close.
	exec struct {
		sync.Mutex
		head    *types.Header // of the newest executed block; set by setNewest
		debt    debt
		flushed time.Time
		closed  bool

		parameters Parameters                 // of the next block
		epoch      consensus.Epoch            // whose parameters they are
		segments   func() []consensus.Segment // the chain of the log that Run plays; nil before
	}
	writer writer
}

// recentBlocks keeps what has just been executed or read, since that is what clients ask for.
type recentBlocks struct {
	blocks   *lru.Cache[common.Hash, *types.Block]
	receipts *lru.Cache[common.Hash, types.Receipts]
	headers  *lru.Cache[common.Hash, *types.Header]
}

func (r *recentBlocks) purge() {
	r.blocks.Purge()
	r.receipts.Purge()
	r.headers.Purge()
}

var _ interface {
	view.View
	view.Prefetcher
} = (*Ledger)(nil)

// Open opens or creates the ledger in dir and recovers it to the newest block that it holds: after a crash it executes
// again, from the bodies it has, the blocks whose state did not reach the disk (invariant 3).
// Errors: consensus.ErrWrongNetwork if dir holds another genesis, consensus.ErrLocked if another process has it open,
// ErrDivergence if a block is not what it was.
func Open(dir string, g *genesis.Genesis, opts Options) (*Ledger, error) {
	opts.EnsureDefaults()
	if err := opts.Pool.Validate(); err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	s, err := openStore(dir, &opts)
	if err != nil {
		return nil, err
	}
	l := &Ledger{
		dir:       dir,
		opts:      opts,
		genesis:   g,
		store:     s,
		engine:    beacon.New(ethash.NewFaker()),
		preparing: make(chan struct{}, 2),
		recent: recentBlocks{
			blocks:   lru.NewCache[common.Hash, *types.Block](256),
			receipts: lru.NewCache[common.Hash, types.Receipts](256),
			headers:  lru.NewCache[common.Hash, *types.Header](1024),
		},
	}
	if err := l.open(); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return l, nil
}

func (l *Ledger) open() (err error) {
	if l.metrics, err = newMetrics(l.opts.Registerer, l); err != nil {
		return err
	}
	if l.first, err = l.store.init(l.genesis); err != nil {
		return err
	}
	l.executor = vm.NewExecutor(l.genesis.Config, l)
	if err := l.recover(); err != nil {
		return err
	}
	l.pool = txpool.New(poolChain{l}, l.opts.Pool)
	l.writer.start(l, l.opts.PipelineDepth)
	return nil
}

// Run plays log into the ledger and appends what the pool holds to it, until ctx ends or something fails for good: the
// log, the store, or this replica (a *view.StopError; ErrDivergence among its causes).
func (l *Ledger) Run(ctx context.Context, log Log) error {
	player, err := l.attach(ctx, log)
	if err != nil {
		return ignoreEnd(ctx, err)
	}
	l.player.Store(player)
	batching := l.opts.Batcher
	if l.genesis.Ledgerd.StrictTimestamps {
		batching.MinInterval = max(batching.MinInterval, time.Second) // or timestamps would run ahead of the clock
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return player.Run(ctx) })
	if !l.genesis.Ledgerd.Imported { // whose pool takes what clients send, and there it stays
		batcher := txpool.NewBatcher(l.pool, l.propose, batching)
		g.Go(func() error { return ignoreEnd(ctx, batcher.Run(ctx)) })
	}
	g.Go(func() error { return l.keepDurable(ctx) })
	g.Go(func() error { return l.buildAddressIndex(ctx) })
	return g.Wait()
}

// ignoreEnd turns the error of a service that ended because it was told to into none.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return nil
	}
	return err
}

// Log is what the ledger needs of the shared log. *consensus.VirtualLog is one.
type Log interface {
	view.Log
	DigestAt(ctx context.Context, lsn consensus.LSN) (consensus.Digest, error)
	Trimmed() consensus.LSN
	// Segments returns the chain, by epoch from 1, with the segment of every entry that can be read.
	Segments() []consensus.Segment
}

// attach checks that log is the one that this ledger was made from.
func (l *Ledger) attach(ctx context.Context, log Log) (*view.Player, error) {
	applied := l.Applied()
	tail, err := log.Tail(ctx, consensus.Fast)
	if err == nil && tail <= applied {
		// After a crash this node's log may have to be told again what its engine had committed, and had handed on to the ledger, before it was written. The
		// quorum knows whether there is so much.
		tail, err = log.Tail(ctx, consensus.Consistent)
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	if tail <= applied {
		return nil, fmt.Errorf("ledger: %w: applied up to lsn %d, the log ends before lsn %d", ErrLogBehind, applied, tail)
	}
	if trimmed := log.Trimmed(); trimmed > applied {
		return nil, fmt.Errorf("ledger: %w: applied up to lsn %d, the log begins after lsn %d", consensus.ErrTrimmed, applied, trimmed)
	}
	if position, ok := l.positionOf(l.CurrentHeader()); ok && position.LSN > log.Trimmed() {
		digest, err := log.DigestAt(ctx, position.LSN)
		if err != nil {
			return nil, fmt.Errorf("ledger: %w", err)
		}
		if common.Hash(digest) != *l.CurrentHeader().ParentBeaconRoot {
			return nil, fmt.Errorf("ledger: %w: at lsn %d the log has digest %x, block %d was made from %x",
				ErrDivergence, position.LSN, digest, l.CurrentHeader().Number, *l.CurrentHeader().ParentBeaconRoot)
		}
	}
	if err := l.enterChain(ctx, log, applied); err != nil {
		return nil, err
	}
	return view.NewPlayer(log, App, l, view.Options{Logger: l.opts.Logger, Registerer: l.opts.Registerer})
}

// enterChain has the ledger go by the log's chain of segments from the entry after applied on.
func (l *Ledger) enterChain(ctx context.Context, log Log, applied consensus.LSN) error {
	l.exec.Lock()
	defer l.exec.Unlock()
	l.exec.segments = log.Segments
	if err := l.enterAt(applied); err != nil {
		return err
	}
	next := l.exec.parameters // also if they are those of the head: after a Restore the pool does not know them
	if err := l.writer.hand(&executed{next: &next, published: make(chan struct{})}); err != nil {
		return err
	}
	return l.writer.drain(ctx)
}

// propose appends one batch and returns after the block it became, if any, has been published.
func (l *Ledger) propose(ctx context.Context, payload []byte) error {
	out, err := l.player.Load().Propose(ctx, payload)
	if err != nil {
		return err
	}
	if r, ok := out.Result.(*BatchResult); ok {
		select {
		case <-r.Published:
		case <-l.writer.failed:
			return l.writer.err
		}
	}
	return nil
}

// Sync returns after everything that was acknowledged anywhere before the call can be read here.
func (l *Ledger) Sync(ctx context.Context) error {
	player := l.player.Load()
	if player == nil {
		return view.ErrStopped
	}
	if _, err := player.Sync(ctx); err != nil {
		return err
	}
	return l.Drain(ctx)
}

// Drain returns after every block that has been executed is published.
func (l *Ledger) Drain(ctx context.Context) error { return l.writer.drain(ctx) }

// keepDurable syncs the store and flushes the state from time to time, so that the log can be trimmed and a restart
// is short even if nothing happens for long.
func (l *Ledger) keepDurable(ctx context.Context) error {
	ticker := time.NewTicker(l.opts.SyncInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := l.sync(ctx); err != nil {
			return err
		}
	}
}

// sync makes what has been applied durable, and flushes the state if that is due.
func (l *Ledger) sync(ctx context.Context) error {
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed || l.Durable() == l.Applied() {
		return nil
	}
	if err := l.writer.drain(ctx); err != nil {
		return ignoreEnd(ctx, err)
	}
	if time.Since(l.exec.flushed) >= l.opts.FlushInterval {
		if err := l.flush(); err != nil {
			return err
		}
	}
	if err := errors.Join(putApplied(l.store.db, l.Applied()), l.store.db.SyncKeyValue()); err != nil {
		return fmt.Errorf("ledger: sync: %w: %w", consensus.ErrFailed, err)
	}
	l.durable.Store(l.applied.Load())
	return nil
}

// flush writes the state of the newest executed block to disk, unless it is there. The caller holds exec and has drained the writer.
func (l *Ledger) flush() error {
	// The debt does not tell: after a clean restart it is 0, and the state of the last blocks may be in the journal alone.
	if l.store.stateOnDisk() == l.exec.head.Root {
		l.exec.debt.clear()
		l.exec.flushed = time.Now()
		return nil
	}
	start := time.Now()
	if err := l.store.tdb.Commit(l.exec.head.Root, false); err != nil {
		return fmt.Errorf("ledger: flush state of block %d: %w", l.exec.head.Number, err)
	}
	l.exec.debt.clear()
	l.exec.flushed = time.Now()
	l.metrics.flush.Observe(time.Since(start).Seconds())
	l.opts.Logger.Debug("state flushed", "block", l.exec.head.Number, "took", time.Since(start))
	return nil
}

// Close ends the ledger cleanly: everything applied is durable and the next Open has nothing to do. The player must
// have ended.
func (l *Ledger) Close() error {
	l.exec.Lock()
	defer l.exec.Unlock()
	if l.exec.closed {
		return nil
	}
	l.exec.closed = true
	if err := l.writer.stop(); err != nil {
		return errors.Join(err, l.store.abandon())
	}
	l.pool.Close()
	err := putApplied(l.store.db, l.Applied())
	return errors.Join(err, l.store.close(l.exec.head.Root))
}

// Digest implements view.View: the hash of the newest executed block covers the state and all of its past.
func (l *Ledger) Digest() (consensus.Digest, error) {
	l.exec.Lock()
	defer l.exec.Unlock()
	return consensus.Digest(l.exec.head.Hash()), nil
}

// Applied implements view.View.
func (l *Ledger) Applied() consensus.LSN { return consensus.LSN(l.applied.Load()) }

// Durable implements view.View.
func (l *Ledger) Durable() consensus.LSN { return consensus.LSN(l.durable.Load()) }

// ChainConfig returns the rules of the chain.
func (l *Ledger) ChainConfig() *params.ChainConfig { return l.genesis.Config }

// Executor returns the executor, for calls and estimates.
func (l *Ledger) Executor() *vm.Executor { return l.executor }

// Pool returns the pool of this node.
func (l *Ledger) Pool() *txpool.Pool { return l.pool }
