package engines

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ethereum/go-ethereum/event"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/comet"
	"ledgerd/consensus/local"
	"ledgerd/consensus/observer"
	"ledgerd/consensus/raft"
	"ledgerd/ledger"
	"ledgerd/ledger/txpool"
)

// patience is how long what takes a fraction of a second on an idle machine may take.
const patience = time.Minute

// engineNames are those that are compared, the first one with all others.
var engineNames = []string{local.Name, raft.Name, comet.Name}

// A site is a place where one member orders a log: its disk and its clock.
type site struct {
	t       testing.TB
	engine  string
	now     func() time.Time
	network consensus.NetworkID
	spec    consensus.Spec
	disk    vfs.FS
	dir     string // of CometBFT's write-ahead log
}

func key(words ...any) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, words...))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

var (
	nodeKey      = key("node")
	consensusKey = key("votes")
	observerKey  = key("observer")
)

// newSite makes a site whose disk is vouched for, as `init` does.
func newSite(t testing.TB, engine string, now func() time.Time) *site {
	t.Helper()
	s := &site{t: t, engine: engine, now: now, network: networkID(t), disk: vfs.NewMem(), dir: t.TempDir(), spec: consensus.Spec{
		Engine:  engine,
		Members: []consensus.Member{{ID: 1, NodeKey: public(nodeKey)}},
	}}
	if engine == comet.Name {
		s.spec.Faults = consensus.ByzantineFaults
		s.spec.Members[0].ConsensusKey = public(consensusKey)
		s.spec.Members[0].CometAddresses = freeAddresses(t)
	}
	store, err := consensus.OpenStore(t.Context(), consensus.StoreOptions{FS: s.disk, Dir: "log", NetworkID: s.network, Genesis: s.spec})
	require.NoError(t, err)
	require.NoError(t, store.Vouch(1))
	require.NoError(t, store.Close())
	return s
}

// freeAddresses returns two loopback addresses that nobody listens on, below the range from which Linux takes the ports of clients: they are used later.
func freeAddresses(t testing.TB) (found [2]string) {
	t.Helper()
	n := 0
	for range 100 {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(12000+rand.IntN(20000))))
		if err != nil {
			continue
		}
		defer l.Close() // when there are two, or they might be one
		found[n] = l.Addr().String()
		if n++; n == len(found) {
			return found
		}
	}
	require.FailNow(t, "no free ports")
	return found
}

// open opens the log, or opens it again.
func (s *site) open() (log *consensus.VirtualLog, closeLog func()) {
	s.t.Helper()
	opts := s.options(nodeKey, s.disk)
	ended := func() error { return nil }
	switch s.engine {
	case local.Name:
		opts.Engines[s.engine] = local.Engine(local.Options{Now: s.now})
	case raft.Name:
		opts.Engines[s.engine] = raft.Engine(raft.Options{Self: 1, Now: s.now, Tick: 5 * time.Millisecond})
	case comet.Name:
		e, err := comet.New(comet.Options{NodeKey: nodeKey, ConsensusKey: consensusKey, Dir: s.dir, Now: s.now})
		require.NoError(s.t, err)
		opts.Engines[s.engine], ended = e, e.Close
	}
	return s.start(opts, ended)
}

// observe opens the log of a node that follows the site's member and orders nothing.
func (s *site) observe(member *consensus.VirtualLog) (log *consensus.VirtualLog, closeLog func()) {
	s.t.Helper()
	source := orderer{s.spec.Members[0], member}
	from := observer.Options{Peers: source}
	if s.engine == comet.Name {
		from.Prove = source.prove
	}
	opts := s.options(observerKey, vfs.NewMem())
	opts.Peers, opts.Observe = source, observer.Engine(from)
	return s.start(opts, func() error { return nil })
}

func (s *site) options(self ed25519.PrivateKey, disk vfs.FS) consensus.Options {
	return consensus.Options{
		FS: disk, Dir: "log", NetworkID: s.network, Genesis: s.spec, Self: self, Engines: map[string]consensus.Engine{},
		OnFatal: func(err error) { s.t.Errorf("%s: %v", s.engine, err) },
		OnHalt:  func(err error) { s.t.Errorf("%s: %v", s.engine, err) },
	}
}

func (s *site) start(opts consensus.Options, ended func() error) (*consensus.VirtualLog, func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	log, err := consensus.Open(ctx, opts)
	require.NoError(s.t, err)
	return log, func() {
		s.t.Helper()
		require.NoError(s.t, log.Close())
		require.NoError(s.t, ended())
	}
}

// An orderer is the one node that an observer can ask.
type orderer struct {
	member consensus.Member
	log    *consensus.VirtualLog
}

var (
	_ observer.Peers  = orderer{}
	_ consensus.Peers = orderer{}
)

func (o orderer) Known([]consensus.Member) []consensus.Member { return []consensus.Member{o.member} }

func (o orderer) Follow(ctx context.Context, _ consensus.Member, from consensus.LSN, take func([]consensus.Entry) error) error {
	for {
		entries, err := o.log.Follow(ctx, from, 7) // chunks that are not the log's blocks
		if err != nil {
			return err
		}
		if err := take(entries); err != nil {
			return err
		}
		from += consensus.LSN(len(entries))
	}
}

func (o orderer) SegmentEnd(context.Context, consensus.Segment) (consensus.SegmentEnd, bool, error) {
	return consensus.SegmentEnd{}, false, nil // it has none
}

func (o orderer) Prepare(context.Context, consensus.Member, consensus.Prepare) (consensus.Ready, error) {
	return consensus.Ready{}, consensus.ErrInvalid // nobody asks for another segment
}

func (o orderer) Status(context.Context, consensus.Member) (consensus.Status, error) {
	return o.log.Status(), nil
}

func (o orderer) Append(ctx context.Context, _ []consensus.Member, r consensus.Record) (consensus.LSN, error) {
	return o.log.Append(ctx, r)
}

func (o orderer) Tail(ctx context.Context, _ []consensus.Member, c consensus.Consistency) (consensus.LSN, error) {
	return o.log.Tail(ctx, c)
}

func (o orderer) prove(ctx context.Context, _ consensus.Member, seg consensus.Segment, lsn consensus.LSN, digest consensus.Digest) ([]byte, error) {
	proof, err := o.log.Attest(ctx, lsn)
	if err != nil {
		return nil, err
	}
	return proof, comet.Verify(seg, lsn, digest, proof)
}

// A player is a ledger that plays a log.
type player struct {
	t      testing.TB
	ledger *ledger.Ledger
	heads  chan ledger.HeadEvent
	sub    event.Subscription
	cancel context.CancelFunc
	ended  chan error
}

// openLedger opens the ledger in a folder. Nothing is played yet.
func openLedger(t testing.TB, dir string, batcher txpool.BatcherOptions) *player {
	t.Helper()
	l, err := ledger.Open(dir, newGenesis(), ledger.Options{CacheMiB: 16, Batcher: batcher})
	require.NoError(t, err)
	p := &player{t: t, ledger: l, heads: make(chan ledger.HeadEvent, 64), ended: make(chan error, 1)}
	p.sub = l.SubscribeHeads(p.heads)
	return p
}

// run begins to play, and to append what the pool holds.
func (p *player) run(log ledger.Log) {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() { p.ended <- p.ledger.Run(ctx, log) }()
}

// until hands every new head to f, until f has seen enough.
func (p *player) until(f func(ledger.HeadEvent) (enough bool)) {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case h := <-p.heads:
			if f(h) {
				return
			}
		case err := <-p.ended:
			require.FailNow(p.t, "the ledger has ended", "%v", err)
		case <-deadline:
			require.FailNow(p.t, "it takes too long", "the head is block %d", p.ledger.CurrentHeader().Number)
		}
	}
}

func (p *player) close() {
	p.t.Helper()
	p.sub.Unsubscribe()
	p.cancel()
	require.NoError(p.t, <-p.ended)
	require.NoError(p.t, p.ledger.Close())
}
