package rpc

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

// routes is the HTTP surface; doc.go draws it.
func (s *Server) routes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hostAllowed(s.opts.Hosts, r.Host) {
			s.metrics.refused.WithLabelValues("host").Inc()
			http.Error(w, "invalid host specified", http.StatusForbidden)
			return
		}
		switch {
		case r.URL.Path == "/healthz":
			text(w, http.StatusOK, "ok")
		case r.URL.Path == "/readyz":
			s.serveReady(w, r)
		case r.Method == http.MethodOptions: // a browser asks whether it may send a token: it has none to show yet, and gets nothing else
			s.servePreflight(w, r)
		case !s.authenticated(w, r):
		case r.URL.Path == "/metrics" && s.opts.Metrics != nil:
			s.opts.Metrics.ServeHTTP(w, r)
		case r.URL.Path == "/" && websocket.IsWebSocketUpgrade(r):
			s.serveWebsocket(w, r)
		case r.URL.Path == "/" && r.Method != http.MethodGet && r.Method != http.MethodHead:
			s.serveJSON(w, r)
		case s.feed != nil && (r.URL.Path == "/feed" || strings.HasPrefix(r.URL.Path, "/feed/")):
			s.feed.ServeHTTP(w, r)
		case s.opts.Fallback != nil:
			s.opts.Fallback.ServeHTTP(w, r)
		case r.URL.Path == "/":
			text(w, http.StatusOK, "ledgerd: JSON-RPC by POST, or by websocket")
		default:
			http.NotFound(w, r)
		}
	})
}

func text(w http.ResponseWriter, status int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	w.Write([]byte(line + "\n"))
}

func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	ready := s.opts.Ready
	if ready == nil {
		ready = s.caughtUp
	}
	if err := ready(r.Context()); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusOK, "ready")
}

// servePreflight tells a browser what a page may send.
func (s *Server) servePreflight(w http.ResponseWriter, r *http.Request) {
	if s.allowOrigin(w, r) {
		w.Header().Set("Access-Control-Allow-Methods", "GET, POST")
		w.Header().Set("Access-Control-Allow-Headers", "Content-Type, Authorization")
		w.Header().Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveJSON answers one request or batch. go-ethereum's server insists on Content-Type application/json, so a web page
// cannot post without the browser asking first (servePreflight).
func (s *Server) serveJSON(w http.ResponseWriter, r *http.Request) {
	s.allowOrigin(w, r)
	s.bounded(w, r, func(client string) {
		r.Body = discoverable(r)
		zipped := newZipWriter(w, r)
		defer zipped.Close()
		s.rpc.ServeHTTP(&limitedWriter{ResponseWriter: zipped, server: s, client: client}, r)
	})
}

// allowOrigin tells a browser whether the page that makes the request may read the answer, and returns true if it may.
func (s *Server) allowOrigin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	w.Header().Add("Vary", "Origin")
	if !s.originAllowed(r) {
		s.metrics.refused.WithLabelValues("origin").Inc()
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	return true
}

// hostAllowed says whether a Host header names this node. An IP address always does: a rebound name is what an attacker
// has. So does an absent header: browsers send one.
func hostAllowed(hosts []string, host string) bool {
	if host == "" {
		return true
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return slices.ContainsFunc(hosts, func(h string) bool { return h == "*" || strings.ToLower(h) == host })
}

// originAllowed says whether the page that makes the request may. No Origin: not a browser.
func (s *Server) originAllowed(r *http.Request) bool {
	origin := strings.ToLower(r.Header.Get("Origin"))
	if origin == "" {
		return true
	}
	if _, own, ok := strings.Cut(origin, "://"); ok && own == strings.ToLower(r.Host) {
		return true // a page of this node
	}
	return slices.ContainsFunc(s.opts.CORS, func(o string) bool { return o == "*" || strings.ToLower(o) == origin })
}

// checkOrigin is originAllowed, with a refusal counted.
func (s *Server) checkOrigin(r *http.Request) bool {
	allowed := s.originAllowed(r)
	if !allowed {
		s.metrics.refused.WithLabelValues("origin").Inc()
	}
	return allowed
}

// limitListener closes what comes above a number of open connections, of all clients or of one: a definite answer, where a full backlog would be
// silence. Clients on this machine have no limit of their own: a proxy, which is many, is one of them, and who is on the machine could do worse.
type limitListener struct {
	net.Listener
	limit   int
	client  int // 0: no limit
	metrics *metrics

	mu struct {
		sync.Mutex
		open    int
		clients map[string]int // of open, without those on this machine; no zeros
	}
}

func newLimitListener(l net.Listener, limit, client int, m *metrics) *limitListener {
	ll := &limitListener{Listener: l, limit: limit, client: client, metrics: m}
	ll.mu.clients = make(map[string]int)
	return ll
}

func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client, full := l.enter(c.RemoteAddr())
		if full == "" {
			l.metrics.connections.Inc()
			return &limitedConn{Conn: c, l: l, client: client}, nil
		}
		l.metrics.refused.WithLabelValues(full).Inc()
		c.Close()
	}
}

// enter counts a connection in, or says which limit is reached. client is "" if it has none of its own.
func (l *limitListener) enter(remote net.Addr) (client, full string) {
	if at, err := netip.ParseAddrPort(remote.String()); err == nil && !at.Addr().Unmap().IsLoopback() {
		client = clientAt(at.Addr())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.mu.open >= l.limit:
		return client, "connections"
	case client != "" && l.client > 0 && l.mu.clients[client] >= l.client:
		return client, "client connections"
	}
	l.mu.open++
	if client != "" {
		l.mu.clients[client]++
	}
	return client, ""
}

func (l *limitListener) leave(client string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.open--
	if client == "" {
		return
	}
	if l.mu.clients[client]--; l.mu.clients[client] == 0 {
		delete(l.mu.clients, client)
	}
}

type limitedConn struct {
	net.Conn
	l      *limitListener
	client string
	once   sync.Once
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.l.leave(c.client)
		c.l.metrics.connections.Dec()
	})
	return err
}
