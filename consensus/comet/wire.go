package comet

import (
	"encoding/binary"
	"fmt"

	"ledgerd/consensus"
)

// The formats are drawn in doc.go.

// First byte of a transaction, and of what members tell each other beside them.
const (
	kindHead    = 0
	kindRecord  = 1
	kindBarrier = 2
	kindReport  = 3
)

const (
	headVersion  = 1
	headBytes    = 1 + 1 + 8 + 8 + 32
	barrierBytes = 1 + 16
	reportBytes  = 1 + 8 + 8 + 1
)

// A head is the first transaction of each block, which its proposer puts there: the clock of the block's records, and the log that they continue.
type head struct {
	unixMilli uint64
	next      consensus.LSN    // of the first record that becomes an entry
	digest    consensus.Digest // of the log before it
}

func (h head) encode() []byte {
	b := append(make([]byte, 0, headBytes), kindHead, headVersion)
	b = binary.BigEndian.AppendUint64(b, h.unixMilli)
	b = binary.BigEndian.AppendUint64(b, uint64(h.next))
	return append(b, h.digest[:]...)
}

func decodeHead(tx []byte) (h head, err error) {
	if len(tx) != headBytes || tx[0] != kindHead || tx[1] != headVersion {
		return head{}, fmt.Errorf("%w: %d bytes are not a block's head", consensus.ErrInvalid, len(tx))
	}
	h.unixMilli, h.next = binary.BigEndian.Uint64(tx[2:]), consensus.LSN(binary.BigEndian.Uint64(tx[10:]))
	copy(h.digest[:], tx[18:])
	return h, nil
}

// encodeRecord makes the transaction of a record, which is valid.
func encodeRecord(r consensus.Record) []byte {
	return consensus.AppendRecord(append(make([]byte, 0, 1+r.Size()), kindRecord), r)
}

// A nonce names a barrier.
type nonce [16]byte

func (n nonce) encode() []byte { return append([]byte{kindBarrier}, n[:]...) }

// A transaction is what a block holds behind its head.
type transaction struct {
	record  consensus.Record // if barrier is nil; its payload points into the transaction's bytes
	barrier *nonce
}

func decodeTransaction(tx []byte) (t transaction, err error) {
	switch {
	case len(tx) > 0 && tx[0] == kindRecord:
		t.record, err = consensus.DecodeRecord(tx[1:])
		return t, err
	case len(tx) == barrierBytes && tx[0] == kindBarrier:
		n := nonce(tx[1:])
		return transaction{barrier: &n}, nil
	}
	return t, fmt.Errorf("%w: %d bytes are neither record nor barrier", consensus.ErrInvalid, len(tx))
}

// A block is the transactions of a CometBFT block, decoded.
type block struct {
	head   head
	items  []consensus.Item // records, with the head's clock
	at     []int            // their places among the transactions
	nonces []nonce
}

// decodeBlock decodes what every honest proposer makes. The error is ErrInvalid or ErrTooLarge.
func decodeBlock(txs [][]byte) (b block, err error) {
	if len(txs) == 0 {
		return b, fmt.Errorf("%w: block without a head", consensus.ErrInvalid)
	}
	if b.head, err = decodeHead(txs[0]); err != nil {
		return b, err
	}
	for i, tx := range txs[1:] {
		t, err := decodeTransaction(tx)
		switch {
		case err != nil:
			return b, fmt.Errorf("transaction %d: %w", i+1, err)
		case t.barrier != nil:
			b.nonces = append(b.nonces, *t.barrier)
		default:
			b.items, b.at = append(b.items, consensus.Item{UnixMilli: b.head.unixMilli, Record: t.record}), append(b.at, i+1)
		}
	}
	return b, nil
}

// A report is what a member tells of itself.
type report struct {
	height uint64 // of the last block that it has applied
	base   uint64 // of the first that it has stored
	sealed bool   // it has applied the segment's Seal
}

func (r report) encode() []byte {
	b := append(make([]byte, 0, reportBytes), kindReport)
	b = binary.BigEndian.AppendUint64(b, r.height)
	b = binary.BigEndian.AppendUint64(b, r.base)
	if r.sealed {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeReport(b []byte) (report, error) {
	if len(b) != reportBytes || b[0] != kindReport || b[17] > 1 {
		return report{}, fmt.Errorf("%w: %d bytes are not a member's report", consensus.ErrInvalid, len(b))
	}
	return report{height: binary.BigEndian.Uint64(b[1:]), base: binary.BigEndian.Uint64(b[9:]), sealed: b[17] == 1}, nil
}
