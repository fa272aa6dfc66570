package comet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/cometbft/cometbft/store"

	"ledgerd/consensus"
)

// Attest implements consensus.Attester. The proof is the block that brought the entry, with its commit.
func (e *Engine) Attest(s *consensus.Store, seg consensus.Segment, lsn consensus.LSN) ([]byte, error) {
	p, err := e.attest(s, seg, lsn)
	if err != nil {
		return nil, fmt.Errorf("attest lsn %d of epoch %d: %w", lsn, seg.Epoch, err)
	}
	return p, nil
}

// errFound ends a scan.
var errFound = errors.New("found")

func (*Engine) attest(s *consensus.Store, seg consensus.Segment, lsn consensus.LSN) ([]byte, error) {
	area := s.EngineArea(seg.Epoch)
	height := int64(0)
	err := area.Scan(heightKey(lsn+1), []byte{keyHeight + 1}, func(_, v []byte) error {
		height = int64(binary.BigEndian.Uint64(v))
		return errFound
	})
	switch {
	case err == nil:
		return nil, consensus.ErrUnwritten
	case !errors.Is(err, errFound):
		return nil, err
	}
	blocks := store.NewBlockStore(database{area, keyBlocks, false, new(atomic.Bool)})
	if height < blocks.Base() {
		return nil, consensus.ErrTrimmed
	}
	return prove(blocks, height)
}

// Verify returns a consensus.ErrInvalid, with the reason, unless the proof shows that more than two thirds of the segment's members ordered a log which has that
// digest at that LSN. A pure function.
func Verify(seg consensus.Segment, lsn consensus.LSN, digest consensus.Digest, proof []byte) error {
	p, err := decodeProof(proof)
	if err != nil {
		return err
	}
	return p.verify(seg, lsn, digest)
}
