package protocol

import (
	"encoding/hex"
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// cursorVersion is the first part of every cursor.
const cursorVersion = "1"

// A Position is a place in the sequence of all events of a chain, whatever a filter selects: the event with this index in this block, counted from 0. The
// events of a block are, in this order: the segments of the log that began between its parent and itself; the block; its transactions; their receipts;
// its logs. So a position means the same on every node and under every filter.
type Position struct {
	Block uint64
	Index uint32
}

// A Cursor is the position of the first event that its holder has not seen, and what chain that is in:
//
//	1-1337-42-3-9f86d081884c7d65
//	│ │    │  │ └ the first 8 bytes of the hash of the newest block that has begun before the position
//	│ │    │  └── index in the block
//	│ │    └───── block number
//	│ └────────── chain id
//	└──────────── version
//
// Numbers are decimal. A block begins with its own event, so a cursor at or before that has the hash of the parent; at the very beginning of
// the chain it has that of block 0.
type Cursor struct {
	Chain string // chain id, in decimal
	Position
	Hash [8]byte
}

func (c Cursor) String() string {
	b := make([]byte, 0, 64)
	b = append(b, cursorVersion+"-"...)
	b = append(b, c.Chain...)
	b = append(b, '-')
	b = strconv.AppendUint(b, c.Block, 10)
	b = append(b, '-')
	b = strconv.AppendUint(b, uint64(c.Index), 10)
	b = append(b, '-')
	return string(hex.AppendEncode(b, c.Hash[:]))
}

// ParseCursor is the strict inverse of String. Its error is an *Error with CodeInvalidCursor.
func ParseCursor(s string) (Cursor, error) {
	bad := func(what string) (Cursor, error) {
		return Cursor{}, Errorf(CodeInvalidCursor, "not a cursor: %s", what)
	}
	if len(s) > MaxCursorBytes {
		return bad(fmt.Sprintf("%d bytes", len(s)))
	}
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return bad(fmt.Sprintf("%q has %d parts, want 5", s, len(parts)))
	}
	if parts[0] != cursorVersion {
		return bad(fmt.Sprintf("version %q, want %s", parts[0], cursorVersion))
	}
	c := Cursor{Chain: parts[1]}
	if chain, ok := new(big.Int).SetString(c.Chain, 10); !ok || chain.String() != c.Chain {
		return bad(fmt.Sprintf("chain id %q", c.Chain))
	}
	var err error
	if c.Block, err = strconv.ParseUint(parts[2], 10, 64); err != nil {
		return bad(fmt.Sprintf("block number %q", parts[2]))
	}
	index, err := strconv.ParseUint(parts[3], 10, 32)
	if err != nil {
		return bad(fmt.Sprintf("index %q", parts[3]))
	}
	c.Index = uint32(index)
	if n, err := hex.Decode(c.Hash[:], []byte(parts[4])[:min(len(parts[4]), 2*len(c.Hash))]); err != nil || n != len(c.Hash) {
		return bad(fmt.Sprintf("hash %q", parts[4]))
	}
	if c.String() != s { // leading zeros, signs, capitals, something at the end
		return bad(fmt.Sprintf("%q is not written as it should be, %v", s, c))
	}
	return c, nil
}

// MaxCursorBytes is the length of the longest cursor, with some to spare.
const MaxCursorBytes = 160
