package local

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"ledgerd/consensus"
)

// Name is the engine's name in a consensus.Spec.
const Name = "local"

// Options of the engine. Zero means the default.
type Options struct {
	// Now is the wall clock that entries are stamped with. Default time.Now. It may jump; the log's clock does not go back.
	Now func() time.Time

	// MaxBatchBytes bounds the encoded records of one commit, of which there is always at least one. Default 4 MiB.
	MaxBatchBytes int

	// MaxQueueBytes bounds the encoded records that wait or are being committed. Default 64 MiB; not less than one record.
	MaxQueueBytes int
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.MaxBatchBytes = cmp.Or(o.MaxBatchBytes, 4<<20)
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, 64<<20)
}

// Validate returns everything that is wrong, joined.
func (o *Options) Validate() error {
	var errs []error
	if o.MaxBatchBytes < 1 {
		errs = append(errs, fmt.Errorf("%w: MaxBatchBytes is %d", consensus.ErrInvalid, o.MaxBatchBytes))
	}
	if o.MaxQueueBytes < consensus.MaxRecordBytes {
		errs = append(errs, fmt.Errorf("%w: MaxQueueBytes is %d, less than one record of %d", consensus.ErrInvalid, o.MaxQueueBytes, consensus.MaxRecordBytes))
	}
	return errors.Join(errs...)
}

// Engine returns the engine with these options, for consensus.Options.Engines.
func Engine(opts Options) consensus.Engine {
	return consensus.EngineFunc(func(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
		l, err := Open(store, seg, opts)
		if err != nil {
			return nil, err
		}
		return l, nil
	})
}

// A Loglet is a consensus.Loglet with one member.
type Loglet struct {
	replica *consensus.Replica
	opts    Options
	room    *consensus.Room // MaxQueueBytes
	ready   chan struct{}   // holds a token if the queue may hold something
	closing chan struct{}   // closed by Close
	wait    sync.WaitGroup  // for the committer

	mu struct {
		sync.Mutex
		queue  []*pending
		err    error // set once the committer takes nothing any more: ErrClosed, or why it stopped
		closed bool
	}
}

var _ consensus.Loglet = (*Loglet)(nil)

// A pending append. taken and withdrawn are guarded by Loglet.mu, and at most one of them becomes true.
type pending struct {
	record    consensus.Record
	size      int
	taken     bool
	withdrawn bool
	answer    chan answer // buffered
}

type answer struct {
	offset consensus.Offset
	err    error
}

// Open opens the loglet of a segment over the store. The segment has at most one member.
func Open(store *consensus.Store, seg consensus.Segment, opts Options) (*Loglet, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open local loglet: %w", err)
	}
	if n := len(seg.Spec.Members); n > 1 {
		return nil, fmt.Errorf("open local loglet: %w: epoch %d has %d members", consensus.ErrInvalid, seg.Epoch, n)
	}
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, fmt.Errorf("open local loglet: %w", err)
	}
	if !replica.Based() {
		base := consensus.Batch{Applied: replica.Applied() + 1, Items: []consensus.Item{{Record: consensus.BaseRecord(seg)}}, Sync: true}
		if _, err := replica.Apply(base); err != nil {
			return nil, fmt.Errorf("open local loglet: %w", err)
		}
	}
	closing := make(chan struct{})
	l := &Loglet{
		replica: replica,
		opts:    opts,
		room:    consensus.NewRoom(opts.MaxQueueBytes, closing),
		ready:   make(chan struct{}, 1),
		closing: closing,
	}
	l.wait.Go(l.commitLoop)
	return l, nil
}

// Append is consensus.Loglet.Append. A context that ends before the committer has taken the record takes it back, and its error comes alone.
func (l *Loglet) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	p := &pending{record: r, size: r.Size(), answer: make(chan answer, 1)}
	if err := l.room.Acquire(ctx, p.size); err != nil {
		return 0, err
	}
	defer l.room.Release(p.size)
	if err := l.enqueue(p); err != nil {
		return 0, err
	}
	select {
	case a := <-p.answer:
		return a.offset, a.err
	case <-ctx.Done():
	}
	if l.withdraw(p) {
		return 0, ctx.Err()
	}
	select {
	case a := <-p.answer: // it was answered just now
		return a.offset, a.err
	default:
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknownFate, ctx.Err())
	}
}

func (l *Loglet) enqueue(p *pending) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.err != nil {
		return l.mu.err
	}
	l.mu.queue = append(l.mu.queue, p)
	l.wake()
	return nil
}

func (l *Loglet) wake() {
	select {
	case l.ready <- struct{}{}:
	default:
	}
}

// withdraw takes p back, if the committer has not taken it.
func (l *Loglet) withdraw(p *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.withdrawn = !p.taken
	return p.withdrawn
}

// commitLoop is the committer.
func (l *Loglet) commitLoop() {
	for {
		select {
		case <-l.ready:
		case <-l.closing:
			l.stop(consensus.ErrClosed)
			return
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			if err := l.commit(batch); err != nil {
				l.stop(err)
				return
			}
		}
	}
}

// take removes the next batch from the queue; none once the loglet is closing, since what is still queued then is surely not in.
func (l *Loglet) take() (batch []*pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return nil
	}
	n, size := 0, 0
	for _, p := range l.mu.queue {
		if len(batch) > 0 && size+p.size > l.opts.MaxBatchBytes {
			break
		}
		n++
		if p.withdrawn {
			continue
		}
		p.taken = true
		size += p.size
		batch = append(batch, p)
	}
	rest := copy(l.mu.queue, l.mu.queue[n:])
	clear(l.mu.queue[rest:])
	l.mu.queue = l.mu.queue[:rest]
	return batch
}

// commit makes a batch durable and answers its appends. An error means that the storage has failed.
func (l *Loglet) commit(batch []*pending) error {
	now := uint64(max(0, l.opts.Now().UnixMilli()))
	items := make([]consensus.Item, len(batch))
	for i, p := range batch {
		items[i] = consensus.Item{UnixMilli: now, Record: p.record}
	}
	verdicts, err := l.replica.Apply(consensus.Batch{Applied: l.replica.Applied() + uint64(len(items)), Items: items, Sync: true})
	for i, p := range batch {
		if err != nil {
			p.answer <- answer{err: fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err)}
			continue
		}
		offset, err := l.replica.Segment().Answer(verdicts[i])
		p.answer <- answer{offset, err}
	}
	return err
}

// stop refuses whatever waits and whatever comes.
func (l *Loglet) stop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.err = err
	for _, p := range l.mu.queue {
		if !p.withdrawn {
			p.taken = true
			p.answer <- answer{err: err}
		}
	}
	l.mu.queue = nil
}

// Seal is consensus.Loglet.Seal. Whether the Seal is valid is decided at its turn.
func (l *Loglet) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if _, err := consensus.SealOf(r); err != nil {
		return 0, err
	}
	return l.Append(ctx, r)
}

// Tail is consensus.Loglet.Tail. There is nobody else to ask.
func (l *Loglet) Tail(ctx context.Context, _ consensus.Consistency) (consensus.Tail, error) {
	if err := ctx.Err(); err != nil {
		return consensus.Tail{}, err
	}
	return l.replica.Tail()
}

// Read is consensus.Loglet.Read.
func (l *Loglet) Read(ctx context.Context, lo, hi consensus.Offset) ([]consensus.Entry, error) {
	return l.replica.Read(ctx, lo, hi)
}

// Follow is consensus.Loglet.Follow.
func (l *Loglet) Follow(ctx context.Context, from consensus.Offset, limit int) ([]consensus.Entry, error) {
	return l.replica.Follow(ctx, from, limit)
}

// Trim is consensus.Loglet.Trim.
func (l *Loglet) Trim(ctx context.Context, upTo consensus.Offset) error {
	return l.replica.Trim(ctx, upTo)
}

// Status is consensus.Loglet.Status.
func (l *Loglet) Status() consensus.LogletStatus {
	l.mu.Lock()
	queued, stopped := len(l.mu.queue), l.mu.err
	l.mu.Unlock()
	s := l.replica.Status(Name, stopped)
	s.Detail = map[string]string{"queued": strconv.Itoa(queued)}
	return s
}

// Close is consensus.Loglet.Close. The batch that is being committed is finished and acknowledged.
func (l *Loglet) Close() error {
	l.mu.Lock()
	first := !l.mu.closed
	l.mu.closed = true
	l.mu.Unlock()
	if first {
		close(l.closing)
	}
	l.wait.Wait()
	l.replica.Close()
	return nil
}
