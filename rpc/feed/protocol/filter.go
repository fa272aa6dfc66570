package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/ethereum/go-ethereum/common"
)

// A Kind says what happened.
type Kind string

// The kinds of events, in the order in which a block has them.
const (
	KindSegment     Kind = "segment"     // another segment of the log began: other members, or another engine
	KindBlock       Kind = "block"       // its header
	KindTransaction Kind = "transaction" // one that is in a block
	KindReceipt     Kind = "receipt"
	KindLog         Kind = "log"
)

// Kinds is all of them.
var Kinds = []Kind{KindSegment, KindBlock, KindTransaction, KindReceipt, KindLog}

// A Filter selects events of one kind, those that meet all of its conditions. An empty condition is met by everything. Address and Topics are for logs; From
// and To for logs, transactions and receipts.
//
// In JSON a list of one may be written without its brackets, as in eth_getLogs.
type Filter struct {
	Kind    Kind             `json:"kind"`
	Address []common.Address `json:"address,omitempty"` // any of these emitted it
	Topics  [][]common.Hash  `json:"topics,omitempty"`  // position i holds any of Topics[i]; an empty list matches everything
	From    []common.Address `json:"from,omitempty"`    // any of these signed the transaction
	To      []common.Address `json:"to,omitempty"`      // it went to any of these; a creation goes to none
}

// MaxTopics is how many topics a log can have.
const MaxTopics = 4

// UnmarshalJSON refuses what it does not know, since a condition that is misspelt would select everything.
func (f *Filter) UnmarshalJSON(text []byte) error {
	var j struct {
		Kind    Kind                      `json:"kind"`
		Address oneOrMany[common.Address] `json:"address"`
		Topics  []oneOrMany[common.Hash]  `json:"topics"`
		From    oneOrMany[common.Address] `json:"from"`
		To      oneOrMany[common.Address] `json:"to"`
	}
	if err := unmarshalStrict(text, &j); err != nil {
		return err
	}
	*f = Filter{Kind: j.Kind, Address: j.Address, From: j.From, To: j.To}
	for _, alternatives := range j.Topics {
		f.Topics = append(f.Topics, alternatives)
	}
	return nil
}

// Validate says what is wrong with f, as an *Error.
func (f *Filter) Validate() error {
	switch {
	case f.Kind == "":
		return Errorf(CodeInvalidRequest, "a filter has no kind, which is one of %q", Kinds)
	case !slices.Contains(Kinds, f.Kind):
		return Errorf(CodeInvalidRequest, "a filter has kind %q, which is not one of %q", f.Kind, Kinds)
	case f.Kind != KindLog && len(f.Address)+len(f.Topics) > 0:
		return Errorf(CodeInvalidRequest, "a filter of kind %q has an address or topics, which only logs have", f.Kind)
	case (f.Kind == KindBlock || f.Kind == KindSegment) && len(f.From)+len(f.To) > 0:
		return Errorf(CodeInvalidRequest, "a filter of kind %q has from or to, which it has not", f.Kind)
	case len(f.Topics) > MaxTopics:
		return Errorf(CodeInvalidRequest, "a filter has %d topics, a log has at most %d", len(f.Topics), MaxTopics)
	}
	return nil
}

// Size is how many addresses and topics f names.
func (f *Filter) Size() int {
	n := len(f.Address) + len(f.From) + len(f.To)
	for _, alternatives := range f.Topics {
		n += len(alternatives)
	}
	return n
}

// oneOrMany is a list that may be written as its only element, or as null if it is empty.
type oneOrMany[T any] []T

func (l *oneOrMany[T]) UnmarshalJSON(text []byte) error {
	*l = nil
	if bytes.Equal(text, []byte("null")) {
		return nil
	}
	if len(text) > 0 && text[0] == '[' {
		var raw []json.RawMessage
		if err := json.Unmarshal(text, &raw); err != nil {
			return err
		}
		list := make([]T, len(raw))
		for i, element := range raw {
			if bytes.Equal(element, []byte("null")) { // would leave a zero address or hash
				return fmt.Errorf("null in a list")
			}
			if err := json.Unmarshal(element, &list[i]); err != nil {
				return err
			}
		}
		*l = list
		return nil
	}
	one := make([]T, 1)
	if err := json.Unmarshal(text, &one[0]); err != nil {
		return err
	}
	*l = one
	return nil
}

// unmarshalStrict takes one JSON value without unknown fields and with nothing behind it.
func unmarshalStrict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows the JSON value")
	}
	return nil
}
