package feed

import (
	"context"
	"slices"
	"sort"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/ledger"
)

// window bounds one look into an index.
type window struct {
	blocks uint64
	finds  int // logs, or blocks
}

var defaultWindow = window{blocks: 1 << 16, finds: 256}

// near is how far below the head blocks are looked at one by one, since they are in memory.
const near = 32

// search finds the blocks in which a subscription's events can be. The cost of what it skips is that of the postings of what is asked for, or, for segments,
// the logarithm of the length of the chain.
type search struct {
	feed     *Feed
	every    bool
	segments bool
	lists    []listSearch
}

// listSearch is the search of one filter in an index: what of the chain it has searched, and the blocks found there.
type listSearch struct {
	find  find
	found []uint64 // ascending
	done  uint64   // everything below is searched
}

// find returns the first blocks in [from, to] that an index names, ascending: all that lie below next.
type find func(ctx context.Context, from, to uint64, limit int) (found []uint64, next uint64, err error)

func newSearch(f *Feed, m *matcher) *search {
	s := &search{feed: f, every: m.everyBlock(), segments: m.segments}
	for _, c := range m.logs {
		s.lists = append(s.lists, listSearch{find: f.findLogs(c.query)})
	}
	for _, c := range slices.Concat(m.txs, m.receipts) {
		s.lists = append(s.lists, listSearch{find: f.findAccounts([][]common.Address{c.from, c.to})})
	}
	return s
}

// findLogs looks for logs.
func (f *Feed) findLogs(q ledger.LogQuery) find {
	return func(ctx context.Context, from, to uint64, limit int) (found []uint64, next uint64, err error) {
		q.From, q.To, q.Limit = from, to, limit
		logs, next, err := f.backend.SearchLogs(ctx, q)
		for _, entry := range logs {
			if n := len(found); n == 0 || found[n-1] != entry.BlockNumber {
				found = append(found, entry.BlockNumber)
			}
		}
		return found, next, err
	}
}

// findAccounts looks for transactions that dealt with an account of each list; a look at them tells in which way.
func (f *Feed) findAccounts(lists [][]common.Address) find {
	return func(ctx context.Context, from, to uint64, limit int) (found []uint64, next uint64, err error) {
		next = to + 1
		err = f.backend.AccountBlocks(ctx, lists, from, to, func(number uint64) (bool, error) {
			if found = append(found, number); len(found) == limit {
				next = number + 1
				return false, nil
			}
			return true, nil
		})
		return found, next, err
	}
}

// next returns the first block in [from, head] that may have a match. If there is none below end, which lies behind from, it returns end and false; it
// does not always look further than a window.
func (s *search) next(ctx context.Context, from, head uint64) (number uint64, found bool, err error) {
	if s.every || from+near > head {
		return from, true, nil
	}
	end := head - near + 1 // what is near is looked at
	first, any := end, false
	if s.segments {
		if n, ok := s.feed.nextSegment(from, end-1); ok {
			first, any = n, true
		}
	}
	for i := range s.lists {
		n, ok, err := s.lists[i].next(ctx, s.feed.window, from, end-1)
		if err != nil {
			return 0, false, err
		}
		switch {
		case n < first:
			first, any = n, ok
		case n == first:
			any = any || ok
		}
	}
	return first, any, nil
}

// next is search.next for one filter; from never decreases.
func (l *listSearch) next(ctx context.Context, w window, from, to uint64) (number uint64, found bool, err error) {
	for len(l.found) > 0 && l.found[0] < from {
		l.found = l.found[1:]
	}
	if len(l.found) > 0 {
		return l.found[0], true, nil
	}
	l.done = max(l.done, from)
	if l.done > to {
		return l.done, false, nil
	}
	if l.found, l.done, err = l.find(ctx, l.done, min(to, l.done+w.blocks-1), w.finds); err != nil {
		return 0, false, err
	}
	if len(l.found) == 0 {
		return l.done, false, nil
	}
	return l.found[0], true, nil
}

// nextSegment returns the first block in [from, to], both held, with another epoch than its parent. Epochs do not decrease, so it is a binary search. A block
// that is missing counts as one: whoever reads it finds out.
func (f *Feed) nextSegment(from, to uint64) (number uint64, ok bool) {
	if from == 0 {
		from = 1
	}
	before := f.backend.HeaderByNumber(from - 1)
	if before == nil {
		return from, true
	}
	epoch := epochOf(before)
	n := sort.Search(int(to-from+1), func(i int) bool {
		h := f.backend.HeaderByNumber(from + uint64(i))
		return h == nil || epochOf(h) > epoch
	})
	number = from + uint64(n)
	return number, number <= to
}
