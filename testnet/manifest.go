package testnet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// A Manifest describes a network on one machine.
type Manifest struct {
	Nodes        int          `toml:"nodes"`     // members
	Observers    int          `toml:"observers"` // nodes that order nothing, numbered after the members
	Engine       string       `toml:"engine"`
	ChainID      uint64       `toml:"chain_id"`
	Hosts        netip.Prefix `toml:"hosts"` // where every node has a host of its own; zero: all share loopback
	BasePort     int          `toml:"base_port"`
	Accounts     int          `toml:"accounts"`     // funded
	Permissioned bool         `toml:"permissioned"` // only Accounts may send and deploy
	DedupWindow  uint64       `toml:"dedup_window"` // W; 0: that of a genesis which names none. The last W entries are never trimmed
	Faults       []Fault      `toml:"fault"`        // in the order in which they are played
}

// A Fault is something that happens to nodes.
type Fault struct {
	Do   string        `toml:"do"`   // Kill, Stop, Pause, or what happens to the lines between Hosts: Cut, Mute, Deafen, Flap
	Node string        `toml:"node"` // Leader, Follower, Half, Observer, All or the number of a node
	For  time.Duration `toml:"for"`  // until it is undone
}

// What a Fault does, and to whom.
const (
	Kill  = "kill"  // SIGKILL; undone by a start
	Stop  = "stop"  // SIGTERM; undone by a start
	Pause = "pause" // SIGSTOP; undone by SIGCONT

	Cut    = "cut"    // nothing passes between these nodes and the others
	Mute   = "mute"   // nothing of what these nodes send reaches the others
	Deafen = "deafen" // nothing of what the others send reaches these nodes
	Flap   = "flap"   // cut and whole in turn

	Leader   = "leader"
	Follower = "follower" // any of them
	Half     = "half"     // of the members, the leader among them
	Observer = "observer" // any of them
	All      = "all"
)

var (
	processFaults = []string{Kill, Stop, Pause}
	lineFaults    = []string{Cut, Mute, Deafen, Flap}
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
	if m.Hosts.IsValid() && (!m.Hosts.Addr().Is4() || m.Hosts != m.Hosts.Masked() || m.Hosts.Bits() < 16 || m.Hosts.Bits() > 24) {
		bad("hosts: %v, want a network of IPv4, such as 198.18.0.0/24, of 16 to 24 bits", m.Hosts)
	}
	if last := m.Port(m.All(), 0) - 1; m.BasePort < 1024 || last > 65535 {
		bad("base_port: %d, and the last port %d; want them between 1024 and 65535", m.BasePort, last)
	}
	if m.Accounts < 1 || m.Accounts > maxAccounts {
		bad("accounts: %d, want 1 to %d", m.Accounts, maxAccounts)
	}
	for i, f := range m.Faults {
		for _, problem := range f.problems(m) {
			bad("fault %d: %s", i+1, problem)
		}
	}
	return errors.Join(errs...)
}

// All returns the number of nodes, observers among them.
func (m Manifest) All() int { return m.Nodes + m.Observers }

// Port returns a port of a node.
func (m Manifest) Port(node, distance int) int { return m.BasePort + PortsPerNode*node + distance }

// Host returns where a node is: its address among the Hosts, of which the network's own is none, or loopback.
func (m Manifest) Host(node int) netip.Addr {
	if !m.Hosts.IsValid() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	a := m.Hosts.Addr()
	for range node + 1 {
		a = a.Next()
	}
	return a
}

// Address returns where other nodes reach a port of a node.
func (m Manifest) Address(node, distance int) string {
	return net.JoinHostPort(m.Host(node).String(), strconv.Itoa(m.Port(node, distance)))
}

func (f Fault) problems(m Manifest) (all []string) {
	lines := slices.Contains(lineFaults, f.Do)
	switch {
	case !lines && !slices.Contains(processFaults, f.Do):
		all = append(all, fmt.Sprintf("do: %q, want one of %s", f.Do, strings.Join(slices.Concat(processFaults, lineFaults), ", ")))
	case lines && !m.Hosts.IsValid():
		all = append(all, fmt.Sprintf("do: %q needs hosts", f.Do))
	case lines && f.Node == All:
		all = append(all, fmt.Sprintf("node: %q leaves nobody from whom to %s them", f.Node, f.Do))
	}
	switch n, err := strconv.Atoi(f.Node); {
	case f.Node == Observer && m.Observers == 0:
		all = append(all, fmt.Sprintf("node: %q, and observers is 0", f.Node))
	case slices.Contains([]string{Leader, Follower, Half, Observer, All}, f.Node):
	case err != nil || n < 0 || n >= m.All():
		all = append(all, fmt.Sprintf("node: %q, want %s, %s, %s, %s, %s or a number below %d", f.Node, Leader, Follower, Half, Observer, All, m.All()))
	}
	if f.For < 0 || f.For > time.Minute {
		all = append(all, fmt.Sprintf("for: %v, want 0s to 1m", f.For))
	}
	return all
}

// Lines reports whether the fault is one of the lines between nodes, and not of the nodes.
func (f Fault) Lines() bool { return slices.Contains(lineFaults, f.Do) }

// String is the fault in words: "kill leader for 1s".
func (f Fault) String() string {
	return strings.Join([]string{f.Do, f.Node, "for", f.For.String()}, " ")
}
