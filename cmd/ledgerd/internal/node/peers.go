package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/consensus/comet"
	"ledgerd/consensus/peer"
	"ledgerd/consensus/raft"
)

// peers are the other nodes, seen from this one: who they are, and the listener for them.
type peers struct {
	key       ed25519.PrivateKey  // of this node
	observers []ed25519.PublicKey // nodes that may read, and append, without being members
	bootstrap []consensus.Member
	directory *peer.Directory
	node      *peer.Node // nil if this node has no peers
	all       *peer.Peers
	client    *peer.LogClient
	chain     atomic.Pointer[[]consensus.Segment]
}

// openPeers takes the listener for the other nodes, if the members' list gives this node an address or the configuration does.
// Nothing is served on it but the engine's frames, until the log is open.
func (n *Node) openPeers(context.Context) error {
	first := n.opts.Genesis.Spec()
	if n.opts.Home == "" || len(first.Members) == 0 {
		return nil
	}
	key, err := home.ReadKey(n.opts.Home.NodeKey())
	if err != nil {
		return err
	}
	id, err := n.opts.Genesis.NetworkID()
	if err != nil {
		return err
	}
	p := &peers{key: key, directory: peer.NewDirectory(), observers: n.opts.Config.Peer.ObserverKeys()}
	for _, b := range n.opts.Config.Peer.BootstrapPeers() {
		p.bootstrap = append(p.bootstrap, consensus.Member{NodeKey: b.Key, PeerAddress: b.Address})
		p.observers = append(p.observers, b.Key)
	}
	// Until the stored chain is known, which may be in another epoch by now, the members of the first one are no strangers.
	begin := consensus.Request{NetworkID: id, Epoch: 1, Spec: first}.Segment()
	begin.Base = 1
	p.follow([]consensus.Segment{begin}, nil)
	self, _ := first.Member(p.publicKey())
	address := cmp.Or(n.opts.Config.Peer.Listen, self.PeerAddress, anyLoopback)
	p.node, err = peer.Listen(peer.Options{
		Key: key, Network: id, Roster: p.directory, Address: address, VerifyEnd: verifyEnd,
		Logger: n.opts.Logger.With("part", "peer"), Registerer: n.registry,
	})
	if err != nil {
		return fmt.Errorf("%w on %s (peer.listen): %w", ErrListen, address, err)
	}
	n.peers = p
	n.onClose(p.node.Close)
	p.all, p.client = p.node.Peers(p.known), p.node.LogClient(p.known)
	n.opts.Logger.Info("peers", "listen", p.node.Addr().String(), "nodeKey", fmt.Sprintf("%x", []byte(p.publicKey())))
	return nil
}

// anyLoopback is where a node listens that no members' list and no setting gives an address: nobody has to reach it, it asks.
const anyLoopback = "127.0.0.1:0"

func (p *peers) publicKey() ed25519.PublicKey { return p.key.Public().(ed25519.PublicKey) }

// follow lets those in, and only those, who have to do with the chain as it is now.
func (p *peers) follow(chain, prepared []consensus.Segment) {
	p.chain.Store(&chain)
	p.directory.Set(peer.View{Segments: chain, Prepared: prepared, Observers: p.observers})
}

// prove asks a node for CometBFT's proof of the log at an LSN, and verifies it.
func (p *peers) prove(ctx context.Context, from consensus.Member, seg consensus.Segment, lsn consensus.LSN, digest consensus.Digest) ([]byte, error) {
	proof, err := p.all.Attest(ctx, from, lsn)
	if err != nil {
		return nil, err
	}
	return proof, comet.Verify(seg, lsn, digest, proof)
}

// verifyEnd returns what is wrong with what another node tells as a segment's end: the administrators must have signed it, and if the members of the segment may
// lie, more than two thirds of them must have ordered it. A recovery has the signatures alone.
func verifyEnd(seg consensus.Segment, end consensus.SegmentEnd) error {
	if err := end.Verify(seg); err != nil || end.Recovery != nil || seg.Spec.Engine != comet.Name {
		return err
	}
	return comet.Verify(seg, end.Seal.LSN, end.Seal.Digest, end.Proof)
}

// known are the nodes that may be asked: the members of the newest segment, those of the segments before it, and those that the configuration names.
func (p *peers) known() []consensus.Member {
	var all []consensus.Member
	seen := make(map[string]bool)
	add := func(members []consensus.Member) {
		for _, m := range members {
			if !seen[string(m.NodeKey)] {
				seen[string(m.NodeKey)] = true
				all = append(all, m)
			}
		}
	}
	for _, seg := range slices.Backward(*p.chain.Load()) {
		add(seg.Spec.Members)
	}
	add(p.bootstrap)
	return all
}

// serveLog lets the other nodes read the log that has been opened, and append to it.
func (n *Node) serveLog() {
	if n.peers == nil {
		return
	}
	n.peers.node.Serve(n.log)
	n.onClose(func() error { n.peers.node.Serve(nil); return nil })
}

// logPeers sets what the log has to know of the other nodes.
func (n *Node) logPeers(o *consensus.Options) {
	if n.peers == nil {
		return
	}
	o.Self, o.Peers, o.OnChain = n.peers.key, n.peers.all, n.peers.follow
	o.Observe = n.observer()
}

// transport is a peer.Node as raft wants it.
type transport struct{ node *peer.Node }

// Join implements raft.Transport.
func (t transport) Join(seg consensus.Segment, self uint64, deliver func(frame []byte)) (raft.Peers, error) {
	m, err := t.node.Join(seg, self, deliver)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// Mesh implements raft.Mesher.
func (t transport) Mesh(next consensus.Segment) error { return t.node.Mesh(next) }

// sharedLog is the log as this node's clients see it.
type sharedLog struct {
	*consensus.VirtualLog
	*reconfigurations
	peers *peers
}

// askLeader is how long a status waits for the leader's.
const askLeader = 500 * time.Millisecond

// Status is that of this node, with the leader's word about the members: a follower hears from its leader, and of the other
// followers nothing. Where the leader does not answer either, what is not known is said to be.
func (l sharedLog) Status() consensus.Status {
	s := l.VirtualLog.Status()
	leader, err := strconv.ParseUint(s.Loglet.Detail["leader"], 10, 64)
	if err != nil || leader == 0 || s.Loglet.Detail["role"] == "leader" || l.peers == nil {
		return s
	}
	var detail map[string]string
	if m, ok := l.member(leader); ok {
		ctx, cancel := context.WithTimeout(context.Background(), askLeader)
		defer cancel()
		if theirs, err := l.peers.all.Status(ctx, m); err == nil && theirs.Epoch == s.Epoch {
			detail = theirs.Loglet.Detail
		}
	}
	s.Loglet.Detail = maps.Clone(s.Loglet.Detail)
	for key, mine := range s.Loglet.Detail {
		switch theirs, ok := detail[key]; {
		case !strings.HasPrefix(key, memberPrefix):
		case ok:
			s.Loglet.Detail[key] = theirs
		case mine == memberMissing:
			s.Loglet.Detail[key] = "unknown"
		}
	}
	return s
}

// member returns the member of the newest segment that has an id.
func (l sharedLog) member(id uint64) (consensus.Member, bool) {
	segments := l.Segments()
	return segments[len(segments)-1].Spec.MemberByID(id)
}

// How raft's status speaks of a member: the key is this and its id.
const (
	memberPrefix  = "member."
	memberMissing = "missing"
)
