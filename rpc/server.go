package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"ledgerd/rpc/feed"
)

// Options say what a Server exposes and how much it allows. Zero means the default.
type Options struct {
	// Version is the middle part of web3_clientVersion: "ledgerd/<Version>/linux-amd64/go1.26".
	Version string
	// Namespaces are the ones to expose, of those in docs/json-rpc.md. Nil exposes all.
	Namespaces []string
	// KeyStore holds accounts that the node signs for. Nil: none, and eth_sendTransaction knows no account.
	KeyStore KeyStore
	// AllowUnprotected takes legacy transactions without a chain id (before EIP-155), which anybody can replay from another
	// chain. Keyless deployments are made of them.
	AllowUnprotected bool
	// Network tells who this node is to the others, and which it is connected to. Nil: it has no others.
	Network Network
	// Snapshots makes and keeps snapshots of the node. Nil: it keeps none.
	Snapshots Snapshots
	// Ready says why the node should get no traffic now (/readyz answers 503 with the text), or nil. Nil: not while catching up.
	Ready func(context.Context) error

	// Hosts are the names that the Host header of a request may have, beside any IP address; "*" is any. It stops DNS
	// rebinding: a web page whose own name was made to point at this node. Default: localhost.
	Hosts []string
	// CORS are the origins whose pages may call this node from a browser, by HTTP and by websocket; "*" is any. Default:
	// none but pages that this node serves itself.
	CORS []string
	// JWTSecret is the key of the tokens (HS256, see auth.go) without which nothing but /healthz and /readyz is served. Nil: everybody
	// who reaches the listener may use it.
	JWTSecret []byte
	// Metrics is served at /metrics. Nil: nothing is.
	Metrics http.Handler
	// Fallback serves what is left: the explorer. It stands behind the Host check and has the write timeout of
	// the server, which a stream lifts with http.ResponseController. Nil: 404, and a bare 200 for GET /.
	Fallback http.Handler

	// Feed are the limits of the feed. Where it may be read from, and by whom, is as above.
	Feed feed.Options

	MaxConnections         int           // open at a time; more are closed when they come. Default 2000
	MaxClientConns         int           // of those, of one client (as for MaxClientFilters) that is not on this machine. 0: no limit
	MaxSubscriptions       int           // per websocket. Default 100
	MaxSubscribers         int           // subscriptions of all websockets. Default 10,000
	MaxClientSubscriptions int           // of those, of one client (as for MaxClientFilters) that is not on this machine. Default 1000
	MaxFilters             int           // of eth_newFilter and the like, in all. Default 4096
	MaxClientFilters       int           // of one client: an IPv4 address, or an IPv6 network of 64 bits. Default 1024
	MaxBodyBytes           int           // of a request. Default 5 MiB
	MaxMessageBytes        int           // of a websocket message. Default 5 MiB
	MaxBatchItems          int           // default 1000
	MaxBatchBytes          int           // of the answers to a batch together. Default 25 MB
	MaxResponseBytes       int           // of the answer to one request: more than MaxTraceBytes. Default 80 MiB
	MaxQueueBytes          int           // of undelivered announcements, per subscription. Default 4 MiB
	MaxHeavy               int           // executions, traces, proofs and log searches at a time. Default 2 per CPU
	MaxHeavyQueue          int           // of those, how many more may wait. Default 4096
	MaxClientHeavy         int           // of these, of one client. Default 1024
	ReadTimeout            time.Duration // for a whole request. Default 10 s
	WriteTimeout           time.Duration // from the end of the request's header to the end of the answer. Default 90 s
	IdleTimeout            time.Duration // between requests of one connection. Default 2 min
	FilterTimeout          time.Duration // a filter that nobody polls is removed. Default 5 min
	CallTimeout            time.Duration // for an execution. Default 5 s
	CallGas                uint64        // for an execution. Default 50M
	TraceTimeout           time.Duration // for all that one request has executed again under a tracer. Default 1 min
	MaxTraceBytes          int           // of the traces in one answer, and of what a tracer holds. Default 64 MiB
	MaxTraces              int           // in one answer of trace_filter. Default 10,000
	SyncTimeout            time.Duration // of eth_sendRawTransactionSync when the client names none. Default 20 s
	MaxSyncTimeout         time.Duration // default 1 min
	LogTimeout             time.Duration // for one search of logs. Default 5 s
	MaxLogBlocks           uint64        // span of one eth_getLogs. 0: no limit
	MaxLogs                int           // in one answer. Default 20,000
	MaxLogCriteria         int           // addresses, or topics of one position. Default 1000
	MaxFeeHistory          uint64        // blocks. Default 1024
	MaxLogReadEntries      int           // of log_read. Default 1000
	MaxLogReadBytes        int           // of payload in one log_read. Default 4 MiB
	SyncingAfter           uint64        // entries behind the tail that make eth_syncing true. Default 64: a busy node is always a few behind
	SyncingInterval        time.Duration // between two notifications of a "syncing" subscription. Default 1 s
	ShutdownTimeout        time.Duration // for requests in flight when Serve is told to end. Default 3 s
	Logger                 *slog.Logger  // nil discards
	Registerer             prometheus.Registerer
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	o.Version = cmp.Or(o.Version, "dev")
	o.MaxConnections = cmp.Or(o.MaxConnections, 2000)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, 100)
	o.MaxSubscribers = cmp.Or(o.MaxSubscribers, 10_000)
	o.MaxClientSubscriptions = cmp.Or(o.MaxClientSubscriptions, 1000)
	o.MaxFilters = cmp.Or(o.MaxFilters, 4096)
	o.MaxClientFilters = cmp.Or(o.MaxClientFilters, 1024)
	o.MaxBodyBytes = cmp.Or(o.MaxBodyBytes, 5<<20)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 5<<20)
	o.MaxBatchItems = cmp.Or(o.MaxBatchItems, 1000)
	o.MaxBatchBytes = cmp.Or(o.MaxBatchBytes, 25_000_000)
	o.MaxResponseBytes = cmp.Or(o.MaxResponseBytes, 80<<20)
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, 4<<20)
	o.MaxHeavy = cmp.Or(o.MaxHeavy, 2*runtime.GOMAXPROCS(0))
	o.MaxHeavyQueue = cmp.Or(o.MaxHeavyQueue, 4096)
	o.MaxClientHeavy = cmp.Or(o.MaxClientHeavy, 1024)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 10*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 90*time.Second)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 2*time.Minute)
	o.FilterTimeout = cmp.Or(o.FilterTimeout, 5*time.Minute)
	o.CallTimeout = cmp.Or(o.CallTimeout, 5*time.Second)
	o.CallGas = cmp.Or(o.CallGas, 50_000_000)
	o.TraceTimeout = cmp.Or(o.TraceTimeout, time.Minute)
	o.MaxTraceBytes = cmp.Or(o.MaxTraceBytes, 64<<20)
	o.MaxTraces = cmp.Or(o.MaxTraces, 10_000)
	o.SyncTimeout = cmp.Or(o.SyncTimeout, 20*time.Second)
	o.MaxSyncTimeout = cmp.Or(o.MaxSyncTimeout, time.Minute)
	o.LogTimeout = cmp.Or(o.LogTimeout, 5*time.Second)
	o.MaxLogs = cmp.Or(o.MaxLogs, 20_000)
	o.MaxLogCriteria = cmp.Or(o.MaxLogCriteria, 1000)
	o.MaxFeeHistory = cmp.Or(o.MaxFeeHistory, 1024)
	o.MaxLogReadEntries = cmp.Or(o.MaxLogReadEntries, 1000)
	o.MaxLogReadBytes = cmp.Or(o.MaxLogReadBytes, 4<<20)
	o.SyncingAfter = cmp.Or(o.SyncingAfter, 64)
	o.SyncingInterval = cmp.Or(o.SyncingInterval, time.Second)
	o.ShutdownTimeout = cmp.Or(o.ShutdownTimeout, 3*time.Second)
	if o.Hosts == nil {
		o.Hosts = []string{"localhost"}
	}
	if o.Network == nil {
		o.Network = noNetwork{}
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
	for _, n := range o.Namespaces {
		if !slices.Contains(namespaces, n) {
			errs = append(errs, fmt.Errorf("unknown namespace %q", n))
		}
	}
	for _, n := range []int{o.MaxConnections, o.MaxSubscriptions, o.MaxSubscribers, o.MaxClientSubscriptions, o.MaxFilters, o.MaxClientFilters, o.MaxResponseBytes, o.MaxBodyBytes,
		o.MaxMessageBytes, o.MaxBatchItems, o.MaxBatchBytes, o.MaxQueueBytes, o.MaxHeavy, o.MaxHeavyQueue, o.MaxClientHeavy, o.MaxClientConns, o.MaxLogs, o.MaxLogCriteria, o.MaxLogReadEntries,
		o.MaxLogReadBytes, o.MaxTraceBytes, o.MaxTraces} {
		if n < 0 {
			errs = append(errs, errors.New("a limit is negative"))
			break
		}
	}
	if o.JWTSecret != nil && len(o.JWTSecret) < MinJWTSecret {
		errs = append(errs, fmt.Errorf("JWTSecret has %d bytes, at least %d are needed", len(o.JWTSecret), MinJWTSecret))
	}
	if o.WriteTimeout != 0 && o.WriteTimeout <= o.MaxSyncTimeout {
		errs = append(errs, fmt.Errorf("WriteTimeout %v must be above MaxSyncTimeout %v", o.WriteTimeout, o.MaxSyncTimeout))
	}
	if o.WriteTimeout != 0 && o.WriteTimeout <= o.TraceTimeout {
		errs = append(errs, fmt.Errorf("WriteTimeout %v must be above TraceTimeout %v", o.WriteTimeout, o.TraceTimeout))
	}
	return errors.Join(errs...)
}

var namespaces = []string{"admin", "debug", "erigon", "eth", "ledger", "log", "net", "ots", "trace", "txpool", "web3"}

// node is what the receivers of all namespaces share. It has no exported methods: embedded in a receiver, they would
// become RPC methods.
type node struct {
	backend Backend
	pool    Pool
	log     SharedLog
	opts    Options
	signer  types.Signer
	engines *engineNames
	hub     *hub
	sockets *sockets
	filters *filterTable
	heavy   *heavyPool
	making  snapshotInMaking
	subs    *quota // subscriptions of all websockets
	chains  *quota // of these, "traceChain"
	metrics *metrics
	started uint64 // head when the server was made, for eth_syncing
}

// acquireFor waits for leave to do something heavy. It keeps a flood of executions from starving the applying of blocks and the cheap requests, and the
// executions of one client those of another. The context is that of whileOpen. release gives back what was taken.
func (n *node) acquireFor(ctx context.Context) (_ context.Context, release func(), err error) {
	return n.acquire(ctx, heavyRequest{client: clientOf(ctx)})
}

// acquireLong is acquireFor for what may take as long as TraceTimeout, when the context ends too, with errTraceTimeout as its cause.
func (n *node) acquireLong(ctx context.Context) (_ context.Context, release func(), err error) {
	ctx, leave, err := n.acquire(ctx, heavyRequest{client: clientOf(ctx), long: true})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, n.opts.TraceTimeout, errTraceTimeout)
	return ctx, func() { cancel(); leave() }, nil
}

func (n *node) acquire(ctx context.Context, r heavyRequest) (_ context.Context, release func(), err error) {
	ctx, done := n.whileOpen(ctx)
	if err := n.heavy.enter(ctx, r, n.opts.CallTimeout); err != nil {
		done()
		return nil, nil, err
	}
	return ctx, func() { n.heavy.leave(r); done() }, nil
}

// whileOpen returns a context that also ends when the websocket is closed that the request came by. go-ethereum's server would let what nobody waits for any more
// run to its end, and the connection wait for it: every method that can wait for something asks for this. done must be called.
func (n *node) whileOpen(ctx context.Context) (_ context.Context, done func()) {
	sock := n.sockets.of(gethrpc.PeerInfoFromContext(ctx))
	ctx, cancel := context.WithCancel(ctx)
	if sock == nil {
		return ctx, cancel
	}
	stop := context.AfterFunc(sock.open, cancel)
	return ctx, func() { stop(); cancel() }
}

// Server is the JSON-RPC server of a node. New makes it, Serve runs it; it serves one listener, once.
type Server struct {
	*node
	rpc        *gethrpc.Server
	feed       *feed.Feed // nil: not served
	handler    http.Handler
	registered []receiver
	requests   *quota // by HTTP, while they are served
	answers    *quota // bytes of the long ones, while they are written
}

// New makes a server. log may be nil if the "log" namespace is not exposed.
func New(backend Backend, pool Pool, log SharedLog, opts Options) (*Server, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("rpc options: %w", err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("rpc metrics: %w", err)
	}
	n := &node{
		backend: backend,
		pool:    pool,
		log:     log,
		opts:    opts,
		signer:  types.LatestSigner(backend.ChainConfig()),
		heavy:   newHeavyPool(opts.MaxHeavy, opts.MaxHeavyQueue, opts.MaxClientHeavy),
		metrics: m,
		subs:    newQuota(opts.MaxSubscribers, opts.MaxClientSubscriptions),
		chains:  newQuota(maxChainTraces, maxChainTraces/2),
		started: backend.CurrentHeader().Number.Uint64(),
	}
	n.engines = new(engineNames)
	if log != nil {
		n.engines.segments = log.Segments
	}
	n.hub = newHub(n)
	n.filters = newFilterTable(n)
	s := &Server{node: n, rpc: gethrpc.NewServer()}
	requests, answers := max(minRequests, 2*opts.MaxConnections), max(longAnswer, opts.MaxResponseBytes)*longAnswers
	s.requests, s.answers = newQuota(requests, requests/2), newQuota(answers, answers/2)
	s.rpc.SetBatchLimits(opts.MaxBatchItems, opts.MaxBatchBytes)
	s.rpc.SetHTTPBodyLimit(opts.MaxBodyBytes)
	n.sockets = newSockets(s)
	if s.feed, err = s.newFeed(); err != nil {
		return nil, err
	}
	s.handler = s.routes()
	for _, r := range s.receivers() {
		if r.namespace != "rpc" && opts.Namespaces != nil && !slices.Contains(opts.Namespaces, r.namespace) {
			continue
		}
		if err := s.Register(r.namespace, r.receiver); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type receiver struct {
	namespace string
	receiver  any
}

func (s *Server) receivers() []receiver {
	n := s.node
	all := []receiver{
		{"web3", &web3API{n}},
		{"net", &netAPI{n}},
		{"eth", &chainAPI{n}},
		{"eth", &blockAPI{n}},
		{"eth", &stateAPI{n}},
		{"eth", &callAPI{n}},
		{"eth", &feeAPI{n}},
		{"eth", newSubmitAPI(n)},
		{"eth", &filterAPI{n}},
		{"eth", &subscribeAPI{n}},
		{"txpool", &txpoolAPI{n}},
		{"ledger", &ledgerAPI{n}},
		{"debug", &debugTraceAPI{n}},
		{"debug", &debugStoreAPI{n}},
		{"trace", &traceAPI{n}},
		{"ots", &otsAPI{n}},
		{"erigon", &erigonAPI{n}},
		{"admin", &adminAPI{n}},
		{"rpc", &discoverAPI{s}},
	}
	if n.log != nil {
		all = append(all, receiver{"log", &logAPI{n}})
	}
	return all
}

// Register adds the exported methods of a receiver to a namespace, for instance the tracers to "debug". It must be called
// before Serve. The method Foo becomes <namespace>_foo.
func (s *Server) Register(namespace string, methods any) error {
	if err := s.rpc.RegisterName(namespace, methods); err != nil {
		return fmt.Errorf("register %s: %w", namespace, err)
	}
	s.registered = append(s.registered, receiver{namespace, methods})
	return nil
}

// Client returns a client within this process, for which no limits hold.
func (s *Server) Client() *gethrpc.Client { return gethrpc.DialInProc(s.rpc) }

// Serve accepts connections from l until ctx ends; then it lets requests in flight end for ShutdownTimeout, closes all
// connections, and returns nil when the last goroutine has ended. It closes l. Any other error is the listener's.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancelRequests := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelRequests()
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.opts.ReadTimeout,
		ReadTimeout:       s.opts.ReadTimeout,
		WriteTimeout:      s.opts.WriteTimeout,
		IdleTimeout:       s.opts.IdleTimeout,
		MaxHeaderBytes:    64 << 10,
		Protocols:         protocols(),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.opts.Logger.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.hub.run(ctx) })
	g.Go(func() error { return s.filters.run(ctx) })
	if s.feed != nil {
		g.Go(func() error { return s.feed.Run(ctx) })
	}
	g.Go(func() error {
		err := server.Serve(newLimitListener(l, s.opts.MaxConnections, s.opts.MaxClientConns, s.metrics))
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve rpc: %w", err)
	})
	g.Go(func() error {
		<-ctx.Done()
		told := s.sockets.close()
		grace, cancel := context.WithTimeout(requests, s.opts.ShutdownTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			cancelRequests()
			server.Close()
		}
		select {
		case <-told: // or rpc.Stop would close them first, without a reason
		case <-grace.Done():
		}
		s.rpc.Stop()
		s.sockets.wait()
		return nil
	})
	return g.Wait()
}

// maxStreams is how many requests may be open at a time on one connection of HTTP/2.
const maxStreams = 250

// protocols are HTTP/1.1, and HTTP/2 without TLS for those who know that they may (h2c with prior knowledge): what stands in front of a node
// speaks it.
func protocols() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// Handler returns the server's HTTP handler, without its limits on connections and time. Subscriptions,
// eth_sendRawTransactionSync and filters of pending transactions only work while Serve runs.
func (s *Server) Handler() http.Handler { return s.handler }
