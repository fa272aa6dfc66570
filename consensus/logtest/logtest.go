package logtest

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TB is the part of testing.TB that checks use. FailNow must end the goroutine; checks call it from their own goroutine only.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	FailNow()
	Cleanup(func())
}

// A Harness makes an engine testable.
type Harness struct {
	// Members is how many nodes order a segment. 0 means 1.
	Members int
	// New makes a network of that many members, with what they share (a transport, keys). It is called once for each check, and cleans up through
	// tb.Cleanup.
	New func(tb TB, env Env) Cluster
	// Patience is how long a check waits for what must come; an engine that never gets there fails the check instead of hanging it. 0 means 30 s.
	Patience time.Duration
	// Switch says that all of several members order the next segments too, so that switching from one to the next is checked with them. With one member
	// it is in any case.
	Switch bool
	// RealDisk keeps the members' logs on the operating system's file system, in temporary folders. The checks that need a
	// disk which can crash or rot are then left out.
	RealDisk bool
}

// Env is what the suite gives a network.
type Env struct {
	Members int
	Now     func() time.Time // the wall clock to stamp entries with: it may jump, also back
}

// A Cluster is a network of members.
type Cluster struct {
	// Spec of the segment. The suite fills in the administrators and, where segments are switched, the members' node keys.
	Spec consensus.Spec
	// Engine opens the loglet of a member, from 0. It is called again for a member that restarts.
	Engine func(member int) consensus.Engine
	// Freeze, if not nil, stops everything that passes between members until thaw is called. The suite copies the disks of all members
	// one after another; what passes meanwhile could make copies that hold an effect (a committed entry) without its
	// cause (the entry on a quorum), which no crash leaves.
	Freeze func() (thaw func())
}

// A Check is one promise.
type Check struct {
	Name string
	Run  func(tb TB, h Harness)
}

// Checks returns the suite for a harness. With several members, what a member does in a switch that it was away from is left out: it takes what lies between nodes,
// and is checked by packages raft and sim.
func Checks(h Harness) []Check {
	checks := []Check{
		{"AppendAndRead", checkAppendAndRead},
		{"ConcurrentAppends", checkConcurrentAppends},
		{"ReadRanges", checkReadRanges},
		{"Follow", checkFollow},
		{"FollowBounds", checkFollowBounds},
		{"Tail", checkTail},
		{"Trim", checkTrim},
		{"InvalidRecords", checkInvalidRecords},
		{"Seal", checkSeal},
		{"InvalidSeals", checkInvalidSeals},
		{"SealUnderLoad", checkSealUnderLoad},
		{"FollowToSeal", checkFollowToSeal},
		{"Duplicates", checkDuplicates},
		{"DuplicatesAtOnce", checkDuplicatesAtOnce},
		{"ForeignIDs", checkForeignIDs},
		{"DedupWindow", checkDedupWindow},
		{"Cancel", checkCancel},
		{"Close", checkClose},
		{"Reopen", checkReopen},
		{"Crash", checkCrash},
		{"Time", checkTime},
		{"Corruption", checkCorruption},
		{"Status", checkStatus},
	}
	if h.members() == 1 || h.Switch {
		checks = append(checks,
			Check{"Switch", checkSwitch},
			Check{"SwitchTrim", checkSwitchTrim},
			Check{"SwitchUnderLoad", checkSwitchUnderLoad},
			Check{"VirtualClose", checkVirtualClose})
	}
	if h.members() == 1 {
		checks = append(checks,
			Check{"SwitchCrash", checkSwitchCrash},
			Check{"UnknownEngine", checkUnknownEngine})
	}
	if h.RealDisk {
		checks = slices.DeleteFunc(checks, func(c Check) bool {
			return slices.Contains([]string{"Crash", "SwitchCrash", "Corruption"}, c.Name)
		})
	}
	return checks
}

// Run runs the suite.
func Run(t *testing.T, h Harness) {
	for _, c := range Checks(h) {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

func (h Harness) members() int { return max(1, h.Members) }

func (h Harness) patience() time.Duration { return cmp.Or(h.Patience, 2*time.Minute) }

// dir is the log's directory on each member's disk.
const dir = "node/log"

// network is the id of the suite's networks.
var network = consensus.NetworkID(sha256.Sum256([]byte("logtest")))

// A clock is the wall clock of a check, in milliseconds.
type clock struct{ ms atomic.Int64 }

func (c *clock) Now() time.Time { return time.UnixMilli(c.ms.Load()) }

// A world is a network with its members' disks, stores and loglets.
type world struct {
	TB
	ctx     context.Context
	h       Harness
	cluster Cluster
	window  int
	clock   clock
	disks   []*vfs.MemFS
	folders []string // of members on a real disk; their disks are not used
	stores  []*consensus.Store
	loglets []consensus.Loglet
	others  []*consensus.VirtualLog // of the members from 1 on, where segments are switched
	admins  []ed25519.PrivateKey
	rng     *rand.Rand
	seq     atomic.Uint64
}

// newDisks makes a world whose members are not open yet.
func newDisks(tb TB, h Harness, window int) *world {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), h.patience())
	tb.Cleanup(cancel)
	w := &world{TB: tb, ctx: ctx, h: h, window: window}
	w.rng = rand.New(rand.NewPCG(1, uint64(len(tb.Name()))))
	w.clock.ms.Store(1_700_000_000_000)
	for i := range 3 {
		seed := sha256.Sum256(fmt.Append(nil, "administrator", i))
		w.admins = append(w.admins, ed25519.NewKeyFromSeed(seed[:]))
	}
	w.cluster = h.New(tb, Env{Members: h.members(), Now: w.clock.Now})
	w.cluster.Spec.Threshold = 2
	for _, k := range w.admins {
		w.cluster.Spec.Admins = append(w.cluster.Spec.Admins, k.Public().(ed25519.PublicKey))
	}
	for range h.members() {
		w.disks = append(w.disks, vfs.NewCrashableMem())
		if h.RealDisk {
			w.folders = append(w.folders, newFolder(tb))
		}
	}
	return w
}

// newWorld makes a world whose members are open.
func newWorld(tb TB, h Harness) *world {
	tb.Helper()
	return newWorldWindow(tb, h, 1024)
}

func newWorldWindow(tb TB, h Harness, window int) *world {
	tb.Helper()
	w := newDisks(tb, h, window)
	w.open()
	tb.Cleanup(w.close)
	return w
}

func newFolder(tb TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("", "logtest-")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}

// place says where a member's log is.
func (w *world) place(member int) (vfs.FS, string) {
	if w.h.RealDisk {
		return vfs.Default, w.folders[member]
	}
	return w.disks[member], dir
}

// open opens all members.
func (w *world) open() {
	w.Helper()
	w.stores, w.loglets = nil, nil
	for i := range w.disks {
		w.stores = append(w.stores, w.openStore(i))
	}
	for i, store := range w.stores {
		segments := store.Segments()
		loglet, err := w.cluster.Engine(i).Open(w.ctx, store, segments[len(segments)-1])
		require.NoError(w, err)
		w.loglets = append(w.loglets, loglet)
	}
}

func (w *world) openStore(member int) *consensus.Store {
	w.Helper()
	fs, dir := w.place(member)
	store, err := consensus.OpenStore(w.ctx, consensus.StoreOptions{
		FS: fs, Dir: dir, NetworkID: network, Genesis: w.cluster.Spec, Window: w.window,
		OnFatal: func(err error) { w.Errorf("member %d: %v", member, err) },
	})
	require.NoError(w, err)
	return store
}

// close closes all members; once more does nothing.
func (w *world) close() {
	for _, l := range w.loglets {
		if err := l.Close(); err != nil {
			w.Errorf("close loglet: %v", err)
		}
	}
	for _, s := range w.stores {
		if err := s.Close(); err != nil {
			w.Errorf("close store: %v", err)
		}
	}
	w.stores, w.loglets = nil, nil
}

func (w *world) reopen() {
	w.Helper()
	w.close()
	w.open()
}

// crashed returns the disks as a crash at this moment may leave them.
func (w *world) crashed() []*vfs.MemFS {
	if w.cluster.Freeze != nil {
		defer w.cluster.Freeze()()
	}
	var disks []*vfs.MemFS
	for _, d := range w.disks {
		percent := []int{0, 30, 70, 100}[w.rng.IntN(4)]
		disks = append(disks, d.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: w.rng}))
	}
	return disks
}

// record makes a record that no other one equals.
func (w *world) record() consensus.Record {
	n := w.seq.Add(1)
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 7, Seq: n}, Payload: fmt.Appendf(nil, "payload %d", n)}
}

// append appends a new record through a member.
func (w *world) append(member int) (consensus.Record, consensus.Offset) {
	w.Helper()
	r := w.record()
	o, err := w.loglets[member].Append(w.ctx, r)
	require.NoError(w, err)
	return r, o
}

// fill appends n records through member 0 and returns them; the first has offset 0 in a new world.
func (w *world) fill(n int) []consensus.Record {
	w.Helper()
	var rs []consensus.Record
	for range n {
		r, _ := w.append(0)
		rs = append(rs, r)
	}
	return rs
}

// all returns a member's entries [0, n), waiting for them.
func (w *world) all(member int, n consensus.Offset) []consensus.Entry {
	w.Helper()
	var entries []consensus.Entry
	for consensus.Offset(len(entries)) < n {
		more, err := w.loglets[member].Follow(w.ctx, consensus.Offset(len(entries)), int(n)-len(entries))
		require.NoError(w, err)
		require.NotEmpty(w, more)
		entries = append(entries, more...)
	}
	if n > 0 {
		again, err := w.loglets[member].Read(w.ctx, 0, n)
		require.NoError(w, err)
		require.Equal(w, entries, again, "Follow and Read differ")
	}
	return entries
}

func (w *world) tail(member int) consensus.Tail {
	w.Helper()
	tail, err := w.loglets[member].Tail(w.ctx, consensus.Consistent)
	require.NoError(w, err)
	return tail
}

// seal returns a Seal's record for the segment with the next spec, authorised by the first n administrators, after change was made to it.
func (w *world) seal(n int, change func(*consensus.Request)) consensus.Record {
	segments := w.stores[0].Segments()
	seg := segments[len(segments)-1]
	next := w.cluster.Spec
	next.Members = nil
	return w.sealRecord(seg.Epoch+1, next, n, change)
}

func (w *world) sealRecord(epoch consensus.Epoch, next consensus.Spec, n int, change func(*consensus.Request)) consensus.Record {
	q := consensus.Request{NetworkID: network, Epoch: epoch, Spec: next, NotAfter: 1 << 40}
	if change != nil {
		change(&q)
	}
	s := consensus.Seal{Request: q}
	for _, k := range w.admins[:n] {
		s.Signatures = append(s.Signatures, q.Sign(k))
	}
	for i, m := range q.Spec.Members {
		if len(m.NodeKey) > 0 {
			s.Ready = append(s.Ready, consensus.SignReady(nodeKey(i), q.Hash(), 0, consensus.Digest{}, consensus.Digest{}, 0))
		}
	}
	return s.Record()
}

// nodeKey is a member's.
func nodeKey(member int) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, "node", member))
	return ed25519.NewKeyFromSeed(seed[:])
}

// verify checks what holds for every log: density, time, digests, and that no record is there twice within the window.
func (w *world) verify(entries []consensus.Entry, base consensus.LSN, prev consensus.Digest) {
	w.Helper()
	seen := map[consensus.RecordKey]consensus.LSN{}
	var millis uint64
	for i, e := range entries {
		require.Equal(w, base+consensus.LSN(i), e.LSN, "LSNs are not dense")
		require.NoError(w, e.Verify(prev), "digest chain broken")
		require.GreaterOrEqual(w, e.UnixMilli, millis, "time went back at lsn %d", e.LSN)
		if first, ok := seen[e.Record.Key()]; ok && e.LSN-first <= consensus.LSN(w.window) {
			w.Errorf("record %v is there as lsn %d and %d", e.Record.ID, first, e.LSN)
		}
		seen[e.Record.Key()] = e.LSN
		prev, millis = e.Digest, e.UnixMilli
	}
}

// verifyFirst is verify for the first segment.
func (w *world) verifyFirst(entries []consensus.Entry) {
	w.Helper()
	w.verify(entries, 1, consensus.Digest(network))
}

func records(entries []consensus.Entry) []consensus.Record {
	rs := make([]consensus.Record, len(entries))
	for i, e := range entries {
		rs[i] = e.Record
	}
	return rs
}

func contains(entries []consensus.Entry, id consensus.RecordID) bool {
	return slices.ContainsFunc(entries, func(e consensus.Entry) bool { return e.Record.ID == id })
}

// isContext says whether an error is a context's alone: what was asked for surely did not happen.
func isContext(err error) bool {
	return (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) && !errors.Is(err, consensus.ErrUnknownFate)
}
