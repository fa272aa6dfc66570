package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/consensus/comet"
	"ledgerd/consensus/local"
	"ledgerd/consensus/observer"
	"ledgerd/consensus/raft"
	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
)

var (
	// ErrUnknownEngine is returned by Open for a chain whose log needs an engine that this program does not have.
	ErrUnknownEngine = errors.New("unknown engine")
)

// faults are the engines of this program, with what each of them bears.
var faults = map[string]consensus.FaultModel{
	local.Name: consensus.CrashFaults,
	raft.Name:  consensus.CrashFaults,
	comet.Name: consensus.ByzantineFaults,
}

// EngineNames are the words by which a genesis or a reconfiguration calls the engines of this program, sorted.
func EngineNames() []string { return slices.Sorted(maps.Keys(faults)) }

// Faults returns what an engine bears, as a Spec has to say it. ErrUnknownEngine for a word that is none of EngineNames.
func Faults(engine string) (consensus.FaultModel, error) { return faults[engine], knownEngine(engine) }

// knownEngine returns ErrUnknownEngine for a word that is none of EngineNames.
func knownEngine(engine string) error {
	if names := EngineNames(); !slices.Contains(names, engine) {
		return fmt.Errorf("%w %q; this program has %s", ErrUnknownEngine, engine, strings.Join(names, ", "))
	}
	return nil
}

// engines are the consensus engines of this program on this node.
func (n *Node) engines() (map[string]consensus.Engine, error) {
	all := map[string]consensus.Engine{local.Name: local.Engine(local.Options{}), raft.Name: raftEngine{n}}
	if n.peers == nil {
		all[comet.Name] = lacking{errNoPeers}
		return all, nil
	}
	path := n.opts.Home.ConsensusKey()
	key, err := home.ReadKey(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		all[comet.Name] = lacking{fmt.Errorf("%w: it has no consensus key; `ledgerd keys new %s` makes one", consensus.ErrNotMember, path)}
		return all, nil
	case err != nil:
		return nil, err
	}
	metrics, err := comet.NewMetrics(n.registry)
	if err != nil {
		return nil, err
	}
	opts := comet.Options{NodeKey: n.peers.key, ConsensusKey: key, Dir: n.opts.Home.CometDir(), Metrics: metrics}
	copy(opts.Listen[:], n.opts.Config.Peer.CometListen)
	if err := misbehave(&opts, n.opts.Logger); err != nil {
		return nil, err
	}
	engine, err := comet.New(opts)
	if err != nil {
		return nil, err
	}
	n.onClose(engine.Close)
	all[comet.Name] = engine
	return all, nil
}

// errNoPeers: a node without peers cannot order with others.
var errNoPeers = fmt.Errorf("%w: the genesis names none, or the node has no home and so no key", consensus.ErrNotMember)

// lacking is an engine that this node has not all for. The error says what it lacks.
type lacking struct{ err error }

// Open implements consensus.Engine.
func (l lacking) Open(context.Context, *consensus.Store, consensus.Segment) (consensus.Loglet, error) {
	return nil, l.err
}

// Prepare implements consensus.Engine.
func (l lacking) Prepare(context.Context, *consensus.Store, consensus.Segment) error { return l.err }

// raftEngine is raft on this node. Who that is in a segment, the segment's members say.
type raftEngine struct{ n *Node }

// Open implements consensus.Engine.
func (e raftEngine) Open(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	n := e.n
	if n.peers == nil {
		return nil, errNoPeers
	}
	self, err := memberOf(seg.Spec.Members, n.peers.publicKey())
	if err != nil {
		return nil, err
	}
	opts := raft.Options{Self: self.ID, Applied: n.applied, Transport: transport{n.peers.node}, Fetcher: n.peers.client, Registerer: n.registry}
	return raft.Engine(opts).Open(ctx, store, seg)
}

// Prepare implements consensus.Engine.
func (e raftEngine) Prepare(ctx context.Context, store *consensus.Store, next consensus.Segment) error {
	if e.n.peers == nil {
		return errNoPeers
	}
	return raft.Engine(raft.Options{Transport: transport{e.n.peers.node}}).Prepare(ctx, store, next)
}

// application is what the log has to know of the ledger, which is opened after it.
func (n *Node) application() consensus.Application {
	return consensus.Application{
		Applied: n.applied,
		Fingerprint: func(lsn consensus.LSN) (consensus.Digest, error) {
			if l := n.opened.Load(); l != nil {
				return l.Fingerprint(lsn)
			}
			return consensus.Digest{}, fmt.Errorf("the ledger is not open yet: %w", consensus.ErrUnwritten)
		},
		Rules:     ledger.Rules,
		ValidSpec: validSpec,
	}
}

// applied is how far this node's ledger has come; 0 while it is being opened, so that a node which still has everything to
// execute does not lead.
func (n *Node) applied() consensus.LSN {
	if l := n.opened.Load(); l != nil {
		return l.Applied()
	}
	return 0
}

// memberOf finds the member that a key belongs to, or returns consensus.ErrNotMember.
func memberOf(members []consensus.Member, key ed25519.PublicKey) (consensus.Member, error) {
	for _, m := range members {
		if key.Equal(m.NodeKey) {
			return m, nil
		}
	}
	return consensus.Member{}, fmt.Errorf("%w: none of the %d members has its node key, %x", consensus.ErrNotMember, len(members), []byte(key))
}

// Prepare makes the first log of a home that Create is making, where the engine of the first segment has to know that this disk
// has never taken part before: such an engine finds a one-time mark in it. Errors: consensus.ErrNotMember if the genesis does not name
// the home's node key; ErrUnknownEngine.
func Prepare(ctx context.Context, h home.Home, g *genesis.Genesis) error {
	if err := knownEngine(g.Ledgerd.Engine); err != nil {
		return err
	}
	if g.Ledgerd.Engine == local.Name {
		return nil
	}
	key, err := home.ReadKey(h.NodeKey())
	if err != nil {
		return err
	}
	spec := g.Spec()
	if _, err := memberOf(spec.Members, key.Public().(ed25519.PublicKey)); err != nil {
		return err
	}
	id, err := g.NetworkID()
	if err != nil {
		return err
	}
	at, err := placeAt(h)
	if err != nil {
		return err
	}
	store, err := consensus.OpenStore(ctx, consensus.StoreOptions{
		FS: at.fs, Dir: at.log, NetworkID: id, Genesis: spec, Window: int(g.Ledgerd.DedupWindow),
		OnFatal: func(error) {}, // the write that failed returns it
	})
	if err != nil {
		return err
	}
	return errors.Join(store.Vouch(1), store.Close())
}

// validSpec refuses what no member of this program could order, before anybody seals it.
func validSpec(s consensus.Spec) error {
	errs := []error{knownEngine(s.Engine), ledger.ValidateParams(s.Ledger)}
	if s.Engine == comet.Name {
		return errors.Join(append(errs, comet.Validate(s))...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Params)) {
		errs = append(errs, fmt.Errorf("%w: engine %s has no parameter %q", consensus.ErrInvalid, s.Engine, name))
	}
	return errors.Join(errs...)
}

// observer opens the loglet of a segment that this node does not order in. Where the engine has proofs, it asks for them.
func (n *Node) observer() consensus.Engine {
	return consensus.EngineFunc(func(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		opts := observer.Options{Peers: n.peers.all}
		if seg.Spec.Engine == comet.Name {
			opts.Prove = n.peers.prove
		}
		return observer.Engine(opts).Open(ctx, store, seg)
	})
}
