package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/consensus/observer"
	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
	"ledgerd/ledger/txpool"
	"ledgerd/rpc"
	"ledgerd/rpc/feed"
)

var (
	// ErrListen wraps the reason why an address could not be listened on.
	ErrListen = errors.New("cannot listen")
	// ErrStopTimeout is returned by Run when a clean stop took longer than node.stop_timeout.
	ErrStopTimeout = errors.New("clean stop took too long; the next start will replay the end of the log")
)

// Options of Open. Config and Genesis are required.
type Options struct {
	Config  *config.Config
	Genesis *genesis.Genesis
	// Home is where the node lives. Empty: the log is kept in memory and the rest in a temporary folder, and nothing
	// is left after Close.
	Home home.Home
	// Keys are the accounts that eth_sendTransaction signs for. Nil: none, as it must be outside of development.
	Keys rpc.KeyStore
	// OnePort serves the operator's endpoints on the RPC port, instead of the listener of their own.
	OnePort bool
	// Version is what web3_clientVersion and the build_info metric tell.
	Version string
	// Rejoin is what the Run of the node before has returned, which went on until it could not: this one begins with that snapshot. nil: with what there is.
	Rejoin *Rejoin
	// Fatal is called when the log's storage has failed (invariant 4). It should end the process, and must not block
	// on the node. Nil panics.
	Fatal func(error)
	// Logger receives the node's messages; nil discards them.
	Logger *slog.Logger
}

func (o *Options) ensureDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(err error) { panic(err) }
	}
	if o.Version == "" {
		o.Version = "dev"
	}
}

// Node is an open node. Open makes it, Run serves it and closes it.
type Node struct {
	opts     Options
	registry *prometheus.Registry
	at       places
	peers    *peers // nil if the genesis has no members
	log      *consensus.VirtualLog
	ledger   *ledger.Ledger
	opened   atomic.Pointer[ledger.Ledger] // ledger, for the engine, which is open before
	rpc      *rpc.Server
	failed   chan error // holds why the node must end, once it must

	rejoinFailed bool // the data could not be replaced by a snapshot

	snapshots *snapshot.Manager // nil if there is no home

	listener net.Listener
	metrics  net.Listener // nil if there is no operator's listener
	closers  []func() error
}

// Open opens the home, the log, the ledger and the listeners. Nothing is served until Run.
//
// Errors that callers tell apart: consensus.ErrNotMember; home.ErrInUse and home.ErrNotHome; consensus.ErrWrongNetwork (the data belong to
// another genesis), consensus.ErrCorrupt (which names the position) and consensus.ErrLocked; ledger.ErrDivergence;
// ErrListen; ErrUnknownEngine.
func Open(ctx context.Context, opts Options) (*Node, error) {
	opts.ensureDefaults()
	n := newNode(opts)
	openStorage := func(ctx context.Context) error {
		engines, err := n.engines()
		if err != nil {
			return err
		}
		return n.openStorage(ctx, engines)
	}
	for _, step := range []func(context.Context) error{n.place, n.openPeers, n.rejoin, n.join, openStorage, n.openSnapshots, n.openServer, n.listen} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

func newNode(opts Options) *Node {
	return &Node{opts: opts, registry: newRegistry(opts), failed: make(chan error, 1)}
}

// fail makes Run return.
func (n *Node) fail(err error) {
	select {
	case n.failed <- err:
	default:
	}
}

// places says where the node's data go.
type places struct {
	fs          vfs.FS
	log, ledger string
}

// place takes the lock of the home, or makes a temporary folder.
func (n *Node) place(context.Context) (err error) {
	if h := n.opts.Home; h != "" {
		lock, err := h.Open()
		if err != nil {
			return err
		}
		n.onClose(lock.Close)
		if err := snapshot.Settle(h.DataDir()); err != nil {
			return err
		}
		n.at, err = placeAt(h)
		return err
	}
	dir, err := os.MkdirTemp("", "ledgerd-dev-")
	if err != nil {
		return fmt.Errorf("%w a temporary folder: %w", home.ErrCannotCreate, err)
	}
	n.onClose(func() error { return os.RemoveAll(dir) })
	n.at = places{vfs.NewMem(), "log", dir}
	return nil
}

// placeAt returns the places in a home that this process has open.
func placeAt(h home.Home) (places, error) {
	// pebble does not make parents, and a directory that appears has to be durable before its content can be.
	if err := vfs.Default.MkdirAll(filepath.Dir(h.LogDir()), 0o755); err != nil {
		return places{}, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, h, err)
	}
	return places{vfs.Default, h.LogDir(), h.StateDir()}, nil
}

// guard turns the panics with which pebble, and go-ethereum around it, answer a failed write or sync into
// consensus.ErrFailed. It sees the panics of its own goroutine only; in others they end the process, as they should,
// with the runtime's exit code.
func guard(err *error) {
	switch p := recover().(type) {
	case nil:
	case error:
		if !strings.HasPrefix(p.Error(), "fatal: ") && !storageFailed(p) {
			panic(p)
		}
		*err = errors.Join(*err, fmt.Errorf("%w: %w", consensus.ErrFailed, p))
	default:
		panic(p)
	}
}

// storageFailed says whether err is about a write or a sync that failed.
func storageFailed(err error) bool {
	return errors.Is(err, consensus.ErrFailed) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// openStorage opens the log on these engines, then the ledger on it.
func (n *Node) openStorage(ctx context.Context, engines map[string]consensus.Engine) (err error) {
	defer guard(&err)
	g, logger := n.opts.Genesis, n.opts.Logger
	if err := knownEngine(g.Ledgerd.Engine); err != nil {
		return err
	}
	id, err := g.NetworkID()
	if err != nil {
		return err
	}
	opts := consensus.Options{
		FS:          n.at.fs,
		Dir:         n.at.log,
		NetworkID:   id,
		Genesis:     g.Spec(),
		Window:      int(g.Ledgerd.DedupWindow),
		Engines:     engines,
		Application: n.application(),
		Logger:      logger.With("part", "log"),
		Registerer:  n.registry,
		OnFatal:     n.opts.Fatal,
		OnHalt:      func(err error) { n.fail(advise(err)) },
	}
	n.logPeers(&opts)
	n.log, err = consensus.Open(ctx, opts)
	if err != nil {
		return fmt.Errorf("open the log: %w", advise(err))
	}
	n.onClose(n.log.Close)
	n.serveLog()
	if g.Ledgerd.Imported {
		logger.Warn("this chain was made elsewhere: it is served, and takes no transactions into blocks")
	}
	n.ledger, err = ledger.Open(n.at.ledger, g, n.ledgerOptions())
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	n.opened.Store(n.ledger)
	n.onClose(n.ledger.Close)
	return nil
}

// ledgerOptions translates the configuration. Only what a node may choose for itself is there.
func (n *Node) ledgerOptions() ledger.Options {
	c, logger := n.opts.Config, n.opts.Logger
	return ledger.Options{
		CacheMiB:      int(c.Ledger.Cache >> 20),
		StateHistory:  c.Ledger.StateHistory,
		ArchiveProofs: c.Ledger.ArchiveProofs,
		FlushInterval: c.Ledger.FlushInterval,
		FlushDebt:     c.Ledger.RestartDebt,
		Pool: txpool.Options{
			MaxTransactions:   c.Pool.MaxTransactions,
			MaxBytes:          int(c.Pool.MaxBytes),
			MaxPerSender:      c.Pool.MaxPerSender,
			MaxBytesPerSender: int(c.Pool.MaxBytesPerSender),
			QueueTTL:          c.Pool.QueueTTL,
			PriceBump:         c.Pool.PriceBump,
			MinTip:            new(big.Int).SetUint64(c.Pool.MinTip),
			Logger:            logger.With("part", "pool"),
			Registerer:        n.registry,
		},
		Batcher: txpool.BatcherOptions{
			MaxTransactions: c.Batcher.MaxTransactions,
			MaxBytes:        int(c.Batcher.MaxBytes),
			MaxInFlight:     c.Batcher.MaxInFlight,
		},
		Logger:     logger.With("part", "ledger"),
		Registerer: n.registry,
	}
}

// openServer makes the RPC server, which serves nothing yet.
func (n *Node) openServer(context.Context) (err error) {
	c := n.opts.Config.RPC
	secret, err := n.jwtSecret()
	if err != nil {
		return err
	}
	opts := rpc.Options{
		Version:                n.opts.Version,
		Namespaces:             c.Namespaces,
		KeyStore:               n.opts.Keys,
		Ready:                  n.ready,
		Hosts:                  c.Hosts,
		CORS:                   c.CORS,
		JWTSecret:              secret,
		MaxConnections:         c.MaxConnections,
		MaxClientConns:         c.MaxClientConns,
		MaxSubscriptions:       c.MaxSubscriptions,
		MaxClientSubscriptions: c.MaxClientSubscriptions,
		MaxBodyBytes:           int(c.MaxBody),
		MaxMessageBytes:        int(c.MaxBody),
		MaxBatchItems:          c.MaxBatchCalls,
		MaxBatchBytes:          int(c.MaxBatchResponse),
		CallTimeout:            c.CallTimeout,
		CallGas:                c.CallGas,
		MaxFilters:             c.MaxFilters,
		MaxClientFilters:       c.MaxClientFilters,
		MaxResponseBytes:       int(c.MaxResponse),
		LogTimeout:             c.LogTimeout,
		MaxLogBlocks:           c.LogRange,
		MaxLogs:                c.LogResults,
		MaxHeavy:               c.MaxHeavy,
		MaxHeavyQueue:          c.MaxHeavyQueue,
		MaxClientHeavy:         c.MaxClientHeavy,
		TraceTimeout:           c.TraceTimeout,
		MaxTraceBytes:          int(c.TraceMemory),
		MaxTraces:              c.TraceResults,
		WriteTimeout:           c.TraceTimeout + answerTime,
		Feed:                   n.feedOptions(),
		Logger:                 n.opts.Logger.With("part", "rpc"),
		Registerer:             n.registry,
	}
	if n.opts.OnePort {
		opts.Metrics = n.metricsHandler()
	}
	if n.peers != nil {
		opts.Network = n.peers
	}
	if n.snapshots != nil {
		opts.Snapshots = madeSnapshots{n.snapshots}
	}
	n.rpc, err = rpc.New(n.ledger, n.ledger.Pool(), sharedLog{n.log, n.openReconfigurations(), n.peers}, opts)
	return err
}

// answerTime is what an answer may take beyond the longest execution.
const answerTime = 30 * time.Second

func (n *Node) feedOptions() feed.Options {
	c := n.opts.Config.Feed
	return feed.Options{
		MaxClients: c.MaxClients, MaxFilters: c.MaxFilters, MaxCriteria: c.MaxCriteria, MaxRequestBytes: int(c.MaxRequest), Heartbeat: c.Heartbeat,
	}
}

// jwtSecret reads the secret that the configuration names, if it does.
func (n *Node) jwtSecret() ([]byte, error) {
	file := n.opts.Config.RPC.JWTSecret
	if file == "" {
		return nil, nil
	}
	if n.opts.Home != "" && !filepath.IsAbs(file) {
		file = filepath.Join(string(n.opts.Home), file)
	}
	secret, err := home.ReadJWTSecret(file)
	if err != nil {
		return nil, fmt.Errorf("rpc.jwt_secret: %w", err)
	}
	return secret, nil
}

// listen takes the ports. It comes last: whoever can connect finds a node that can answer.
func (n *Node) listen(ctx context.Context) (err error) {
	if n.listener, err = listenOn(ctx, "rpc.listen", n.opts.Config.RPC.Listen); err != nil {
		return err
	}
	n.onClose(closeListener(n.listener))
	if n.opts.OnePort || n.opts.Config.Metrics.Listen == "" {
		return nil
	}
	if n.metrics, err = listenOn(ctx, "metrics.listen", n.opts.Config.Metrics.Listen); err != nil {
		return err
	}
	n.onClose(closeListener(n.metrics))
	return nil
}

func listenOn(ctx context.Context, key, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%w on %s (%s): %w", ErrListen, address, key, err)
	}
	return l, nil
}

// closeListener closes a listener that its server may have closed already.
func closeListener(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// Addr returns the address of the RPC listener, with the port that the system picked.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// MetricsAddr returns the address of the operator's listener, or nil.
func (n *Node) MetricsAddr() net.Addr {
	if n.metrics == nil {
		return nil
	}
	return n.metrics.Addr()
}

// Ledger returns the ledger, for reading.
func (n *Node) Ledger() *ledger.Ledger { return n.ledger }

// Run serves until ctx ends, and returns nil after a clean stop; or until a part fails, and returns why (invariant
// 3); or a Rejoin, with which the node is to be opened again. The node is closed when Run returns. started, if not nil, is called once, when the ledger has played
// what the log held at the start and requests are answered.
func (n *Node) Run(ctx context.Context, started func()) error {
	stopped := make(chan error, 1)
	go func() {
		err := n.serve(ctx, started)
		if !storageFailed(err) { // or closing could wait for the disk for ever, and there is nothing to close cleanly
			err = errors.Join(err, n.Close())
		}
		stopped <- err
	}()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(n.opts.Config.Node.StopTimeout)
	defer timer.Stop()
	select {
	case err := <-stopped:
		return err
	case <-timer.C:
		return ErrStopTimeout
	}
}

// serve runs the parts, the ledger in a context of its own so that it outlives the requests.
func (n *Node) serve(ctx context.Context, started func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	below, stopBelow := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBelow()

	var ledger errgroup.Group
	ledger.Go(func() (err error) {
		defer stop() // without a ledger there is nothing to serve
		defer guard(&err)
		return n.ledger.Run(below, n.log)
	})
	ledger.Go(func() error { return n.keepSnapshots(below) })
	ledger.Go(func() error { return n.watchBehind(below) })
	err := n.serveRequests(ctx, started)
	stopBelow()
	return errors.Join(ledger.Wait(), err)
}

// serveRequests runs what clients talk to.
func (n *Node) serveRequests(ctx context.Context, started func()) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.rpc.Serve(ctx, n.listener) })
	if n.metrics != nil {
		g.Go(func() error { return n.serveOperator(ctx) })
	}
	g.Go(func() error {
		select {
		case err := <-n.failed:
			return err
		case <-ctx.Done():
			return nil
		}
	})
	g.Go(func() error {
		if err := n.catchUp(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // told to stop before it had caught up
			}
			return err
		}
		if started != nil {
			started()
		}
		return nil
	})
	return g.Wait()
}

// leaderWait is how long a node that has started waits for its peers to tell it how long the log is. Without them it serves what it
// has; /readyz says then that it does not order.
const leaderWait = 5 * time.Second

// catchUp waits until the ledger has applied what the log holds now: everything that was acknowledged to anybody, if enough members
// are there to ask.
func (n *Node) catchUp(ctx context.Context) error {
	begin := time.Now()
	from := n.ledger.Applied()
	asking, cancel := context.WithTimeout(ctx, leaderWait)
	tail, err := n.log.Tail(asking, consensus.Consistent)
	cancel()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		n.opts.Logger.Warn("no quorum; serving what this node has", "engine", n.log.Status().Loglet.State)
		tail, err = n.log.Tail(ctx, consensus.Fast)
	}
	if err != nil {
		return fmt.Errorf("catch up: %w", err)
	}
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for n.ledger.Applied()+1 < tail {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
	if err := n.ledger.Drain(ctx); err != nil { // applied is not yet published
		return fmt.Errorf("catch up: %w", err)
	}
	if tail > from+1 {
		n.opts.Logger.Info("caught up with the log", "from", from+1, "tail", tail, "took", time.Since(begin).Round(time.Millisecond))
	}
	return nil
}

// readyLag is how many entries a node that is called ready may be behind its log. A busy node always is a few behind.
const readyLag = 64

// ready says why no traffic should be sent here, or nil.
func (n *Node) ready(ctx context.Context) error {
	tail, err := n.log.Tail(ctx, consensus.Fast)
	if err != nil {
		return fmt.Errorf("the log does not answer: %w", err)
	}
	if applied := n.ledger.Applied(); applied+1+readyLag < tail {
		return fmt.Errorf("applied lsn %d, the log ends before lsn %d", applied, tail)
	}
	return ordering(n.log.Status())
}

// ordering says why nothing can be ordered through this node, or nil.
func ordering(s consensus.Status) error {
	switch {
	case s.Problem != "":
		return fmt.Errorf("the log does not order: %s", s.Problem)
	case s.Loglet.State == consensus.StateElecting:
		return fmt.Errorf("the log does not order: no leader is known; it takes %s of the members", s.Loglet.Detail["quorum"])
	case s.Loglet.State == consensus.StateTrimmed:
		return errors.New("the others have trimmed what comes next for this node; it goes on from a snapshot when one of them has one")
	case s.Loglet.State == observer.StateFollowing && s.Loglet.Detail["problem"] != "":
		return fmt.Errorf("the log cannot be followed: %s", s.Loglet.Detail["problem"])
	case s.Loglet.State == observer.StateFollowing:
		return nil
	case s.Loglet.State != consensus.StateOrdering && s.Loglet.State != consensus.StateSealed: // sealed: the next segment is being opened
		return fmt.Errorf("the log does not order: its engine is %s", s.Loglet.State)
	}
	return nil
}

// onClose stacks what undoes a step of Open.
func (n *Node) onClose(f func() error) { n.closers = append(n.closers, f) }

// Close undoes Open in reverse order. Run does it; only a node that never ran has to be closed by its caller.
func (n *Node) Close() error {
	var errs []error
	for _, f := range slices.Backward(n.closers) {
		errs = append(errs, closeGuarded(f))
	}
	n.closers = nil
	return errors.Join(errs...)
}

func closeGuarded(f func() error) (err error) {
	defer guard(&err)
	return f()
}

// serveOperator serves /metrics, /healthz and /readyz on the listener of their own.
func (n *Node) serveOperator(ctx context.Context) error {
	server := &http.Server{
		Handler:           n.operatorHandler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(n.opts.Logger.Handler(), slog.LevelDebug),
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(n.metrics); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve metrics: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-gctx.Done()
		return server.Close()
	})
	return g.Wait()
}

func (n *Node) operatorHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", n.metricsHandler())
	// That the process answers is the whole of being alive: a node whose ledger diverged or whose disk failed ends.
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := n.ready(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ready")
	})
	return mux
}

func (n *Node) metricsHandler() http.Handler {
	return promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{Registry: n.registry, EnableOpenMetrics: true})
}

// newRegistry returns a registry with what every Go process tells, and what build this is.
func newRegistry(opts Options) *prometheus.Registry {
	r := prometheus.NewRegistry()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "ledgerd_build_info",
		Help:        "1, labelled with the version of the program and the name of the node.",
		ConstLabels: prometheus.Labels{"version": opts.Version, "node": opts.Config.Node.Name},
	})
	info.Set(1)
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), info)
	return r
}
