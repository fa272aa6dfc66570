package protocol

import (
	"encoding/json"
	"fmt"

	"github.com/ethereum/go-ethereum/common/hexutil"
)

// The types of messages.
const (
	TypeSubscribe  = "subscribe"  // client: the first message
	TypeCredit     = "credit"     // client: room for more events
	TypeSubscribed = "subscribed" // server: the answer to the first message
	TypeEvent      = "event"
	TypeProgress   = "progress"
	TypeError      = "error" // server: the last message
)

// Where a subscription may start that has no cursor; or at a block, whose number is a hexadecimal quantity.
const (
	StartEarliest = "earliest" // with block 0
	StartLatest   = "latest"   // after the head
)

// A Request is a client's first message, of type "subscribe": every event that any of the filters selects, from the cursor on, or from where Start says; by
// default after the head.
type Request struct {
	Type    string   `json:"type"`
	Filters []Filter `json:"filters"`
	Cursor  string   `json:"cursor,omitempty"`
	Start   string   `json:"start,omitempty"`
	Credit  uint64   `json:"credit"` // how many events may be sent
}

// A Grant is a client's message of type "credit": so many more events may be sent.
type Grant struct {
	Type   string `json:"type"`
	Credit uint64 `json:"credit"`
}

// DecodeRequest reads a client's first message. What it returns is well formed; whether it is within the server's limits, and the cursor good, it does
// not say. Its error is an *Error.
func DecodeRequest(text []byte) (*Request, error) {
	q := new(Request)
	if err := unmarshalStrict(text, q); err != nil {
		return nil, Errorf(CodeInvalidRequest, "the request: %v", err)
	}
	if q.Type != TypeSubscribe {
		return nil, Errorf(CodeInvalidRequest, "the first message has type %q, want %q", q.Type, TypeSubscribe)
	}
	return q, q.Validate()
}

// Validate says what is wrong with q, as an *Error.
func (q *Request) Validate() error {
	if len(q.Filters) == 0 {
		return Errorf(CodeInvalidRequest, "no filters: nothing is asked for")
	}
	for i := range q.Filters {
		if err := q.Filters[i].Validate(); err != nil {
			return err
		}
	}
	if q.Cursor != "" && q.Start != "" {
		return Errorf(CodeInvalidRequest, "a cursor and a start: only one of them can hold")
	}
	if q.Cursor != "" {
		_, err := ParseCursor(q.Cursor)
		return err
	}
	_, _, err := q.StartBlock()
	return err
}

// StartBlock returns the block that Start names; latest: the one after the head.
func (q *Request) StartBlock() (number uint64, latest bool, err error) {
	switch q.Start {
	case "", StartLatest:
		return 0, true, nil
	case StartEarliest:
		return 0, false, nil
	}
	number, err = hexutil.DecodeUint64(q.Start)
	if err != nil {
		return 0, false, Errorf(CodeInvalidRequest, "start %q: want %q, %q or a block number in hexadecimal: %v", shorten(q.Start), StartEarliest, StartLatest, err)
	}
	return number, false, nil
}

// shorten keeps a client's text from filling an error.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

// DecodeGrant reads any other message of a client. Its error is an *Error.
func DecodeGrant(text []byte) (uint64, error) {
	var g Grant
	if err := unmarshalStrict(text, &g); err != nil {
		return 0, Errorf(CodeInvalidRequest, "a message: %v", err)
	}
	switch {
	case g.Type != TypeCredit:
		return 0, Errorf(CodeInvalidRequest, "a message has type %q, want %q: a connection has one subscription", shorten(g.Type), TypeCredit)
	case g.Credit == 0:
		return 0, Errorf(CodeInvalidRequest, "a message grants no credit")
	}
	return g.Credit, nil
}

// A Message is one of the server's. Which fields it has goes by its type; schema.json says it exactly.
type Message struct {
	Type    string          `json:"type"`
	Kind    Kind            `json:"kind,omitempty"`   // of an event
	Cursor  string          `json:"cursor,omitempty"` // of what follows this message. In all but some errors
	Data    json.RawMessage `json:"data,omitempty"`   // of an event: as eth_subscribe, eth_getTransactionByHash, eth_getTransactionReceipt, eth_getLogs and log_segments give it
	ChainID string          `json:"chainId,omitempty"`
	Head    string          `json:"head,omitempty"` // the number of the newest block
	Live    *bool           `json:"live,omitempty"` // of a progress message: everything up to the head has been sent
	Code    Code            `json:"code,omitempty"` // of an error
	Text    string          `json:"message,omitempty"`
}

// A Code says what a program can do about an error.
type Code string

// The codes of errors.
const (
	CodeInvalidRequest Code = "invalid_request"      // it will never be right
	CodeLimitExceeded  Code = "limit_exceeded"       // nor will it; ask for less
	CodeInvalidCursor  Code = "cursor_invalid"       // it was not made by a feed
	CodeOtherChain     Code = "cursor_other_chain"   // of another chain id
	CodeOtherHistory   Code = "cursor_other_history" // of the same chain id and another history: a development chain that began anew, or a log that was recovered
	CodeBeyondHead     Code = "cursor_beyond_head"   // of a block that this node does not have yet
	CodePruned         Code = "history_pruned"       // of a block that this node does not have any more, or never had; the error has the oldest cursor it can serve
	CodeOverloaded     Code = "overloaded"           // too many clients; try again later or elsewhere
	CodeInternal       Code = "internal"             // the node could not read what it should have
)

// Temporary says whether the same request can succeed later, or on another node of the network.
func (c Code) Temporary() bool {
	return c == CodeBeyondHead || c == CodeOverloaded || c == CodeInternal
}

// An Error is why a subscription ends, or does not begin.
type Error struct {
	Code    Code
	Message string
	Cursor  string // CodePruned: the oldest one that the node can serve
}

// Errorf makes an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Code, e.Message) }
