package rpc

import (
	"context"
	"fmt"
	"math"
	"math/big"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth/filters"
	gethrpc "github.com/ethereum/go-ethereum/rpc"

	"ledgerd/ledger"
)

// maxTopics is the number of topics that a log can have.
const maxTopics = 4

func (n *node) checkCriteria(crit filters.FilterCriteria) error {
	if len(crit.Topics) > maxTopics {
		return invalidParams("exceed max topics")
	}
	if len(crit.Addresses) > n.opts.MaxLogCriteria {
		return errTooManyCriteria
	}
	for _, alternatives := range crit.Topics {
		if len(alternatives) > n.opts.MaxLogCriteria {
			return errTooManyCriteria
		}
	}
	return nil
}

// newLogMatcher returns what tells the new logs that are asked for, and the errors of a subscription or a new filter: one for the past only
// makes no sense.
func (n *node) newLogMatcher(crit filters.FilterCriteria) (*logMatcher, error) {
	if err := n.checkCriteria(crit); err != nil {
		return nil, err
	}
	if crit.BlockHash != nil {
		return nil, errInvalidBlockRange
	}
	from, to := uint64(0), uint64(math.MaxUint64)
	if crit.FromBlock != nil {
		switch tag := crit.FromBlock.Int64(); {
		case tag == gethrpc.PendingBlockNumber.Int64():
			return nil, errPendingLogs
		case tag >= 0:
			from = uint64(tag)
		}
	}
	if crit.ToBlock != nil {
		switch tag := crit.ToBlock.Int64(); {
		case tag == gethrpc.PendingBlockNumber.Int64():
			return nil, errPendingLogs
		case tag == gethrpc.EarliestBlockNumber.Int64():
			return nil, errInvalidBlockRange
		case tag >= 0:
			to = uint64(tag)
		}
	}
	if from > to {
		return nil, errInvalidBlockRange
	}
	return newLogMatcher(from, to, crit.Addresses, crit.Topics), nil
}

// queryLogs answers eth_getLogs and eth_getFilterLogs.
func (n *node) queryLogs(ctx context.Context, crit filters.FilterCriteria) ([]*types.Log, error) {
	if err := n.checkCriteria(crit); err != nil {
		return nil, err
	}
	q := ledger.LogQuery{Addresses: crit.Addresses, Topics: crit.Topics}
	if crit.BlockHash != nil {
		if crit.FromBlock != nil || crit.ToBlock != nil {
			return nil, invalidParams("can't specify fromBlock/toBlock with blockHash")
		}
		h := n.backend.HeaderByHash(*crit.BlockHash)
		if h == nil {
			return nil, errUnknownBlock
		}
		q.From, q.To = h.Number.Uint64(), h.Number.Uint64()
	} else {
		head := n.backend.CurrentHeader().Number.Uint64()
		var err error
		if q.From, err = logBound(crit.FromBlock, head); err != nil {
			return nil, err
		}
		if q.To, err = logBound(crit.ToBlock, head); err != nil {
			return nil, err
		}
		if q.From > q.To {
			return nil, errInvalidBlockRange
		}
		if q.To > head {
			return nil, errRangeIntoFuture
		}
		if n.opts.MaxLogBlocks > 0 && q.To-q.From >= n.opts.MaxLogBlocks {
			return nil, tryRange(fmt.Sprintf("query exceeds max block range %d", n.opts.MaxLogBlocks), q.From, q.From+n.opts.MaxLogBlocks-1)
		}
	}
	return n.searchLogs(ctx, q)
}

// logBound resolves one end of a range; absent is the head.
func logBound(number *big.Int, head uint64) (uint64, error) {
	if number == nil {
		return head, nil
	}
	switch v := number.Int64(); {
	case v >= 0:
		return uint64(v), nil
	case v == gethrpc.EarliestBlockNumber.Int64():
		return 0, nil
	case v == gethrpc.PendingBlockNumber.Int64():
		return 0, errPendingLogs
	default:
		return head, nil
	}
}

// searchLogs runs a query, and refuses it if it cannot be answered as a whole: what bounds it is the answer, and the time it takes.
func (n *node) searchLogs(ctx context.Context, q ledger.LogQuery) ([]*types.Log, error) {
	logs, next, late, err := n.searchSome(ctx, q)
	switch size, most := ledger.SizeOfLogs(logs), n.maxLogBytes(); {
	case err != nil:
		return nil, err
	case next > q.To:
		return logs, nil
	case late:
		return nil, tryRange(fmt.Sprintf("query timed out after %v", n.opts.LogTimeout), q.From, next-1)
	case float64(size)/float64(most) > float64(len(logs))/float64(n.opts.MaxLogs): // the limit that it is nearer to
		return nil, tryRange(fmt.Sprintf("query returned more than %d bytes", n.opts.MaxResponseBytes), q.From, next-1)
	default:
		return nil, tryRange(fmt.Sprintf("query returned more than %d results", n.opts.MaxLogs), q.From, next-1)
	}
}

// maxLogBytes is how much the logs of one answer may hold, that it stays below MaxResponseBytes.
func (n *node) maxLogBytes() int { return max(n.opts.MaxResponseBytes/3, 1) }

// searchSome returns the logs of the blocks from q.From up to next-1: up to q.To if the limits on results and time allow; late says that time does not. The first
// block with logs is always whole, whatever the limit: its gas bounds it.
func (n *node) searchSome(ctx context.Context, q ledger.LogQuery) (logs []*types.Log, next uint64, late bool, err error) {
	ctx, release, err := n.acquireFor(ctx)
	if err != nil {
		return nil, 0, false, err
	}
	defer release()
	bounded, cancel := context.WithTimeout(ctx, n.opts.LogTimeout)
	defer cancel()
	q.Limit, q.MaxBytes = n.opts.MaxLogs, n.maxLogBytes()
	logs, next, err = n.backend.SearchLogs(bounded, q)
	switch {
	case err == nil:
		return notNil(logs), next, false, nil
	case ctx.Err() != nil || bounded.Err() == nil:
		return nil, 0, false, err
	case next == q.From:
		return nil, 0, false, limitExceeded("query timed out after %v without getting past block %#x; name an address or a topic", n.opts.LogTimeout, q.From)
	}
	return notNil(logs), next, true, nil
}

// notNil makes sure that an empty list is encoded as [].
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// tryRange is the error for a query that is too large, in the form that indexers parse to learn which one is not.
func tryRange(message string, from, to uint64) error {
	return &codedError{
		code:    codeLimitExceeded,
		message: fmt.Sprintf("%s. Try with this block range [%#x, %#x].", message, from, to),
		data:    map[string]string{"from": fmt.Sprintf("%#x", from), "to": fmt.Sprintf("%#x", to)},
	}
}
