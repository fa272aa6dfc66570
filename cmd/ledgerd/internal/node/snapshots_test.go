package node

import (
	"context"
	"crypto/ed25519"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/stretchr/testify/require"

	"ledgerd/cmd/ledgerd/internal/devkeys"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/consensus/raft"
	"ledgerd/ledger"
	"ledgerd/ledger/batch"
	"ledgerd/ledger/genesis"
)

func TestTrimPoint(t *testing.T) {
	for name, tc := range map[string]struct {
		p    trimPolicy
		want consensus.LSN
	}{
		"everything is kept":               {trimPolicy{900, 900, 1001, 0, 10}, 0},
		"nothing stands for the beginning": {trimPolicy{900, 0, 1001, 100, 10}, 0},
		"an empty log":                     {trimPolicy{0, 0, 1, 100, 10}, 0},
		"the operator wants most":          {trimPolicy{1000, 1000, 1001, 300, 10}, 700},
		"the snapshot is older":            {trimPolicy{1000, 500, 1001, 300, 10}, 490},
		"the ledger is not durable":        {trimPolicy{400, 500, 1001, 300, 10}, 390},
		"the window is the most":           {trimPolicy{1000, 1000, 1001, 5, 100}, 900},
		"shorter than the window":          {trimPolicy{50, 50, 51, 5, 100}, 0},
		"shorter than what is retained":    {trimPolicy{50, 50, 51, 100, 5}, 0},
		"just as long":                     {trimPolicy{100, 100, 101, 100, 5}, 0},
		"one more":                         {trimPolicy{101, 101, 102, 100, 5}, 1},
		"no bound overflows":               {trimPolicy{100, 100, 101, math.MaxUint64, math.MaxUint64}, 0},
		"nor does a long log":              {trimPolicy{math.MaxUint64, math.MaxUint64, math.MaxUint64, 1, 1}, math.MaxUint64 - 2},
	} {
		require.Equal(t, tc.want, tc.p.point(), name)
	}
}

const smallWindow = 16

// snapshotOptions are those of a node with a small dedup window, at a new home.
func snapshotOptions(t *testing.T, change func(*genesis.Genesis)) Options {
	t.Helper()
	opts := options(t, "")
	opts.Genesis = genesis.Dev(1337, devkeys.Addresses())
	opts.Genesis.Ledgerd.DedupWindow = smallWindow
	if change != nil {
		change(opts.Genesis)
	}
	return withHome(t, opts)
}

// withHome gives the options a home of their own.
func withHome(t *testing.T, opts Options) Options {
	t.Helper()
	text, err := opts.Genesis.JSON()
	require.NoError(t, err)
	opts.Home = home.Home(filepath.Join(t.TempDir(), "node"))
	require.NoError(t, opts.Home.Create(opts.Config.TOML(), text, nil))
	return opts
}

// transferRecord is the n-th record of a history: one transfer.
func transferRecord(t *testing.T, n uint64) consensus.Record {
	t.Helper()
	accounts := devkeys.Accounts()
	raw, err := types.MustSignNewTx(accounts[0].Key, types.LatestSignerForChainID(big.NewInt(1337)), &types.DynamicFeeTx{
		ChainID: big.NewInt(1337), Nonce: n - 1, Gas: 21000, To: &accounts[1].Address, Value: common.Big1, GasFeeCap: common.Big1, GasTipCap: common.Big0,
	}).MarshalBinary()
	require.NoError(t, err)
	return consensus.Record{App: ledger.App, ID: consensus.RecordID{Session: 1, Seq: n}, Payload: batch.Encode([][]byte{raw})}
}

// extend runs a node until its ledger has applied n entries of the history, and calls then, if it is not nil, before it is stopped.
func extend(t *testing.T, opts Options, n uint64, then func(*Node)) (head common.Hash) {
	t.Helper()
	node, err := Open(t.Context(), opts)
	require.NoError(t, err)
	stop := sync.OnceValue(run(t, node))
	defer stop() // before the home goes, if the test fails
	for next := uint64(node.Ledger().Applied()) + 1; next <= n; next++ {
		lsn, err := node.log.Append(t.Context(), transferRecord(t, next))
		require.NoError(t, err)
		require.EqualValues(t, next, lsn)
	}
	eventually(t, "the ledger applies", func() bool { return uint64(node.Ledger().Applied()) >= n })
	require.NoError(t, node.Ledger().Drain(t.Context()))
	head = node.Ledger().CurrentHeader().Hash()
	if then != nil {
		then(node)
	}
	require.NoError(t, stop())
	return head
}

// follow lets the log of one stopped node have what another's has more, as an observer would.
func follow(t *testing.T, from, to Options) {
	t.Helper()
	leading, source := openStore(t, from)
	defer leading.Close()
	behind, copied := openStore(t, to)
	defer behind.Close()
	entries, err := source.Read(t.Context(), consensus.Offset(behind.Next()-1), consensus.Offset(leading.Next()-1))
	require.NoError(t, err)
	for _, e := range entries {
		v, err := copied.Apply(consensus.Batch{Applied: uint64(e.LSN), Items: []consensus.Item{{UnixMilli: e.UnixMilli, Record: e.Record}}, Sync: true})
		require.NoError(t, err)
		require.Equal(t, e.Digest, v[0].Entry.Digest)
	}
}

// openStore opens the log of a stopped node.
func openStore(t *testing.T, o Options) (*consensus.Store, *consensus.Replica) {
	t.Helper()
	id, err := o.Genesis.NetworkID()
	require.NoError(t, err)
	s, err := consensus.OpenStore(t.Context(), consensus.StoreOptions{
		Dir: o.Home.LogDir(), NetworkID: id, Genesis: o.Genesis.Spec(), Window: int(o.Genesis.Ledgerd.DedupWindow),
	})
	require.NoError(t, err)
	r, err := s.Replica(1)
	require.NoError(t, err)
	return s, r
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !ok() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func noProgress(string, uint64, uint64) {}

// TestNodeFromSnapshot: a home that is restored from a snapshot comes, with the rest of the log, to the head of the one that it was taken from.
func TestNodeFromSnapshot(t *testing.T) {
	const half, end = 40, 70
	opts := snapshotOptions(t, nil)
	middle := extend(t, opts, half, nil)
	file := filepath.Join(t.TempDir(), "half.snapshot")
	made, err := MakeSnapshot(t.Context(), opts, file, func(uint64) {})
	require.NoError(t, err)
	require.Equal(t, []any{file, consensus.LSN(half), uint64(half), middle}, []any{made.File, made.LSN, made.Block, made.Head})
	want := extend(t, opts, end, nil)

	to := withHome(t, opts)
	var steps []string
	restored, err := Restore(t.Context(), to, file, func(what string, done, total uint64) {
		if len(steps) == 0 || steps[len(steps)-1] != what {
			steps = append(steps, what)
		}
		require.LessOrEqual(t, done, total)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"reading", "restoring"}, steps)
	id, err := opts.Genesis.NetworkID()
	require.NoError(t, err)
	require.Equal(t, Restored{Network: id, LSN: half, Epoch: 1, Block: half, Head: middle}, restored)
	require.Equal(t, middle, extend(t, to, half, func(n *Node) {
		require.EqualValues(t, half, n.log.Trimmed())
		again, err := n.log.Append(t.Context(), transferRecord(t, half)) // in the dedup window, and before the snapshot
		require.NoError(t, err)
		require.EqualValues(t, half, again)
	}))
	follow(t, opts, to)
	require.Equal(t, want, extend(t, to, end, nil))
	require.Equal(t, want, extend(t, to, end, nil), "after a restart too")
	_, err = Verify(t.Context(), to, func(_, _ uint64) {})
	require.ErrorIs(t, err, consensus.ErrTrimmed)

	// Of a home that has something, nothing is touched.
	before, err := os.ReadFile(to.Home.Genesis())
	require.NoError(t, err)
	_, err = Restore(t.Context(), to, file, noProgress)
	require.ErrorIs(t, err, home.ErrExists)
	require.ErrorContains(t, err, "lsn 70")
	after, err := os.ReadFile(to.Home.Genesis())
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.Equal(t, want, extend(t, to, end, nil))
}

// TestRestoreLeavesNothing: what cannot be restored leaves the home as it was, which can then be restored after all.
func TestRestoreLeavesNothing(t *testing.T) {
	opts := snapshotOptions(t, nil)
	want := extend(t, opts, 5, nil)
	made, err := MakeSnapshot(t.Context(), opts, "", func(uint64) {})
	require.NoError(t, err)
	require.Equal(t, opts.Home.SnapshotsDir(), filepath.Dir(made.File))
	good, err := os.ReadFile(made.File)
	require.NoError(t, err)
	bad := filepath.Join(t.TempDir(), "bad")
	good[len(good)/2] ^= 1
	require.NoError(t, os.WriteFile(bad, good, 0o600))

	to := withHome(t, opts)
	_, err = Restore(t.Context(), to, bad, noProgress)
	require.ErrorIs(t, err, snapshot.ErrBad)
	_, err = Restore(t.Context(), to, bad+".no", noProgress)
	require.ErrorIs(t, err, os.ErrNotExist)
	other := snapshotOptions(t, func(g *genesis.Genesis) { g.Coinbase[0] = 7 })
	_, err = Restore(t.Context(), other, made.File, noProgress)
	require.ErrorIs(t, err, consensus.ErrWrongNetwork)
	for _, o := range []Options{to, other} {
		files, err := os.ReadDir(o.Home.DataDir())
		require.NoError(t, err)
		require.Empty(t, files)
	}
	extend(t, to, 0, nil) // started once, without an entry
	ctx, cancel := context.WithCancel(t.Context())
	_, err = Restore(ctx, to, made.File, func(what string, _, _ uint64) {
		if what == "restoring" {
			cancel()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	_, err = Restore(t.Context(), to, made.File, noProgress)
	require.NoError(t, err)
	require.Equal(t, want, extend(t, to, 5, nil))

	lock, err := to.Home.Open()
	require.NoError(t, err)
	defer lock.Close()
	_, err = Restore(t.Context(), to, made.File, noProgress)
	require.ErrorIs(t, err, home.ErrInUse)
	_, err = MakeSnapshot(t.Context(), to, "", func(uint64) {})
	require.ErrorIs(t, err, home.ErrInUse)
}

// TestRestoredMemberDoesNotVote: a member whose home init had vouched for, since it could never have voted, is restored from a snapshot. What the snapshot
// is of, it may have voted on.
func TestRestoredMemberDoesNotVote(t *testing.T) {
	opts := options(t, "")
	opts.Home = home.Home(filepath.Join(t.TempDir(), "member"))
	key, err := home.NewKey(makeDir(t, opts.Home))
	require.NoError(t, err)
	opts.Genesis = genesis.Dev(1337, devkeys.Addresses())
	opts.Genesis.Ledgerd.Engine = raft.Name
	opts.Genesis.Ledgerd.Members = []genesis.Member{{ID: 1, NodeKey: genesis.HexKey(key.Public().(ed25519.PublicKey)), PeerAddress: "127.0.0.1:0"}}
	text, err := opts.Genesis.JSON()
	require.NoError(t, err)
	require.NoError(t, opts.Home.Create(opts.Config.TOML(), text, func() error { return Prepare(t.Context(), opts.Home, opts.Genesis) }))
	extend(t, opts, 3, nil)
	made, err := MakeSnapshot(t.Context(), opts, "", func(uint64) {})
	require.NoError(t, err)

	require.NoError(t, os.RemoveAll(opts.Home.DataDir()))
	require.NoError(t, Prepare(t.Context(), opts.Home, opts.Genesis))
	r, err := Restore(t.Context(), opts, made.File, noProgress)
	require.NoError(t, err)
	require.True(t, r.Observer)
	store, replica := openStore(t, opts)
	defer store.Close()
	defer replica.Close()
	vouched, err := store.Vouched(1)
	require.NoError(t, err)
	require.False(t, vouched)
}

func makeDir(t *testing.T, h home.Home) (nodeKey string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(string(h), 0o755))
	return h.NodeKey()
}

// TestSnapshotsByThemselves: a running node makes snapshots as it goes, keeps the newest, and trims its log below them; and a new node can begin with any of
// them and read on where it ends.
func TestSnapshotsByThemselves(t *testing.T) {
	opts := snapshotOptions(t, nil)
	opts.Config.Snapshot.Every, opts.Config.Log.Retain = 20, 25
	extend(t, opts, 30, func(n *Node) {
		eventually(t, "a snapshot is made", func() bool { return n.Snapshots().Newest() >= 20 })
	})
	extend(t, opts, 90, func(n *Node) {
		eventually(t, "another one, and the log is trimmed", func() bool { return n.Snapshots().Newest() > 30 && n.log.Trimmed() > 0 })
		list := n.Snapshots().List()
		oldest := n.Snapshots().Oldest()
		require.Len(t, list, 2)
		require.LessOrEqual(t, n.log.Trimmed(), oldest-smallWindow)
		_, err := n.log.Follow(t.Context(), oldest+1, 1)
		require.NoError(t, err, "what follows the oldest snapshot is there")
		_, err = n.log.Snapshot(t.Context(), oldest)
		require.NoError(t, err, "and it could be made again")
		_, err = n.log.Read(t.Context(), 1, 2)
		require.ErrorIs(t, err, consensus.ErrTrimmed)
	})
	extend(t, opts, 95, nil)
}

// TestVerifyAndSnapshotOverRPC: a running node verifies what it has when it is asked to, and makes a snapshot, and says of what.
func TestVerifyAndSnapshotOverRPC(t *testing.T) {
	opts := snapshotOptions(t, nil)
	extend(t, opts, 10, func(n *Node) {
		c, err := rpc.Dial("http://" + n.Addr().String())
		require.NoError(t, err)
		defer c.Close()
		head := n.ledger.CurrentHeader()
		var verified map[string]any
		require.NoError(t, c.Call(&verified, "ledger_verify", "0x1", "latest"))
		blocks := hexutil.EncodeUint64(head.Number.Uint64())
		for _, count := range []string{"toBlock", "logEntries", "executed", "stateRoots"} {
			require.Equal(t, blocks, verified[count], count)
		}

		var made, kept any
		require.NoError(t, c.Call(&made, "ledger_snapshot"))
		require.NoError(t, c.Call(&kept, "ledger_snapshots"))
		require.Equal(t, []any{made}, kept)
		s, list := made.(map[string]any), n.Snapshots().List()
		require.Len(t, list, 1)
		require.Equal(t, filepath.Base(n.Snapshots().Path(list[0])), s["file"])
		require.Equal(t, hexutil.EncodeUint64(uint64(n.ledger.Applied())), s["lsn"])
		require.Equal(t, head.Hash().Hex(), s["blockHash"])
		require.Equal(t, head.Root.Hex(), s["stateRoot"])
		digest, err := n.log.DigestAt(t.Context(), list[0].LSN)
		require.NoError(t, err)
		require.Equal(t, hexutil.Encode(digest[:]), s["digest"])
	})
}

// TestRejoin: a node whose log is behind goes on from a snapshot that is ahead, and keeps the whole history that it had; from one that is of no use it does not, and
// goes on with what it has.
func TestRejoin(t *testing.T) {
	const behind, ahead, end = 20, 50, 60
	opts := snapshotOptions(t, nil)
	extend(t, opts, behind, nil)
	late := withHome(t, opts)
	extend(t, late, behind, nil)
	snapshotAt := func(n uint64) *Rejoin {
		extend(t, opts, n, nil)
		file := filepath.Join(t.TempDir(), "a.snapshot")
		made, err := MakeSnapshot(t.Context(), opts, file, func(uint64) {})
		require.NoError(t, err)
		return &Rejoin{path: file, LSN: made.LSN}
	}
	stale := snapshotAt(behind)
	good := snapshotAt(ahead)
	damaged := filepath.Join(t.TempDir(), "b.snapshot")
	data, err := os.ReadFile(good.path)
	require.NoError(t, err)
	data[len(data)/2] ^= 1
	require.NoError(t, os.WriteFile(damaged, data, 0o600))
	for _, r := range []*Rejoin{stale, {path: damaged, LSN: ahead}, {path: damaged + ".gone", LSN: ahead}} {
		bad := late
		bad.Rejoin = r
		extend(t, bad, behind, func(n *Node) {
			require.True(t, n.rejoinFailed)
			require.Zero(t, n.log.Trimmed())
		})
		require.NoFileExists(t, r.path)
	}
	require.NoDirExists(t, late.Home.DataDir()+".before-rejoin")

	late.Rejoin = good
	extend(t, late, ahead, func(n *Node) {
		require.False(t, n.rejoinFailed)
		require.EqualValues(t, ahead, n.log.Trimmed())
	})
	require.NoFileExists(t, good.path)
	require.DirExists(t, late.Home.DataDir()+".before-rejoin")
	late.Rejoin = nil
	want := extend(t, opts, end, nil)
	follow(t, opts, late)
	require.Equal(t, want, extend(t, late, end, nil))
}
