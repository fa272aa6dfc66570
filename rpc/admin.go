package rpc

import (
	"crypto/ed25519"
	"encoding/hex"
	"net"
	"strconv"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
)

// Network is what admin_ and net_peerCount ask of the connections to other nodes. Methods may be called concurrently.
type Network interface {
	Self() NodeInfo
	// Peers returns the nodes that this one is connected to, in a fixed order.
	Peers() []PeerInfo
}

// NodeInfo is who a node is to the others.
type NodeInfo struct {
	Key           ed25519.PublicKey // nil: it has none
	ListenAddress string            // where others reach it; "" if they do not
}

// PeerInfo is another node.
type PeerInfo struct {
	Key     ed25519.PublicKey
	Address string // where this node reaches it
	Member  uint64 // its id in the last segment; 0: it is no member
}

// noNetwork is the Network of a node that is alone.
type noNetwork struct{}

func (noNetwork) Self() NodeInfo    { return NodeInfo{} }
func (noNetwork) Peers() []PeerInfo { return nil }

// adminAPI is the admin_ namespace, in go-ethereum's forms: who this node is and what it is connected to. It only looks; members are changed
// by log_reconfigure. There is no devp2p here, so nodes have no enode addresses and the fields for them are empty.
type adminAPI struct{ *node }

// nodeInfo is the answer of admin_nodeInfo.
type nodeInfo struct {
	ID         string           `json:"id"` // public node key
	Name       string           `json:"name"`
	Enode      string           `json:"enode"`
	ENR        string           `json:"enr"`
	IP         string           `json:"ip"`
	Ports      nodePorts        `json:"ports"`
	ListenAddr string           `json:"listenAddr"`
	Protocols  nodeInfoProtocol `json:"protocols"`
}

type nodePorts struct {
	Discovery int `json:"discovery"`
	Listener  int `json:"listener"`
}

// nodeInfoProtocol is what the nodes speak with each other.
type nodeInfoProtocol struct {
	Ledgerd ledgerdInfo `json:"ledgerd"`
}

type ledgerdInfo struct {
	Network   *hexutil.Big  `json:"network"` // chain id
	NetworkID hexutil.Bytes `json:"networkId,omitempty"`
	Genesis   common.Hash   `json:"genesis"`
	Head      common.Hash   `json:"head"`
	Engine    string        `json:"engine,omitempty"`
	Role      string        `json:"role,omitempty"` // "orders" or "observes"
}

// NodeInfo tells who this node is.
func (api *adminAPI) NodeInfo() nodeInfo {
	self := api.opts.Network.Self()
	info := nodeInfo{
		ID: hex.EncodeToString(self.Key), Name: api.clientVersion(), ListenAddr: self.ListenAddress,
		Protocols: nodeInfoProtocol{ledgerdInfo{
			Network: (*hexutil.Big)(api.backend.ChainConfig().ChainID), Head: api.backend.CurrentHeader().Hash(),
		}},
	}
	if genesis := api.backend.HeaderByNumber(0); genesis != nil {
		info.Protocols.Ledgerd.Genesis = genesis.Hash()
	}
	if host, port, err := net.SplitHostPort(self.ListenAddress); err == nil {
		info.IP = host
		info.Ports.Listener, _ = strconv.Atoi(port)
	}
	if api.log != nil {
		s := api.log.Status()
		info.Protocols.Ledgerd.NetworkID, info.Protocols.Ledgerd.Engine, info.Protocols.Ledgerd.Role = s.NetworkID[:], s.Engine, s.Role
	}
	return info
}

// peerInfo is an element of the answer of admin_peers.
type peerInfo struct {
	Enode     string           `json:"enode"`
	ID        string           `json:"id"` // public node key
	Name      string           `json:"name"`
	Caps      []string         `json:"caps"`
	Network   peerConnection   `json:"network"`
	Protocols peerInfoProtocol `json:"protocols"`
}

type peerConnection struct {
	LocalAddress  string `json:"localAddress"`
	RemoteAddress string `json:"remoteAddress"`
	Inbound       bool   `json:"inbound"`
	Trusted       bool   `json:"trusted"` // always: strangers are not connected to
	Static        bool   `json:"static"`  // always: nodes are named, not discovered
}

type peerInfoProtocol struct {
	Ledgerd peerMember `json:"ledgerd"`
}

type peerMember struct {
	Member hexutil.Uint64 `json:"member"` // id in the last segment; 0x0: no member
}

// Peers returns the nodes that this one is connected to.
func (api *adminAPI) Peers() []peerInfo {
	self, peers := api.opts.Network.Self(), api.opts.Network.Peers()
	infos := make([]peerInfo, len(peers))
	for i, p := range peers {
		infos[i] = peerInfo{
			ID: hex.EncodeToString(p.Key), Caps: []string{"ledgerd/1"},
			Network:   peerConnection{LocalAddress: self.ListenAddress, RemoteAddress: p.Address, Trusted: true, Static: true},
			Protocols: peerInfoProtocol{peerMember{hexutil.Uint64(p.Member)}},
		}
		if p.Member > 0 {
			infos[i].Name = "member " + strconv.FormatUint(p.Member, 10)
		}
	}
	return infos
}
