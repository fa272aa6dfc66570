package rpc

import (
	"bytes"
	"encoding/json"

	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/ledger"
)

// announcement is a head with its encodings, each made when the first subscriber wants it and then shared: by those who choose it, and by their queues.
type announcement struct {
	ledger.HeadEvent
	signer  types.Signer
	engines *engineNames
	index   logIndex

	header          json.RawMessage
	logs            []json.RawMessage
	forms           []*receipt
	receipts        []json.RawMessage
	allReceipts     []json.RawMessage // one message, or none
	haveAllReceipts bool
}

func newAnnouncement(ev ledger.HeadEvent, signer types.Signer, engines *engineNames) *announcement {
	return &announcement{
		HeadEvent: ev, signer: signer, engines: engines, index: logIndex{logs: ev.Logs},
		logs: make([]json.RawMessage, len(ev.Logs)), receipts: make([]json.RawMessage, len(ev.Receipts)),
	}
}

func (a *announcement) encodedHeader() json.RawMessage {
	if a.header == nil {
		a.header = encode(newHeader(a.Block.Header(), a.engines))
	}
	return a.header
}

func (a *announcement) encodedLog(i int) json.RawMessage {
	if a.logs[i] == nil {
		a.logs[i] = encode(a.Logs[i])
	}
	return a.logs[i]
}

func (a *announcement) receiptForms() []*receipt {
	if a.forms == nil {
		a.forms = newReceipts(a.Receipts, a.Block.Transactions(), a.signer)
	}
	return a.forms
}

func (a *announcement) encodedReceipt(i int) json.RawMessage {
	if a.receipts[i] == nil {
		a.receipts[i] = encode(a.receiptForms()[i])
	}
	return a.receipts[i]
}

// encodedReceipts is the list of all, as one message, if there are any.
func (a *announcement) encodedReceipts() []json.RawMessage {
	if !a.haveAllReceipts {
		all := make([]json.RawMessage, len(a.receipts))
		for i := range all {
			all[i] = a.encodedReceipt(i)
		}
		a.allReceipts, a.haveAllReceipts = listed(all), true
	}
	return a.allReceipts
}

// listed makes one message of several, and none of none.
func listed(messages []json.RawMessage) []json.RawMessage {
	if len(messages) == 0 {
		return nil
	}
	parts := make([][]byte, len(messages))
	for i, m := range messages {
		parts[i] = m
	}
	list := append([]byte{'['}, bytes.Join(parts, []byte{','})...)
	return []json.RawMessage{append(list, ']')}
}

// pendingAnnouncement is the same for transactions of the pool.
type pendingAnnouncement struct {
	transactions []*types.Transaction
	signer       types.Signer

	hashes, full []json.RawMessage
}

func (a *pendingAnnouncement) encodedHashes() []json.RawMessage {
	if a.hashes == nil {
		a.hashes = make([]json.RawMessage, len(a.transactions))
		for i, tx := range a.transactions {
			a.hashes[i] = encode(tx.Hash())
		}
	}
	return a.hashes
}

func (a *pendingAnnouncement) encodedTransactions() []json.RawMessage {
	if a.full == nil {
		a.full = make([]json.RawMessage, len(a.transactions))
		for i, tx := range a.transactions {
			a.full[i] = encode(newTransaction(tx, a.signer, nil))
		}
	}
	return a.full
}
