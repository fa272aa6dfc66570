package comet

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cometbft/cometbft/config"
	cs "github.com/cometbft/cometbft/consensus"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/evidence"
	"github.com/cometbft/cometbft/p2p"
	sm "github.com/cometbft/cometbft/state"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"
	"github.com/cometbft/cometbft/version"

	"ledgerd/consensus"
)

// A node is CometBFT for one epoch, assembled from its parts: what its own node.Node adds (block sync, state sync, peer exchange, RPC, indexes) is of no use
// here, or in the way.
type node struct {
	chainID string
	wal     string // folder of its write-ahead log
	self    consensus.Member
	members []consensus.Member // the others

	area      *consensus.EngineArea
	stopped   *atomic.Bool // nothing reads or writes the databases any more
	blocks    *store.BlockStore
	states    sm.Store
	evidence  *evidencePool
	app       *app
	pool      *pool
	gossip    *gossip
	consensus *cs.State
	reactor   *cs.Reactor
	bus       *types.EventBus
	transport *p2p.MultiplexTransport
	peers     *p2p.Switch
	logger    *slog.Logger

	ready   atomic.Bool                  // the replica is there
	failed  atomic.Bool                  // its consensus could not be started
	round   atomic.Pointer[currentRound] // as of the last event
	failure atomic.Pointer[string]       // what CometBFT said when its consensus panicked
	leaving chan struct{}                // closed when it is about to be taken down
	ended   chan struct{}                // closed when its consensus has ended, or is not going to begin
	stop    func()                       // takes all of it down
}

// Keys in the engine's area.
const (
	keyMember   = 'm'
	keySigned   = 'v'
	keyHeight   = 'n'
	keyBlocks   = 'b'
	keyStates   = 's'
	keyEvidence = 'e'
	keyOffences = 'o'
)

const memberVersion = 1

// enter makes sure that this disk may take part in the epoch: it holds the epoch's identity, or is vouched for, which is used up then. It reports whether this is
// the first time.
func (e *Engine) enter(s *consensus.Store, seg consensus.Segment, replica *consensus.Replica, prepared bool) (fresh bool, err error) {
	self, err := e.memberOf(seg)
	if err != nil {
		return false, err
	}
	at := replica.Position()
	if at.Observed {
		return false, fmt.Errorf("%w: this node has followed epoch %d without its engine, which does not know how far", consensus.ErrNotMember, seg.Epoch)
	}
	area := s.EngineArea(seg.Epoch)
	stored, err := area.Get([]byte{keyMember})
	if err != nil {
		return false, err
	}
	if len(stored) == 1+32+8 && stored[0] == memberVersion && consensus.Digest(stored[1:33]) == seg.Identity {
		if id := binary.BigEndian.Uint64(stored[33:]); id != self.ID {
			return false, fmt.Errorf("%w: this disk is member %d of epoch %d, not %d", consensus.ErrNotMember, id, seg.Epoch, self.ID)
		}
		return false, nil
	}
	vouched, err := s.Vouched(seg.Epoch)
	if err != nil {
		return false, err
	}
	if !vouched {
		return false, fmt.Errorf("%w: the store does not hold the identity of epoch %d, and nothing vouches for it; it may have been lost and filled again",
			consensus.ErrNotMember, seg.Epoch)
	}
	if at.Applied > 0 || at.Next > seg.Base {
		return false, fmt.Errorf("%w: entries of epoch %d are in the store, but not its identity", consensus.ErrNotMember, seg.Epoch)
	}
	return true, area.Write(true, func(b *consensus.EngineBatch) error {
		var errs []error
		if !prepared {
			errs = append(errs, b.DeleteRange([]byte{0}, []byte{0xff}))
		}
		id := binary.BigEndian.AppendUint64(nil, self.ID)
		return errors.Join(append(errs, b.Set([]byte{keyMember}, []byte{memberVersion}, seg.Identity[:], id), b.Enter())...)
	})
}

// clean removes what an abandoned preparation of an epoch has left. It has signed nothing.
func (e *Engine) clean(s *consensus.Store, next consensus.Segment) error {
	area := s.EngineArea(next.Epoch)
	if v, err := area.Get([]byte{keyMember}); err != nil || v != nil {
		return errors.Join(err, fmt.Errorf("%w: epoch %d has begun on this disk", consensus.ErrInvalid, next.Epoch))
	}
	err := area.Write(false, func(b *consensus.EngineBatch) error { return b.DeleteRange([]byte{0}, []byte{0xff}) })
	return errors.Join(err, wipeWAL(e.walDir(next)))
}

// memberOf returns the member that this node is.
func (e *Engine) memberOf(seg consensus.Segment) (consensus.Member, error) {
	self, ok := seg.Spec.Member(e.opts.NodeKey.Public().(ed25519.PublicKey))
	switch {
	case !ok:
		return self, fmt.Errorf("%w: the spec of epoch %d does not name this node", consensus.ErrNotMember, seg.Epoch)
	case !e.opts.ConsensusKey.Public().(ed25519.PublicKey).Equal(self.ConsensusKey):
		return self, fmt.Errorf("%w: member %d of epoch %d votes with another consensus key than this node has", consensus.ErrNotMember, self.ID, seg.Epoch)
	}
	return self, nil
}

// build assembles and starts all but the consensus. replica is nil in an epoch that is only prepared.
func (e *Engine) build(ctx context.Context, s *consensus.Store, seg consensus.Segment, replica *consensus.Replica) (_ *Loglet, err error) {
	if err := Validate(seg.Spec); err != nil {
		return nil, err
	}
	self, err := e.memberOf(seg)
	if err != nil {
		return nil, err
	}
	l := &Loglet{opts: e.opts, seg: seg, store: s, replica: replica, closing: make(chan struct{}), drained: make(chan struct{})}
	l.room = consensus.NewRoom(e.opts.MaxQueueBytes, l.closing)
	l.mu.waiting, l.mu.barriers = map[consensus.RecordKey][]*appending{}, map[nonce]chan struct{}{}
	n := &l.node
	n.chainID, n.self, n.area, n.stopped = chainID(seg), self, s.EngineArea(seg.Epoch), new(atomic.Bool)
	n.leaving, n.ended = make(chan struct{}), make(chan struct{})
	for _, m := range seg.Spec.Members {
		if m.ID != self.ID {
			n.members = append(n.members, m)
		}
	}
	n.wal = e.walDir(seg)
	n.logger = s.Options().Logger.With("segment", uint64(seg.Epoch))
	var down teardown
	n.stop = sync.OnceFunc(down.run)
	defer func() {
		if err != nil {
			n.stop()
		}
	}()
	down.add(func() { n.stopped.Store(true) }) // last of all
	if err := l.assemble(ctx, &down); err != nil {
		return nil, err
	}
	return l, l.connect(e.opts.Listen[parity(seg.Epoch)], &down)
}

// A teardown is what is to be done at the end, the last first.
type teardown struct{ steps []func() }

func (t *teardown) add(step func()) { t.steps = append(t.steps, step) }

func (t *teardown) run() {
	for len(t.steps) > 0 {
		last := len(t.steps) - 1
		step := t.steps[last]
		t.steps = t.steps[:last]
		step()
	}
}

// assemble makes the parts, and replays to the replica what it has missed.
func (l *Loglet) assemble(ctx context.Context, down *teardown) error {
	n := &l.node
	log := logger{n.logger, func(reason string) { n.failure.CompareAndSwap(nil, &reason) }}
	if err := os.MkdirAll(n.wal, 0o700); err != nil {
		return err
	}
	conf, err := settingsOf(l.seg, filepath.Join(n.wal, walFile))
	if err != nil {
		return err
	}
	doc, err := genesisDoc(l.seg)
	if err != nil {
		return err
	}
	// What comes after a block's state is written in the same write-ahead log as the next block, which is synced: so the state need not be.
	n.states = sm.NewStore(database{n.area, keyStates, true, n.stopped}, sm.StoreOptions{DiscardABCIResponses: true})
	n.blocks = store.NewBlockStore(database{n.area, keyBlocks, false, n.stopped})
	state, err := n.states.LoadFromDBOrGenesisDoc(doc)
	if err != nil {
		return fmt.Errorf("%w: CometBFT's state: %v", consensus.ErrCorrupt, err)
	}
	n.bus = types.NewEventBus()
	n.bus.SetLogger(log)
	if err := n.bus.Start(); err != nil {
		return err
	}
	down.add(func() { _ = n.bus.Stop() })
	n.pool = newPool(l.opts.MaxForeignBytes, foreignTTL)
	n.gossip = newGossip(n.pool, l.acceptable, n.logger)
	n.gossip.reported = l.checkDrained
	n.app = &app{
		seg: l.seg, replica: l.replica, store: l.store, area: n.area, pool: n.pool, blocks: n.blocks, now: l.opts.Now, logger: n.logger,
		committed: l.blockCommitted,
	}
	if n.app.offences, err = openOffences(n.area, l.memberAt, n.logger); err != nil {
		return err
	}
	apps := newConns(n.app)
	handshake := cs.NewHandshaker(n.states, state, n.blocks, doc)
	handshake.SetLogger(log)
	handshake.SetEventBus(n.bus)
	if err := handshake.HandshakeWithContext(ctx, apps); err != nil {
		if n.app.failed != nil {
			return n.app.failed
		}
		return fmt.Errorf("%w: CometBFT's blocks do not fit the log: %v", consensus.ErrCorrupt, err)
	}
	if state, err = n.states.Load(); err != nil {
		return err
	}
	n.evidence, err = openEvidencePool(database{n.area, keyEvidence, false, n.stopped}, n.states, n.blocks)
	if err != nil {
		return err
	}
	n.evidence.SetLogger(log)
	exec := sm.NewBlockExecutor(n.states, log, apps.Consensus(), n.pool, n.evidence, n.blocks,
		sm.BlockExecutorWithBlockTimeTolerance(conf.Consensus.BlockTimeTolerance))
	n.consensus = cs.NewState(conf.Consensus, state.Copy(), exec, n.blocks, n.pool, n.evidence)
	n.consensus.SetTimeoutTicker(capTimeouts(cs.NewTimeoutTicker(), conf.longest))
	n.consensus.SetLogger(log)
	signer, err := openSigner(n.area, l.opts.ConsensusKey)
	if err != nil {
		return err
	}
	n.consensus.SetPrivValidator(signer)
	if l.opts.villain != nil {
		n.app.villain = l.opts.villain(l, signer)
		n.consensus.SetPrivValidator(n.app.villain)
	}
	n.reactor = cs.NewReactor(n.consensus, true)
	n.reactor.SetLogger(log)
	n.reactor.SetEventBus(n.bus)
	return l.makeSwitch(conf.P2P, log)
}

// makeSwitch makes what keeps the connections to the other members. Nobody else gets one.
func (l *Loglet) makeSwitch(conf *config.P2PConfig, log logger) error {
	n := &l.node
	key := p2p.NodeKey{PrivKey: cmted25519.PrivKey(l.opts.NodeKey)}
	allowed := make(map[p2p.ID]bool, len(n.members))
	for _, m := range n.members {
		allowed[peerID(m)] = true
	}
	info := p2p.DefaultNodeInfo{
		ProtocolVersion: p2p.NewProtocolVersion(version.P2PProtocol, version.BlockProtocol, appVersion),
		DefaultNodeID:   key.ID(), ListenAddr: "tcp://" + l.listenAddress(""), Network: n.chainID, Version: version.TMCoreSemVer,
		Channels: []byte{cs.StateChannel, cs.DataChannel, cs.VoteChannel, cs.VoteSetBitsChannel, gossipChannel, evidence.EvidenceChannel},
		Moniker:  "member-" + strconv.FormatUint(n.self.ID, 10),
		Other:    p2p.DefaultNodeInfoOther{TxIndex: "off"},
	}
	mconn := p2p.MConnConfig(conf)
	mconn.PingInterval, mconn.PongTimeout = pingInterval, pongTimeout
	n.transport = p2p.NewMultiplexTransport(info, key, mconn)
	p2p.MultiplexTransportMaxIncomingConnections(conf.MaxNumInboundPeers)(n.transport)
	n.peers = p2p.NewSwitch(conf, newTransport(n.transport, n.leaving, l.noConnections), p2p.SwitchPeerFilters(func(_ p2p.IPeerSet, p p2p.Peer) error {
		if !allowed[p.ID()] {
			return fmt.Errorf("node %s is not a member of epoch %d", p.ID(), l.seg.Epoch)
		}
		return nil
	}))
	n.peers.SetLogger(log)
	reactor := newEvidenceReactor(n.evidence)
	reactor.SetLogger(log)
	n.gossip.SetLogger(log)
	n.peers.AddReactor("CONSENSUS", consensusReactor{n.reactor, &n.failed})
	n.peers.AddReactor("GOSSIP", n.gossip)
	n.peers.AddReactor("EVIDENCE", reactor)
	n.peers.SetNodeInfo(info)
	n.peers.SetNodeKey(&key)
	return info.Validate()
}

// How soon a peer that says nothing is given up.
const (
	pingInterval = 10 * time.Second
	pongTimeout  = 5 * time.Second
)

// listenAddress is where this node listens for the others.
func (l *Loglet) listenAddress(override string) string {
	if override != "" {
		return override
	}
	return l.node.self.CometAddresses[parity(l.seg.Epoch)]
}

// connect listens, and has the others dialled, if there are any.
func (l *Loglet) connect(listen string, down *teardown) error {
	n := &l.node
	if len(n.members) > 0 {
		addr, err := p2p.NewNetAddressString(p2p.IDAddressString(peerID(n.self), l.listenAddress(listen)))
		if err != nil {
			return fmt.Errorf("%w: CometBFT address: %v", consensus.ErrInvalid, err)
		}
		if err := n.transport.Listen(*addr); err != nil {
			return fmt.Errorf("listen for the members: %w", err)
		}
	}
	down.add(func() { _ = n.transport.Close() }) // without a listener too: the switch waits for what it accepts
	if err := n.peers.Start(); err != nil {
		return fmt.Errorf("start CometBFT: %w", err)
	}
	down.add(func() {
		_ = n.peers.Stop()
		if !l.begun {
			close(n.ended)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	var dialling sync.WaitGroup
	for _, m := range n.members {
		dialling.Go(func() { l.dial(ctx, m) })
	}
	dialling.Go(func() { l.tend(ctx) })
	down.add(func() { close(n.leaving); cancel(); dialling.Wait() })
	return nil
}

// Pauses of the dialling.
const (
	dialPause    = 50 * time.Millisecond // after a failure, and twice that after the next
	maxDialPause = time.Second
	dialCourtesy = 300 * time.Millisecond // left to the member of the two whose call it is first
)

// dial keeps a connection to a member. Of two members the one with the lower id calls at once, the other when it has had time to: if both call at the same
// time, both calls may fail.
func (l *Loglet) dial(ctx context.Context, m consensus.Member) {
	n := &l.node
	id, shortest, wait := peerID(m), dialPause, time.Duration(0)
	if m.ID < n.self.ID {
		shortest, wait = dialCourtesy, dialCourtesy
	}
	for pause := shortest; rest(ctx, wait); wait = pause {
		if n.peers.Peers().Has(id) {
			pause = shortest
			continue
		}
		addr, err := p2p.NewNetAddressString(p2p.IDAddressString(id, l.opts.Address(m, parity(l.seg.Epoch))))
		if err == nil {
			err = n.peers.DialPeerWithAddress(addr)
		}
		if err != nil {
			n.logger.Debug("dial member", "member", m.ID, "err", err)
			pause = min(2*pause, maxDialPause)
		}
	}
}

// rest waits, and reports false if ctx ends meanwhile.
func rest(ctx context.Context, pause time.Duration) bool {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// tend wakes the chain now and then, should it sleep while something waits.
func (l *Loglet) tend(ctx context.Context) {
	for rest(ctx, resendAfter) {
		l.pool.nudge(time.Now())
	}
}

// acceptable judges a record that another member has sent.
func (l *Loglet) acceptable(r consensus.Record) error {
	if !l.ready.Load() {
		return consensus.ErrUnwritten
	}
	in, _, err := l.lookup(r)
	if in && err == nil {
		err = consensus.ErrInvalid // there already
	}
	return err
}

// begin starts the consensus of a segment whose place in the log is known. From now on this node votes.
func (l *Loglet) begin(seg consensus.Segment, replica *consensus.Replica) (err error) {
	n := &l.node
	l.replica, n.app.replica, n.app.seg = replica, replica, seg
	n.ready.Store(true)
	sealed := replica.Position().Sealed
	n.gossip.tell(l.report(sealed))
	if sealed {
		n.pool.close()
	}
	if err := checkWAL(filepath.Join(n.wal, walFile)); err != nil {
		return fmt.Errorf("%w: open CometBFT's write-ahead log: %w", consensus.ErrEngineFailed, err)
	}
	defer func() {
		if p := recover(); p != nil { // SwitchToConsensus panics when the consensus cannot be started
			n.failed.Store(true)
			err = fmt.Errorf("%w: start CometBFT's consensus: %.500v", consensus.ErrEngineFailed, p)
		}
	}()
	state, err := n.states.Load()
	if err != nil {
		return err
	}
	if err := l.followRounds(); err != nil {
		return err
	}
	n.reactor.SwitchToConsensus(state, false)
	l.begun = true
	if n.app.villain != nil {
		n.app.villain.begin()
	}
	l.wait.Go(l.watch)
	l.opts.Metrics.begin(l)
	if n.failure.Load() != nil { // while it was only prepared
		_ = n.consensus.Stop()
	}
	l.checkDrained()
	return nil
}

// A currentRound is the round of the height under way, and who is to propose in it.
type currentRound struct {
	round    int32
	proposer []byte // address of its validator
}

// followRounds notes the round and its proposer, until the event bus is stopped. CometBFT's own state cannot be looked at without waiting: it is locked while a block is stored.
func (l *Loglet) followRounds() error {
	n := &l.node
	round := n.consensus.GetRoundState()
	n.round.Store(&currentRound{round.Round, round.Validators.GetProposer().Address})
	events, err := n.bus.SubscribeUnbuffered(context.Background(), "rounds", types.EventQueryNewRound)
	if err != nil {
		return err
	}
	l.wait.Go(func() {
		for {
			select {
			case e := <-events.Out():
				if r, ok := e.Data().(types.EventDataNewRound); ok {
					n.round.Store(&currentRound{r.Round, r.Proposer.Address})
				}
			case <-events.Canceled():
				return
			}
		}
	})
	return nil
}

// noConnections ends the consensus, since the other members cannot call any more: this process has no files left, or the network is gone.
func (l *Loglet) noConnections(err error) {
	reason := fmt.Sprintf("no connections are accepted any more: %v", err)
	l.node.failure.CompareAndSwap(nil, &reason)
	_ = l.node.consensus.Stop() // an error: it has not begun. Then begin ends it
}

// A consensusReactor is CometBFT's, which waits for the end of the consensus even if that could not be started, and so for ever.
type consensusReactor struct {
	*cs.Reactor
	failed *atomic.Bool // it could not
}

// Stop implements p2p.Reactor. After a failure CometBFT's two goroutines stay behind; the node ends with ErrEngineFailed then.
func (r consensusReactor) Stop() error {
	if r.failed.Load() {
		go func() { _ = r.Reactor.Stop() }()
		return nil
	}
	return r.Reactor.Stop()
}

// watch waits for the end of CometBFT's consensus. If nobody asked for it, it has panicked, and left the rest of CometBFT behind as if nothing were.
func (l *Loglet) watch() {
	n := &l.node
	n.consensus.Wait()
	defer close(n.ended)
	select {
	case <-l.closing:
		return
	default:
	}
	err := n.app.failed
	if err == nil && n.failure.Load() == nil { // taken down, to make way for the next epoch on its port
		return
	}
	if !errors.Is(err, consensus.ErrDiverged) && !errors.Is(err, consensus.ErrFailed) && !errors.Is(err, consensus.ErrClosed) {
		reason := "it has ended by itself"
		if r := n.failure.Load(); r != nil {
			reason = *r
		}
		err = errors.Join(fmt.Errorf("%w: CometBFT's consensus of epoch %d: %s", consensus.ErrEngineFailed, l.seg.Epoch, reason), err)
	}
	n.logger.Error("comet loglet stopped", "err", err)
	l.stop(err)
}

// discard takes down what was only prepared. What it leaves in the store, the next preparation removes.
func (l *Loglet) discard() {
	l.leave()
	_ = wipeWAL(l.node.wal)
}
