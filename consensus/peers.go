package consensus

import (
	"context"
	"crypto/ed25519"
)

// Peers are the other nodes of the network, as a VirtualLog needs them. Package peer implements it. What they say is checked, except for what the
// fault model of the segment lets be believed: members that may crash do not lie.
type Peers interface {
	// SegmentEnd asks the members of seg, and whoever else is known, whether it has ended. The result is verified (SegmentEnd.Verify); false: nobody
	// who answered knows of an end. An error: nobody answered.
	SegmentEnd(ctx context.Context, seg Segment) (SegmentEnd, bool, error)
	// Prepare asks a member of the next segment to get ready: VirtualLog.Prepare on that node. ErrUnknownNode if this node must not talk to it.
	Prepare(ctx context.Context, m Member, p Prepare) (Ready, error)
	// Status asks a member how its log is.
	Status(ctx context.Context, m Member) (Status, error)
}

// An Application is what the log has to know of the one above it. A nil function is as good as an application that keeps up and has no state.
type Application struct {
	// Applied returns the LSN up to which the application has played the log.
	Applied func() LSN
	// Fingerprint returns what stands for the application's state after an LSN: two replicas with the same have the same history. ErrUnwritten if it
	// has not been applied; ErrTrimmed if it is so old that the application does not know it any more.
	Fingerprint func(LSN) (Digest, error)
	// Rules is the version of the rules by which this program applies entries. Members with different ones must not share a segment.
	Rules uint32
	// ValidSpec returns what is wrong with a segment's parameters of the application (Spec.Ledger), or nil. It is asked before a segment is
	// proposed or prepared, not when one has been sealed.
	ValidSpec func(Spec) error
}

func (a Application) validSpec(s Spec) error {
	if a.ValidSpec == nil {
		return nil
	}
	return a.ValidSpec(s)
}

func (a Application) fingerprint(lsn LSN) (Digest, error) {
	if a.Fingerprint == nil {
		return Digest{}, nil
	}
	return a.Fingerprint(lsn)
}

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }
