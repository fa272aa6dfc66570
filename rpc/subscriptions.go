package rpc

import (
	"context"
	"encoding/json"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/eth/filters"
	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

// maxReceiptHashes bounds the transactions that one "transactionReceipts" subscription can name, as in go-ethereum.
const maxReceiptHashes = 200

// subscribeAPI is eth_subscribe: the method NewHeads is the subscription "newHeads".
type subscribeAPI struct{ *node }

// NewHeads announces the header of every new block.
func (api *subscribeAPI) NewHeads(ctx context.Context) (*gethrpc.Subscription, error) {
	return api.subscribe(ctx, &subscriber{
		kind:   "newHeads",
		onHead: func(a *announcement) []json.RawMessage { return []json.RawMessage{a.encodedHeader()} },
	})
}

// Logs announces every new log that matches, one by one.
func (api *subscribeAPI) Logs(ctx context.Context, crit filters.FilterCriteria) (*gethrpc.Subscription, error) {
	match, err := api.newLogMatcher(crit)
	if err != nil {
		return nil, err
	}
	return api.subscribe(ctx, &subscriber{
		kind: "logs",
		onHead: func(a *announcement) []json.RawMessage {
			var messages []json.RawMessage
			for _, i := range a.index.find(match) {
				messages = append(messages, a.encodedLog(i))
			}
			return messages
		},
	})
}

// NewPendingTransactions announces transactions that become executable in the pool: their hashes, or, with true, themselves.
func (api *subscribeAPI) NewPendingTransactions(ctx context.Context, full *bool) (*gethrpc.Subscription, error) {
	return api.subscribe(ctx, api.newPendingSubscriber(full))
}

func (n *node) newPendingSubscriber(full *bool) *subscriber {
	return &subscriber{
		kind: "newPendingTransactions",
		onTransactions: func(a *pendingAnnouncement) []json.RawMessage {
			if full != nil && *full {
				return a.encodedTransactions()
			}
			return a.encodedHashes()
		},
	}
}

// receiptsQuery is the argument of the subscription "transactionReceipts".
type receiptsQuery struct {
	TransactionHashes []common.Hash `json:"transactionHashes"`
}

// TransactionReceipts announces, block by block, the receipts of the transactions that are named, or of all.
func (api *subscribeAPI) TransactionReceipts(ctx context.Context, query *receiptsQuery) (*gethrpc.Subscription, error) {
	wanted := make(map[common.Hash]struct{})
	if query != nil {
		if len(query.TransactionHashes) > maxReceiptHashes {
			return nil, invalidParams("exceed max number of transaction hashes allowed per transactionReceipts subscription")
		}
		for _, h := range query.TransactionHashes {
			wanted[h] = struct{}{}
		}
	}
	return api.subscribe(ctx, newReceiptSubscriber(wanted))
}

// newReceiptSubscriber wants the receipts of some transactions, or of all.
func newReceiptSubscriber(wanted map[common.Hash]struct{}) *subscriber {
	return &subscriber{
		kind: "transactionReceipts",
		onHead: func(a *announcement) []json.RawMessage {
			if len(wanted) == 0 {
				return a.encodedReceipts()
			}
			var matching []json.RawMessage
			for i, tx := range a.Block.Transactions() {
				if _, ok := wanted[tx.Hash()]; ok {
					matching = append(matching, a.encodedReceipt(i))
				}
			}
			return listed(matching)
		},
	}
}

// syncingNotification is what a subscriber of "syncing" gets while the node catches up; then it gets false.
type syncingNotification struct {
	Syncing bool          `json:"syncing"`
	Status  *syncProgress `json:"status"`
}

// Syncing announces, from time to time, how far the node has come in catching up with the log, and once, with false, that it has: at the
// beginning if it already had.
func (api *subscribeAPI) Syncing(ctx context.Context) (*gethrpc.Subscription, error) {
	caughtUp := false // announced
	return api.subscribe(ctx, &subscriber{
		kind: "syncing",
		onSyncing: func(progress *syncProgress) []json.RawMessage {
			switch {
			case progress != nil:
				caughtUp = false
				return []json.RawMessage{encode(syncingNotification{true, progress})}
			case caughtUp:
				return nil
			}
			caughtUp = true
			return []json.RawMessage{encode(false)}
		},
	})
}

// enterSubscription counts a subscription of the websocket that a request came by, of its client and of all, until leave. sock is nil in this process.
func (n *node) enterSubscription(ctx context.Context) (sock *socket, leave func(), err error) {
	client := shareOf(remoteOf(ctx))
	switch n.subs.take(client, 1) {
	case shareOfNone:
		return nil, nil, limitExceeded("too many subscriptions, at most %d", n.opts.MaxSubscribers)
	case shareOfOne:
		return nil, nil, limitExceeded("too many subscriptions of one client, at most %d", n.opts.MaxClientSubscriptions)
	case shareHad:
	}
	sock = n.sockets.of(gethrpc.PeerInfoFromContext(ctx))
	if sock == nil {
		return nil, func() { n.subs.give(client, 1) }, nil
	}
	if sock.subscriptions.Add(1) > int64(n.opts.MaxSubscriptions) {
		sock.subscriptions.Add(-1)
		n.subs.give(client, 1)
		return nil, nil, limitExceeded("too many subscriptions on one connection, at most %d", n.opts.MaxSubscriptions)
	}
	return sock, func() {
		sock.subscriptions.Add(-1)
		n.subs.give(client, 1)
	}, nil
}

// subscribe starts the goroutine that brings sub's queue to the connection of the request.
func (api *subscribeAPI) subscribe(ctx context.Context, sub *subscriber) (*gethrpc.Subscription, error) {
	notifier, ok := gethrpc.NotifierFromContext(ctx)
	if !ok {
		return nil, gethrpc.ErrNotificationsUnsupported
	}
	sock, leave, err := api.enterSubscription(ctx)
	if err != nil {
		return nil, err
	}
	overflow := make(chan struct{})
	sub.onOverflow = func() {
		api.metrics.slow.Inc()
		api.opts.Logger.Info("slow subscriber cut off", "kind", sub.kind, "limit", sub.limit)
		if sock != nil {
			api.sockets.end(sock, websocket.CloseTryAgainLater, "slow consumer: the queue of a subscription is full")
		}
		close(overflow)
	}
	remote := notifier.CreateSubscription()
	api.hub.subscribe(sub)
	api.sockets.running.Add(1)
	go func() {
		defer api.sockets.running.Done()
		defer func() {
			api.hub.unsubscribe(sub)
			leave()
		}()
		for {
			m, ok := sub.take()
			if ok {
				if notifier.Notify(remote.ID, m) != nil {
					return
				}
				continue
			}
			select {
			case <-sub.wake:
			case <-overflow:
				return
			case <-remote.Err(): // unsubscribed, or the connection has ended
				return
			case <-api.hub.done:
				return
			}
		}
	}()
	return remote, nil
}
