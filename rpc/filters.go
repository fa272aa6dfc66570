package rpc

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/filters"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/ledger"
)

// filterAPI is eth_getLogs and the filters that clients poll.
type filterAPI struct{ *node }

// GetLogs returns the logs that match, in order. More blocks or logs than the limits are -32005 with a range to try.
func (api *filterAPI) GetLogs(ctx context.Context, crit filters.FilterCriteria) ([]*types.Log, error) {
	return api.queryLogs(ctx, crit)
}

// NewFilter makes a filter for logs of blocks after the present head.
func (api *filterAPI) NewFilter(ctx context.Context, crit filters.FilterCriteria) (gethrpc.ID, error) {
	match, err := api.newLogMatcher(crit)
	if err != nil {
		return "", err
	}
	return api.filters.install(ctx, &filter{crit: crit, match: match, next: api.backend.CurrentHeader().Number.Uint64() + 1})
}

// NewBlockFilter makes a filter for the hashes of new blocks.
func (api *filterAPI) NewBlockFilter(ctx context.Context) (gethrpc.ID, error) {
	return api.filters.install(ctx, &filter{next: api.backend.CurrentHeader().Number.Uint64() + 1})
}

// NewPendingTransactionFilter makes a filter for transactions that become executable: their hashes, or, with true, themselves.
func (api *filterAPI) NewPendingTransactionFilter(ctx context.Context, full *bool) (gethrpc.ID, error) {
	f := &filter{pending: api.newPendingSubscriber(full)}
	f.pending.kind = "pendingTransactionFilter"
	f.pending.onOverflow = api.metrics.slow.Inc // the next poll finds the queue overflown
	id, err := api.filters.install(ctx, f)
	if err != nil {
		return "", err
	}
	api.hub.subscribe(f.pending)
	return id, nil
}

// UninstallFilter says whether there was such a filter.
func (api *filterAPI) UninstallFilter(id gethrpc.ID) bool { return api.filters.uninstall(id) }

// GetFilterChanges returns what is new since the last call.
func (api *filterAPI) GetFilterChanges(ctx context.Context, id gethrpc.ID) (any, error) {
	f := api.filters.use(id)
	if f == nil {
		return nil, errFilterNotFound
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.pending != nil:
		if f.pending.overflown() {
			api.filters.uninstall(id)
			return nil, errFilterNotFound
		}
		return notNil(f.pending.takeAll()), nil
	case f.match != nil:
		return api.newLogs(ctx, f)
	default:
		return api.newBlocks(f), nil
	}
}

// GetFilterLogs returns all logs that a filter made by NewFilter matches, past ones too.
func (api *filterAPI) GetFilterLogs(ctx context.Context, id gethrpc.ID) ([]*types.Log, error) {
	f := api.filters.use(id)
	if f == nil || f.match == nil {
		return nil, errFilterNotFound
	}
	return api.queryLogs(ctx, f.crit)
}

// newLogs searches from the filter's cursor. An answer that would be too large stops at the end of a block, and the next
// call goes on there.
func (n *node) newLogs(ctx context.Context, f *filter) ([]*types.Log, error) {
	head := n.backend.CurrentHeader().Number.Uint64()
	found := []*types.Log{}
	if head < f.next {
		return found, nil
	}
	logs, next, _, err := n.searchSome(ctx, ledger.LogQuery{From: f.next, To: head, Addresses: f.crit.Addresses, Topics: f.crit.Topics})
	if err != nil {
		return nil, err
	}
	for _, l := range logs {
		if f.match.matches(l) {
			found = append(found, l)
		}
	}
	f.next = next
	return found, nil
}

func (n *node) newBlocks(f *filter) []common.Hash {
	hashes := []common.Hash{}
	for head := n.backend.CurrentHeader().Number.Uint64(); f.next <= head; f.next++ {
		if h := n.backend.HeaderByNumber(f.next); h != nil {
			hashes = append(hashes, h.Hash())
		}
	}
	return hashes
}

// filter is what a client polls. Filters of logs and blocks are a cursor into the chain, which never reorganises: they
// hold nothing, miss nothing, and cost nothing between polls. Only pending transactions have to be kept, in a queue with a
// bound; a filter whose queue is full is removed, so that its client learns of it.
type filter struct {
	crit    filters.FilterCriteria
	match   *logMatcher // logs
	pending *subscriber // pending transactions; neither: blocks

	mu   sync.Mutex // one poll at a time
	next uint64     // cursor: the first block not yet reported

	client string    // who has installed it
	used   time.Time // guarded by filterTable.mu
}

// clientOf names who makes a request, as far as that decides what share of a limit it has.
func clientOf(ctx context.Context) string {
	remote := remoteOf(ctx)
	if at, err := netip.ParseAddrPort(remote); err == nil {
		return clientAt(at.Addr())
	}
	return remote
}

// remoteOf is the address that a request came from, "" if it came from this process.
func remoteOf(ctx context.Context) string {
	remote, _, _ := strings.Cut(gethrpc.PeerInfoFromContext(ctx).RemoteAddr, "#") // a websocket's id follows
	return remote
}

// clientAt is an IPv4 address, or the network of an IPv6 one: who has an address has its network.
func clientAt(address netip.Addr) string {
	address = address.Unmap()
	if address.Is4() {
		return address.String()
	}
	network, _ := address.WithZone("").Prefix(64)
	return network.String()
}

// filterTable holds the filters of all clients.
type filterTable struct {
	*node
	mu      sync.Mutex
	filters map[gethrpc.ID]*filter
	clients map[string]int // how many of filters each has; no zeros
}

func newFilterTable(n *node) *filterTable {
	return &filterTable{node: n, filters: make(map[gethrpc.ID]*filter), clients: make(map[string]int)}
}

// run removes idle filters until ctx ends.
func (t *filterTable) run(ctx context.Context) error {
	tick := time.NewTicker(t.opts.FilterTimeout / 4)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			t.expire(now)
		case <-ctx.Done():
			return nil
		}
	}
}

func (t *filterTable) install(ctx context.Context, f *filter) (gethrpc.ID, error) {
	f.client = clientOf(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.filters) >= t.opts.MaxFilters {
		return "", limitExceeded("too many filters, at most %d", t.opts.MaxFilters)
	}
	if t.clients[f.client] >= t.opts.MaxClientFilters {
		return "", limitExceeded("too many filters of one client, at most %d; uninstall those that are not polled", t.opts.MaxClientFilters)
	}
	t.clients[f.client]++
	id := gethrpc.NewID()
	f.used = time.Now()
	t.filters[id] = f
	t.metrics.filters.Inc()
	return id, nil
}

func (t *filterTable) use(id gethrpc.ID) *filter {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.filters[id]
	if f != nil {
		f.used = time.Now()
	}
	return f
}

func (t *filterTable) uninstall(id gethrpc.ID) bool {
	t.mu.Lock()
	f := t.filters[id]
	if f != nil {
		t.forget(id, f)
	}
	t.mu.Unlock()
	if f == nil {
		return false
	}
	t.removed(f)
	return true
}

func (t *filterTable) expire(now time.Time) {
	t.mu.Lock()
	var idle []*filter
	for id, f := range t.filters {
		if now.Sub(f.used) > t.opts.FilterTimeout {
			idle = append(idle, f)
			t.forget(id, f)
		}
	}
	t.mu.Unlock()
	for _, f := range idle {
		t.removed(f)
	}
}

// forget takes f out of the table. The caller holds mu.
func (t *filterTable) forget(id gethrpc.ID, f *filter) {
	delete(t.filters, id)
	if t.clients[f.client]--; t.clients[f.client] == 0 {
		delete(t.clients, f.client)
	}
}

func (t *filterTable) removed(f *filter) {
	if f.pending != nil {
		t.hub.unsubscribe(f.pending)
	}
	t.metrics.filters.Dec()
}
