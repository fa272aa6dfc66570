package node

import (
	"slices"
	"strings"

	"ledgerd/rpc"
)

// Self implements rpc.Network.
func (p *peers) Self() rpc.NodeInfo {
	return rpc.NodeInfo{Key: p.publicKey(), ListenAddress: p.node.Addr().String()}
}

// Peers implements rpc.Network: the links that the engine's frames go over. A node that orders nothing has none that stay.
func (p *peers) Peers() []rpc.PeerInfo {
	chain := *p.chain.Load()
	last := chain[len(chain)-1].Spec
	var connected []rpc.PeerInfo
	for _, link := range p.node.Links() {
		if !link.Connected {
			continue
		}
		member, _ := last.Member(link.Key)
		connected = append(connected, rpc.PeerInfo{Key: link.Key, Address: link.Address, Member: member.ID})
	}
	slices.SortFunc(connected, func(a, b rpc.PeerInfo) int { return strings.Compare(string(a.Key), string(b.Key)) })
	return slices.CompactFunc(connected, func(a, b rpc.PeerInfo) bool { return a.Key.Equal(b.Key) })
}
