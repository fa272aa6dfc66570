package feed

import (
	"context"
	"sort"

	"ledgerd/ledger"
)

// window bounds one look into the index of logs.
type window struct {
	blocks uint64
	logs   int
}

var defaultWindow = window{blocks: 1 << 16, logs: 256}

// near is how far below the head blocks are looked at one by one, since they are in memory.
const near = 32

// search finds the blocks in which a subscription's events can be. The cost of what it skips is that of the postings of what is asked for, or, for segments,
// the logarithm of the length of the chain.
type search struct {
	feed     *Feed
	every    bool
	segments bool
	logs     []logSearch
}

// logSearch is the search of one filter of logs: what of the chain it has searched, and the blocks found there.
type logSearch struct {
	query ledger.LogQuery
	found []uint64 // ascending
	done  uint64   // everything below is searched
}

func newSearch(f *Feed, m *matcher) *search {
	s := &search{feed: f, every: m.everyBlock(), segments: m.segments}
	for _, c := range m.logs {
		s.logs = append(s.logs, logSearch{query: c.query})
	}
	return s
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
	for i := range s.logs {
		n, ok, err := s.logs[i].next(ctx, s.feed, from, end-1)
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
func (l *logSearch) next(ctx context.Context, f *Feed, from, to uint64) (number uint64, found bool, err error) {
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
	q := l.query
	q.From, q.To, q.Limit = l.done, min(to, l.done+f.window.blocks-1), f.window.logs
	logs, next, err := f.backend.SearchLogs(ctx, q)
	if err != nil {
		return 0, false, err
	}
	l.found = l.found[:0]
	for _, entry := range logs {
		if n := len(l.found); n == 0 || l.found[n-1] != entry.BlockNumber {
			l.found = append(l.found, entry.BlockNumber)
		}
	}
	l.done = next
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
