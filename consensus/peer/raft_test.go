package peer_test

import (
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
	"ledgerd/consensus/raft"
)

// What the engine wants of connections is what this package has; Go asks for an adapter where a result's type has another name.
var (
	_ raft.Transport = transport{}
	_ raft.Peers     = (*peer.Membership)(nil)
	_ raft.Fetcher   = (*peer.LogClient)(nil)

	_ peer.Log    = (*consensus.VirtualLog)(nil)
	_ peer.Roster = (*peer.Directory)(nil)
)

type transport struct{ *peer.Node }

func (t transport) Join(seg consensus.Segment, self uint64, deliver func([]byte)) (raft.Peers, error) {
	m, err := t.Node.Join(seg, self, deliver)
	if err != nil {
		return nil, err
	}
	return m, nil
}
