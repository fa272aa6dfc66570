package viewtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"ledgerd/consensus"
)

// CounterApp is the name of Counter's records.
const CounterApp = "counter"

// Counter is a small application: named counters that "name delta" records add to. It is the second application of the
// log in tests, and shows how little a view needs: one batch holds the change and the position, and nothing is
// synced but now and then, since the log can be played again.
type Counter struct {
	db      *pebble.DB
	applied atomic.Uint64
	durable atomic.Uint64
	pending int // records since the last sync
}

// CounterResult is what a proposer is told: the new value, or why the record was refused.
type CounterResult struct {
	Value   int64
	Refused string
}

const (
	counterPrefix    = "c/"
	counterPosition  = "position"
	counterSyncEvery = 8
)

// OpenCounter opens the counters in dir of fs.
func OpenCounter(fs vfs.FS, dir string) (*Counter, error) {
	db, err := pebble.Open(dir, &pebble.Options{FS: fs, Logger: quiet{}})
	if err != nil {
		return nil, fmt.Errorf("open counters: %w", err)
	}
	c := &Counter{db: db}
	position, err := c.get(counterPosition)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	c.applied.Store(position)
	c.durable.Store(position)
	return c, nil
}

func (c *Counter) get(key string) (uint64, error) {
	value, closer, err := c.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	defer closer.Close()
	return binary.BigEndian.Uint64(value), nil
}

// Apply implements view.Applier.
func (c *Counter) Apply(_ context.Context, e consensus.Entry) (any, error) {
	batch := c.db.NewBatch()
	defer batch.Close()
	result := CounterResult{}
	name, delta, ok := parseCounter(e.Record.Payload)
	if !ok {
		result.Refused = fmt.Sprintf("%q is not \"name delta\"", e.Record.Payload)
	} else {
		value, err := c.get(counterPrefix + name)
		if err != nil {
			return nil, err
		}
		result.Value = int64(value) + delta
		if err := batch.Set([]byte(counterPrefix+name), be(uint64(result.Value)), nil); err != nil {
			return nil, err
		}
	}
	if err := batch.Set([]byte(counterPosition), be(uint64(e.LSN)), nil); err != nil {
		return nil, err
	}
	c.pending++
	mode := pebble.NoSync
	if c.pending >= counterSyncEvery {
		mode, c.pending = pebble.Sync, 0
	}
	if err := batch.Commit(mode); err != nil {
		return nil, err
	}
	c.applied.Store(uint64(e.LSN))
	if mode.Sync {
		c.durable.Store(uint64(e.LSN))
	}
	return result, nil
}

func parseCounter(payload []byte) (name string, delta int64, ok bool) {
	name, rest, ok := strings.Cut(string(payload), " ")
	if !ok || name == "" {
		return "", 0, false
	}
	delta, err := strconv.ParseInt(rest, 10, 64)
	return name, delta, err == nil
}

func be(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// Advance implements view.View.
func (c *Counter) Advance(lsn consensus.LSN) { c.applied.Store(uint64(lsn)) }

// Applied implements view.View.
func (c *Counter) Applied() consensus.LSN { return consensus.LSN(c.applied.Load()) }

// Durable implements view.View.
func (c *Counter) Durable() consensus.LSN { return consensus.LSN(c.durable.Load()) }

// Value returns a counter.
func (c *Counter) Value(name string) (int64, error) {
	v, err := c.get(counterPrefix + name)
	return int64(v), err
}

// state reads all counters.
func (c *Counter) state() (map[string]int64, error) {
	iter, err := c.db.NewIter(&pebble.IterOptions{LowerBound: []byte(counterPrefix), UpperBound: []byte("c0")})
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for iter.First(); iter.Valid(); iter.Next() {
		value, err := iter.ValueAndErr()
		if err != nil {
			return nil, errors.Join(err, iter.Close())
		}
		all[string(iter.Key()[len(counterPrefix):])] = int64(binary.BigEndian.Uint64(value))
	}
	return all, iter.Close()
}

// Digest implements view.View: the hash of all counters in the order of their names.
func (c *Counter) Digest() (consensus.Digest, error) {
	all, err := c.state()
	if err != nil {
		return consensus.Digest{}, err
	}
	canonical, err := json.Marshal(all) // encoding/json sorts the keys of a map
	return sha256.Sum256(canonical), err
}

// counterSnapshot is the format of a snapshot, as JSON.
type counterSnapshot struct {
	Applied  consensus.LSN
	Counters map[string]int64
	Check    consensus.Digest // SHA-256 of the snapshot with Check zero
}

func (s counterSnapshot) sum() consensus.Digest {
	s.Check = consensus.Digest{}
	canonical, err := json.Marshal(s)
	if err != nil {
		panic(err) // integers and strings
	}
	return sha256.Sum256(canonical)
}

// Snapshot implements view.View.
func (c *Counter) Snapshot(_ context.Context, w io.Writer) error {
	all, err := c.state()
	if err != nil {
		return err
	}
	s := counterSnapshot{Applied: c.Applied(), Counters: all}
	s.Check = s.sum()
	return json.NewEncoder(w).Encode(s)
}

// Restore implements view.View.
func (c *Counter) Restore(_ context.Context, r io.Reader) error {
	var s counterSnapshot
	if err := json.NewDecoder(r).Decode(&s); err != nil {
		return fmt.Errorf("restore counters: %w", err)
	}
	if s.Check != s.sum() {
		return errors.New("restore counters: the snapshot is damaged")
	}
	batch := c.db.NewBatch()
	defer batch.Close()
	err := batch.DeleteRange([]byte(counterPrefix), []byte("c0"), nil)
	for name, value := range s.Counters {
		err = errors.Join(err, batch.Set([]byte(counterPrefix+name), be(uint64(value)), nil))
	}
	err = errors.Join(err, batch.Set([]byte(counterPosition), be(uint64(s.Applied)), nil))
	if err := errors.Join(err, batch.Commit(pebble.Sync)); err != nil {
		return fmt.Errorf("restore counters: %w", err)
	}
	c.applied.Store(uint64(s.Applied))
	c.durable.Store(uint64(s.Applied))
	return nil
}

// Close implements view.View.
func (c *Counter) Close() error {
	return errors.Join(c.db.Set([]byte(counterPosition), be(c.applied.Load()), pebble.Sync), c.db.Close())
}

// quiet is a pebble logger for tests: only what ends the process is said.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
