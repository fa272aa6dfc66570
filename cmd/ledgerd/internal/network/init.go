package network

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/consensus"
	"ledgerd/ledger/genesis"
	"ledgerd/testnet"
	"ledgerd/vm"
)

// ErrNotEmpty is returned by Init for a folder that holds something.
var ErrNotEmpty = errors.New("is not empty; nothing was overwritten")

// A Network is what Init made.
type Network struct {
	Dir       string              `json:"dir"`
	ChainID   uint64              `json:"chainId"`
	Engine    string              `json:"engine"`
	NetworkID consensus.NetworkID `json:"networkId"`
	AdminKey  string              `json:"adminKey"` // file
	Accounts  string              `json:"accounts"` // file
	Nodes     []Node              `json:"nodes"`
}

// A Node is one of its nodes.
type Node struct {
	Index    int    `json:"index"`
	Home     string `json:"home"`
	HTTP     string `json:"http"`     // URL; websocket is on the same port
	Peer     string `json:"peer"`     // address for the other nodes; "" if there are none
	NodeKey  string `json:"nodeKey"`  // public half, in hexadecimal
	Observer bool   `json:"observer"` // not a member of the first segment
	Metrics  string `json:"metrics"`
}

// An Account is a line of accounts.json.
type Account struct {
	Address    common.Address `json:"address"`
	PrivateKey hexutil.Bytes  `json:"privateKey"`
}

// Init makes a network in dir, which must be empty or not exist. Errors: ErrNotEmpty; home.ErrCannotCreate;
// node.ErrUnknownEngine; those of a genesis or a manifest that does not validate.
func Init(ctx context.Context, dir string, m testnet.Manifest) (*Network, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return nil, fmt.Errorf("%s %w", dir, ErrNotEmpty)
	}
	parent := filepath.Dir(filepath.Clean(dir))
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, parent, err)
	}
	aside, err := os.MkdirTemp(parent, "."+filepath.Base(dir)+".new-*")
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, dir, err)
	}
	defer func() { _ = os.RemoveAll(aside) }() // there is nothing, once it has been renamed
	network, err := write(ctx, aside, dir, m)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // it was empty
		return nil, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, dir, err)
	}
	if err := errors.Join(os.Chmod(aside, 0o755), os.Rename(aside, dir)); err != nil {
		return nil, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, dir, err)
	}
	return network, nil
}

// write makes the files in a folder that will be renamed to dir.
func write(ctx context.Context, aside, dir string, m testnet.Manifest) (*Network, error) {
	admin, err := home.NewKey(filepath.Join(aside, "admin.key"))
	if err != nil {
		return nil, err
	}
	accounts, err := writeAccounts(filepath.Join(aside, "accounts.json"), m.Accounts)
	if err != nil {
		return nil, err
	}
	nodes := make([]made, m.All())
	var members []genesis.Member
	for i := range nodes {
		n := made{home: home.Home(filepath.Join(aside, name(i))), observer: i >= m.Nodes}
		if err := os.Mkdir(string(n.home), 0o755); err != nil {
			return nil, err
		}
		key, err := home.NewKey(n.home.NodeKey())
		if err != nil {
			return nil, err
		}
		votes, err := home.NewKey(n.home.ConsensusKey())
		if err != nil {
			return nil, err
		}
		n.peer = config.PeerAddress{Key: key.Public().(ed25519.PublicKey), Address: m.Address(i, testnet.PortPeer)}
		n.member = genesis.Member{
			NodeKey: genesis.HexKey(n.peer.Key), ConsensusKey: genesis.HexKey(votes.Public().(ed25519.PublicKey)), PeerAddress: n.peer.Address,
			CometAddresses: []string{m.Address(i, testnet.PortComet), m.Address(i, testnet.PortComet+1)},
		}
		if !n.observer {
			member := n.member
			member.ID = uint64(i + 1)
			members = append(members, member)
		}
		nodes[i] = n
	}
	if err := writeMembers(filepath.Join(aside, "members.json"), nodes); err != nil {
		return nil, err
	}
	if m.Engine == genesis.EngineLocal && m.All() == 1 {
		members = nil // it has no peers, and would listen for none
	}
	g := newGenesis(m, admin.Public().(ed25519.PublicKey), accounts, members)
	network := &Network{
		Dir: dir, ChainID: m.ChainID, Engine: m.Engine, AdminKey: filepath.Join(dir, "admin.key"), Accounts: filepath.Join(dir, "accounts.json"),
	}
	if network.NetworkID, err = create(ctx, nodes, m, g); err != nil {
		return nil, err
	}
	for i, of := range nodes {
		n := Node{
			Index: i, Home: filepath.Join(dir, name(i)), HTTP: "http://" + address(m.Port(i, 0)), NodeKey: hex.EncodeToString(of.peer.Key), Observer: of.observer,
			Metrics: "http://" + address(m.Port(i, testnet.PortMetrics)) + "/metrics",
		}
		if members != nil {
			n.Peer = of.peer.Address
		}
		network.Nodes = append(network.Nodes, n)
	}
	return network, nil
}

// made is a node whose key has been made.
type made struct {
	home     home.Home
	peer     config.PeerAddress
	member   genesis.Member // what it would be as one, without an id
	observer bool
}

// create validates the genesis and finishes the homes.
func create(ctx context.Context, nodes []made, m testnet.Manifest, g *genesis.Genesis) (consensus.NetworkID, error) {
	if err := g.Validate(); err != nil {
		return consensus.NetworkID{}, err
	}
	canonical, err := g.JSON()
	if err != nil {
		return consensus.NetworkID{}, err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, canonical, "", "  "); err != nil {
		return consensus.NetworkID{}, err
	}
	text.WriteByte('\n')
	for i, n := range nodes {
		prepare := func() error { return node.Prepare(ctx, n.home, g) }
		if n.observer {
			prepare = nil // it has no vote to keep safe
		}
		if err := n.home.Create(settings(m, nodes, i).TOML(), text.Bytes(), prepare); err != nil {
			return consensus.NetworkID{}, err
		}
	}
	return g.NetworkID()
}

// settings are the choices of one node. All know the observers, since any node may be asked for the log, and since the observers may be
// all who are left once they have become members.
func settings(m testnet.Manifest, nodes []made, i int) *config.Config {
	c := config.Default()
	c.Node.Name = name(i)
	c.RPC.Listen = address(m.Port(i, 0))
	c.Metrics.Listen = address(m.Port(i, testnet.PortMetrics))
	for j, other := range nodes {
		if other.observer && j != i {
			c.Peer.Observers = append(c.Peer.Observers, hex.EncodeToString(other.peer.Key))
			c.Peer.Bootstrap = append(c.Peer.Bootstrap, other.peer.String())
		}
	}
	if nodes[i].observer {
		c.Peer.Listen = nodes[i].peer.Address
	}
	return c
}

// newGenesis is that of a consortium: one administrator of the log, and of the accounts, all funded, the first administers the
// permissions.
func newGenesis(m testnet.Manifest, admin ed25519.PublicKey, accounts []common.Address, members []genesis.Member) *genesis.Genesis {
	g := &genesis.Genesis{
		Genesis: core.Genesis{Config: vm.OsakaConfig(m.ChainID), GasLimit: genesis.DefaultGasLimit, BaseFee: new(big.Int), Difficulty: new(big.Int), Alloc: types.GenesisAlloc{}},
		Ledgerd: genesis.Section{
			Engine: m.Engine, DedupWindow: cmp.Or(m.DedupWindow, genesis.DefaultDedupWindow),
			Administrators: []genesis.HexKey{genesis.HexKey(admin)}, Threshold: 1, Members: members,
		},
	}
	for _, a := range accounts {
		g.Alloc[a] = types.Account{Balance: new(big.Int).Mul(big.NewInt(10_000), big.NewInt(1e18))}
	}
	if m.Permissioned {
		g.Ledgerd.Permissions = &genesis.Permissions{
			RestrictSend: true, RestrictDeploy: true, Administrators: accounts[:1], Senders: accounts, Deployers: accounts,
		}
	}
	g.Complete()
	return g
}

// writeMembers writes all nodes, in their order, as a reconfiguration wants its members: whichever are to order are taken from there.
func writeMembers(path string, nodes []made) error {
	var all []genesis.Member
	for _, n := range nodes {
		all = append(all, n.member)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return home.WriteFile(path, append(text, '\n'), 0o644)
}

// writeAccounts makes accounts and the file with their keys.
func writeAccounts(path string, n int) ([]common.Address, error) {
	var addresses []common.Address
	var lines []Account
	for range n {
		key, err := crypto.GenerateKey()
		if err != nil {
			return nil, err
		}
		a := newAccount(key)
		addresses, lines = append(addresses, a.Address), append(lines, a)
	}
	text, err := json.MarshalIndent(lines, "", "  ")
	if err != nil {
		return nil, err
	}
	return addresses, home.WriteFile(path, append(text, '\n'), 0o600)
}

func newAccount(key *ecdsa.PrivateKey) Account {
	return Account{Address: crypto.PubkeyToAddress(key.PublicKey), PrivateKey: crypto.FromECDSA(key)}
}

// name is the folder of a node.
func name(i int) string { return "node" + strconv.Itoa(i) }

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
