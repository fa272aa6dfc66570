package config

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nodeKey is some node's.
var nodeKey = strings.Repeat("ab", 32)

// TestBadConfigs is the table of mistakes: each is refused, the message names the key, and the line where the file
// shows one (invariants 1, 3 and 4).
func TestBadConfigs(t *testing.T) {
	for _, c := range []struct {
		name string
		toml string
		want []string
	}{
		{"syntax", "[rpc\nlisten = 1", []string{"line 2", "not TOML"}},
		{"key twice", "[log]\nlevel = \"info\"\nlevel = \"warn\"", []string{"line 3", "level"}},
		{"unknown key", "[rpc]\n\nlisten_address = \"127.0.0.1:1\"", []string{"rpc.listen_address (line 3): unknown key"}},
		{"misspelt key", "[rpc]\nlissten = \"127.0.0.1:1\"", []string{"rpc.lissten (line 2): unknown key (did you mean rpc.listen?)"}},
		{"unknown section", "[rcp]\nlisten = \"127.0.0.1:1\"", []string{"rcp (line 1): unknown section (did you mean rpc?)"}},
		{"key without section", "listen = \"127.0.0.1:1\"", []string{"listen (line 1): unknown key"}},
		{"section as key", "rpc = 1", []string{"rpc (line 1): is a section"}},
		{"quoted unknown key", "[rpc]\n\"lis ten\" = 1", []string{"rpc.lis ten (line 2): unknown key"}},
		{"dotted unknown key", "rpc.nope = 1", []string{"rpc.nope (line 1): unknown key"}},
		{"inline unknown key", "rpc = { nope = 1 }", []string{"rpc.nope", "unknown key"}},
		{"string for a number", "[pool]\nmax_transactions = \"many\"", []string{"pool.max_transactions (line 2): want a whole number, have \"many\""}},
		{"fraction", "[pool]\nprice_bump = 10.5", []string{"pool.price_bump (line 2): want a whole number, have 10.5"}},
		{"number beyond int", "[pool]\nmax_transactions = 99999999999", []string{"pool.max_transactions (line 2): want a whole number"}},
		{"negative count", "[pool]\nmin_tip = -1", []string{"pool.min_tip (line 2): want a whole number, not negative, have -1"}},
		{"duration without unit", "[rpc]\ncall_timeout = 5", []string{"rpc.call_timeout (line 2): want a duration"}},
		{"duration of digits", "[rpc]\ncall_timeout = \"5\"", []string{"rpc.call_timeout (line 2): want a duration"}},
		{"size without unit", "[rpc]\nmax_body = 5242880", []string{"rpc.max_body (line 2): want a size"}},
		{"size in decimal units", "[rpc]\nmax_body = \"5MB\"", []string{"rpc.max_body (line 2): want a size", `"5MB"`}},
		{"size that overflows", "[ledger]\ncache = \"9999999999GiB\"", []string{"ledger.cache (line 2): want a size"}},
		{"size too small", "[ledger]\ncache = \"1KiB\"", []string{"ledger.cache: must be between 16MiB and 1024GiB, is 1KiB"}},
		{"string for a switch", "[ledger]\narchive_proofs = \"yes\"", []string{"ledger.archive_proofs (line 2): want true or false"}},
		{"string for a list", "[rpc]\ncors = \"*\"", []string{"rpc.cors (line 2): want a list of strings"}},
		{"list of numbers", "[rpc]\nhosts = [1]", []string{"rpc.hosts (line 2): want a list of strings"}},
		{"address without port", "[rpc]\nlisten = \"127.0.0.1\"", []string{"rpc.listen: \"127.0.0.1\" is not an address"}},
		{"port too high", "[rpc]\nlisten = \"127.0.0.1:70000\"", []string{"rpc.listen", "no port"}},
		{"empty port", "[rpc]\nlisten = \"127.0.0.1:\"", []string{"rpc.listen", "no port"}},
		{"all interfaces without authentication", "[rpc]\nlisten = \"0.0.0.0:8545\"", []string{"rpc.listen: 0.0.0.0:8545 can be reached", "authenticate"}},
		{"no host without authentication", "[rpc]\nlisten = \":8545\"", []string{"rpc.listen", "authenticate"}},
		{"IPv6 without authentication", "[rpc]\nlisten = \"[::]:8545\"", []string{"rpc.listen", "authenticate"}},
		{"name without authentication", "[rpc]\nlisten = \"node.example.org:8545\"", []string{"rpc.listen", "authenticate"}},
		{"origin with a path", "[rpc]\ncors = [\"https://a.example/app\"]", []string{"rpc.cors", "not an origin"}},
		{"origin without scheme", "[rpc]\ncors = [\"a.example\"]", []string{"rpc.cors", "not an origin"}},
		{"host with a port", "[rpc]\nhosts = [\"a.example:80\"]", []string{"rpc.hosts", "not a host name"}},
		{"unknown namespace", "[rpc]\nnamespaces = [\"eth\", \"personal\"]", []string{"rpc.namespaces: there is no namespace \"personal\""}},
		{"namespace twice", "[rpc]\nnamespaces = [\"eth\", \"eth\"]", []string{"rpc.namespaces", "twice"}},
		{"no namespace", "[rpc]\nnamespaces = []", []string{"rpc.namespaces", "nothing would be served"}},
		{"peers without port", "[peer]\nlisten = \"10.0.0.1\"", []string{"peer.listen: \"10.0.0.1\" is not an address"}},
		{"peers on the RPC port", "[peer]\nlisten = \"127.0.0.1:8545\"", []string{"peer.listen", "rpc.listen already"}},
		{"peers on the metrics port", "[peer]\nlisten = \"127.0.0.1:9545\"", []string{"metrics.listen", "peer.listen already"}},
		{"observer without a key", "[peer]\nobservers = [\"abcd\"]", []string{"peer.observers: \"abcd\" is not a public key of 64"}},
		{"observer twice", "[peer]\nobservers = [\"" + nodeKey + "\", \"0x" + nodeKey + "\"]", []string{"peer.observers", "twice"}},
		{"peer without a key", "[peer]\nbootstrap = [\"10.0.0.1:9000\"]", []string{"peer.bootstrap", "KEY@HOST:PORT"}},
		{"peer with a bad key", "[peer]\nbootstrap = [\"ab@10.0.0.1:9000\"]", []string{"peer.bootstrap", "not a public key"}},
		{"peer without a host", "[peer]\nbootstrap = [\"" + nodeKey + "@:9000\"]", []string{"peer.bootstrap", "not an address"}},
		{"peer without a port", "[peer]\nbootstrap = [\"" + nodeKey + "@10.0.0.1\"]", []string{"peer.bootstrap", "not an address"}},
		{"peer on any port", "[peer]\nbootstrap = [\"" + nodeKey + "@10.0.0.1:0\"]", []string{"peer.bootstrap", "not an address"}},
		{"peer twice", "[peer]\nbootstrap = [\"" + nodeKey + "@a:1\", \"" + nodeKey + "@b:1\"]", []string{"peer.bootstrap", "twice"}},
		{"public metrics", "[metrics]\nlisten = \"0.0.0.0:9545\"", []string{"metrics.listen", "metrics.public"}},
		{"metrics on the RPC port", "[metrics]\nlisten = \"127.0.0.1:8545\"", []string{"metrics.listen", "rpc.listen already"}},
		{"join", "[node]\njoin = \"fast\"", []string{"node.join: must be full or snapshot, is \"fast\""}},
		{"log format", "[log]\nformat = \"xml\"", []string{"log.format: must be one of text, json, is \"xml\""}},
		{"log level", "[log]\nlevel = \"loud\"", []string{"log.level: must be one of"}},
		{"name with a space", "[node]\nname = \"my node\"", []string{"node.name"}},
		{"collector off", "[node]\ngc_percent = -1", []string{"node.gc_percent: must be between 10 and 10000, is -1"}},
		{"no batch", "[batcher]\nmax_transactions = 0", []string{"batcher.max_transactions"}},
		{"batch beyond a record", "[batcher]\nmax_bytes = \"1MiB\"", []string{"batcher.max_bytes: must be between 132KiB and 1020KiB, is 1MiB"}},
		{"sender above pool", "[pool]\nmax_transactions = 10\nmax_per_sender = 11", []string{"pool.max_per_sender: 11 is more than pool.max_transactions (10)"}},
		{"sender's bytes above pool", "[pool]\nmax_bytes = \"16MiB\"", []string{"pool.max_bytes_per_sender: 32MiB is more than pool.max_bytes (16MiB)"}},
		{"no time at all", "[rpc]\ncall_timeout = \"0s\"", []string{"rpc.call_timeout: must be between"}},
		{"traces beyond an answer", "[rpc]\ntrace_memory = \"80MiB\"", []string{"rpc.trace_memory: 80MiB of traces do not fit into rpc.max_response, 80MiB"}},
		{"heartbeat beyond patience", "[feed]\nheartbeat = \"1m\"", []string{"feed.heartbeat: must be between 100ms and 30s, is 1m0s"}},
		{"feed for nobody", "[feed]\nmax_clients = 0", []string{"feed.max_clients: must be between 1 and 100000, is 0"}},
		{"gas beyond reason", "[rpc]\ncall_gas = 9223372036854775807", []string{"rpc.call_gas"}},
		{"several at once", "[rpc]\nlisten = \"0.0.0.0:1\"\nfoo = 1\n[log]\nlevel = \"loud\"\n[pool]\nqueue_ttl = 3", []string{
			"rpc.foo (line 3)", "pool.queue_ttl (line 7)", "rpc.listen:", "log.level:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse([]byte(c.toml))
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			var e *Error
			require.True(t, errors.As(err, &e), "problems are *Error")
		})
	}
}

func TestGoodConfigs(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"any origin":       "[rpc]\ncors = [\"*\"]",
		"IPv6 loopback":    "[rpc]\nlisten = \"[::1]:8545\"",
		"localhost":        "[rpc]\nlisten = \"localhost:0\"\n[metrics]\nlisten = \"localhost:0\"",
		"public peers":     "[peer]\nlisten = \"0.0.0.0:9000\"",
		"no metrics":       "[metrics]\nlisten = \"\"",
		"public metrics":   "[metrics]\nlisten = \":9545\"\npublic = true",
		"extension origin": "[rpc]\ncors = [\"chrome-extension://abcdef\", \"http://localhost:5173\"]",
	} {
		_, err := Parse([]byte(text))
		require.NoError(t, err, name)
	}
}

func TestPeers(t *testing.T) {
	c, err := Parse([]byte("[peer]\nobservers = [\"" + nodeKey + "\"]\nbootstrap = [\"0x" + nodeKey + "@[::1]:9000\"]"))
	require.NoError(t, err)
	key := ed25519.PublicKey(bytes.Repeat([]byte{0xab}, 32))
	require.Equal(t, []ed25519.PublicKey{key}, c.Peer.ObserverKeys())
	peers := c.Peer.BootstrapPeers()
	require.Equal(t, []PeerAddress{{key, "[::1]:9000"}}, peers)
	require.Equal(t, nodeKey+"@[::1]:9000", peers[0].String())
}

// TestTOMLRoundTrip writes the defaults and a Config in which every field differs from its default, and reads both
// back: no key is missing in either direction, and no default fails its own validation.
func TestTOMLRoundTrip(t *testing.T) {
	back, err := Parse(Default().TOML())
	require.NoError(t, err)
	require.Equal(t, Default(), back)

	c := Default()
	for _, k := range c.keys() {
		switch p := k.ptr.(type) {
		case *string:
			*p = map[string]string{
				"node.name": "other", "rpc.listen": "127.0.0.1:1", "peer.listen": "0.0.0.0:3", "metrics.listen": "[::1]:2",
				"rpc.jwt_secret": "jwt.hex", "log.format": "json", "node.join": JoinSnapshot, "log.level": "debug",
			}[k.name]
			require.NotEmpty(t, *p, k.name)
		case *bool:
			*p = !*p
		case *int:
			*p++
		case *uint64:
			*p++
		case *time.Duration:
			*p += 1500 * time.Millisecond
		case *ByteSize:
			*p += 1
		case *[]string:
			*p = map[string][]string{
				"rpc.namespaces": {"eth"}, "rpc.cors": {"https://a.example", "http://b.example"}, "rpc.hosts": {"*"},
				"peer.comet_listen": {"0.0.0.0:4", "0.0.0.0:5"}, "peer.observers": {nodeKey}, "peer.bootstrap": {nodeKey + "@node.example.org:9000"},
			}[k.name]
			require.NotEmpty(t, *p, k.name)
		default:
			t.Fatalf("%s has a type this test does not change: %T", k.name, p)
		}
	}
	back, err = Parse(c.TOML())
	require.NoError(t, err)
	require.Equal(t, c, back)
	require.NotEqual(t, Default(), back)
}

func TestEnvironment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	require.NoError(t, os.WriteFile(path, []byte("[rpc]\nlisten = \"127.0.0.1:1\"\n[log]\nlevel = \"warn\""), 0o600))
	env := map[string]string{
		"LEDGERD_RPC_LISTEN":            "127.0.0.1:2",
		"LEDGERD_RPC_HOSTS":             "a.example, b.example",
		"LEDGERD_LEDGER_ARCHIVE_PROOFS": "true",
		"LEDGERD_LEDGER_CACHE":          "1GiB",
		"LEDGERD_POOL_QUEUE_TTL":        "90m",
		"LEDGERD_POOL_MIN_TIP":          "7",
		"LEDGERD_PORT":                  "tcp://10.0.0.1:8545", // a scheduler's, not ours
	}
	c, err := Load(path, func(k string) string { return env[k] })
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1:2", c.RPC.Listen)
	require.Equal(t, "warn", c.Log.Level)
	require.Equal(t, []string{"a.example", "b.example"}, c.RPC.Hosts)
	require.True(t, c.Ledger.ArchiveProofs)
	require.Equal(t, ByteSize(1<<30), c.Ledger.Cache)
	require.Equal(t, 90*time.Minute, c.Pool.QueueTTL)
	require.Equal(t, uint64(7), c.Pool.MinTip)

	env = map[string]string{"LEDGERD_POOL_MIN_TIP": "much", "LEDGERD_LOG_LEVEL": "loud"}
	_, err = Load(path, func(k string) string { return env[k] })
	require.ErrorContains(t, err, "LEDGERD_POOL_MIN_TIP: want a whole number")
	require.ErrorContains(t, err, "log.level: must be one of")
	require.True(t, strings.HasPrefix(err.Error(), path), "the message starts with the file: %v", err)
}

// TestPublicListener is invariant 4: with a secret the node may be reached, and without one it may not.
func TestPublicListener(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:8545", ":8545", "[::]:8545", "node.example.org:8545"} {
		c := Default()
		c.RPC.Listen = listen
		require.ErrorContains(t, c.Validate(), "rpc.jwt_secret")
		c.RPC.JWTSecret = "jwt.hex"
		require.NoError(t, c.Validate())
	}
}

// TestKeysAreSectioned holds the table together: every key belongs to a section that TOML writes, and none is there
// twice.
func TestKeysAreSectioned(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Default().keys() {
		require.Contains(t, sectionNames(), k.section())
		require.NotEmpty(t, k.leaf())
		require.NotEmpty(t, k.doc)
		require.False(t, seen[k.name], k.name)
		seen[k.name] = true
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]ByteSize{"0B": 0, "1B": 1, "1023B": 1023, "1KiB": 1024, "5 MiB": 5 << 20, "3GiB": 3 << 30} {
		got, err := ParseByteSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := ParseByteSize(got.String())
		require.NoError(t, err)
		require.Equal(t, want, again)
	}
	for _, text := range []string{"", "5", "MiB", "-1MiB", "1.5MiB", "5mib", "5 MB", "9223372036854775807KiB"} {
		_, err := ParseByteSize(text)
		require.Error(t, err, text)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[rpc]\nlisten = \"127.0.0.1:1\""))
	f.Add(Default().TOML())
	f.Add([]byte("[node]\nname = \"a\\u0007\\u0022\\u005c\""))
	f.Add([]byte("rpc = { listen = [[1]] }\n[[pool]]\nx = 1979-05-27"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(data)
		if err != nil {
			return
		}
		back, err := Parse(c.TOML())
		if err != nil {
			t.Fatalf("what was accepted is not accepted when written again: %v\n%s", err, c.TOML())
		}
		if string(back.TOML()) != string(c.TOML()) {
			t.Fatalf("writing is not stable:\n%s\n%s", c.TOML(), back.TOML())
		}
	})
}
