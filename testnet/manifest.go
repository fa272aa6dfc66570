package testnet

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// A Manifest describes a network on one machine.
type Manifest struct {
	Nodes        int     `toml:"nodes"`     // members
	Observers    int     `toml:"observers"` // nodes that order nothing, numbered after the members
	Engine       string  `toml:"engine"`
	ChainID      uint64  `toml:"chain_id"`
	BasePort     int     `toml:"base_port"`
	Accounts     int     `toml:"accounts"`     // funded
	Permissioned bool    `toml:"permissioned"` // only Accounts may send and deploy
	DedupWindow  uint64  `toml:"dedup_window"` // W; 0: that of a genesis which names none. The last W entries are never trimmed
	Faults       []Fault `toml:"fault"`        // in the order in which they are played
}

// A Fault is something that happens to nodes.
type Fault struct {
	Do   string        `toml:"do"`   // Kill, Stop or Pause
	Node string        `toml:"node"` // Leader, Follower, All or the number of a node
	For  time.Duration `toml:"for"`  // until it is undone
}

// What a Fault does, and to whom.
const (
	Kill  = "kill"  // SIGKILL; undone by a start
	Stop  = "stop"  // SIGTERM; undone by a start
	Pause = "pause" // SIGSTOP; undone by SIGCONT

	Leader   = "leader"
	Follower = "follower" // any of them
	All      = "all"
)

// The distances of a node's ports from its first one, which serves HTTP and websocket.
const (
	PortsPerNode = 10
	PortPeer     = 1
	PortComet    = 2 // and the one after it: even and odd epochs
	PortMetrics  = 4
)

const (
	maxNodes    = 100
	maxAccounts = 10_000
	// maxChainID is the largest number that JavaScript, and so most wallets, can represent.
	maxChainID = 1<<53 - 1
)

// Default returns the network that an empty manifest describes.
func Default() Manifest {
	return Manifest{Nodes: 4, Engine: "raft", ChainID: 1337, BasePort: 18545, Accounts: 10, Permissioned: true}
}

// Load reads a manifest from a file.
func Load(path string) (Manifest, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Manifest{}, err
	}
	m, err := Parse(text)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Parse reads a manifest and validates it.
func Parse(text []byte) (Manifest, error) {
	m := Default()
	meta, err := toml.Decode(string(text), &m)
	if err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	var errs []error
	for _, key := range meta.Undecoded() {
		errs = append(errs, fmt.Errorf("manifest: unknown key %s", key))
	}
	if err := errors.Join(append(errs, m.Validate())...); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Validate returns everything that is wrong, joined. Whether the engine is known is for whoever starts the nodes to say.
func (m Manifest) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("manifest: "+format, args...)) }
	if m.Nodes < 1 || m.Nodes > maxNodes {
		bad("nodes: %d, want 1 to %d", m.Nodes, maxNodes)
	}
	if m.Observers < 0 || m.Observers > maxNodes {
		bad("observers: %d, want 0 to %d", m.Observers, maxNodes)
	}
	if m.Engine == "" {
		bad("engine: missing")
	}
	if m.ChainID == 0 || m.ChainID > maxChainID {
		bad("chain_id: %d, want 1 to %d", m.ChainID, uint64(maxChainID))
	}
	if last := m.Port(m.All(), 0) - 1; m.BasePort < 1024 || last > 65535 {
		bad("base_port: %d, and the last port %d; want them between 1024 and 65535", m.BasePort, last)
	}
	if m.Accounts < 1 || m.Accounts > maxAccounts {
		bad("accounts: %d, want 1 to %d", m.Accounts, maxAccounts)
	}
	for i, f := range m.Faults {
		for _, problem := range f.problems(m.All()) {
			bad("fault %d: %s", i+1, problem)
		}
	}
	return errors.Join(errs...)
}

// All returns the number of nodes, observers among them.
func (m Manifest) All() int { return m.Nodes + m.Observers }

// Port returns a port of a node.
func (m Manifest) Port(node, distance int) int { return m.BasePort + PortsPerNode*node + distance }

func (f Fault) problems(nodes int) (all []string) {
	if !slices.Contains([]string{Kill, Stop, Pause}, f.Do) {
		all = append(all, fmt.Sprintf("do: %q, want %s, %s or %s", f.Do, Kill, Stop, Pause))
	}
	if n, err := strconv.Atoi(f.Node); !slices.Contains([]string{Leader, Follower, All}, f.Node) && (err != nil || n < 0 || n >= nodes) {
		all = append(all, fmt.Sprintf("node: %q, want %s, %s, %s or a number below %d", f.Node, Leader, Follower, All, nodes))
	}
	if f.For < 0 || f.For > time.Minute {
		all = append(all, fmt.Sprintf("for: %v, want 0s to 1m", f.For))
	}
	return all
}

// String is the fault in words: "kill leader for 1s".
func (f Fault) String() string {
	return strings.Join([]string{f.Do, f.Node, "for", f.For.String()}, " ")
}
