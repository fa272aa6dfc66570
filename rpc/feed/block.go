package feed

import (
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/gorilla/websocket"

	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/rpc/feed/protocol"
)

// block is the events of one block, those of protocol.Position:
//
//	0 … | segments | 1 | block | transactions | receipts | logs |
//
// What it holds of the block is read when somebody first wants it. If it is shared, each event is encoded when the first subscription sends it, and kept for the others.
type block struct {
	feed     *Feed
	number   uint64
	hash     common.Hash
	parent   common.Hash
	header   *types.Header
	first    consensus.Epoch // of the segment events
	segments uint32
	shared   bool // with other subscriptions

	body     func() (*types.Block, error)
	receipts func() (types.Receipts, error)
	logs     func() ([]logEvent, error)

	encoded sync.Map // index → *message, if shared
}

// logEvent is a log, with the place of its transaction.
type logEvent struct {
	*types.Log
	tx int
}

// message is an event as clients get it. The frame of a websocket, which is made from it once, is shared too.
type message struct {
	kind     protocol.Kind
	cursor   string
	text     []byte
	prepared atomic.Pointer[websocket.PreparedMessage]
}

// epochOf is 1 for a block that did not come from the log: nothing has changed before it.
func epochOf(h *types.Header) consensus.Epoch {
	if p, ok := ledger.PositionOf(h); ok {
		return p.Epoch
	}
	return 1
}

// load reads block number, which must not lie beyond the head. The error of one that is not there, or whose parent is not, is errPruned: without the parent it cannot be known where its events begin.
func (f *Feed) load(number uint64) (*block, error) {
	header := f.backend.HeaderByNumber(number)
	if header == nil {
		return nil, errPruned
	}
	b := &block{feed: f, number: number, hash: header.Hash(), header: header}
	if number > 0 {
		parent := f.backend.HeaderByNumber(number - 1)
		if parent == nil {
			return nil, errPruned
		}
		b.parent, b.first = header.ParentHash, epochOf(parent)+1
		b.segments = uint32(epochOf(header) - epochOf(parent))
	} else {
		b.parent = b.hash
	}
	b.body = sync.OnceValues(func() (*types.Block, error) {
		if body := f.backend.BlockByHash(b.hash); body != nil {
			return body, nil
		}
		return nil, errPruned
	})
	b.receipts = sync.OnceValues(b.readReceipts)
	b.logs = sync.OnceValues(b.readLogs)
	return b, nil
}

func (b *block) readReceipts() (types.Receipts, error) {
	body, err := b.body()
	if err != nil {
		return nil, err
	}
	receipts := b.feed.backend.ReceiptsByHash(b.hash)
	if len(receipts) != len(body.Transactions()) {
		return nil, errPruned
	}
	return receipts, nil
}

func (b *block) readLogs() ([]logEvent, error) {
	receipts, err := b.receipts()
	if err != nil {
		return nil, err
	}
	var logs []logEvent
	for i, r := range receipts {
		for _, l := range r.Logs {
			logs = append(logs, logEvent{l, i})
		}
	}
	return logs, nil
}

// cursor is that of the event with an index, which may be one that the block has not.
func (b *block) cursor(index uint32) protocol.Cursor {
	hash := b.parent
	if index > b.segments {
		hash = b.hash
	}
	return b.feed.cursor(b.number, index, hash)
}

// message returns the event with an index. It must be there.
func (b *block) message(index uint32) (*message, error) {
	if m, ok := b.encoded.Load(index); ok {
		return m.(*message), nil
	}
	kind, data, err := b.event(index)
	if err != nil {
		return nil, err
	}
	m, err := newMessage(kind, data, b.cursor(index+1))
	if err != nil {
		return nil, fmt.Errorf("block %d, event %d: %w", b.number, index, err)
	}
	if !b.shared {
		return m, nil
	}
	first, _ := b.encoded.LoadOrStore(index, m)
	return first.(*message), nil
}

// event returns what the event with an index is about.
func (b *block) event(index uint32) (kind protocol.Kind, data any, err error) {
	forms := b.feed.forms
	if index < b.segments {
		return protocol.KindSegment, b.feed.segment(b.first + consensus.Epoch(index)), nil
	}
	i := int(index - b.segments)
	if i == 0 {
		return protocol.KindBlock, forms.Header(b.header), nil
	}
	body, err := b.body()
	if err != nil {
		return "", nil, err
	}
	i--
	txs := body.Transactions()
	if i < len(txs) {
		return protocol.KindTransaction, forms.Transaction(txs[i], b.header, b.hash, uint64(i)), nil
	}
	i -= len(txs)
	receipts, err := b.receipts()
	if err != nil {
		return "", nil, err
	}
	if i < len(receipts) {
		return protocol.KindReceipt, forms.Receipt(receipts[i], txs[i]), nil
	}
	i -= len(receipts)
	logs, err := b.logs()
	if err != nil {
		return "", nil, err
	}
	return protocol.KindLog, logs[i].Log, nil
}

func newMessage(kind protocol.Kind, data any, next protocol.Cursor) (*message, error) {
	raw, err := json.Marshal(data)
	if err != nil {
		return nil, err
	}
	m := &message{kind: kind, cursor: next.String()}
	m.text, err = json.Marshal(protocol.Message{Type: protocol.TypeEvent, Kind: kind, Cursor: m.cursor, Data: raw})
	return m, err
}

// frame is the message for a websocket.
func (m *message) frame() (*websocket.PreparedMessage, error) {
	if p := m.prepared.Load(); p != nil {
		return p, nil
	}
	p, err := websocket.NewPreparedMessage(websocket.TextMessage, m.text)
	if err != nil {
		return nil, err
	}
	m.prepared.Store(p)
	return p, nil
}
