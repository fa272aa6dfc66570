package comet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TestOneDown: three of four go on. The fourth has what it missed soon after it is back, however it was away.
func TestOneDown(t *testing.T) {
	c := startCluster(t, 4, nil)
	c.append(0, 3)
	c.stop(3)
	stop := c.load(0, 1, 2)
	c.eventually("three order", func() bool { return c.loglets[0].replica.Applied() > 20 })
	c.start(3)
	require.Positive(t, stop())
	c.append(3, 1)
	c.agree(3, 0, 1, 2)

	c.town.isolate(2, true)
	c.append(0, 10)
	c.eventually("it has noticed", func() bool { return c.loglets[2].Status().State == consensus.StateElecting })
	c.town.isolate(2, false)
	c.append(2, 1)
	c.agree(2, 0, 1, 3)
}

// TestNoQuorum: two of four order nothing, and say so; when a third is back they go on with what waited.
func TestNoQuorum(t *testing.T) {
	c := startCluster(t, 4, nil)
	c.append(0, 1)
	c.stop(2)
	c.stop(3)
	waiting := make(chan error, 1)
	go func() {
		_, err := c.loglets[0].Append(c.ctx, c.record())
		waiting <- err
	}()
	c.eventually("they know", func() bool { return c.loglets[0].Status().State == consensus.StateElecting })
	require.Equal(t, "missing", c.loglets[0].Status().Detail["member.3"])
	select {
	case err := <-waiting:
		t.Fatalf("two of four have ordered: %v", err)
	default:
	}
	c.start(2)
	require.NoError(t, <-waiting)
	c.start(3)
	c.append(3, 1)
	c.agree(0, 1, 2, 3)
}

// TestFarBehind: a member that was away for many blocks catches up. The test logs how fast.
func TestFarBehind(t *testing.T) {
	c := startCluster(t, 4, nil)
	c.append(0, 1)
	c.stop(3)
	c.append(0, 100)
	behind := c.loglets[0].replica.Applied()
	c.start(3)
	begun := time.Now()
	c.eventually("it has caught up", func() bool { return c.loglets[3].replica.Applied() >= behind })
	t.Logf("%d blocks in %v", behind, time.Since(begun).Round(time.Millisecond))
	c.agree(3, 0)
}

// TestStranded: a member that was away until all whom it reaches have dropped the block that comes next for it says so; what is to be done is the node's to decide. Once
// it reaches one that has the block, it catches up.
func TestStranded(t *testing.T) {
	c := newCluster(t, 4, nil)
	c.town.params = map[string]string{"timeout_propose": "5ms", "timeout_propose_delta": "5ms"} // one of four is down
	c.start(0, 1, 2, 3)
	c.append(0, 3)
	c.stop(3)
	c.append(0, 2*retainEvery)
	for i := range 2 {
		c.eventually("it has them all", func() bool { return c.loglets[i].replica.Position().Next > 2*retainEvery })
		require.NoError(t, c.loglets[i].Trim(c.ctx, 100))
	}
	c.append(0, retainEvery)
	for i := range 3 {
		c.eventually("blocks are dropped", func() bool { return i == 2 || c.loglets[i].blocks.Base() > 90 })
		c.eventually("it orders", func() bool { return c.loglets[i].Status().State == consensus.StateOrdering })
	}
	c.town.isolate(2, true) // which has not trimmed
	c.start(3)
	c.eventually("it says so", func() bool { return c.loglets[3].Status().State == consensus.StateTrimmed })
	c.town.isolate(2, false)
	c.append(3, 1)
	c.agree(3, 2)
	c.eventually("it orders again", func() bool { return c.loglets[3].Status().State == consensus.StateOrdering })
}

// TestAllRestart: what all of them had is there, and goes on, when all were stopped at once.
func TestAllRestart(t *testing.T) {
	c := startCluster(t, 4, nil)
	for range 3 {
		c.append(1, 5)
		for i := range 4 {
			c.stop(i)
		}
		c.start(0, 1, 2, 3)
	}
	c.append(2, 1)
	require.Len(t, c.agree(0, 1, 2, 3), 16)
}

// TestClock: the proposers' clocks stamp the records, and the log's own clock goes neither back nor, by a member whose clock is far ahead, ahead of the others'.
func TestClock(t *testing.T) {
	var ahead [4]atomic.Int64
	c := startCluster(t, 4, func(i int, o *Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead[i].Load())) }
	})
	c.append(0, 4)
	ahead[1].Store(int64(time.Hour)) // more than the others accept: its proposals are refused, and the next one's turn comes
	c.append(0, 8)
	entries := c.agree(0, 1, 2, 3)
	for _, e := range entries {
		require.Less(t, time.UnixMilli(int64(e.UnixMilli)), time.Now().Add(maxClockAhead))
	}
	ahead[1].Store(0)
	// All clocks are set back: the log's stands still.
	for i := range ahead {
		ahead[i].Store(int64(-time.Hour))
	}
	c.append(2, 4)
	entries = c.agree(0, 1, 2, 3)
	for i := 1; i < len(entries); i++ {
		require.GreaterOrEqual(t, entries[i].UnixMilli, entries[i-1].UnixMilli)
	}
}

// TestProposals: what ProcessProposal accepts is what an honest proposer makes, and nothing else; the verdict changes with the wall clock from bad to good only.
func TestProposals(t *testing.T) {
	var now atomic.Int64
	now.Store(1_700_000_000_000)
	c := startCluster(t, 1, func(_ int, o *Options) { o.Now = func() time.Time { return time.UnixMilli(now.Load()) } })
	c.append(0, 3)
	l := c.loglets[0]
	at := l.replica.Position()
	good := head{unixMilli: uint64(now.Load()), next: at.Next, digest: at.Digest}
	with := func(change func(h *head), txs ...[]byte) [][]byte {
		h := good
		if change != nil {
			change(&h)
		}
		return append([][]byte{h.encode()}, txs...)
	}
	fresh := func(n uint64) []byte { return encodeRecord(record(1000 + n)) }
	large := func(n uint64, bytes int) []byte {
		r := record(n)
		r.Payload = make([]byte, bytes)
		return encodeRecord(r)
	}
	unsigned := consensus.Seal{Request: consensus.Request{Epoch: 2, NotAfter: 100, Spec: consensus.Spec{Engine: Name}}}.Record()
	for name, tt := range map[string]struct {
		txs [][]byte
		ok  bool
	}{
		"a head alone":               {with(nil), true},
		"records and barriers":       {with(nil, fresh(1), nonce{1}.encode(), fresh(2)), true},
		"nothing":                    {nil, false},
		"no head":                    {[][]byte{fresh(1)}, false},
		"another lsn":                {with(func(h *head) { h.next++ }, fresh(1)), false},
		"another digest":             {with(func(h *head) { h.digest[0]++ }, fresh(1)), false},
		"a clock a little ahead":     {with(func(h *head) { h.unixMilli += 14_000 }, fresh(1)), true},
		"a clock far ahead":          {with(func(h *head) { h.unixMilli += 16_000 }, fresh(1)), false},
		"a clock behind the log's":   {with(func(h *head) { h.unixMilli = at.UnixMilli - 1 }, fresh(1)), false},
		"the same record twice":      {with(nil, fresh(1), fresh(1)), false},
		"a record of the log":        {with(nil, encodeRecord(record(1))), false},
		"an unsigned Seal":           {with(nil, encodeRecord(unsigned)), false},
		"a second Base":              {with(nil, encodeRecord(consensus.BaseRecord(l.replica.Segment()))), false},
		"junk":                       {with(nil, fresh(1), []byte("junk")), false},
		"a record of no valid app":   {with(nil, encodeRecord(consensus.Record{App: "NO", ID: consensus.RecordID{Session: 1}})), false},
		"a record without an id":     {with(nil, encodeRecord(consensus.Record{App: "test"})), false},
		"a claim that nobody made":   {with(nil, encodeRecord(consensus.Record{App: consensus.AppLog, ID: consensus.RecordID{Session: 9}, Payload: []byte{3, 1}})), false},
		"a transaction of two heads": {with(nil, good.encode()), false},
		"as much as one may hold":    {with(nil, large(2000, maxProposalBytes/2), large(2001, maxProposalBytes/2-200)), true},
		"more than one may hold":     {with(nil, large(2000, maxProposalBytes/2), large(2001, maxProposalBytes/2)), false},
	} {
		require.Equal(t, tt.ok, l.app.judge(tt.txs) == nil, name)
	}
	early := with(func(h *head) { h.unixMilli += 3_600_000 }, fresh(1))
	require.Error(t, l.app.judge(early))
	now.Add(3_600_000) // an hour's pause: what was good is good, what was too early is good now
	require.NoError(t, l.app.judge(early))
	require.NoError(t, l.app.judge(with(nil, fresh(1))))
}

// hesitant is a member that does not precommit while it is told not to.
type hesitant struct {
	types.PrivValidator
	waits *atomic.Bool
}

func (hesitant) begin()                                 {}
func (hesitant) propose(_ int64, txs [][]byte) [][]byte { return txs }

func (h hesitant) SignVote(chainID string, vote *cmtproto.Vote) error {
	if h.waits.Load() && vote.Type == cmtproto.PrecommitType {
		return errors.New("not now")
	}
	return h.PrivValidator.SignVote(chainID, vote)
}

// TestLocked: members that are locked on a block when all of them are stopped decide that block when they come back, an hour later, or with clocks that were set back by
// an hour meanwhile. Some may have lost their locks: the others vote for nothing else.
func TestLocked(t *testing.T) {
	for name, tt := range map[string]struct {
		pause    time.Duration
		unlocked []int // have lost CometBFT's write-ahead log
	}{
		"an hour later":                   {pause: time.Hour},
		"an hour later, and two unlocked": {pause: time.Hour, unlocked: []int{2, 3}},
		"an hour earlier":                 {pause: -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var shift atomic.Int64
			var waits atomic.Bool
			c := startCluster(t, 4, func(_ int, o *Options) {
				o.Now = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
				o.villain = func(_ *Loglet, honest types.PrivValidator) villain { return hesitant{honest, &waits} }
			})
			c.append(0, 3)
			waits.Store(true)
			r := c.record()
			fate := make(chan error, 1)
			go func() {
				_, err := c.loglets[0].Append(c.ctx, r)
				fate <- err
			}()
			var locked []byte
			c.eventually("all are locked on the same block", func() bool {
				locked = nil
				for _, l := range c.loglets {
					block := l.consensus.GetRoundState().LockedBlock
					if block == nil || locked != nil && !bytes.Equal(locked, block.Hash()) {
						return false
					}
					locked = block.Hash()
				}
				return true
			})
			height, wals := c.loglets[0].consensus.GetRoundState().Height, make([]string, 4)
			for i, l := range c.loglets {
				wals[i] = l.wal
				c.stop(i)
			}
			require.ErrorIs(t, <-fate, consensus.ErrUnknownFate)
			for _, i := range tt.unlocked {
				require.NoError(t, wipeWAL(wals[i]))
			}
			shift.Store(int64(tt.pause))
			waits.Store(false)
			c.start(0, 1, 2, 3)
			c.append(1, 2)
			entries := c.agree(0, 1, 2, 3)
			require.Equal(t, locked, []byte(c.loglets[2].blocks.LoadBlockMeta(height).BlockID.Hash))
			require.Equal(t, r.ID, entries[3].Record.ID)
			for i := 1; i < len(entries); i++ {
				require.GreaterOrEqual(t, entries[i].UnixMilli, entries[i-1].UnixMilli)
			}
		})
	}
}

// TestProposerIsHonest: whatever lies in the pool, what this node proposes is what it would accept.
func TestProposerIsHonest(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 5)
	l := c.loglets[0]
	expired := consensus.Seal{Request: consensus.Request{Epoch: 2, Spec: consensus.Spec{Engine: Name}}}.Record()
	pool := [][]byte{
		encodeRecord(record(1)), []byte("junk"), encodeRecord(record(100)), encodeRecord(record(100)), nonce{1}.encode(), encodeRecord(expired),
		encodeRecord(consensus.BaseRecord(l.replica.Segment())), head{}.encode(), encodeRecord(record(101)),
		encodeRecord(consensus.Record{App: "test", ID: record(101).ID, Payload: []byte("another record, under a known id")}),
	}
	at := l.replica.Position()
	h := head{unixMilli: at.UnixMilli, next: at.Next, digest: at.Digest}
	chosen, bad, err := l.app.choose(h, pool, 1<<20)
	require.NoError(t, err)
	require.NoError(t, l.app.judge(append([][]byte{h.encode()}, chosen...)))
	require.Len(t, chosen, 4)
	require.Len(t, bad, 6)
	few, _, err := l.app.choose(h, [][]byte{encodeRecord(record(100)), encodeRecord(record(101))}, 10)
	require.NoError(t, err)
	require.Len(t, few, 1, "no more than there is room for, but one at least")

	// The most that can be in a block: the largest record, behind more barriers than there is room for.
	largest := consensus.Record{App: "test", ID: record(102).ID}
	largest.Payload = make([]byte, consensus.MaxRecordBytes-largest.Size())
	require.NoError(t, largest.Validate())
	pool = [][]byte{encodeRecord(largest)}
	for i := range uint64(10_000) {
		pool = append(pool, barrier(i))
	}
	chosen, bad, err = l.app.choose(h, append(pool, encodeRecord(record(103))), maxProposalBytes-proposalOverhead)
	require.NoError(t, err)
	require.Empty(t, bad)
	require.Contains(t, chosen, pool[0])
	full := append([][]byte{h.encode(), encodeRecord(consensus.BaseRecord(l.replica.Segment()))}, chosen...)
	require.LessOrEqual(t, sizeOf(full...), int64(maxProposalBytes))
	require.NoError(t, l.app.judge(append([][]byte{h.encode()}, chosen...)))
}

// TestEngineFailure: when CometBFT's consensus ends by itself, the loglet says so, and who waits is told.
func TestEngineFailure(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 1)
	l := c.loglets[0]
	failure := errors.New("planted")
	l.app.committed = func(block, []consensus.Verdict) { panic(failure) }
	_, err := l.Append(c.ctx, c.record())
	require.ErrorIs(t, err, consensus.ErrEngineFailed)
	require.ErrorIs(t, err, consensus.ErrUnknownFate)
	require.ErrorIs(t, l.Stopped(), consensus.ErrEngineFailed)
	require.ErrorContains(t, l.Stopped(), "planted")
	require.Equal(t, consensus.StateFailed, l.Status().State)
	_, err = l.Append(c.ctx, c.record())
	require.ErrorIs(t, err, consensus.ErrEngineFailed)
}

// TestNoConnections: when the node accepts no connections any more, which ends CometBFT's process, the loglet says so, and stops; also if that came before it began.
func TestNoConnections(t *testing.T) {
	for _, early := range []bool{false, true} {
		t.Run(fmt.Sprintf("early=%v", early), func(t *testing.T) {
			c := newCluster(t, 1, nil)
			full := errors.New("too many open files")
			if early {
				c.create(0)
				require.NoError(t, c.engines[0].Prepare(c.ctx, c.stores[0], c.stores[0].Segments()[0]))
				c.engines[0].mu.prepared.noConnections(full)
				c.open(0)
			} else {
				c.start(0)
				c.append(0, 1)
				c.loglets[0].noConnections(full)
			}
			l := c.loglets[0]
			<-l.ended
			c.eventually("it says so", func() bool { return l.Stopped() != nil })
			require.ErrorIs(t, l.Stopped(), consensus.ErrEngineFailed)
			require.ErrorContains(t, l.Stopped(), full.Error())
			_, err := l.Append(c.ctx, c.record())
			require.ErrorIs(t, err, consensus.ErrEngineFailed)
		})
	}
}

// TestWALFailure: when CometBFT cannot begin with its write-ahead log, Open says so and leaves nothing behind that is in the way; once the log can be opened, the member goes
// on.
func TestWALFailure(t *testing.T) {
	directory := func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) }
	junk := func(path string) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = f.Write(bytes.Repeat([]byte("junk"), 100))
		return errors.Join(err, f.Close())
	}
	for name, tt := range map[string]struct {
		plant map[string]func(path string) error // by the name of the file
		fails string                             // part of the message; empty: Open succeeds
	}{
		"a directory in its place": {map[string]func(string) error{"": directory}, "is a directory"},
		"junk, which it mends":     {map[string]func(string) error{"": junk}, ""},
		"junk, which it cannot copy away": {
			map[string]func(string) error{"": junk, ".CORRUPTED": directory}, "start CometBFT's consensus",
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 1, nil)
			c.append(0, 3)
			wal := filepath.Join(c.loglets[0].wal, walFile)
			c.stop(0)
			for suffix, plant := range tt.plant {
				require.NoError(t, plant(wal+suffix))
			}
			if tt.fails != "" {
				c.create(0)
				_, err := c.engines[0].Open(c.ctx, c.stores[0], c.stores[0].Segments()[0])
				require.ErrorIs(t, err, consensus.ErrEngineFailed)
				require.ErrorContains(t, err, tt.fails)
				require.NoError(t, c.engines[0].Close())
				require.NoError(t, c.stores[0].Close())
				for suffix := range tt.plant {
					require.NoError(t, os.RemoveAll(wal+suffix))
				}
			}
			c.start(0)
			c.append(0, 1)
			require.Len(t, c.agree(0), 4)
		})
	}
}

// TestStatusWaitsForNobody: Status answers while CometBFT's consensus is in the middle of a block.
func TestStatusWaitsForNobody(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 1)
	l := c.loglets[0]
	committed, within, proceed := l.app.committed, make(chan struct{}), make(chan struct{})
	l.app.committed = func(b block, verdicts []consensus.Verdict) {
		close(within)
		<-proceed
		committed(b, verdicts)
	}
	stop := c.load(0)
	<-within
	require.Equal(t, "1", l.Status().Detail["proposer"])
	require.Equal(t, "0", l.Status().Detail["round"])
	l.app.committed = committed
	close(proceed)
	c.append(0, 1)
	stop()
}

// TestPrepareAbandoned: what was prepared for a request is taken down for the next one, and leaves nothing that was signed; its port is free again.
func TestPrepareAbandoned(t *testing.T) {
	c := startCluster(t, 4, nil)
	c.append(0, 1)
	next := func(change byte) consensus.Segment {
		spec := c.town.spec()
		spec.Ledger = []byte{change}
		return consensus.Request{NetworkID: consensus.NetworkID{1}, Epoch: 2, NotAfter: 100, Spec: spec}.Segment()
	}
	for change := range byte(3) {
		for i, e := range c.engines {
			require.NoError(t, e.Prepare(c.ctx, c.stores[i], next(change)))
			require.NoError(t, e.Prepare(c.ctx, c.stores[i], next(change)), "it may be asked again")
			v, err := c.stores[i].EngineArea(2).Get([]byte{keySigned})
			require.NoError(t, err)
			require.Nil(t, v)
		}
		c.eventually("they are connected", func() bool {
			for _, e := range c.engines {
				if e.mu.prepared.connected() < 4 {
					return false
				}
			}
			return true
		})
	}
	for i := range 4 {
		dirs, err := filepath.Glob(filepath.Join(c.town.dir, fmt.Sprint(i), "2-*"))
		require.NoError(t, err)
		require.Len(t, dirs, 1)
		require.NoError(t, c.engines[i].Close())
		dirs, err = filepath.Glob(filepath.Join(c.town.dir, fmt.Sprint(i), "2-*"))
		require.NoError(t, err)
		require.Empty(t, dirs)
	}
	c.append(1, 1)
}

// TestPrepareKept: what was prepared and is asked for again stays, though its time was just up and its timer waits to take it down.
func TestPrepareKept(t *testing.T) {
	c := newCluster(t, 1, nil)
	c.create(0)
	e, seg := c.engines[0], c.stores[0].Segments()[0]
	require.NoError(t, e.Prepare(c.ctx, c.stores[0], seg))
	first := e.mu.kept
	require.NoError(t, e.Prepare(c.ctx, c.stores[0], seg))
	e.expire(first)
	require.NotNil(t, e.mu.prepared)
	e.expire(e.mu.kept)
	require.Nil(t, e.mu.prepared)
	c.open(0)
	c.append(0, 1)
}

// TestPrepareWhileOpening: Prepare, which removes what an earlier one has left, has to wait while Open writes the member's identity; after that it is refused.
func TestPrepareWhileOpening(t *testing.T) {
	c := newCluster(t, 1, nil)
	var writing, locked atomic.Bool
	c.disks[0] = errorfs.Wrap(c.disks[0], errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo {
			if writing.CompareAndSwap(true, false) { // the first thing that is synced is the identity
				free := c.engines[0].mu.TryLock()
				if free {
					c.engines[0].mu.Unlock()
				}
				locked.Store(!free)
			}
		}
		return nil
	}))
	c.create(0)
	seg := c.stores[0].Segments()[0]
	require.NoError(t, c.engines[0].Prepare(c.ctx, c.stores[0], seg))
	writing.Store(true)
	c.open(0)
	require.False(t, writing.Load())
	require.True(t, locked.Load())
	require.ErrorIs(t, c.engines[0].Prepare(c.ctx, c.stores[0], seg), consensus.ErrInvalid)
	c.append(0, 1)
	require.FileExists(t, filepath.Join(c.loglets[0].wal, walFile))
}

// TestLeaks opens and closes a network again and again. What CometBFT leaves behind is known (doc.go), and nothing else grows.
func TestLeaks(t *testing.T) {
	for _, members := range []int{1, 2} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) { testLeaks(t, members) })
	}
}

func testLeaks(t *testing.T, members int) {
	c := startCluster(t, members, nil)
	c.append(0, 1)
	settle := func() int {
		n := runtime.NumGoroutine()
		for still := 0; still < 40; still++ { // gossip that outlives its peers ends within the second
			if !rest(c.ctx, 50*time.Millisecond) {
				return n
			}
			if now := runtime.NumGoroutine(); now != n {
				n, still = now, 0
			}
		}
		return n
	}
	files := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skipf("no /proc here: %v", err)
		}
		return len(fds)
	}
	before, open := settle(), files()
	const rounds = 20
	for range rounds {
		for i := range members {
			c.stop(i)
		}
		for i := range members {
			c.start(i)
		}
		c.append(0, 1)
	}
	require.LessOrEqual(t, settle(), before+2*members*rounds+4, "two goroutines for each stopped node are autofile's")
	require.LessOrEqual(t, files(), open+8)
}
