package peer

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// Options of Listen. Zero means the default, where there is one.
type Options struct {
	Key     ed25519.PrivateKey  // node key; required
	Network consensus.NetworkID // required: nodes of another network are strangers
	Roster  Roster              // required
	Address string              // host:port to listen on; port 0 lets the system choose

	// Resolve returns the host:port at which a member is to be dialled. Default: its PeerAddress.
	Resolve func(consensus.Member) string
	// VerifyEnd returns what is wrong with what another node tells as a segment's end. Default: SegmentEnd.Verify, which asks for no proof of an engine.
	VerifyEnd func(consensus.Segment, consensus.SegmentEnd) error

	MaxFrameBytes int           // of one engine frame, the same on all nodes. Default 8 MiB
	MaxQueueBytes int           // of the frames that wait for one peer; more are dropped. Default 64 MiB, not less than MaxFrameBytes
	MaxQueueAge   time.Duration // after which a frame that waits is dropped: the engine has sent a newer one by then. Default 2 s

	// A connection on which nothing was received for PingInterval is asked for a sign of life, and closed if there is none within PingTimeout. Links, the
	// connections that carry frames, are watched more closely: after a partition an engine should not have to wait for a retransmission by TCP, whose pauses
	// double, but have a new connection.
	PingInterval     time.Duration // default 10 s
	PingTimeout      time.Duration // default 5 s
	LinkPingInterval time.Duration // default 1 s
	LinkPingTimeout  time.Duration // default 2 s

	DialTimeout time.Duration // of a TCP connect, and of a TLS handshake. Default 3 s
	CallTimeout time.Duration // of one attempt of a LogClient at one member, of whatever does not follow. Default 10 s

	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: no metrics are shown. Nodes that share one add up
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Resolve == nil {
		o.Resolve = func(m consensus.Member) string { return m.PeerAddress }
	}
	if o.VerifyEnd == nil {
		o.VerifyEnd = func(seg consensus.Segment, end consensus.SegmentEnd) error { return end.Verify(seg) }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.MaxFrameBytes = cmp.Or(o.MaxFrameBytes, 8<<20)
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, 64<<20)
	o.MaxQueueAge = cmp.Or(o.MaxQueueAge, 2*time.Second)
	o.PingInterval = cmp.Or(o.PingInterval, 10*time.Second)
	o.PingTimeout = cmp.Or(o.PingTimeout, 5*time.Second)
	o.LinkPingInterval = cmp.Or(o.LinkPingInterval, time.Second)
	o.LinkPingTimeout = cmp.Or(o.LinkPingTimeout, 2*time.Second)
	o.DialTimeout = cmp.Or(o.DialTimeout, 3*time.Second)
	o.CallTimeout = cmp.Or(o.CallTimeout, 10*time.Second)
}

// Validate returns everything that is wrong, joined.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{consensus.ErrInvalid}, args...)...))
	}
	if len(o.Key) != ed25519.PrivateKeySize {
		bad("Key of %d bytes, want %d", len(o.Key), ed25519.PrivateKeySize)
	}
	if o.Network == (consensus.NetworkID{}) {
		bad("Network is zero")
	}
	if o.Roster == nil {
		bad("Roster is missing")
	}
	if o.Address == "" {
		bad("Address is missing")
	}
	if o.MaxFrameBytes < 1 || o.MaxFrameBytes > 1<<30 {
		bad("MaxFrameBytes is %d, want 1 to 1 GiB", o.MaxFrameBytes)
	}
	if o.MaxQueueBytes < o.MaxFrameBytes {
		bad("MaxQueueBytes is %d, less than one frame of %d", o.MaxQueueBytes, o.MaxFrameBytes)
	}
	if min(o.MaxQueueAge, o.PingInterval, o.PingTimeout, o.LinkPingInterval, o.LinkPingTimeout, o.DialTimeout, o.CallTimeout) < 0 {
		bad("a duration is negative")
	}
	return errors.Join(errs...)
}

// Bounds of what one answer or message may weigh. What a receiver takes is never less than what a sender makes.
const (
	// maxMessageFrames and maxMessageBytes end a message of frames, which holds at least one.
	maxMessageFrames = 1024
	maxMessageBytes  = 256 << 10
	// frameOverhead covers a frame's fields and their lengths.
	frameOverhead = 96
	// maxEntriesBytes covers one answer of entries: what Follow returns, and their encoding.
	maxEntriesBytes = consensus.MaxFollowBytes + consensus.MaxRecordBytes + consensus.DefaultFollowLimit*256
	// maxRequestBytes covers every request to the log service: the largest is a record.
	maxRequestBytes = consensus.MaxRecordBytes + 1024
)

func (o *Options) maxCarryBytes() int {
	return max(o.MaxFrameBytes, maxMessageBytes) + maxMessageFrames*frameOverhead
}

// maxHandshakes bounds the connections that have not shown who they are. When there are more, the oldest is closed: an honest one is through in milliseconds.
const maxHandshakes = 256

// A Node is this node among its peers: a listener, and the connections to others. Its methods may be called concurrently.
type Node struct {
	opts    Options
	key     publicKey
	name    string // in TLS
	cert    tls.Certificate
	metrics *metrics
	conns   conns
	server  *http.Server
	address net.Addr

	closing chan struct{}
	cancel  context.CancelFunc
	wait    sync.WaitGroup // every goroutine, call and dial of the node
	once    sync.Once
	err     error // of Close

	log       slot[Log]            // what the log service serves
	snapshots slot[SnapshotSource] // and what of snapshots

	warned atomic.Int64 // Unix nanoseconds of the last warning about a stranger

	mu struct {
		sync.RWMutex
		closed   bool
		joined   map[consensus.Digest]*Membership // by epoch identity
		links    map[publicKey]*link              // to members of joined and meshed epochs
		meshes   []mesh                           // oldest first
		logs     map[publicKey]*logPeer           // to whoever was asked by a LogClient
		sessions map[*session]struct{}            // calls that are being served
	}
}

// Listen binds the address and begins to serve frames to whoever joins. The log service answers ErrNotServing until Serve.
func Listen(opts Options) (*Node, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	cert, err := newCertificate(opts.Network, opts.Key)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	listener, err := net.Listen("tcp", opts.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for peers: %w", err)
	}
	key := publicKey(opts.Key.Public().(ed25519.PublicKey))
	n := &Node{
		opts: opts, key: key, name: serverName(opts.Network, key), cert: cert, metrics: m,
		address: listener.Addr(), closing: make(chan struct{}),
	}
	n.mu.joined = make(map[consensus.Digest]*Membership)
	n.mu.links = make(map[publicKey]*link)
	n.mu.logs = make(map[publicKey]*logPeer)
	n.mu.sessions = make(map[*session]struct{})
	n.server = n.newServer()
	running, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	n.wait.Go(func() { n.watchRoster(running) })
	n.wait.Go(func() {
		err := n.server.ServeTLS(trackedListener{listener, n}, "", "")
		if !errors.Is(err, http.ErrServerClosed) {
			n.opts.Logger.Error("peer listener ended", "err", err)
		}
	})
	return n, nil
}

// Addr returns the address that the node listens on.
func (n *Node) Addr() net.Addr { return n.address }

// PublicKey returns the node's identity.
func (n *Node) PublicKey() ed25519.PublicKey { return append(ed25519.PublicKey(nil), n.key[:]...) }

// Close ends all connections, memberships and clients, and returns when the last call that was served has ended. Closing again returns the same error.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.mu.Lock()
		n.mu.closed = true
		memberships := make([]*Membership, 0, len(n.mu.joined))
		for _, m := range n.mu.joined {
			memberships = append(memberships, m)
		}
		logs := n.mu.logs
		n.mu.logs = nil
		meshes := n.mu.meshes
		n.mu.meshes = nil
		n.mu.Unlock()
		close(n.closing)
		n.cancel()
		n.log.close()
		n.snapshots.close()
		n.err = n.server.Close()
		n.conns.closeAll()
		for _, m := range memberships {
			n.err = errors.Join(n.err, m.Close())
		}
		for _, m := range meshes {
			n.letGo(m.links)
		}
		for _, p := range logs {
			p.transport.CloseIdleConnections()
		}
		n.wait.Wait()
	})
	return n.err
}

// newServer makes the one server of the node, which offers HTTP/2 and nothing else.
func (n *Node) newServer() *http.Server {
	mux := http.NewServeMux()
	options := func(maxBytes int) connect.HandlerOption {
		return connect.WithHandlerOptions(
			connect.WithReadMaxBytes(maxBytes),        // before anything is decoded
			connect.WithCompression("gzip", nil, nil), // what is compressed here was random to begin with; and no bombs
		)
	}
	mux.Handle(peerpbconnect.NewEngineHandler(engineService{n}, options(n.opts.maxCarryBytes())))
	mux.Handle(peerpbconnect.NewLogHandler(logService{n}, options(maxRequestBytes)))
	only2 := new(http.Protocols)
	only2.SetHTTP2(true)
	return &http.Server{
		Handler:           n.guard(mux),
		TLSConfig:         n.serverTLS(),
		Protocols:         only2,
		ReadHeaderTimeout: n.opts.DialTimeout, // of the handshake too
		MaxHeaderBytes:    16 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          128,
			MaxReadFrameSize:              256 << 10,
			MaxReceiveBufferPerConnection: 3 << 20,
			MaxReceiveBufferPerStream:     2 << 20,
			SendPingTimeout:               n.opts.PingInterval,
			PingTimeout:                   n.opts.PingTimeout,
		},
		ErrorLog: slog.NewLogLogger(n.opts.Logger.Handler(), slog.LevelDebug),
	}
}

// serverTLS refuses strangers in the handshake. Who dialled the wrong node is told so before any key is looked at.
func (n *Node) serverTLS() *tls.Config {
	base := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{n.cert},
		ClientAuth:             tls.RequireAnyClientCert, // it is VerifyConnection that knows whom to accept
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true, // each connection proves its key again
	}
	config := base.Clone()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		c, ok := hello.Conn.(*conn)
		if !ok {
			panic(fmt.Sprintf("peer: handshake on a %T", hello.Conn))
		}
		if hello.ServerName != n.name {
			return nil, n.refuse(c, fmt.Errorf("asks for another node or network: %.80q", hello.ServerName))
		}
		own := base.Clone()
		own.VerifyConnection = func(state tls.ConnectionState) error {
			key, err := peerKey(n.opts.Network, state)
			if err == nil {
				err = n.admit(c, key)
			}
			if err != nil {
				return n.refuse(c, err)
			}
			return nil
		}
		return own, nil
	}
	return config
}

// clientTLS accepts one node only, the one with the key.
func (n *Node) clientTLS(want publicKey) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: serverName(n.opts.Network, want),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &n.cert, nil
		},
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true, // of chain and name, for which VerifyConnection has another rule: this very key
		VerifyConnection: func(state tls.ConnectionState) error {
			key, err := peerKey(n.opts.Network, state)
			if err != nil {
				return fmt.Errorf("peer %w", err)
			}
			if key != want {
				return errors.New("peer has another key: the address leads to another node")
			}
			if n.opts.Roster.Rights(key[:]).Stranger() {
				return errors.New("peer has lost its rights")
			}
			return nil
		},
	}
}

// admit names the owner of a connection and says whether it may stay. The name comes first: a change of the roster that the look at it misses finds the
// connection by its name.
func (n *Node) admit(c *conn, key publicKey) error {
	if key == n.key {
		return errors.New("has this node's own key: is a copy of it running elsewhere?")
	}
	c.key.Store(&key)
	if n.opts.Roster.Rights(key[:]).Stranger() {
		return fmt.Errorf("is a stranger: %x", key)
	}
	return nil
}

// refuse counts a stranger and, at most once a second, warns of it.
func (n *Node) refuse(c *conn, err error) error {
	n.metrics.refused.Inc()
	now := time.Now().UnixNano()
	if last := n.warned.Load(); now-last > int64(time.Second) && n.warned.CompareAndSwap(last, now) {
		n.opts.Logger.Warn("peer refused", "remote", c.RemoteAddr().String(), "err", err)
	}
	return err
}

// newTransport makes a client's connections to one node.
func (n *Node) newTransport(key publicKey, address func() string, ping, dead time.Duration) *http.Transport {
	only2 := new(http.Protocols)
	only2.SetHTTP2(true)
	t := &http.Transport{
		TLSClientConfig:     n.clientTLS(key),
		TLSHandshakeTimeout: n.opts.DialTimeout,
		DisableCompression:  true,
		Protocols:           only2,
		IdleConnTimeout:     90 * time.Second,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:              256 << 10,
			MaxReceiveBufferPerConnection: 3 << 20,
			MaxReceiveBufferPerStream:     2 << 20,
			SendPingTimeout:               ping,
			PingTimeout:                   dead,
		},
	}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return n.dial(ctx, network, address(), key, t)
	}
	return t
}

func (n *Node) dial(ctx context.Context, network, address string, key publicKey, owner *http.Transport) (net.Conn, error) {
	if !n.begin() {
		return nil, fmt.Errorf("dial peer: %w", consensus.ErrClosed)
	}
	defer n.wait.Done()
	ctx, cancel := context.WithTimeout(ctx, n.opts.DialTimeout)
	defer cancel()
	defer until(n.closing, cancel)()
	raw, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotServing, err)
	}
	c := &conn{Conn: raw, set: &n.conns, owner: owner}
	c.key.Store(&key)
	if !n.conns.add(c) {
		return nil, fmt.Errorf("dial peer: %w", consensus.ErrClosed)
	}
	return c, nil
}

// begin counts in something that Close has to wait for; false after Close. The caller says wait.Done.
func (n *Node) begin() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.mu.closed {
		return false
	}
	n.wait.Add(1)
	return true
}

// until calls cancel when a channel is closed, unless the result is called first.
func until(closed <-chan struct{}, cancel func()) (stop func()) {
	done := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-closed:
			cancel()
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// watchRoster applies each change of the roster to those who are connected.
func (n *Node) watchRoster(ctx context.Context) {
	for {
		changed := n.opts.Roster.Changed() // before the look, so that nothing falls between
		n.recheck()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// recheck ends the calls that are no longer allowed, and the connections of those who became strangers, in either direction.
func (n *Node) recheck() {
	n.mu.RLock()
	for s := range n.mu.sessions {
		if !s.refresh(n.opts.Roster.Rights(s.key[:])) {
			s.end()
		}
	}
	for _, l := range n.mu.links {
		l.poke() // one that became known again need not wait for its next attempt
	}
	n.mu.RUnlock()
	n.conns.closeIf(func(c *conn) bool {
		key := c.key.Load()
		return key != nil && n.opts.Roster.Rights(key[:]).Stranger()
	})
}

// A session is one call that is being served.
type session struct {
	key     publicKey
	allowed func(Rights) bool
	rights  atomic.Pointer[Rights]
	cancel  context.CancelFunc

	mu struct {
		sync.Mutex
		control *http.ResponseController // nil when the call is over
	}
}

// refresh takes new rights, and says whether the call may go on.
func (s *session) refresh(r Rights) bool {
	s.rights.Store(&r)
	return s.allowed(r)
}

// end breaks a call off: whoever waits for the other side's next message gets an error.
func (s *session) end() {
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.control != nil {
		_ = s.mu.control.SetReadDeadline(time.Unix(1, 0)) // the error: the stream is over already
	}
}

type sessionKey struct{}

// guard lets a call through to its handler if the caller has the right to it.
func (n *Node) guard(next http.Handler) http.Handler {
	errorWriter := connect.NewErrorWriter()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := peerKey(n.opts.Network, *r.TLS)
		if err != nil {
			panic(fmt.Sprintf("peer: a call on a connection that should not be: %v", err))
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		s := &session{key: key, allowed: rightTo(r.URL.Path), cancel: cancel}
		s.mu.control = http.NewResponseController(w)
		if !n.enter(s) {
			_ = errorWriter.Write(w, r, toWire(ErrNotServing))
			return
		}
		defer n.leave(s)
		if !s.refresh(n.opts.Roster.Rights(key[:])) {
			_ = errorWriter.Write(w, r, toWire(fmt.Errorf("%s: %w", r.URL.Path, ErrRefused)))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(ctx, sessionKey{}, s)))
	})
}

// rightTo returns what it takes to make a call.
func rightTo(path string) func(Rights) bool {
	switch path {
	case peerpbconnect.EngineCarryProcedure:
		return func(r Rights) bool { return len(r.Order) > 0 }
	case peerpbconnect.LogAppendProcedure:
		return func(r Rights) bool { return r.Append }
	default:
		return func(r Rights) bool { return r.Read }
	}
}

func (n *Node) enter(s *session) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.closed {
		return false
	}
	n.wait.Add(1)
	n.mu.sessions[s] = struct{}{}
	return true
}

func (n *Node) leave(s *session) {
	s.mu.Lock()
	s.mu.control = nil
	s.mu.Unlock()
	n.mu.Lock()
	delete(n.mu.sessions, s)
	n.mu.Unlock()
	n.wait.Done()
}

// conns are the open connections, of both directions.
type conns struct {
	mu struct {
		sync.Mutex
		closed bool
		open   map[*conn]struct{}
		born   uint64 // connections so far
	}
}

// A conn knows who is at its other end, and can be found when that matters.
type conn struct {
	net.Conn
	set   *conns
	owner *http.Transport           // that dialled it; nil: it was accepted
	born  uint64                    // in set.mu
	key   atomic.Pointer[publicKey] // nil until the handshake has shown it
}

func (c *conn) Close() error {
	c.set.mu.Lock()
	delete(c.set.mu.open, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}

// add takes a connection in, or closes it if the set is closed. One too many that has not shown who it is replaces the oldest such.
func (s *conns) add(c *conn) bool {
	s.mu.Lock()
	if s.mu.closed {
		s.mu.Unlock()
		_ = c.Conn.Close()
		return false
	}
	if s.mu.open == nil {
		s.mu.open = make(map[*conn]struct{})
	}
	s.mu.born++
	c.born = s.mu.born
	var oldest *conn
	anonymous := 0
	for o := range s.mu.open {
		if o.key.Load() == nil {
			if anonymous++; oldest == nil || o.born < oldest.born {
				oldest = o
			}
		}
	}
	s.mu.open[c] = struct{}{}
	s.mu.Unlock()
	if anonymous >= maxHandshakes {
		_ = oldest.Close()
	}
	return true
}

// closeIf closes the connections that f picks.
func (s *conns) closeIf(f func(*conn) bool) {
	s.mu.Lock()
	var picked []*conn
	for c := range s.mu.open {
		if f(c) {
			picked = append(picked, c)
		}
	}
	s.mu.Unlock()
	for _, c := range picked {
		_ = c.Close()
	}
}

func (s *conns) closeAll() {
	s.mu.Lock()
	s.mu.closed = true
	open := s.mu.open
	s.mu.open = nil
	s.mu.Unlock()
	for c := range open {
		_ = c.Conn.Close()
	}
}

// trackedListener makes conns of what it accepts.
type trackedListener struct {
	net.Listener
	node *Node
}

func (l trackedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: raw, set: &l.node.conns}
		if l.node.conns.add(c) {
			return c, nil
		}
	}
}
