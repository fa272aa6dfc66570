package comet

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cometbft/cometbft/mempool"
	"github.com/cometbft/cometbft/p2p"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"

	"ledgerd/consensus"
)

// A gossip is the part of the connections between members that is ours. Each member sends what its own applications append to each of the others, which are
// all connected with each other: whoever is to propose has it then. What is still not in a block after a while is sent again, since a member that was busy or
// away has dropped it. Beside that, members report how far they are.
type gossip struct {
	p2p.BaseReactor
	pool   *pool
	check  func(consensus.Record) error // of what another member has sent: whether a block could hold it
	logger *slog.Logger

	mu struct {
		sync.Mutex
		mine    report
		reports map[p2p.ID]report
		peers   map[p2p.ID]*talk
		refused uint64 // messages
		told    chan struct{}
	}
	reported func() // a report has come in
	wait     sync.WaitGroup
}

// A talk is the sending to one peer.
type talk struct {
	peer   p2p.Peer
	cancel context.CancelFunc
}

const (
	gossipChannel = mempool.MempoolChannel
	gossipBytes   = 1 << 20                // of one message, unless one transaction is larger
	resendAfter   = 500 * time.Millisecond // what is not in a block
	sendRetry     = 2 * time.Millisecond   // while a peer's queue is full
	foreignTTL    = 30 * time.Second
)

func newGossip(p *pool, check func(consensus.Record) error, logger *slog.Logger) *gossip {
	g := &gossip{pool: p, check: check, logger: logger, reported: func() {}}
	g.mu.reports, g.mu.peers, g.mu.told = map[p2p.ID]report{}, map[p2p.ID]*talk{}, make(chan struct{})
	g.BaseReactor = *p2p.NewBaseReactor("Gossip", g)
	return g
}

// GetChannels implements p2p.Reactor.
func (*gossip) GetChannels() []*p2p.ChannelDescriptor {
	return []*p2p.ChannelDescriptor{{
		ID: gossipChannel, Priority: 5, SendQueueCapacity: 16,
		RecvMessageCapacity: gossipBytes + consensus.MaxRecordBytes + 64<<10,
		MessageType:         &protomem.Message{},
	}}
}

// AddPeer implements p2p.Reactor.
func (g *gossip) AddPeer(peer p2p.Peer) {
	ctx, cancel := context.WithCancel(context.Background())
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.IsRunning() {
		cancel()
		return
	}
	if old := g.mu.peers[peer.ID()]; old != nil {
		old.cancel()
	}
	g.mu.peers[peer.ID()] = &talk{peer, cancel}
	g.wait.Go(func() { g.talk(ctx, peer) })
}

// RemovePeer implements p2p.Reactor.
func (g *gossip) RemovePeer(peer p2p.Peer, _ any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t := g.mu.peers[peer.ID()]; t != nil && t.peer == peer {
		t.cancel()
		delete(g.mu.peers, peer.ID())
	}
}

// OnStop implements service.Service.
func (g *gossip) OnStop() {
	g.mu.Lock()
	for _, t := range g.mu.peers {
		t.cancel()
	}
	g.mu.Unlock()
	g.wait.Wait()
}

// talk sends to one peer, for as long as it is one.
func (g *gossip) talk(ctx context.Context, peer p2p.Peer) {
	again := time.NewTicker(resendAfter)
	defer again.Stop()
	var last uint64
	var sent *report
	for ctx.Err() == nil {
		mine, told := g.own()
		txs, number, added := g.pool.after(last, gossipBytes, time.Time{})
		if sent == nil || *sent != mine {
			txs = append(txs, mine.encode())
		}
		if len(txs) > 0 {
			if !g.send(ctx, peer, txs) {
				return
			}
			last, sent = number, &mine
			continue
		}
		select {
		case <-added:
		case <-told:
		case now := <-again.C:
			old, _, _ := g.pool.after(0, gossipBytes, now.Add(-resendAfter))
			if !g.send(ctx, peer, append(old, mine.encode())) {
				return
			}
		case <-ctx.Done():
		}
	}
}

// send sends a message, and waits for room. It reports false when the peer is gone.
func (g *gossip) send(ctx context.Context, peer p2p.Peer, txs [][]byte) bool {
	retry := time.NewTicker(sendRetry)
	defer retry.Stop()
	for peer.IsRunning() {
		if peer.TrySend(p2p.Envelope{ChannelID: gossipChannel, Message: &protomem.Txs{Txs: txs}}) {
			return true
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// Receive implements p2p.Reactor. It is called on the peer's own goroutine: what a peer costs, it waits for itself.
func (g *gossip) Receive(e p2p.Envelope) {
	msg, ok := e.Message.(*protomem.Txs)
	if !ok {
		g.refuse(e.Src, fmt.Errorf("message of type %T", e.Message))
		return
	}
	for _, tx := range msg.GetTxs() {
		if err := g.receive(e.Src.ID(), tx); err != nil {
			g.refuse(e.Src, err)
			return
		}
	}
}

// receive takes in one thing that a peer has sent. An error is for what no honest member sends.
func (g *gossip) receive(from p2p.ID, tx []byte) error {
	if len(tx) > 0 && tx[0] == kindReport {
		r, err := decodeReport(tx)
		if err == nil {
			g.mu.Lock()
			changed := g.mu.reports[from] != r
			g.mu.reports[from] = r
			g.mu.Unlock()
			if changed {
				g.reported()
			}
		}
		return err
	}
	t, err := decodeTransaction(tx)
	if err != nil {
		return err
	}
	if t.barrier == nil && g.check(t.record) != nil { // void here and now; that may have been otherwise where it comes from
		return nil
	}
	g.pool.addForeign(tx, from, time.Now())
	return nil
}

// refuse lets a peer go that breaks the protocol. It may come again: if it is a member, its votes are still wanted.
func (g *gossip) refuse(peer p2p.Peer, err error) {
	g.mu.Lock()
	g.mu.refused++
	g.mu.Unlock()
	g.logger.Warn("member has sent what cannot be", "peer", string(peer.ID()), "err", err)
	g.Switch.StopPeerForError(peer, err)
}

// tell changes what this member reports of itself.
func (g *gossip) tell(r report) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if sealed := r.sealed != g.mu.mine.sealed; sealed { // the rest can wait for the next time
		close(g.mu.told)
		g.mu.told = make(chan struct{})
	}
	g.mu.mine = r
}

func (g *gossip) own() (report, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.mine, g.mu.told
}

// heard returns the last report of a member; false if there was none.
func (g *gossip) heard(id p2p.ID) (report, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r, ok := g.mu.reports[id]
	return r, ok
}

func (g *gossip) refusals() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.refused
}
