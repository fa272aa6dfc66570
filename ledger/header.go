package ledger

import (
	"encoding/binary"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"

	"ledgerd/consensus"
	"ledgerd/vm"
)

// The extraData of a header, 25 of the 32 bytes that Ethereum allows:
//
//	 0      1              9             17             25
//	+------+--------------+--------------+--------------+
//	| 0x01 | epoch        | LSN          | milliseconds |
//	+------+--------------+--------------+--------------+
//
// Integers are big endian; milliseconds are since the Unix epoch. The genesis block has whatever its file says.
const (
	extraVersion = 0x01
	extraLength  = 1 + 3*8
)

func encodeExtra(p Position) []byte {
	extra := make([]byte, 0, extraLength)
	extra = append(extra, extraVersion)
	extra = binary.BigEndian.AppendUint64(extra, uint64(p.Epoch))
	extra = binary.BigEndian.AppendUint64(extra, uint64(p.LSN))
	return binary.BigEndian.AppendUint64(extra, p.UnixMilli)
}

// PositionOf reads from a header where in the log its block comes from. It is false for a block that did not come
// from a log: genesis, or one that was imported.
func PositionOf(h *types.Header) (Position, bool) {
	if h.Number.Sign() == 0 || len(h.Extra) != extraLength || h.Extra[0] != extraVersion {
		return Position{}, false
	}
	return Position{
		Epoch:     consensus.Epoch(binary.BigEndian.Uint64(h.Extra[1:])),
		LSN:       consensus.LSN(binary.BigEndian.Uint64(h.Extra[9:])),
		UnixMilli: binary.BigEndian.Uint64(h.Extra[17:]),
	}, true
}

// positionOf is PositionOf, for the headers of this chain: what an imported one has in its extraData is its miners' business.
func (l *Ledger) positionOf(h *types.Header) (Position, bool) {
	if l.genesis.Ledgerd.Imported {
		return Position{}, false
	}
	return PositionOf(h)
}

// prevRandao is keccak256(parent hash ‖ LSN). Contracts see it as PREVRANDAO; it is known to whoever sees the log and
// promises no randomness.
func prevRandao(parent common.Hash, lsn consensus.LSN) common.Hash {
	return crypto.Keccak256Hash(parent[:], binary.BigEndian.AppendUint64(nil, uint64(lsn)))
}

// envOf derives everything that a block takes from the log and from its parent (invariant 1). The caller holds exec, in the epoch of e.
func (l *Ledger) envOf(parent *types.Header, e consensus.Entry) vm.Env {
	seconds := e.UnixMilli / 1000
	earliest := parent.Time
	if l.genesis.Ledgerd.StrictTimestamps {
		earliest++
	}
	position := Position{LSN: e.LSN, Epoch: e.Epoch, UnixMilli: e.UnixMilli}
	return vm.Env{
		Number:     parent.Number.Uint64() + 1,
		Time:       max(seconds, earliest),
		ParentHash: parent.Hash(),
		GasLimit:   l.exec.parameters.GasLimit,
		BaseFee:    l.exec.parameters.BaseFee,
		Coinbase:   l.exec.parameters.Coinbase,
		PrevRandao: prevRandao(parent.Hash(), e.LSN),
		BeaconRoot: common.Hash(e.Digest),
		Extra:      encodeExtra(position),
	}
}
