package comet

import (
	"bytes"
	"encoding/binary"
	"fmt"

	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"

	"ledgerd/consensus"
)

const proofVersion = 1

// prove makes the proof of the log up to the end of the block at a height: the block's header, a commit of it and its transactions. nil if the block is
// not there.
func prove(blocks *store.BlockStore, height int64) ([]byte, error) {
	block := blocks.LoadBlock(height)
	commit := blocks.LoadBlockCommit(height)
	if commit == nil {
		commit = blocks.LoadSeenCommit(height)
	}
	if block == nil || commit == nil {
		return nil, fmt.Errorf("%w: block %d or its commit is missing", consensus.ErrCorrupt, height)
	}
	h, err := block.Header.ToProto().Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode header %d: %w", height, err)
	}
	c, err := commit.ToProto().Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode commit %d: %w", height, err)
	}
	b := appendBytes(appendBytes([]byte{proofVersion}, h), c)
	b = binary.BigEndian.AppendUint32(b, uint32(len(block.Txs)))
	for _, tx := range block.Txs {
		b = appendBytes(b, tx)
	}
	return b, nil
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...)
}

// A proof is one as it was decoded.
type proof struct {
	header types.Header
	commit *types.Commit
	txs    types.Txs
}

// decodeProof decodes a proof strictly, and checks nothing. The error is ErrInvalid.
func decodeProof(b []byte) (p proof, err error) {
	bad := func(err error) (proof, error) { return proof{}, fmt.Errorf("%w: proof: %v", consensus.ErrInvalid, err) }
	if len(b) == 0 || b[0] != proofVersion {
		return bad(fmt.Errorf("%d bytes of unknown version", len(b)))
	}
	rest := b[1:]
	take := func() (v []byte) {
		if err != nil || len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.BigEndian.Uint32(rest)) {
			err = fmt.Errorf("it ends too early")
			return nil
		}
		n := binary.BigEndian.Uint32(rest)
		v, rest = rest[4:4+n], rest[4+n:]
		return v
	}
	var h cmtproto.Header
	var c cmtproto.Commit
	headerBytes, commitBytes := take(), take()
	if err != nil {
		return bad(err)
	}
	if err := h.Unmarshal(headerBytes); err != nil {
		return bad(err)
	}
	if err := c.Unmarshal(commitBytes); err != nil {
		return bad(err)
	}
	if p.header, err = types.HeaderFromProto(&h); err != nil {
		return bad(err)
	}
	if p.commit, err = types.CommitFromProto(&c); err != nil {
		return bad(err)
	}
	if len(rest) < 4 {
		return bad(fmt.Errorf("it ends too early"))
	}
	count := binary.BigEndian.Uint32(rest)
	rest = rest[4:]
	for range count {
		tx := take()
		if err != nil {
			return bad(err)
		}
		p.txs = append(p.txs, tx)
	}
	if len(rest) > 0 {
		return bad(fmt.Errorf("%d bytes behind its end", len(rest)))
	}
	return p, nil
}

// verify returns an ErrInvalid unless more than two thirds of the segment's members committed the block, and the log in it has that digest at an LSN.
func (p proof) verify(seg consensus.Segment, lsn consensus.LSN, digest consensus.Digest) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: proof of lsn %d: "+format, append([]any{consensus.ErrInvalid, lsn}, args...)...)
	}
	members := validatorSet(seg)
	hash := p.header.Hash()
	switch {
	case p.header.ChainID != chainID(seg):
		return bad("it is of chain %q, epoch %d is %q", p.header.ChainID, seg.Epoch, chainID(seg))
	case !bytes.Equal(p.header.ValidatorsHash, members.Hash()):
		return bad("its validators are not the members of epoch %d", seg.Epoch)
	case !bytes.Equal(p.header.DataHash, p.txs.Hash()):
		return bad("the transactions are not the block's")
	case !bytes.Equal(p.commit.BlockID.Hash, hash):
		return bad("the commit is of another block")
	}
	if err := members.VerifyCommitLight(p.header.ChainID, p.commit.BlockID, p.header.Height, p.commit); err != nil {
		return bad("%v", err)
	}
	raw := make([][]byte, len(p.txs))
	for i, tx := range p.txs {
		raw[i] = tx
	}
	b, err := decodeBlock(raw)
	if err != nil {
		return bad("%v", err)
	}
	got, ok := b.digestAt(seg, lsn)
	if !ok {
		return bad("the block's entries begin at lsn %d, and it is not among them", b.head.next)
	}
	if got != digest {
		return bad("the members ordered digest %v, here is %v", got, digest)
	}
	return nil
}

// digestAt returns the digest of the log at an LSN that the block reaches: each of its records is an entry, or honest members would not have voted for it.
func (b block) digestAt(seg consensus.Segment, lsn consensus.LSN) (consensus.Digest, bool) {
	next, digest := b.head.next, b.head.digest
	for _, item := range b.items {
		if next > lsn {
			break
		}
		if !consensus.IsBase(item.Record) {
			digest = consensus.NextDigest(digest, consensus.Entry{LSN: next, Epoch: seg.Epoch, UnixMilli: item.UnixMilli, Record: item.Record})
			next++
		}
	}
	return digest, next == lsn+1
}
