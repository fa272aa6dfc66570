package ledger

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/consensus"
)

// SnapshotHeaderBytes is the length of what DecodeSnapshotHeader takes.
const SnapshotHeaderBytes = len(snapshotMagic) + 32 + 32 + 8

// A SnapshotHeader is what a snapshot says of itself at its beginning. Restore alone finds out whether it is true.
type SnapshotHeader struct {
	Network consensus.NetworkID
	Head    common.Hash   // of the newest block
	Applied consensus.LSN // the entry whose state it is, at or after the head's
}

// DecodeSnapshotHeader reads the first SnapshotHeaderBytes of a snapshot: whoever passes one on learns from it which LSN it is
// of, while it is still being made. The error is ErrBadSnapshot.
func DecodeSnapshotHeader(b []byte) (SnapshotHeader, error) {
	rest, ok := bytes.CutPrefix(b, []byte(snapshotMagic))
	if !ok || len(b) != SnapshotHeaderBytes {
		return SnapshotHeader{}, fmt.Errorf("ledger: %w: it does not begin like one", ErrBadSnapshot)
	}
	return SnapshotHeader{
		Network: consensus.NetworkID(rest[:32]),
		Head:    common.Hash(rest[32:64]),
		Applied: consensus.LSN(binary.BigEndian.Uint64(rest[64:])),
	}, nil
}
