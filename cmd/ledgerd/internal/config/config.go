package config

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Config holds every setting of a node, in the sections of config.toml.
type Config struct {
	Node     Node
	RPC      RPC
	Feed     Feed
	Peer     Peer
	Metrics  Metrics
	Log      Log
	Pool     Pool
	Batcher  Batcher
	Ledger   Ledger
	Snapshot Snapshot
}

// Node is the section of the process itself.
type Node struct {
	Name        string
	GCPercent   int // see runtime/debug.SetGCPercent; overridden by the environment variable GOGC
	StopTimeout time.Duration
	Join        string
}

// RPC is the section of the JSON-RPC, websocket and feed listener.
type RPC struct {
	Listen     string
	Namespaces []string
	CORS       []string
	Hosts      []string
	JWTSecret  string // file, relative to the home; "" = no authentication

	MaxBody                ByteSize
	MaxResponse            ByteSize
	MaxBatchCalls          int
	MaxBatchResponse       ByteSize
	MaxConnections         int
	MaxClientConns         int // of these, of one client; 0 = unlimited
	MaxSubscriptions       int // per connection
	MaxClientSubscriptions int // per client
	MaxFilters             int
	MaxClientFilters       int

	MaxHeavy       int // 0 = two for each processor
	MaxHeavyQueue  int
	MaxClientHeavy int

	CallGas      uint64
	CallTimeout  time.Duration
	LogTimeout   time.Duration
	LogRange     uint64 // blocks; 0 = unlimited
	LogResults   int
	TraceTimeout time.Duration
	TraceMemory  ByteSize
	TraceResults int
}

// Feed is the section of the resumable feed, which is served where the JSON-RPC is.
type Feed struct {
	MaxClients  int
	MaxFilters  int // per subscription
	MaxCriteria int // addresses and topics in all of them
	MaxRequest  ByteSize
	Heartbeat   time.Duration
}

// Peer is the section of the listener for the other nodes of the network.
type Peer struct {
	Listen string // "" = the address that the network knows this node by
	// CometListen are the addresses for CometBFT in even and in odd epochs; none = those that the network knows this node by.
	CometListen []string
	Observers   []string // node keys
	Bootstrap   []string // KEY@HOST:PORT
}

// ObserverKeys are the keys of Observers. c must be valid.
func (p Peer) ObserverKeys() []ed25519.PublicKey {
	keys := make([]ed25519.PublicKey, len(p.Observers))
	for i, text := range p.Observers {
		keys[i], _ = ParseKey(text)
	}
	return keys
}

// BootstrapPeers are the peers of Bootstrap. c must be valid.
func (p Peer) BootstrapPeers() []PeerAddress {
	peers := make([]PeerAddress, len(p.Bootstrap))
	for i, text := range p.Bootstrap {
		peers[i], _ = ParsePeerAddress(text)
	}
	return peers
}

// Metrics is the section of the operator's listener: /metrics, /healthz and /readyz.
type Metrics struct {
	Listen string // "" = off
	Public bool
}

// Log is the section of the process's own messages, and of how much of the shared log is kept.
type Log struct {
	Format string
	Level  string
	Retain uint64 // entries; 0 = all
}

// Pool is the section of the transaction pool.
type Pool struct {
	MaxTransactions   int
	MaxBytes          ByteSize
	MaxPerSender      int
	MaxBytesPerSender ByteSize
	QueueTTL          time.Duration
	PriceBump         int    // percent
	MinTip            uint64 // wei
}

// Batcher is the section of what turns pooled transactions into log records.
type Batcher struct {
	MaxTransactions int
	MaxBytes        ByteSize
	MaxInFlight     int
}

// Ledger is the section of the chain's storage.
type Ledger struct {
	Cache         ByteSize
	StateHistory  uint64 // blocks; 0 = all
	ArchiveProofs bool
	FlushInterval time.Duration
	RestartDebt   time.Duration
}

// Snapshot is the section of the files that stand for the beginning of the log.
type Snapshot struct {
	Every uint64 // entries; 0 = never
	Keep  int
}

// Default returns the settings of a node whose config.toml is empty. The limits on what a client may ask are those
// under which a two-core node survived its bad-input tests; they are stricter than go-ethereum's where its defaults
// let one request occupy the node.
func Default() *Config {
	return &Config{
		Node: Node{Name: "ledgerd", GCPercent: 300, StopTimeout: 30 * time.Second, Join: JoinFull},
		RPC: RPC{
			Listen:                 "127.0.0.1:8545",
			Namespaces:             []string{"eth", "net", "web3", "log", "ledger", "txpool", "debug", "trace", "ots", "erigon"},
			Hosts:                  []string{"localhost"},
			MaxBody:                5 << 20,
			MaxResponse:            80 << 20,
			MaxBatchCalls:          1000,
			MaxBatchResponse:       25 << 20,
			MaxConnections:         2000,
			MaxClientConns:         1000,
			MaxSubscriptions:       100,
			MaxClientSubscriptions: 1000,
			MaxFilters:             4096,
			MaxClientFilters:       1024,
			MaxHeavyQueue:          4096,
			MaxClientHeavy:         1024,
			CallGas:                50_000_000,
			CallTimeout:            5 * time.Second,
			LogTimeout:             5 * time.Second,
			LogResults:             20_000,
			TraceTimeout:           time.Minute,
			TraceMemory:            64 << 20,
			TraceResults:           10_000,
		},
		Feed:    Feed{MaxClients: 1000, MaxFilters: 32, MaxCriteria: 2000, MaxRequest: 256 << 10, Heartbeat: 15 * time.Second},
		Metrics: Metrics{Listen: "127.0.0.1:9545"},
		Log:     Log{Format: "text", Level: "info"},
		Pool: Pool{
			MaxTransactions:   65_536,
			MaxBytes:          128 << 20,
			MaxPerSender:      16_384,
			MaxBytesPerSender: 32 << 20,
			QueueTTL:          3 * time.Hour,
			PriceBump:         10,
		},
		Batcher:  Batcher{MaxTransactions: 1000, MaxBytes: 512 << 10, MaxInFlight: 4},
		Ledger:   Ledger{Cache: 256 << 20, FlushInterval: time.Minute, RestartDebt: 3 * time.Second},
		Snapshot: Snapshot{Keep: 2},
	}
}

// Namespaces are the groups of JSON-RPC methods that rpc.namespaces may name.
var Namespaces = []string{"admin", "debug", "erigon", "eth", "ledger", "log", "net", "ots", "trace", "txpool", "web3"}

// LogLevels and LogFormats are the values of log.level and log.format.
var (
	LogLevels  = []string{"debug", "info", "warn", "error"}
	LogFormats = []string{"text", "json"}
)

// How a node without data begins: the values of node.join.
const (
	JoinFull     = "full"     // with the first entry of the log
	JoinSnapshot = "snapshot" // with a snapshot of another node; what was before is not on this node
)

// key is one row of the table: a setting, the field that holds it and what it is for.
type key struct {
	name string // "section.key"
	ptr  any    // *string, *bool, *int, *uint64, *[]string, *time.Duration or *ByteSize
	doc  string
}

// section returns "rpc" of "rpc.listen".
func (k key) section() string { s, _, _ := strings.Cut(k.name, "."); return s }

// leaf returns "listen" of "rpc.listen".
func (k key) leaf() string { _, l, _ := strings.Cut(k.name, "."); return l }

// env returns the name of the variable that overrides the key: LEDGERD_RPC_LISTEN of "rpc.listen".
func (k key) env() string {
	return "LEDGERD_" + strings.ToUpper(strings.ReplaceAll(k.name, ".", "_"))
}

// sections gives the order of config.toml and the comment at the head of each section.
var sections = []struct{ name, doc string }{
	{"node", "The process itself."},
	{"rpc", "JSON-RPC over HTTP and websocket, and the feed, on one port."},
	{"feed", "The resumable feed (docs/feed.md), on the port of the JSON-RPC."},
	{"peer", "The listener for the other nodes of the network, over mutual TLS with node.key. Nodes that order alone have none."},
	{"metrics", "The operator's listener: /metrics (Prometheus), /healthz and /readyz."},
	{"log", "The process's own messages, on stderr; and how much of the shared log is kept here."},
	{"pool", "Transactions that wait to be ordered. The pool is this node's alone."},
	{"batcher", "How waiting transactions are gathered into records of the shared log."},
	{"ledger", "Storage of blocks and state. All of it can be rebuilt from the log."},
	{"snapshot", "Files that stand for the beginning of the log, for nodes that join and for backups. They are made in the home's folder snapshots."},
}

// keys is the table. It is a method so that each row can hold the address of its field in c.
func (c *Config) keys() []key {
	return []key{
		{"node.name", &c.Node.Name, "Name of this node in its messages and metrics."},
		{"node.gc_percent", &c.Node.GCPercent, "Growth of the heap between two garbage collections, in percent. Higher is faster and larger. The variable GOGC wins."},
		{"node.stop_timeout", &c.Node.StopTimeout, "How long a clean stop may take before the process ends anyway (nothing acknowledged is lost then, the next start replays)."},
		{"node.join", &c.Node.Join, "How a node without data begins: \"full\" plays the log from its beginning, \"snapshot\" fetches what another node has made of it (history begins there)."},

		{"rpc.listen", &c.RPC.Listen, "Address of the listener. One that other machines reach needs rpc.jwt_secret."},
		{"rpc.namespaces", &c.RPC.Namespaces, "Groups of methods that are served: " + strings.Join(Namespaces, ", ") + "."},
		{"rpc.cors", &c.RPC.CORS, "Origins of web pages that may call this node, such as \"https://app.example.org\"; \"*\" for all."},
		{"rpc.hosts", &c.RPC.Hosts, "Names that may stand in a request's Host header (addresses always may); \"*\" for all."},
		{"rpc.jwt_secret", &c.RPC.JWTSecret, "File in the home with a secret (`ledgerd keys jwt` makes it): requests need a token signed with it (JWT, HS256). \"\" for no authentication. It hides nothing: outside of a private network put TLS in front."},
		{"rpc.max_body", &c.RPC.MaxBody, "Largest request, HTTP or websocket."},
		{"rpc.max_response", &c.RPC.MaxResponse, "Largest answer to one call."},
		{"rpc.max_batch_calls", &c.RPC.MaxBatchCalls, "Calls in one batch request."},
		{"rpc.max_batch_response", &c.RPC.MaxBatchResponse, "Largest answer to a batch request."},
		{"rpc.max_connections", &c.RPC.MaxConnections, "Connections at a time."},
		{"rpc.max_client_connections", &c.RPC.MaxClientConns, "Of these, connections of one client, by its address, unless it is on this machine; 0 for no limit."},
		{"rpc.max_subscriptions", &c.RPC.MaxSubscriptions, "Subscriptions on one connection."},
		{"rpc.max_client_subscriptions", &c.RPC.MaxClientSubscriptions, "Subscriptions of one client, by its address, unless it is on this machine."},
		{"rpc.max_filters", &c.RPC.MaxFilters, "Filters that clients poll (eth_newFilter and the like), of all clients."},
		{"rpc.max_client_filters", &c.RPC.MaxClientFilters, "Filters of one client, by its address."},
		{"rpc.max_heavy", &c.RPC.MaxHeavy, "Executions, simulations, proofs, traces and searches at a time; 0 for two for each processor."},
		{"rpc.max_heavy_queue", &c.RPC.MaxHeavyQueue, "Of those, how many more may wait for their turn."},
		{"rpc.max_client_heavy", &c.RPC.MaxClientHeavy, "Of these, of one client, by its address."},
		{"rpc.call_gas", &c.RPC.CallGas, "Gas of one eth_call, eth_estimateGas or eth_simulateV1."},
		{"rpc.call_timeout", &c.RPC.CallTimeout, "Time of one eth_call, eth_estimateGas, eth_createAccessList or eth_simulateV1."},
		{"rpc.log_timeout", &c.RPC.LogTimeout, "Time of one eth_getLogs. Who asks for too much is told which range would do."},
		{"rpc.log_range", &c.RPC.LogRange, "Blocks that one eth_getLogs may span; 0 for no limit, since time and results have theirs."},
		{"rpc.log_results", &c.RPC.LogResults, "Logs that one eth_getLogs may return."},
		{"rpc.trace_timeout", &c.RPC.TraceTimeout, "Time of all that one request of debug_, trace_ or ots_ has executed again, and of one ledger_verify."},
		{"rpc.trace_memory", &c.RPC.TraceMemory, "Memory for the traces in one answer; less than rpc.max_response."},
		{"rpc.trace_results", &c.RPC.TraceResults, "Traces that one trace_filter may return."},

		{"feed.max_clients", &c.Feed.MaxClients, "Websockets and streams of the feed at a time."},
		{"feed.max_filters", &c.Feed.MaxFilters, "Filters of one subscription."},
		{"feed.max_criteria", &c.Feed.MaxCriteria, "Addresses and topics in all filters of a subscription together."},
		{"feed.max_request", &c.Feed.MaxRequest, "Largest request."},
		{"feed.heartbeat", &c.Feed.Heartbeat, "A client that has no events to get gets a cursor as often as this."},

		{"peer.listen", &c.Peer.Listen, "Address of the listener; \"\" for the one by which the members' list in the log names this node. A node that is no member has no other."},
		{"peer.comet_listen", &c.Peer.CometListen, "Addresses of the listeners for CometBFT, in even and in odd epochs; [] for those by which the members' list in the log names this node."},
		{"peer.observers", &c.Peer.Observers, "Node keys, in hexadecimal, of nodes that are no members and may read the log through this one. Members need not be named."},
		{"peer.bootstrap", &c.Peer.Bootstrap, "Nodes to ask, as \"KEY@HOST:PORT\", when those that this node knows from its log are gone. They may read the log through this one too."},

		{"metrics.listen", &c.Metrics.Listen, "Address of the listener; \"\" switches it off."},
		{"metrics.public", &c.Metrics.Public, "Allows metrics.listen to be an address that other machines reach. There is no authentication."},

		{"log.format", &c.Log.Format, strings.Join(LogFormats, " or ") + "."},
		{"log.level", &c.Log.Level, strings.Join(LogLevels, ", ") + "."},
		{"log.retain", &c.Log.Retain, "How many of the shared log's last entries this node keeps; 0 for all. Older ones are dropped once the snapshots that are kept stand for them."},

		{"pool.max_transactions", &c.Pool.MaxTransactions, "Transactions held."},
		{"pool.max_bytes", &c.Pool.MaxBytes, "Bytes of transactions held."},
		{"pool.max_per_sender", &c.Pool.MaxPerSender, "Transactions held for one sender."},
		{"pool.max_bytes_per_sender", &c.Pool.MaxBytesPerSender, "Bytes of transactions held for one sender."},
		{"pool.queue_ttl", &c.Pool.QueueTTL, "After this time a transaction that cannot be executed (a nonce is missing) is dropped."},
		{"pool.price_bump", &c.Pool.PriceBump, "Percent by which a replacement must outbid the transaction of the same nonce."},
		{"pool.min_tip", &c.Pool.MinTip, "Least tip in wei for a transaction to enter the pool."},

		{"batcher.max_transactions", &c.Batcher.MaxTransactions, "Transactions in one record."},
		{"batcher.max_bytes", &c.Batcher.MaxBytes, "Bytes in one record."},
		{"batcher.max_in_flight", &c.Batcher.MaxInFlight, "Records that may be under way to the log at a time."},

		{"ledger.cache", &c.Ledger.Cache, "Memory for the caches of blocks and state."},
		{"ledger.state_history", &c.Ledger.StateHistory, "How many blocks back the state can be queried; 0 for all of them (an archive)."},
		{"ledger.archive_proofs", &c.Ledger.ArchiveProofs, "Keeps the trie nodes of old states too, for eth_getProof on old blocks (some 3 KB a transaction)."},
		{"ledger.flush_interval", &c.Ledger.FlushInterval, "State is written to disk at the latest after this time ..."},
		{"ledger.restart_debt", &c.Ledger.RestartDebt, "... or after this much execution, which is what a restart after a crash then repeats."},

		{"snapshot.every", &c.Snapshot.Every, "After how many entries of the shared log a snapshot is made; 0 for never."},
		{"snapshot.keep", &c.Snapshot.Keep, "How many are kept, the newest ones."},
	}
}

// An Error is one problem with one key.
type Error struct {
	Key    string // "section.key", or an environment variable, or "" for the file as a whole
	Line   int    // in config.toml; 0 = unknown
	Reason string
}

// Error names the key first, since that is what the reader will search for.
func (e *Error) Error() string {
	at := ""
	if e.Line > 0 {
		at = fmt.Sprintf(" (line %d)", e.Line)
	}
	if e.Key == "" {
		return strings.TrimPrefix(at+" ", " ") + e.Reason
	}
	return e.Key + at + ": " + e.Reason
}

// Validate reports every setting that the node could not or should not run with, joined, each as an *Error.
// It looks at nothing outside c: that files exist and ports are free is found out by whoever opens them.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, &Error{Key: key, Reason: fmt.Sprintf(format, args...)})
	}
	within := func(key string, v, lo, hi int64, unit string) {
		if v < lo || v > hi {
			bad(key, "must be between %s and %s, is %s", quantity(lo, unit), quantity(hi, unit), quantity(v, unit))
		}
	}
	lasting := func(key string, d, lo, hi time.Duration) {
		if d < lo || d > hi {
			bad(key, "must be between %v and %v, is %v", lo, hi, d)
		}
	}

	if !nodeName.MatchString(c.Node.Name) {
		bad("node.name", "must be 1 to 64 letters, digits, dots, dashes or underscores, is %q", c.Node.Name)
	}
	within("node.gc_percent", int64(c.Node.GCPercent), 10, 10_000, "")
	lasting("node.stop_timeout", c.Node.StopTimeout, time.Second, time.Hour)

	if c.Node.Join != JoinFull && c.Node.Join != JoinSnapshot {
		bad("node.join", "must be %s or %s, is %q", JoinFull, JoinSnapshot, c.Node.Join)
	}

	c.validateRPC(bad)
	within("rpc.max_body", int64(c.RPC.MaxBody), 1<<10, 128<<20, "bytes")
	within("rpc.max_response", int64(c.RPC.MaxResponse), 64<<10, 4<<30, "bytes")
	within("rpc.max_batch_calls", int64(c.RPC.MaxBatchCalls), 1, 10_000, "")
	within("rpc.max_batch_response", int64(c.RPC.MaxBatchResponse), 1<<10, 1<<30, "bytes")
	within("rpc.max_connections", int64(c.RPC.MaxConnections), 1, 100_000, "")
	within("rpc.max_client_connections", int64(c.RPC.MaxClientConns), 0, 100_000, "")
	within("rpc.max_subscriptions", int64(c.RPC.MaxSubscriptions), 1, 10_000, "")
	within("rpc.max_client_subscriptions", int64(c.RPC.MaxClientSubscriptions), 1, 1e6, "")
	within("rpc.max_filters", int64(c.RPC.MaxFilters), 1, 1e6, "")
	within("rpc.max_client_filters", int64(c.RPC.MaxClientFilters), 1, 1e6, "")
	within("rpc.max_heavy", int64(c.RPC.MaxHeavy), 0, 10_000, "")
	within("rpc.max_heavy_queue", int64(c.RPC.MaxHeavyQueue), 1, 1e6, "")
	within("rpc.max_client_heavy", int64(c.RPC.MaxClientHeavy), 1, 1e6, "")
	within("rpc.call_gas", clamp(c.RPC.CallGas), 21_000, 1e12, "")
	lasting("rpc.call_timeout", c.RPC.CallTimeout, 10*time.Millisecond, 10*time.Minute)
	lasting("rpc.log_timeout", c.RPC.LogTimeout, 10*time.Millisecond, 10*time.Minute)
	within("rpc.log_range", clamp(c.RPC.LogRange), 0, 1e12, "")
	within("rpc.log_results", int64(c.RPC.LogResults), 1, 1e7, "")
	lasting("rpc.trace_timeout", c.RPC.TraceTimeout, 10*time.Millisecond, time.Hour)
	within("rpc.trace_memory", int64(c.RPC.TraceMemory), 1<<10, 2<<30, "bytes")
	if c.RPC.TraceMemory >= c.RPC.MaxResponse {
		bad("rpc.trace_memory", "%v of traces do not fit into rpc.max_response, %v", c.RPC.TraceMemory, c.RPC.MaxResponse)
	}
	within("rpc.trace_results", int64(c.RPC.TraceResults), 1, 1e7, "")

	within("feed.max_clients", int64(c.Feed.MaxClients), 1, 100_000, "")
	within("feed.max_filters", int64(c.Feed.MaxFilters), 1, 1000, "")
	within("feed.max_criteria", int64(c.Feed.MaxCriteria), 1, 1e6, "")
	within("feed.max_request", int64(c.Feed.MaxRequest), 1<<10, 16<<20, "bytes")
	lasting("feed.heartbeat", c.Feed.Heartbeat, 100*time.Millisecond, 30*time.Second) // below half of what a websocket may be silent for

	if c.Peer.Listen != "" {
		if _, err := reachable(c.Peer.Listen); err != nil { // it may be public: it is the one listener that authenticates
			bad("peer.listen", "%v", err)
		}
		if c.Peer.Listen == c.RPC.Listen && !anyPort(c.RPC.Listen) {
			bad("peer.listen", "%s is rpc.listen already; the two need a port each", c.Peer.Listen)
		}
	}
	if n := len(c.Peer.CometListen); n != 0 && n != 2 {
		bad("peer.comet_listen", "%d addresses, want 2, for even and for odd epochs, or none", n)
	}
	for _, address := range c.Peer.CometListen {
		if _, err := reachable(address); err != nil { // as peer.listen
			bad("peer.comet_listen", "%v", err)
		}
	}
	c.validatePeers(bad)
	if c.Metrics.Listen != "" {
		public, err := reachable(c.Metrics.Listen)
		switch {
		case err != nil:
			bad("metrics.listen", "%v", err)
		case public && !c.Metrics.Public:
			bad("metrics.listen", "%s can be reached from other machines; use a loopback address, or say that you mean it with metrics.public = true", c.Metrics.Listen)
		case c.Metrics.Listen == c.RPC.Listen && !anyPort(c.RPC.Listen):
			bad("metrics.listen", "%s is rpc.listen already; the two need a port each", c.Metrics.Listen)
		case c.Metrics.Listen == c.Peer.Listen && !anyPort(c.Peer.Listen):
			bad("metrics.listen", "%s is peer.listen already; the two need a port each", c.Metrics.Listen)
		}
	}
	if !slices.Contains(LogFormats, c.Log.Format) {
		bad("log.format", "must be one of %s, is %q", strings.Join(LogFormats, ", "), c.Log.Format)
	}
	if !slices.Contains(LogLevels, c.Log.Level) {
		bad("log.level", "must be one of %s, is %q", strings.Join(LogLevels, ", "), c.Log.Level)
	}

	within("pool.max_transactions", int64(c.Pool.MaxTransactions), 1, 1e7, "")
	within("pool.max_bytes", int64(c.Pool.MaxBytes), 1<<20, 64<<30, "bytes")
	within("pool.max_per_sender", int64(c.Pool.MaxPerSender), 1, 1e7, "")
	if c.Pool.MaxPerSender > c.Pool.MaxTransactions {
		bad("pool.max_per_sender", "%d is more than pool.max_transactions (%d)", c.Pool.MaxPerSender, c.Pool.MaxTransactions)
	}
	within("pool.max_bytes_per_sender", int64(c.Pool.MaxBytesPerSender), 128<<10, 64<<30, "bytes")
	if c.Pool.MaxBytesPerSender > c.Pool.MaxBytes {
		bad("pool.max_bytes_per_sender", "%v is more than pool.max_bytes (%v)", c.Pool.MaxBytesPerSender, c.Pool.MaxBytes)
	}
	lasting("pool.queue_ttl", c.Pool.QueueTTL, time.Second, 30*24*time.Hour)
	within("pool.price_bump", int64(c.Pool.PriceBump), 1, 1000, "")

	within("batcher.max_transactions", int64(c.Batcher.MaxTransactions), 1, 100_000, "")
	// A record is at most 1 MiB with its header; a single transaction may be 128 KiB.
	within("batcher.max_bytes", int64(c.Batcher.MaxBytes), 132<<10, 1<<20-4<<10, "bytes")
	within("batcher.max_in_flight", int64(c.Batcher.MaxInFlight), 1, 256, "")

	within("ledger.cache", int64(c.Ledger.Cache), 16<<20, 1<<40, "bytes")
	lasting("ledger.flush_interval", c.Ledger.FlushInterval, time.Second, time.Hour)
	within("ledger.state_history", clamp(c.Ledger.StateHistory), 0, 1e12, "")
	lasting("ledger.restart_debt", c.Ledger.RestartDebt, 100*time.Millisecond, 10*time.Minute)

	within("log.retain", clamp(c.Log.Retain), 0, 1e15, "")
	within("snapshot.every", clamp(c.Snapshot.Every), 0, 1e15, "")
	within("snapshot.keep", int64(c.Snapshot.Keep), 1, 100, "")
	return errors.Join(errs...)
}

// validateRPC checks what decides who can reach the node (invariant 4).
func (c *Config) validateRPC(bad func(key, format string, args ...any)) {
	public, err := reachable(c.RPC.Listen)
	switch {
	case err != nil:
		bad("rpc.listen", "%v", err)
	case public && c.RPC.JWTSecret == "":
		bad("rpc.listen", "%s can be reached from other machines, and nothing would authenticate them; use a loopback address, or make a secret with `ledgerd keys jwt` and name its file in rpc.jwt_secret", c.RPC.Listen)
	}
	if len(c.RPC.Namespaces) == 0 {
		bad("rpc.namespaces", "names no namespace; nothing would be served")
	}
	for i, ns := range c.RPC.Namespaces {
		if !slices.Contains(Namespaces, ns) {
			bad("rpc.namespaces", "there is no namespace %q; there are %s", ns, strings.Join(Namespaces, ", "))
		}
		if slices.Contains(c.RPC.Namespaces[:i], ns) {
			bad("rpc.namespaces", "%q is named twice", ns)
		}
	}
	for _, origin := range c.RPC.CORS {
		if origin != "*" && !originForm.MatchString(origin) {
			bad("rpc.cors", "%q is not an origin; write scheme and host, such as \"https://app.example.org\"", origin)
		}
	}
	for _, host := range c.RPC.Hosts {
		if host != "*" && !hostForm.MatchString(host) {
			bad("rpc.hosts", "%q is not a host name; leave scheme and port out", host)
		}
	}
}

// validatePeers checks the lists of nodes that are no members.
func (c *Config) validatePeers(bad func(key, format string, args ...any)) {
	seen := make(map[string]bool)
	for _, text := range c.Peer.Observers {
		switch k, err := ParseKey(text); {
		case err != nil:
			bad("peer.observers", "%v", err)
		case seen[string(k)]:
			bad("peer.observers", "%s is named twice", text)
		default:
			seen[string(k)] = true
		}
	}
	clear(seen)
	for _, text := range c.Peer.Bootstrap {
		switch p, err := ParsePeerAddress(text); {
		case err != nil:
			bad("peer.bootstrap", "%v", err)
		case seen[string(p.Key)]:
			bad("peer.bootstrap", "%x is named twice", []byte(p.Key))
		default:
			seen[string(p.Key)] = true
		}
	}
}

var (
	nodeName   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	originForm = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[^/\s]+$`)
	hostForm   = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// Reachable reports whether a listener on the address could be reached from another machine. Only loopback addresses
// and the name "localhost" cannot; any other name is taken to be public, since what it resolves to may change.
func Reachable(address string) (bool, error) { return reachable(address) }

func reachable(address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, fmt.Errorf("%q is not an address; write host:port, such as \"127.0.0.1:8545\"", address)
	}
	if _, err := net.LookupPort("tcp", port); err != nil || port == "" {
		return false, fmt.Errorf("%q has no port between 0 and 65535", address)
	}
	if host == "localhost" {
		return false, nil
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || !ip.IsLoopback(), nil
}

// anyPort reports whether the system picks the port of the address.
func anyPort(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	return port == "0"
}

// clamp makes an unsigned setting comparable with the signed bounds.
func clamp(v uint64) int64 {
	if v > 1<<62 {
		return 1 << 62
	}
	return int64(v)
}

// quantity writes a bound in the unit its key is written in.
func quantity(v int64, unit string) string {
	if unit == "bytes" {
		return ByteSize(v).String()
	}
	return fmt.Sprint(v)
}
