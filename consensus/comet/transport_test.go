package comet

import (
	"errors"
	"testing"

	"github.com/cometbft/cometbft/p2p"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// fakeTransport dials and accepts what a test hands it.
type fakeTransport struct {
	peers   chan p2p.Peer
	errs    chan error
	cleaned chan p2p.Peer
}

func (fakeTransport) NetAddress() p2p.NetAddress { return p2p.NetAddress{} }

func (t fakeTransport) Accept(struct{}) (p2p.Peer, error) { return nil, <-t.errs }

func (t fakeTransport) Dial(p2p.NetAddress, struct{}) (p2p.Peer, error) { return <-t.peers, nil }

func (t fakeTransport) Cleanup(p p2p.Peer) { t.cleaned <- p }

// TestTransport: a dial that hangs is let go when the node leaves, and what it still brings is closed; what ends the accepting is told once, and does not panic.
func TestTransport(t *testing.T) {
	fake := fakeTransport{make(chan p2p.Peer), make(chan error, 1), make(chan p2p.Peer)}
	leaving := make(chan struct{})
	var broken error
	wrapped := newTransport(fake, leaving, func(err error) { broken = err })

	peer := struct{ p2p.Peer }{}
	go func() { fake.peers <- peer }()
	got, err := wrapped.Dial(p2p.NetAddress{}, struct{}{})
	require.NoError(t, err)
	require.Equal(t, p2p.Peer(peer), got)

	close(leaving)
	_, err = wrapped.Dial(p2p.NetAddress{}, struct{}{}) // nobody answers
	require.ErrorIs(t, err, consensus.ErrClosed)
	fake.peers <- peer
	require.Equal(t, p2p.Peer(peer), <-fake.cleaned)

	for _, harmless := range []error{p2p.ErrRejected{}, p2p.ErrFilterTimeout{}, p2p.ErrTransportClosed{}} {
		fake.errs <- harmless
		_, err = wrapped.Accept(struct{}{})
		require.Equal(t, harmless, err)
		require.NoError(t, broken)
	}
	full := errors.New("too many open files")
	fake.errs <- full
	_, err = wrapped.Accept(struct{}{})
	require.Equal(t, p2p.ErrTransportClosed{}, err)
	require.Equal(t, full, broken)
}
