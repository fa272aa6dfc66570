package rpc

import (
	"net/http"
	"net/netip"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
	"ledgerd/rpc/feed"
)

// newFeed makes the feed of the server. It shows what eth_ shows, so it is served where that is.
func (s *Server) newFeed() (*feed.Feed, error) {
	if s.opts.Namespaces != nil && !slices.Contains(s.opts.Namespaces, "eth") {
		return nil, nil
	}
	opts := s.opts.Feed
	opts.OriginAllowed, opts.Peer = s.checkOrigin, feedPeer
	opts.Logger, opts.Registerer = s.opts.Logger, s.opts.Registerer
	if s.log != nil {
		opts.Segments = s.log.Segments
	}
	return feed.New(s.backend, feedForms{s.node}, opts)
}

// feedPeer names a client as it is named for the other limits.
func feedPeer(r *http.Request) (name string, local bool) {
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		name = clientAt(at.Addr())
	}
	return name, shareOf(r.RemoteAddr) == ""
}

// feedForms are the forms of this package (invariant 3).
type feedForms struct{ *node }

func (f feedForms) Header(h *types.Header) any { return newHeader(h, f.engines) }

func (f feedForms) Transaction(tx *types.Transaction, block *types.Header, hash common.Hash, index uint64) any {
	return newTransaction(tx, f.signer, &place{block, hash, index})
}

func (f feedForms) Receipt(r *types.Receipt, tx *types.Transaction) any {
	return newReceipt(r, tx, f.signer)
}

// Segment is the form of log_segments without what comes with the end, which is not known when the segment begins.
func (f feedForms) Segment(s consensus.Segment) any {
	return struct {
		logSegment
		End   *struct{} `json:"end,omitempty"`
		Proof *struct{} `json:"proof,omitempty"`
	}{logSegment: newLogSegment(s)}
}
