package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// recent holds the newest entries, without a gap up to the tail, as many as fit its bound.
type recent struct {
	first   LSN
	entries []Entry // entries[i] is lsn first+i
	bytes   int64   // of their payloads
}

func (c *recent) add(entries []Entry, maxBytes int64) {
	for _, e := range entries {
		c.entries = append(c.entries, e)
		c.bytes += int64(len(e.Record.Payload))
	}
	n := 0
	for n < len(c.entries) && c.bytes > maxBytes {
		c.bytes -= int64(len(c.entries[n].Record.Payload))
		n++
	}
	c.drop(n)
	// Small payloads would let the slice grow without the bytes' ever biting.
	const maxEntries = 16384
	if n := len(c.entries) - maxEntries; n > 0 {
		for _, e := range c.entries[:n] {
			c.bytes -= int64(len(e.Record.Payload))
		}
		c.drop(n)
	}
}

// drop forgets the n oldest; their bytes are no longer counted.
func (c *recent) drop(n int) {
	clear(c.entries[:n]) // the array lives on until append moves it: let go of the payloads now
	c.entries = c.entries[n:]
	c.first += LSN(n)
}

func (c *recent) trim(upTo LSN) {
	n := 0
	for n < len(c.entries) && c.first+LSN(n) <= upTo {
		c.bytes -= int64(len(c.entries[n].Record.Payload))
		n++
	}
	c.drop(n)
}

// bounded returns how many of the entries a reader gets that wants at most limit of them, and at most maxBytes (0: any) after the first.
func bounded(entries []Entry, limit, maxBytes int) int {
	if len(entries) > limit {
		entries = entries[:limit]
	}
	if maxBytes > 0 {
		sum := 0
		for i, e := range entries {
			if sum += len(e.Record.Payload); i > 0 && sum > maxBytes {
				return i
			}
		}
	}
	return len(entries)
}

// read returns the entries of [lo, hi), or a prefix of them within the limit and maxBytes (0: any) after the first. The caller is between enter and
// leave, or alone.
func (s *Store) read(ctx context.Context, lo, hi LSN, limit, maxBytes int) ([]Entry, error) {
	s.mu.RLock()
	next, trimmed := s.mu.next, s.mu.trimmed
	var cached []Entry
	if c := &s.mu.recent; lo >= c.first && lo < hi && hi <= next {
		cached = c.entries[lo-c.first : hi-c.first]
		cached = slices.Clone(cached[:bounded(cached, limit, maxBytes)])
	}
	s.mu.RUnlock()
	switch {
	case lo > hi:
		return nil, fmt.Errorf("read lsn %d to %d: %w", lo, hi, ErrInvalid)
	case lo == hi:
		return nil, nil
	case hi > next:
		return nil, fmt.Errorf("read lsn %d to %d: tail is %d: %w", lo, hi, next, ErrUnwritten)
	case lo <= trimmed:
		return nil, trimmedError(lo, trimmed)
	case cached != nil:
		return cached, nil
	}
	return s.readStored(ctx, lo, hi, limit, maxBytes)
}

func trimmedError(lsn, trimmed LSN) error {
	return fmt.Errorf("read lsn %d: trimmed up to %d: %w", lsn, trimmed, ErrTrimmed)
}

// readStored is read from the disk, where every entry is verified.
func (s *Store) readStored(ctx context.Context, lo, hi LSN, limit, maxBytes int) ([]Entry, error) {
	prev, err := s.digestAt(lo - 1)
	if errors.Is(err, ErrTrimmed) {
		return nil, s.missing(lo)
	} else if err != nil {
		return nil, err
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: key(keyEntry, lo), UpperBound: key(keyEntry, hi)})
	if err != nil {
		return nil, readError(lo, err)
	}
	defer it.Close()
	entries := make([]Entry, 0, min(hi-lo, LSN(limit), 4096))
	want, sum := lo, 0
	for ok := it.First(); ok && want < hi && len(entries) < limit; ok = it.Next() {
		if want%64 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e, err := decodeStored(it, want)
		if errors.Is(err, errGap) {
			break
		} else if err != nil {
			return nil, err
		}
		if err := e.Verify(prev); err != nil {
			return nil, err
		}
		if sum += len(e.Record.Payload); maxBytes > 0 && len(entries) > 0 && sum > maxBytes {
			return entries, nil
		}
		entries = append(entries, e)
		prev = e.Digest
		want++
	}
	if err := it.Error(); err != nil {
		return nil, readError(want, err)
	}
	if want < hi && len(entries) < limit {
		return nil, s.missing(want)
	}
	return entries, nil
}

var errGap = errors.New("gap")

// decodeStored decodes the entry under the iterator, which must be lsn want; errGap if it is a later one.
func decodeStored(it *pebble.Iterator, want LSN) (Entry, error) {
	n, err := keyNumber(it.Key())
	if err != nil {
		return Entry{}, err
	}
	if LSN(n) != want {
		return Entry{}, errGap
	}
	v, err := it.ValueAndErr()
	if err != nil {
		return Entry{}, readError(want, err)
	}
	e, err := DecodeEntry(slices.Clone(v)) // v is the iterator's
	if err != nil {
		return Entry{}, &CorruptError{LSN: want, Cause: err}
	}
	if e.LSN != want {
		return Entry{}, corrupt(want, "the entry says that it is lsn %d", e.LSN)
	}
	return e, nil
}

// readError names the LSN at which pebble could not go on.
func readError(lsn LSN, err error) error {
	if pebble.IsCorruptionError(err) {
		return &CorruptError{LSN: lsn, Cause: err}
	}
	return fmt.Errorf("read lsn %d: %w", lsn, err)
}

// missing explains why an entry below the tail is not there: it has been trimmed since the caller looked at the trim point, or it is lost. A trim
// under way may have dropped the entry and not yet moved the point, so this waits for its end.
func (s *Store) missing(lsn LSN) error {
	s.trim.Lock()
	defer s.trim.Unlock()
	if t := s.Trimmed(); lsn <= t {
		return trimmedError(lsn, t)
	}
	return corrupt(lsn, "the entry is missing")
}

// DigestAt returns the digest of the log up to and including an LSN; that of 0 is the network id. ErrUnwritten at or past the tail; ErrTrimmed for
// what lies so far below the trim point, and below the dedup window, that this node has forgotten it.
func (s *Store) DigestAt(lsn LSN) (Digest, error) {
	if err := s.enter(); err != nil {
		return Digest{}, err
	}
	defer s.leave()
	if next := s.Next(); lsn >= next {
		return Digest{}, fmt.Errorf("digest at lsn %d: tail is %d: %w", lsn, next, ErrUnwritten)
	}
	return s.digestAt(lsn)
}

func (s *Store) digestAt(lsn LSN) (Digest, error) {
	s.mu.RLock()
	for _, seg := range slices.Backward(s.mu.segments) {
		if seg.Base == lsn+1 {
			s.mu.RUnlock()
			return seg.BaseDigest, nil
		}
	}
	s.mu.RUnlock()
	v, err := s.get(key(keyRecord, lsn))
	if err == nil {
		if len(v) != pastBytes {
			return Digest{}, corrupt(lsn, "its record key has %d bytes", len(v))
		}
		return Digest(v[recordKeyBytes:]), nil
	}
	if !errors.Is(err, pebble.ErrNotFound) {
		return Digest{}, readError(lsn, err)
	}
	s.trim.Lock() // the id may have gone with a trim under way
	defer s.trim.Unlock()
	trimmed, digest, err := s.loadTrim()
	switch {
	case err != nil:
		return Digest{}, err
	case lsn == trimmed:
		return digest, nil
	case lsn < trimmed:
		return Digest{}, fmt.Errorf("digest at lsn %d: trimmed up to %d: %w", lsn, trimmed, ErrTrimmed)
	}
	return Digest{}, corrupt(lsn, "its record key is missing")
}

// trimTo drops the entries up to and including upTo, and those record keys that have left the dedup window. The trim point is synced, so that it does not
// move back in a crash either.
func (s *Store) trimTo(upTo LSN) error {
	s.trim.Lock()
	defer s.trim.Unlock()
	next, trimmed := s.Next(), s.Trimmed()
	if upTo >= next {
		return fmt.Errorf("trim up to lsn %d: tail is %d: %w", upTo, next, ErrUnwritten)
	}
	if upTo <= trimmed {
		return nil
	}
	v, err := s.get(key(keyRecord, upTo))
	if err != nil {
		return readError(upTo, err)
	}
	if len(v) != pastBytes {
		return corrupt(upTo, "its record key has %d bytes", len(v))
	}
	point := &writer{}
	point.u64(uint64(upTo))
	point.fixed(v[recordKeyBytes:])
	err = s.write(true, func(b *pebble.Batch) error {
		keys := error(nil)
		if w := LSN(s.opts.Window); next-1 > w {
			keys = b.DeleteRange(key(keyRecord, LSN(0)), key(keyRecord, min(upTo, next-1-w)+1), nil)
		}
		return errors.Join(keys, s.dropAreas(b, upTo),
			b.DeleteRange(key(keyEntry, LSN(0)), key(keyEntry, upTo+1), nil),
			b.Set([]byte{keyTrim}, point.b, nil))
	})
	if err != nil {
		return fmt.Errorf("trim up to lsn %d: %w", upTo, err)
	}
	s.publish(func() {
		s.mu.trimmed = upTo
		s.mu.recent.trim(upTo)
	})
	return nil
}

// dropAreas deletes what engines keep of the segments that a trim drops whole. Of the last two something may still be needed: the one before the last lingers
// until its members have all heard of its end.
func (s *Store) dropAreas(b *pebble.Batch, upTo LSN) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	end := Epoch(0)
	for i := 0; i+2 < len(s.mu.segments) && s.mu.segments[i+1].Base <= upTo+1; i++ {
		end = s.mu.segments[i].Epoch
	}
	if end == 0 {
		return nil
	}
	return b.DeleteRange(key(keyEngine, Epoch(0)), key(keyEngine, end+1), nil)
}
