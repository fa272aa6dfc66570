package comet

import (
	"errors"
	"fmt"

	"github.com/cometbft/cometbft/p2p"

	"ledgerd/consensus"
)

// cometTransport is CometBFT's p2p.Transport. C stands for what it calls a peer's configuration, a type without a name outside of CometBFT; as for a ticker, the compiler finds it.
type cometTransport[C any] interface {
	NetAddress() p2p.NetAddress
	Accept(C) (p2p.Peer, error)
	Dial(p2p.NetAddress, C) (p2p.Peer, error)
	Cleanup(p2p.Peer)
}

// A transport is CometBFT's, but lets go of a dial when the node leaves: CometBFT's holds on for a second, and three each for two handshakes. And it has the switch end when
// no connections come in any more: CometBFT's switch panics then, on a goroutine of its own, and ends the process.
type transport[C any] struct {
	cometTransport[C]
	leaving <-chan struct{} // closed when the node leaves
	broken  func(error)     // no connection will be accepted any more
}

func newTransport[C any](t cometTransport[C], leaving <-chan struct{}, broken func(error)) transport[C] {
	return transport[C]{t, leaving, broken}
}

// Dial implements p2p.Transport. What comes of a dial that was let go is closed.
func (t transport[C]) Dial(addr p2p.NetAddress, conf C) (p2p.Peer, error) {
	type result struct {
		peer p2p.Peer
		err  error
	}
	done := make(chan result, 1)
	go func() {
		peer, err := t.cometTransport.Dial(addr, conf)
		done <- result{peer, err}
	}()
	select {
	case r := <-done:
		return r.peer, r.err
	case <-t.leaving:
		go func() {
			if r := <-done; r.err == nil {
				t.Cleanup(r.peer)
			}
		}()
		return nil, fmt.Errorf("dial %v: %w", addr, consensus.ErrClosed)
	}
}

// Accept implements p2p.Transport.
func (t transport[C]) Accept(conf C) (p2p.Peer, error) {
	peer, err := t.cometTransport.Accept(conf)
	if err == nil || errors.As(err, new(p2p.ErrRejected)) || errors.As(err, new(p2p.ErrFilterTimeout)) || errors.As(err, new(p2p.ErrTransportClosed)) {
		return peer, err
	}
	t.broken(err)
	return nil, p2p.ErrTransportClosed{}
}
