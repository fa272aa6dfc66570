package network

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/node"
	"ledgerd/contracts"
	"ledgerd/ledger/genesis"
	"ledgerd/testnet"
)

func read(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, v))
}

// TestInit looks at every file of a network.
func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "net")
	m := testnet.Default()
	m.Nodes, m.Accounts, m.ChainID, m.BasePort = 3, 5, 4242, 20000
	n, err := Init(t.Context(), dir, m)
	require.NoError(t, err)
	require.Len(t, n.Nodes, 3)

	admin, err := home.ReadKey(n.AdminKey)
	require.NoError(t, err)
	var accounts []Account
	read(t, n.Accounts, &accounts)
	require.Len(t, accounts, 5)
	for _, path := range []string{n.AdminKey, n.Accounts} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
	}

	for i, made := range n.Nodes {
		h := home.Home(made.Home)
		c, err := config.Load(h.Config(), nil)
		require.NoError(t, err)
		require.Equal(t, address(20000+10*i), c.RPC.Listen)
		require.Equal(t, address(20004+10*i), c.Metrics.Listen)
		text, err := os.ReadFile(h.Genesis())
		require.NoError(t, err)
		g, err := genesis.Parse(text)
		require.NoError(t, err)
		id, err := g.NetworkID()
		require.NoError(t, err)
		require.Equal(t, n.NetworkID, id, "one network")
		key, err := home.ReadKey(h.NodeKey())
		require.NoError(t, err)
		member := g.Spec().Members[i]
		require.Equal(t, uint64(i+1), member.ID)
		require.Equal(t, key.Public(), member.NodeKey)
		require.Equal(t, address(20001+10*i), member.PeerAddress)
		require.Equal(t, []ed25519.PublicKey{admin.Public().(ed25519.PublicKey)}, g.Spec().Admins)
		require.Equal(t, 1, g.Spec().Threshold)
		require.Equal(t, uint64(4242), g.Config.ChainID.Uint64())

		storage := g.Alloc[contracts.PermissionsAddress].Storage
		require.Equal(t, contracts.RestrictSend|contracts.RestrictDeploy, storage[contracts.RestrictionsSlot].Big().Uint64())
		for j, a := range accounts {
			key, err := crypto.ToECDSA(a.PrivateKey)
			require.NoError(t, err)
			require.Equal(t, crypto.PubkeyToAddress(key.PublicKey), a.Address)
			require.Equal(t, "10000000000000000000000", g.Alloc[a.Address].Balance.String())
			want := contracts.FlagSend | contracts.FlagDeploy
			if j == 0 {
				want |= contracts.FlagAdmin
			}
			require.Equal(t, want, storage[contracts.PermissionsSlot(a.Address)].Big().Uint64())
		}
	}

	_, err = Init(t.Context(), dir, m)
	require.ErrorIs(t, err, ErrNotEmpty)
}

// TestInitObservers: observers are no members, know the members by the genesis and are known to every node.
func TestInitObservers(t *testing.T) {
	m := testnet.Default()
	m.Nodes, m.Observers, m.BasePort = 3, 2, 20000
	n, err := Init(t.Context(), filepath.Join(t.TempDir(), "net"), m)
	require.NoError(t, err)
	require.Len(t, n.Nodes, 5)
	for i, made := range n.Nodes {
		h := home.Home(made.Home)
		text, err := os.ReadFile(h.Genesis())
		require.NoError(t, err)
		g, err := genesis.Parse(text)
		require.NoError(t, err)
		require.Len(t, g.Spec().Members, 3)
		key, err := home.ReadKey(h.NodeKey())
		require.NoError(t, err)
		require.Equal(t, made.NodeKey, hex.EncodeToString(key.Public().(ed25519.PublicKey)))
		_, member := g.Spec().Member(key.Public().(ed25519.PublicKey))
		require.Equal(t, !made.Observer, member)
		require.Equal(t, i >= 3, made.Observer)

		c, err := config.Load(h.Config(), nil)
		require.NoError(t, err)
		var observers, bootstrap []string
		for _, other := range n.Nodes[3:] {
			if other.Index != i {
				observers = append(observers, other.NodeKey)
				bootstrap = append(bootstrap, other.NodeKey+"@"+other.Peer)
			}
		}
		require.Equal(t, observers, c.Peer.Observers)
		require.Equal(t, bootstrap, c.Peer.Bootstrap)
		require.Equal(t, address(20001+10*i), made.Peer)
		listen := ""
		if made.Observer {
			listen = made.Peer
		}
		require.Equal(t, listen, c.Peer.Listen)
		_, err = os.Stat(h.LogDir())
		require.Equal(t, made.Observer, os.IsNotExist(err), "only members have a mark to order with")
	}
}

// TestInitOpen: without permissions everybody may send.
func TestInitOpen(t *testing.T) {
	m := testnet.Default()
	m.Nodes, m.Engine, m.Permissioned = 1, genesis.EngineLocal, false
	n, err := Init(t.Context(), t.TempDir(), m)
	require.NoError(t, err, "an empty folder is taken")
	text, err := os.ReadFile(home.Home(n.Nodes[0].Home).Genesis())
	require.NoError(t, err)
	g, err := genesis.Parse(text)
	require.NoError(t, err)
	require.Empty(t, g.Spec().Members)
	require.Empty(t, n.Nodes[0].Peer)
	require.Equal(t, common.Hash{}, g.Alloc[contracts.PermissionsAddress].Storage[contracts.RestrictionsSlot])
}

// TestFailedInitLeavesNothing is invariant 1.
func TestFailedInitLeavesNothing(t *testing.T) {
	parent := t.TempDir()
	m := testnet.Default()
	m.Engine = "paxos"
	_, err := Init(t.Context(), filepath.Join(parent, "net"), m)
	require.ErrorIs(t, err, node.ErrUnknownEngine)
	m.Engine = genesis.EngineLocal
	_, err = Init(t.Context(), filepath.Join(parent, "net"), m)
	require.ErrorContains(t, err, "orders alone")
	left, err := os.ReadDir(parent)
	require.NoError(t, err)
	require.Empty(t, left)

	file := filepath.Join(parent, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	m.Engine = genesis.EngineRaft
	_, err = Init(t.Context(), filepath.Join(file, "net"), m)
	require.ErrorIs(t, err, home.ErrCannotCreate)
}

func TestUpOfNothing(t *testing.T) {
	require.ErrorIs(t, Up(t.Context(), Options{Dir: t.TempDir()}), ErrNoNetwork)
}
