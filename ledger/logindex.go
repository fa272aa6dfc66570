package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethdb"
)

// The log index holds one posting for every block and every distinct thing that a filter can ask for in it:
//
//	 0    1      2                12              20
//	+----+------+----------------+---------------+
//	| f1 | kind | 10 bytes       | block number  |  → no value
//	+----+------+----------------+---------------+
//
// kind 'a' is the emitting address, '0' to '3' a topic at its position, '*' any log at all. The ten bytes are of the SHA-256 of
// the value, not of the value: an indexed address or number begins with zeros. They make a false match rare, not wrong: a
// candidate block's logs are compared in full. Postings of one value are
// adjacent and in block order, so a query is an intersection of sorted lists; that a block's own batch holds them keeps
// the index in step with the head. Tried and dropped: go-ethereum's filtermaps cost 11 ms and more per head.
const (
	postingPrefix   = 0xf1 // go-ethereum's schema uses letters only
	postingAddress  = 'a'
	postingAny      = '*'
	postingHashLen  = 10
	postingKeyLen   = 2 + postingHashLen + 8
	postingValueLen = 2 + postingHashLen
)

// postingValue is the key of a posting without its block number.
type postingValue [postingValueLen]byte

func addressPosting(a common.Address) postingValue { return newPosting(postingAddress, a[:]) }

func topicPosting(position int, topic common.Hash) postingValue {
	return newPosting('0'+byte(position), topic[:])
}

func newPosting(kind byte, value []byte) postingValue {
	var p postingValue
	p[0], p[1] = postingPrefix, kind
	sum := sha256.Sum256(value)
	copy(p[2:], sum[:])
	return p
}

// writeLogIndex adds the postings of one block to its batch.
func writeLogIndex(w ethdb.KeyValueWriter, number uint64, logs []*types.Log) error {
	if len(logs) == 0 {
		return nil
	}
	postings := make(map[postingValue]struct{}, 4*len(logs))
	postings[newPosting(postingAny, nil)] = struct{}{}
	for _, l := range logs {
		postings[addressPosting(l.Address)] = struct{}{}
		for i, topic := range l.Topics {
			postings[topicPosting(i, topic)] = struct{}{}
		}
	}
	for p := range postings { // the order does not matter: they are keys of one batch
		if err := w.Put(binary.BigEndian.AppendUint64(p[:], number), nil); err != nil {
			return err
		}
	}
	return nil
}

// criteria translates a query into a conjunction of disjunctions of postings.
func (q *LogQuery) criteria() [][]postingValue {
	var all [][]postingValue
	if len(q.Addresses) > 0 {
		var any []postingValue
		for _, a := range q.Addresses {
			any = append(any, addressPosting(a))
		}
		all = append(all, any)
	}
	for i, topics := range q.Topics {
		if len(topics) == 0 {
			continue
		}
		var any []postingValue
		for _, t := range topics {
			any = append(any, topicPosting(i, t))
		}
		all = append(all, any)
	}
	if len(all) == 0 {
		all = [][]postingValue{{newPosting(postingAny, nil)}}
	}
	return all
}

// Matches says whether a log is selected by q's addresses and topics.
func (q *LogQuery) Matches(l *types.Log) bool {
	if len(q.Addresses) > 0 && !slices.Contains(q.Addresses, l.Address) {
		return false
	}
	if len(q.Topics) > len(l.Topics) {
		return false
	}
	for i, topics := range q.Topics {
		if len(topics) > 0 && !slices.Contains(topics, l.Topics[i]) {
			return false
		}
	}
	return true
}

// candidates calls f with the number of every block in [from, to] that may hold a match, ascending, until f returns
// false. Blocks below reached need not be searched again, whatever the error.
func (q *LogQuery) candidates(ctx context.Context, db ethdb.Iteratee, from, to uint64, reached *uint64, f func(uint64) (bool, error)) error {
	return leapfrog(ctx, db, q.criteria(), from, to, reached, f)
}

// leapfrog calls f with the number of every block in [from, to] that has one posting of each criterion, ascending, until f returns false. No block
// below reached is left to be found.
func leapfrog(ctx context.Context, db ethdb.Iteratee, criteria [][]postingValue, from, to uint64, reached *uint64, f func(uint64) (bool, error)) error {
	var all []*union
	defer func() {
		for _, u := range all {
			u.release()
		}
	}()
	for _, any := range criteria {
		u, err := newUnion(db, any, from, to)
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	// Leapfrog: whoever is behind seeks to where the farthest is; where all meet is a candidate.
	for target, agreed := from, 0; ; {
		*reached = target
		for _, u := range all {
			number, ok, err := u.seek(ctx, target)
			if err != nil || !ok {
				return err
			}
			if number == target && agreed > 0 {
				agreed++
			} else {
				target, agreed = number, 1
			}
			if agreed >= len(all) {
				more, err := f(target)
				if err != nil || !more || target == to {
					return err
				}
				target, agreed = target+1, 0
			}
		}
	}
}

// union merges the postings of several values into one ascending list of block numbers.
type union struct {
	lists []*postingList
}

func newUnion(db ethdb.Iteratee, values []postingValue, from, to uint64) (*union, error) {
	u := new(union)
	for _, v := range values {
		u.lists = append(u.lists, newPostingList(db, v, from, to))
	}
	return u, nil
}

func (u *union) release() {
	for _, l := range u.lists {
		l.iter.Release()
	}
}

// seek returns the first block number >= target in any of the lists.
func (u *union) seek(ctx context.Context, target uint64) (first uint64, ok bool, err error) {
	if err := ctx.Err(); err != nil {
		return 0, false, err
	}
	for _, l := range u.lists {
		if err := l.seek(target); err != nil {
			return 0, false, err
		}
		if !l.done && (!ok || l.number < first) {
			first, ok = l.number, true
		}
	}
	return first, ok, nil
}

// postingList walks the block numbers of one value.
type postingList struct {
	db     ethdb.Iteratee
	value  postingValue
	to     uint64
	iter   ethdb.Iterator
	number uint64
	valid  bool // number is the current position
	done   bool
}

// stepsBeforeSeek is how often Next is tried before a new iterator is opened further on: a step costs less than
// a microsecond, an iterator some ten.
const stepsBeforeSeek = 16

func newPostingList(db ethdb.Iteratee, v postingValue, from, to uint64) *postingList {
	return &postingList{db: db, value: v, to: to, iter: db.NewIterator(v[:], binary.BigEndian.AppendUint64(nil, from))}
}

func (l *postingList) seek(target uint64) error {
	for steps := 0; !l.done && (!l.valid || l.number < target); steps++ {
		if steps == stepsBeforeSeek {
			l.iter.Release()
			l.iter = l.db.NewIterator(l.value[:], binary.BigEndian.AppendUint64(nil, target))
		}
		if err := l.step(); err != nil {
			return err
		}
	}
	return nil
}

func (l *postingList) step() error {
	if !l.iter.Next() {
		l.done = true
		return l.iter.Error()
	}
	key := l.iter.Key()
	if len(key) != postingKeyLen || !bytes.HasPrefix(key, l.value[:]) {
		l.done = true
		return nil
	}
	l.number, l.valid = binary.BigEndian.Uint64(key[postingValueLen:]), true
	l.done = l.number > l.to
	return nil
}
