package node

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
	"ledgerd/consensus/raft"
)

// peers are the other nodes, seen from this one: who they are, and the listener for them.
type peers struct {
	key       ed25519.PublicKey // of this node
	directory *peer.Directory
	node      *peer.Node // nil if this node has no peers
	// client asks the other members of the segment that orders; nil while there are none.
	client atomic.Pointer[peer.LogClient]
}

// openPeers takes the listener for the other nodes, if the members' list gives this node an address or the configuration does.
// Nothing is served on it but the engine's frames, until the log is open.
func (n *Node) openPeers(context.Context) error {
	members := n.opts.Genesis.Spec().Members
	if n.opts.Home == "" || len(members) == 0 {
		return nil
	}
	key, err := home.ReadNodeKey(n.opts.Home.NodeKey())
	if err != nil {
		return err
	}
	id, err := n.opts.Genesis.NetworkID()
	if err != nil {
		return err
	}
	n.peers = &peers{key: key.Public().(ed25519.PublicKey), directory: peer.NewDirectory()}
	// A key that is no member's is told when the engine opens, which knows the members of today.
	self, _ := memberOf(members, n.peers.key)
	address := cmp.Or(n.opts.Config.Peer.Listen, self.PeerAddress)
	if address == "" {
		return nil
	}
	// Until the stored chain is known, which may be in another epoch by now, those of the first one are no strangers.
	first := consensus.Request{NetworkID: id, Epoch: 1, Spec: n.opts.Genesis.Spec()}
	n.peers.directory.Set(peer.View{Segments: []consensus.Segment{{
		Network: id, Epoch: 1, Base: 1, Identity: consensus.EpochIdentity(id, 1, first.Hash(), 0), Spec: first.Spec,
	}}})
	n.peers.node, err = peer.Listen(peer.Options{
		Key: key, Network: id, Roster: n.peers.directory, Address: address,
		Logger: n.opts.Logger.With("part", "peer"), Registerer: n.registry,
	})
	if err != nil {
		return fmt.Errorf("%w on %s (peer.listen): %w", ErrListen, address, err)
	}
	n.onClose(n.peers.node.Close)
	n.opts.Logger.Info("peers", "listen", n.peers.node.Addr().String(), "nodeKey", fmt.Sprintf("%x", []byte(n.peers.key)))
	return nil
}

// serveLog lets the other nodes read the log that has been opened, and append to it.
func (n *Node) serveLog() {
	if n.peers == nil || n.peers.node == nil {
		return
	}
	n.peers.directory.Set(peer.View{Segments: n.log.Segments()})
	n.peers.node.Serve(n.log)
	n.onClose(func() error { n.peers.node.Serve(nil); return nil })
}

// join returns what an engine needs of the members of a segment, and lets them in.
func (p *peers) join(seg consensus.Segment) (raft.Transport, raft.Fetcher) {
	if p.node == nil {
		return nil, nil
	}
	p.directory.Set(peer.View{Segments: []consensus.Segment{seg}})
	client := p.node.LogClient(func() []consensus.Member { return seg.Spec.Members })
	p.client.Store(client)
	return transport{p.node}, client
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

// sharedLog is the log as this node's clients see it.
type sharedLog struct {
	*consensus.VirtualLog
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
	if client := l.peers.client.Load(); client != nil {
		ctx, cancel := context.WithTimeout(context.Background(), askLeader)
		defer cancel()
		if theirs, err := client.Status(ctx, leader); err == nil && theirs.Epoch == s.Epoch {
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

// How raft's status speaks of a member: the key is this and its id.
const (
	memberPrefix  = "member."
	memberMissing = "missing"
)
