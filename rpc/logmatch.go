package rpc

import (
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
)

// logMatcher tells the logs that a subscription or a filter asks for. What a log may be found by are its places: its address, then its topics.
type logMatcher struct {
	from, to uint64
	depth    int                          // topics that a log must have at least
	places   [1 + maxTopics][]common.Hash // what a place may hold, sorted; empty: anything
}

func newLogMatcher(from, to uint64, addresses []common.Address, topics [][]common.Hash) *logMatcher {
	m := &logMatcher{from: from, to: to, depth: len(topics)}
	for _, a := range addresses {
		m.places[0] = append(m.places[0], addressPlace(a))
	}
	for i, alternatives := range topics {
		m.places[1+i] = slices.Clone(alternatives)
	}
	for i := range m.places {
		slices.SortFunc(m.places[i], common.Hash.Cmp)
		m.places[i] = slices.Compact(m.places[i])
	}
	return m
}

func addressPlace(a common.Address) common.Hash { return common.BytesToHash(a[:]) }

// placeOf returns what a log has in a place, if it has that.
func placeOf(l *types.Log, place int) (value common.Hash, ok bool) {
	switch {
	case place == 0:
		return addressPlace(l.Address), true
	case place <= len(l.Topics):
		return l.Topics[place-1], true
	}
	return common.Hash{}, false
}

func (m *logMatcher) matches(l *types.Log) bool {
	if l.BlockNumber < m.from || l.BlockNumber > m.to || len(l.Topics) < m.depth {
		return false
	}
	for place, wanted := range m.places {
		if len(wanted) == 0 {
			continue
		}
		value, ok := placeOf(l, place)
		if _, among := slices.BinarySearchFunc(wanted, value, common.Hash.Cmp); !ok || !among {
			return false
		}
	}
	return true
}

// logIndex finds the logs of one block by what they have in a place. Each place is indexed when it is first asked for, so that a matcher then costs no more than
// what it finds there: there may be thousands of them.
type logIndex struct {
	logs   []*types.Log
	places [1 + maxTopics]map[common.Hash][]int // indices of logs, ascending
}

func (x *logIndex) at(place int) map[common.Hash][]int {
	if x.places[place] == nil {
		found := make(map[common.Hash][]int)
		for i, l := range x.logs {
			if value, ok := placeOf(l, place); ok {
				found[value] = append(found[value], i)
			}
		}
		x.places[place] = found
	}
	return x.places[place]
}

// find returns the indices of the logs that match, ascending.
func (x *logIndex) find(m *logMatcher) (found []int) {
	place := slices.IndexFunc(m.places[:], func(wanted []common.Hash) bool { return len(wanted) > 0 })
	if place < 0 {
		for i, l := range x.logs {
			if m.matches(l) {
				found = append(found, i)
			}
		}
		return found
	}
	take := func(candidates []int) {
		for _, i := range candidates {
			if m.matches(x.logs[i]) {
				found = append(found, i)
			}
		}
	}
	values, wanted := x.at(place), m.places[place]
	if len(wanted) <= len(values) {
		for _, value := range wanted {
			take(values[value])
		}
	} else {
		for value, candidates := range values {
			if _, ok := slices.BinarySearchFunc(wanted, value, common.Hash.Cmp); ok {
				take(candidates)
			}
		}
	}
	slices.Sort(found)
	return found
}
