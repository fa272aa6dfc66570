package batch

import (
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/rlp"
)

// Version is the first byte of a payload.
const Version byte = 0x01

// The limits of the protocol. They are part of what a valid record is, so that changing one of them takes a new version.
const (
	MaxBytes        = 512 << 10 // of a whole payload; half of what a record of the log may hold
	MaxTransactions = 1000
)

// Errors of Decode. Each is wrapped with the numbers.
var (
	ErrVersion   = errors.New("unknown batch version")
	ErrTooLarge  = errors.New("batch too large")       // more than Limits.Bytes
	ErrTooMany   = errors.New("too many transactions") // more than Limits.Transactions
	ErrEmpty     = errors.New("empty batch")           // no payload, no transaction, or a transaction of no bytes
	ErrMalformed = errors.New("malformed batch")       // not the canonical RLP of a batch
)

// Limits bound what Decode accepts. Zero means the limit of the protocol.
type Limits struct {
	Bytes        int // of the whole payload
	Transactions int
}

func (l Limits) ensureDefaults() Limits {
	if l.Bytes == 0 {
		l.Bytes = MaxBytes
	}
	if l.Transactions == 0 {
		l.Transactions = MaxTransactions
	}
	return l
}

// Encode returns the payload that holds txs, each in its EIP-2718 encoding. It checks no limit: whoever fills a batch
// uses ItemSize and Size to know when to stop.
func Encode(txs [][]byte) []byte {
	items := 0
	for _, tx := range txs {
		items += ItemSize(len(tx))
		if len(tx) == 1 && tx[0] < 0x80 {
			items-- // RLP gives such a byte no header
		}
	}
	w := rlp.NewEncoderBuffer(nil)
	batch := w.List()
	list := w.List()
	for _, tx := range txs {
		w.WriteBytes(tx)
	}
	w.ListEnd(list)
	w.ListEnd(batch)
	payload := make([]byte, 1, Size(items))
	payload[0] = Version
	payload = w.AppendToBytes(payload)
	_ = w.Flush() // gives the buffer back; there is no writer that could fail
	return payload
}

// ItemSize returns how many bytes a transaction whose encoding has n bytes (n >= 2) takes in a batch.
func ItemSize(n int) int {
	if n < 56 {
		return 1 + n
	}
	return int(rlp.ListSize(uint64(n))) // strings and lists of one length have headers of one length
}

// Size returns the length of a payload whose transactions take items bytes, the sum of their ItemSize.
func Size(items int) int {
	return 1 + int(rlp.ListSize(rlp.ListSize(uint64(items))))
}

// Decode returns the transactions of a payload. They share its memory and are not looked into: whether one is
// a transaction is judged at its turn. The error is one of ErrVersion, ErrTooLarge, ErrTooMany, ErrEmpty and ErrMalformed.
func Decode(payload []byte, limits Limits) ([][]byte, error) {
	limits = limits.ensureDefaults()
	switch {
	case len(payload) == 0:
		return nil, fmt.Errorf("%w: no payload", ErrEmpty)
	case len(payload) > limits.Bytes:
		return nil, fmt.Errorf("%w: %d bytes, limit %d", ErrTooLarge, len(payload), limits.Bytes)
	case payload[0] != Version:
		return nil, fmt.Errorf("%w: 0x%02x", ErrVersion, payload[0])
	}
	fields, err := onlyList(payload[1:], "batch")
	if err != nil {
		return nil, err
	}
	items, err := onlyList(fields, "transactions")
	if err != nil {
		return nil, err
	}
	n, err := rlp.CountValues(items)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: transactions: %v", ErrMalformed, err)
	case n == 0:
		return nil, fmt.Errorf("%w: no transactions", ErrEmpty)
	case n > limits.Transactions:
		return nil, fmt.Errorf("%w: %d, limit %d", ErrTooMany, n, limits.Transactions)
	}
	txs := make([][]byte, n)
	for i := range txs {
		if txs[i], items, err = rlp.SplitString(items); err != nil {
			return nil, fmt.Errorf("%w: transaction %d: %v", ErrMalformed, i, err)
		}
		if len(txs[i]) == 0 {
			return nil, fmt.Errorf("%w: transaction %d has no bytes", ErrEmpty, i)
		}
	}
	return txs, nil
}

// onlyList returns the content of b, which must be one list and nothing else.
func onlyList(b []byte, what string) ([]byte, error) {
	content, rest, err := rlp.SplitList(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrMalformed, what, err)
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the %s", ErrMalformed, len(rest), what)
	}
	return content, nil
}
