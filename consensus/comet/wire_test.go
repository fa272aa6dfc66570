package comet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

func record(n uint64) consensus.Record {
	return consensus.Record{App: "test", ID: consensus.RecordID{Session: 7, Seq: n}, Payload: []byte{byte(n)}}
}

func TestBlockRoundTrip(t *testing.T) {
	h := head{unixMilli: 1234, next: 5, digest: consensus.Digest{9}}
	txs := [][]byte{h.encode(), encodeRecord(record(1)), nonce{1, 2}.encode(), encodeRecord(record(2))}
	b, err := decodeBlock(txs)
	require.NoError(t, err)
	require.Equal(t, block{
		head:  h,
		items: []consensus.Item{{UnixMilli: 1234, Record: record(1)}, {UnixMilli: 1234, Record: record(2)}},
		at:    []int{1, 3}, nonces: []nonce{{1, 2}},
	}, b)
	for name, txs := range map[string][][]byte{
		"empty":          {},
		"no head":        {encodeRecord(record(1))},
		"two heads":      {h.encode(), h.encode()},
		"short head":     {h.encode()[:headBytes-1]},
		"long head":      {append(h.encode(), 0)},
		"other version":  {append([]byte{kindHead, 2}, h.encode()[2:]...)},
		"unknown kind":   {h.encode(), {9, 1}},
		"empty tx":       {h.encode(), {}},
		"short barrier":  {h.encode(), nonce{}.encode()[:5]},
		"bad record":     {h.encode(), {kindRecord, 1, 2}},
		"report inside":  {h.encode(), report{height: 1}.encode()},
		"record too big": {h.encode(), append([]byte{kindRecord}, make([]byte, consensus.MaxRecordBytes+1)...)},
	} {
		_, err := decodeBlock(txs)
		require.Error(t, err, name)
	}
	for _, r := range []report{{}, {height: 7, base: 3}, {height: 1 << 40, sealed: true}} {
		got, err := decodeReport(r.encode())
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
	_, err = decodeReport(append(report{}.encode()[:17], 2))
	require.ErrorIs(t, err, consensus.ErrInvalid)
}

// FuzzDecodeTransaction: whatever a member sends, or a block holds, is refused or is canonical.
func FuzzDecodeTransaction(f *testing.F) {
	f.Add(encodeRecord(record(1)))
	f.Add(nonce{1}.encode())
	f.Add(head{}.encode())
	f.Add(report{height: 3, sealed: true}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if tx, err := decodeTransaction(b); err == nil {
			if tx.barrier != nil {
				require.Equal(t, b, tx.barrier.encode())
			} else {
				require.Equal(t, b, encodeRecord(tx.record))
			}
		}
		if h, err := decodeHead(b); err == nil {
			require.Equal(t, b, h.encode())
		}
		if r, err := decodeReport(b); err == nil {
			require.Equal(t, b, r.encode())
		}
	})
}

// FuzzDecodeProof: a proof comes from a node that is not trusted.
func FuzzDecodeProof(f *testing.F) {
	f.Add([]byte{proofVersion})
	f.Add(append([]byte{proofVersion}, make([]byte, 12)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := decodeProof(b); err == nil {
			_ = p.verify(consensus.Segment{Spec: consensus.Spec{Members: []consensus.Member{{ConsensusKey: publicKey(key(1))}}}}, 1, consensus.Digest{})
		}
	})
}
