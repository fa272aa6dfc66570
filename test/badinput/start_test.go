package badinput

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
)

// The exit codes of `ledgerd help exit-codes`.
const (
	exitUsage      = 2
	exitData       = 65
	exitCannotMake = 73
	exitInUse      = 75
	exitPermission = 77
	exitMismatch   = 78
)

// start is `ledgerd start` on free ports.
func start(home string, env ...string) *exec.Cmd {
	cmd := exec.Command(binary, "start", "--home", home)
	cmd.Env = append(append(os.Environ(), "LEDGERD_RPC_LISTEN=127.0.0.1:0", "LEDGERD_METRICS_LISTEN="), env...)
	return cmd
}

// refusal starts a node that has to end instead, with a code, and returns what it said.
func refusal(t *testing.T, cmd *exec.Cmd, code int) string {
	t.Helper()
	_, err := process.TryStart(t, cmd)
	var ended *process.Ended
	require.True(t, errors.As(err, &ended), "it serves")
	require.Equal(t, code, ended.Code, "exit code; stderr:\n%s", ended.Stderr)
	require.NotContains(t, ended.Stderr, "goroutine ", "a panic")
	return ended.Stderr
}

// TestBadSettings: a node does not start with a setting that it does not understand, and names it. Nothing in the home changes.
func TestBadSettings(t *testing.T) {
	home := newHome(t)
	_, stderr, code := process.Run(t, binary, "init", "--home", home)
	require.Zero(t, code, stderr)
	n := process.Start(t, start(home))
	var c canary
	c.sing(t, n)
	n.Terminate(t)

	config := filepath.Join(home, "config.toml")
	original, err := os.ReadFile(config)
	require.NoError(t, err)
	for _, tc := range []struct{ name, text, words string }{
		{"key of a section", "[rpc]\nlisen = \"127.0.0.1:1\"\n", "rpc.lisen (line 2): unknown key"},
		{"section", "[rcp]\nlisten = \"127.0.0.1:1\"\n", "rcp (line 1): unknown section"},
		{"key without section", "listen = \"127.0.0.1:1\"\n", "listen (line 1): unknown key"},
		{"case of a key", "[RPC]\nlisten = \"127.0.0.1:1\"\n", "RPC"},
		{"not TOML", "[rpc\n", "not TOML"},
		{"key twice", "[rpc]\nmax_connections = 1\nmax_connections = 2\n", "not TOML"},
		{"binary", string(noise("config", 500)), ""},
		{"string for a number", "[rpc]\nmax_connections = \"many\"\n", "rpc.max_connections"},
		{"negative", "[rpc]\nmax_connections = -1\n", "rpc.max_connections"},
		{"zero", "[rpc]\nmax_connections = 0\n", "rpc.max_connections"},
		{"duration without unit", "[rpc]\ncall_timeout = \"5\"\n", "rpc.call_timeout"},
		{"size of nothing", "[rpc]\nmax_body = \"5 apples\"\n", "rpc.max_body"},
		{"public address", "[rpc]\nlisten = \"0.0.0.0:0\"\n", "rpc.listen"},
		{"no address", "[rpc]\nlisten = \"nowhere\"\n", "rpc.listen"},
		{"unknown namespace", "[rpc]\nnamespaces = [\"eth\", \"personal\"]\n", "personal"},
		{"unknown log level", "[log]\nlevel = \"loud\"\n", "log.level"},
		{"pool of a negative size", "[pool]\nmax_transactions = -5\n", "pool.max_transactions"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			require.NoError(t, os.WriteFile(config, []byte(tc.text), 0o644))
			cmd := exec.Command(binary, "start", "--home", home)
			require.Contains(t, refusal(t, cmd, exitUsage), tc.words)
		})
	}
	require.NoError(t, os.WriteFile(config, original, 0o644))
	t.Run("environment", func(t *testing.T) {
		require.Contains(t, refusal(t, start(home, "LEDGERD_RPC_MAX_CONNECTIONS=many"), exitUsage), "LEDGERD_RPC_MAX_CONNECTIONS")
	})
	t.Run("key that others can read", func(t *testing.T) {
		require.NoError(t, os.Chmod(filepath.Join(home, "node.key"), 0o644))
		require.Contains(t, refusal(t, start(home), exitPermission), "node.key")
		require.NoError(t, os.Chmod(filepath.Join(home, "node.key"), 0o600))
	})
	t.Run("no home", func(t *testing.T) {
		refusal(t, start(filepath.Join(home, "nowhere")), exitUsage)
	})
	t.Run("home is a file", func(t *testing.T) {
		cmd := exec.Command(binary, "dev", "--datadir", config, "--http", "127.0.0.1:0")
		require.Contains(t, refusal(t, cmd, exitCannotMake), config)
	})
	n = process.Start(t, start(home))
	c.remembers(t, n)
	c.sing(t, n)
	n.Terminate(t)
}

// TestBadGenesis: a genesis that could not work is refused by init, and one of another network by the node that has data already.
func TestBadGenesis(t *testing.T) {
	dir := t.TempDir()
	rest := `,"gasLimit":"0x2000000","difficulty":"0x0","alloc":{}`
	for _, tc := range []struct{ name, text, words string }{
		{"empty", ``, ""},
		{"not JSON", `{"config":`, ""},
		{"a list", `[]`, ""},
		{"no config", `{"x":0` + rest + `}`, "config"},
		{"chain id 0", `{"config":{"chainId":0}` + rest + `}`, "chainId"},
		{"gas limit too low", `{"config":{"chainId":7}` + strings.Replace(rest, "2000000", "5208", 1) + `}`, "gasLimit"},
		{"unknown key of ours", `{"config":{"chainId":7}` + rest + `,"ledgerd":{"engin":"local"}}`, "engin"},
		{"bad address", `{"config":{"chainId":7}` + strings.Replace(rest, "{}", `{"0x12":{"balance":"1"}}`, 1) + `}`, ""},
		{"negative balance", `{"config":{"chainId":7}` + strings.Replace(rest, "{}", `{"0x0000000000000000000000000000000000000012":{"balance":"-1"}}`, 1) + `}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file, home := filepath.Join(dir, "genesis.json"), filepath.Join(dir, "home of "+tc.name)
			require.NoError(t, os.WriteFile(file, []byte(tc.text), 0o644))
			_, stderr, code := process.Run(t, binary, "init", "--home", home, "--genesis", file)
			require.Equal(t, exitUsage, code, stderr)
			require.Contains(t, stderr, tc.words)
			require.NoDirExists(t, home)
		})
	}

	_, stderr, code := process.Run(t, binary, "init", "--home", filepath.Join(dir, "home"), "--engine", "paxos")
	require.Equal(t, exitUsage, code, stderr)
	require.Contains(t, stderr, `engine "paxos": this program has comet, local`)

	home := newHome(t)
	n := process.Dev(t, binary, home)
	var c canary
	c.sing(t, n)
	n.Terminate(t)
	genesis := filepath.Join(home, "genesis.json")
	text, err := os.ReadFile(genesis)
	require.NoError(t, err)
	other := strings.Replace(string(text), `"0x21e19e0c9bab2400000"`, `"0x21e19e0c9bab2400001"`, 1) // one wei more for one account
	require.NotEqual(t, string(text), other)
	require.NoError(t, os.WriteFile(genesis, []byte(other), 0o644))
	require.Contains(t, refusal(t, exec.Command(binary, "dev", "--datadir", home, "--http", "127.0.0.1:0"), exitMismatch), "network")
	require.Contains(t, refusal(t, start(home), exitMismatch), "network")
	require.NoError(t, os.WriteFile(genesis, text, 0o644))
	n = process.Dev(t, binary, home)
	c.remembers(t, n)
	c.sing(t, n)
	n.Terminate(t)
}

// TestLockedHome: a second process on the home of a running one ends with the code for it, and the first does not notice.
func TestLockedHome(t *testing.T) {
	home := newHome(t)
	n := process.Dev(t, binary, home)
	var c canary
	c.sing(t, n)
	for range 3 {
		require.Contains(t, refusal(t, exec.Command(binary, "dev", "--datadir", home, "--http", "127.0.0.1:0"), exitInUse), "in use")
		require.Contains(t, refusal(t, start(home), exitInUse), "in use")
		_, stderr, code := process.Run(t, binary, "verify", "--home", home)
		require.Equal(t, exitInUse, code, stderr)
		c.sing(t, n)
	}
	n.Kill() // a lock that its holder left by dying is none
	n = process.Dev(t, binary, home)
	c.remembers(t, n)
	c.sing(t, n)
	n.Terminate(t)
}
