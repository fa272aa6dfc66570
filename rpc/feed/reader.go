package feed

import (
	"context"
	"errors"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/consensus"
	"ledgerd/rpc/feed/protocol"
)

// errPruned: a block at or below the head that this node does not hold.
var errPruned = errors.New("block is not held")

// lookFor is how long a reader looks for the next event before it comes up for air.
const lookFor = 50 * time.Millisecond

// reader reads the events that a matcher selects, in order (invariant 2). It belongs to one goroutine.
type reader struct {
	feed   *Feed
	peer   *peer
	match  *matcher
	search *search

	at      protocol.Position // everything before it was returned, or does not match
	current *block            // that at is in, if its matches are known
	matches []uint32          // of current, at or behind at
	live    bool              // at the last call nothing was left
}

func newReader(f *Feed, p *peer, filters []protocol.Filter, at protocol.Position) *reader {
	m := newMatcher(f.signer, filters)
	return &reader{feed: f, peer: p, match: m, search: newSearch(f, m), at: at}
}

// next returns the next event, or nil if there is none, or if it has not found one in the time that it may take; live tells which.
func (r *reader) next(ctx context.Context) (*message, error) {
	deadline := time.Now().Add(lookFor)
	for {
		if len(r.matches) > 0 {
			index := r.matches[0]
			m, err := r.current.message(index)
			if err != nil {
				return nil, err
			}
			r.matches, r.at.Index = r.matches[1:], index+1
			return m, nil
		}
		if r.current != nil {
			r.at, r.current = protocol.Position{Block: r.at.Block + 1}, nil
		}
		settled := r.feed.settled.Load() // before the head: see segmentAhead
		head := r.feed.backend.CurrentHeader()
		if number := head.Number.Uint64(); r.at.Block > number {
			r.live = true
			return r.segmentAhead(consensus.Epoch(settled), epochOf(head), head.Hash())
		}
		r.live = false
		if err := r.advance(ctx, head.Number.Uint64()); err != nil {
			return nil, err
		}
		if len(r.matches) == 0 && time.Now().After(deadline) {
			return nil, ctx.Err()
		}
	}
}

// advance moves on to the next block at or below the head that may have a match, and finds its matches.
func (r *reader) advance(ctx context.Context, head uint64) error {
	release, err := r.feed.acquire(ctx, r.peer, r.at.Block+near <= head)
	if err != nil {
		return err
	}
	defer release()
	number, found, err := r.search.next(ctx, r.at.Block, head)
	if err != nil {
		return err
	}
	if number > r.at.Block {
		r.at = protocol.Position{Block: number}
	}
	if !found {
		return nil
	}
	b, err := r.feed.block(number, head)
	if err != nil {
		return err
	}
	if r.matches, err = r.match.match(b, r.at.Index); err != nil {
		return err
	}
	r.current = b
	return nil
}

// segmentAhead returns the event of a segment in which no block has been made yet. Its place is known all the same: the first of the block that will
// come, since everything that came before the segment is published (settled), and the events of that block begin with the segments after its parent's.
func (r *reader) segmentAhead(settled, epoch consensus.Epoch, head common.Hash) (*message, error) {
	if !r.match.segments || epoch+consensus.Epoch(r.at.Index) >= settled {
		return nil, nil
	}
	next := epoch + 1 + consensus.Epoch(r.at.Index)
	r.at.Index++
	return newMessage(protocol.KindSegment, r.feed.segment(next), r.feed.cursor(r.at.Block, r.at.Index, head))
}

// cursor is that of r.at.
func (r *reader) cursor() (protocol.Cursor, error) {
	if r.current != nil {
		return r.current.cursor(r.at.Index), nil
	}
	return r.feed.cursorAt(r.at)
}

// cursorAt gives a position its cursor. It lies at or before the first event of the block after the head.
func (f *Feed) cursorAt(at protocol.Position) (protocol.Cursor, error) {
	hash, err := f.hashAt(at)
	return f.cursor(at.Block, at.Index, hash), err
}

// hashAt returns the hash in the cursor of a position: that of the newest block that has begun before it.
func (f *Feed) hashAt(at protocol.Position) (common.Hash, error) {
	number := at.Block
	if number > 0 {
		parent := f.backend.HeaderByNumber(number - 1)
		if parent == nil {
			return common.Hash{}, errPruned
		}
		h := f.backend.HeaderByNumber(number)
		if h == nil || uint64(at.Index) <= uint64(epochOf(h)-epochOf(parent)) {
			return parent.Hash(), nil
		}
		return h.Hash(), nil
	}
	if h := f.backend.HeaderByNumber(0); h != nil {
		return h.Hash(), nil
	}
	return common.Hash{}, errPruned
}

func (f *Feed) cursor(number uint64, index uint32, hash common.Hash) protocol.Cursor {
	c := protocol.Cursor{Chain: f.chain, Position: protocol.Position{Block: number, Index: index}}
	copy(c.Hash[:], hash[:])
	return c
}

// start returns where a request begins (invariant 6). Its error is a *protocol.Error.
func (f *Feed) start(q *protocol.Request) (protocol.Position, error) {
	settled := f.settled.Load()
	head := f.backend.CurrentHeader()
	number := head.Number.Uint64()
	if q.Cursor == "" {
		block, latest, err := q.StartBlock()
		if err != nil {
			return protocol.Position{}, err
		}
		if latest {
			return protocol.Position{Block: number + 1, Index: ahead(settled, epochOf(head))}, nil
		}
		if block > number+1 {
			return protocol.Position{}, beyondHead(block, number)
		}
		return f.held(protocol.Position{Block: block}, number)
	}
	c, err := protocol.ParseCursor(q.Cursor)
	switch {
	case err != nil:
		return protocol.Position{}, err
	case c.Chain != f.chain:
		return protocol.Position{}, protocol.Errorf(protocol.CodeOtherChain, "the cursor is of chain %s, this is chain %s", c.Chain, f.chain)
	case c.Block > number+1 || c.Block == number+1 && c.Index > ahead(settled, epochOf(head)):
		return protocol.Position{}, beyondHead(c.Block, number)
	}
	at, err := f.held(c.Position, number)
	if err != nil {
		return at, err
	}
	hash, err := f.hashAt(at)
	if err != nil {
		return at, f.explain(err)
	}
	if want := f.cursor(at.Block, at.Index, hash); want.Hash != c.Hash {
		return at, protocol.Errorf(protocol.CodeOtherHistory, "the cursor is of another history of chain %s: at block %d, event %d it says %x, here it is %x", f.chain, c.Block, c.Index, c.Hash, want.Hash)
	}
	return at, nil
}

// ahead counts the segments in which no block has been made.
func ahead(settled uint64, epoch consensus.Epoch) uint32 {
	return uint32(max(settled, uint64(epoch)) - uint64(epoch))
}

func beyondHead(number, head uint64) error {
	return protocol.Errorf(protocol.CodeBeyondHead, "block %d lies beyond the head of this node, block %d", number, head)
}

// held checks that the block of a position can be read, if it has been made. All blocks behind it can then too: what is not held any more is a beginning of
// the chain.
func (f *Feed) held(at protocol.Position, head uint64) (protocol.Position, error) {
	if at.Block > head {
		return at, nil
	}
	b, err := f.block(at.Block, head)
	if err == nil {
		_, err = b.logs()
	}
	if err != nil {
		return at, f.explain(err)
	}
	return at, nil
}

// explain makes the error that a client gets.
func (f *Feed) explain(err error) *protocol.Error {
	var known *protocol.Error
	switch {
	case errors.As(err, &known):
		return known
	case !errors.Is(err, errPruned):
		f.opts.Logger.Error("feed cannot read", "err", err)
		return protocol.Errorf(protocol.CodeInternal, "the node could not read what comes next")
	}
	head := f.backend.CurrentHeader().Number.Uint64()
	oldest := uint64(sort.Search(int(head), func(i int) bool {
		return f.whole(uint64(i))
	}))
	e := protocol.Errorf(protocol.CodePruned, "this node holds what comes next no more: its history begins with block %d", oldest)
	if c, err := f.cursorAt(protocol.Position{Block: oldest}); err == nil {
		e.Cursor = c.String()
	}
	return e
}

// whole says whether block number can be read with all its events.
func (f *Feed) whole(number uint64) bool {
	b, err := f.load(number)
	if err != nil {
		return false
	}
	_, err = b.logs()
	return err == nil
}
