package raft

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"ledgerd/consensus"
)

// Name is the engine's name in a consensus.Spec.
const Name = "raft"

// Options of the engine. Zero means the default.
type Options struct {
	// Self is this node's id among the segment's members.
	Self uint64
	// Transport carries frames to and from the other members. May be nil if there are none.
	Transport Transport
	// Fetcher brings the entries that a member needs which was away for longer than raft's log reaches back. nil: such a member stays behind.
	Fetcher Fetcher
	// Applied says up to where the application has applied the log. Default: as far as the log has come on this node.
	Applied func() consensus.LSN
	// Now is the wall clock that entries are stamped with. Default time.Now. It may jump; the log's clock does not go back.
	Now func() time.Time

	Tick           time.Duration // unit of the timeouts. Default 50 ms
	HeartbeatTicks int           // between two heartbeats of the leader. Default 2
	ElectionTicks  int           // a follower campaigns after this to twice this without a leader. Default 6 heartbeats

	MaxQueueBytes       int // of own appends that are not answered; more wait. Default 64 MiB, not less than one record
	MaxForwardedBytes   int // of appends that wait at the leader for others; more are refused and come again. Default 16 MiB, not less than one record
	MaxInboxBytes       int // of frames that wait to be looked at; more are dropped. Default 64 MiB
	MaxReads            int // that wait for a consistent tail; more get ErrOverloaded. Default 65,536
	MaxBatchBytes       int // of one proposal, write and apply, of which each is at least one record. Default 4 MiB
	MaxMessageBytes     int // of a message or frame, which is at least one record. Default 1 MiB
	MaxInflight         int // messages to a follower that are not acknowledged. Default 256
	MaxUncommittedBytes int // of what a leader has proposed and is not committed. Default 64 MiB
	CacheBytes          int // of raft entries kept in memory. Default 16 MiB
	KeepEntries         int // raft entries kept behind the applied ones, for members that were away. Default 131,072

	// Registerer shows the engine's metrics, which are those of the newest segment that this node orders in. nil: they are not shown.
	Registerer prometheus.Registerer

	MaxLag         uint64        // entries by which a leader's application may be behind. Default 10,000
	MaxClockOffset time.Duration // of a leader from the members' median. Default 10 s
}

// EnsureDefaults fills in what is zero.
func (o *Options) EnsureDefaults() {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Tick = cmp.Or(o.Tick, 50*time.Millisecond)
	o.HeartbeatTicks = cmp.Or(o.HeartbeatTicks, 2)
	o.ElectionTicks = cmp.Or(o.ElectionTicks, 6*o.HeartbeatTicks)
	o.MaxQueueBytes = cmp.Or(o.MaxQueueBytes, 64<<20)
	o.MaxForwardedBytes = cmp.Or(o.MaxForwardedBytes, 16<<20)
	o.MaxInboxBytes = cmp.Or(o.MaxInboxBytes, 64<<20)
	o.MaxReads = cmp.Or(o.MaxReads, 1<<16)
	o.MaxBatchBytes = cmp.Or(o.MaxBatchBytes, 4<<20)
	o.MaxMessageBytes = cmp.Or(o.MaxMessageBytes, 1<<20)
	o.MaxInflight = cmp.Or(o.MaxInflight, 256)
	o.MaxUncommittedBytes = cmp.Or(o.MaxUncommittedBytes, 64<<20)
	o.CacheBytes = cmp.Or(o.CacheBytes, 16<<20)
	o.KeepEntries = cmp.Or(o.KeepEntries, 1<<17)
	o.MaxLag = cmp.Or(o.MaxLag, 10_000)
	o.MaxClockOffset = cmp.Or(o.MaxClockOffset, 10*time.Second)
}

// Validate returns everything that is wrong, joined.
func (o *Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{consensus.ErrInvalid}, args...)...))
	}
	if o.Self == 0 {
		bad("Self is 0")
	}
	if o.Tick < 0 || o.HeartbeatTicks < 1 || o.ElectionTicks <= o.HeartbeatTicks {
		bad("Tick %v, HeartbeatTicks %d, ElectionTicks %d", o.Tick, o.HeartbeatTicks, o.ElectionTicks)
	}
	if min(o.MaxQueueBytes, o.MaxForwardedBytes) < consensus.MaxRecordBytes {
		bad("MaxQueueBytes %d, MaxForwardedBytes %d: less than one record of %d", o.MaxQueueBytes, o.MaxForwardedBytes, consensus.MaxRecordBytes)
	}
	if o.MaxInboxBytes < 2*consensus.MaxRecordBytes {
		bad("MaxInboxBytes %d: less than two records of %d", o.MaxInboxBytes, consensus.MaxRecordBytes)
	}
	if min(o.MaxReads, o.MaxBatchBytes, o.MaxMessageBytes, o.MaxInflight, o.MaxUncommittedBytes, o.CacheBytes, o.KeepEntries) < 1 || o.MaxClockOffset < 0 {
		bad("a bound is negative")
	}
	return errors.Join(errs...)
}

// Engine returns the engine with these options, for consensus.Options.Engines.
func Engine(opts Options) consensus.Engine { return engine{opts} }

type engine struct{ opts Options }

// Open is consensus.Engine.Open.
func (e engine) Open(_ context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
	l, err := Open(store, seg, e.opts)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// Prepare is consensus.Engine.Prepare: it lets the transport connect to the members.
func (e engine) Prepare(_ context.Context, _ *consensus.Store, next consensus.Segment) error {
	if t, ok := e.opts.Transport.(Mesher); ok && len(next.Spec.Members) > 1 {
		return t.Mesh(next)
	}
	return nil
}

// A Mesher is a Transport that can connect to the members of an epoch before anybody joins it.
type Mesher interface {
	Mesh(next consensus.Segment) error
}

// A Loglet is a consensus.Loglet whose members agree by Raft. It runs a Driver.
type Loglet struct {
	replica *consensus.Replica
	opts    Options
	peers   Peers              // nil in a segment with one member
	room    *consensus.Room    // MaxQueueBytes
	closing chan struct{}      // closed by Close
	cancel  context.CancelFunc // of fetches
	work    struct {
		write chan *Write
		apply chan *Apply
		sync.WaitGroup
	}
	wait    sync.WaitGroup // for run
	status  atomic.Pointer[DriverStatus]
	metrics *metrics
	drained chan struct{} // closed when every member has applied the Seal

	inbox struct {
		sync.Mutex
		Inputs
		bytes  int           // of frames
		ready  chan struct{} // holds a token if there may be something
		err    error         // set once nothing is taken in any more: ErrClosed, or why it stopped
		closed bool
		failed error // of the writer, the applier or a fetch
	}
}

var _ interface {
	consensus.Loglet
	consensus.Drainer
	consensus.Stopper
} = (*Loglet)(nil)

// Open opens the loglet of a segment over the store. consensus.ErrNotMember if this node must not take part in it. The node takes part from now
// on; appends are taken, and wait, before there is a leader.
func Open(store *consensus.Store, seg consensus.Segment, opts Options) (*Loglet, error) {
	opts.EnsureDefaults()
	if err := opts.Validate(); err != nil {
		return nil, fmt.Errorf("open raft loglet: %w", err)
	}
	if len(seg.Spec.Members) > 1 && opts.Transport == nil {
		return nil, fmt.Errorf("open raft loglet: %w: %d members, and no transport", consensus.ErrInvalid, len(seg.Spec.Members))
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open raft loglet: %w", err)
	}
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return nil, fmt.Errorf("open raft loglet: %w", err)
	}
	var nonce [8]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("open raft loglet: %w", err)
	}
	driver, err := NewDriver(store, replica, opts, binary.BigEndian.Uint64(nonce[:]))
	if err != nil {
		return nil, fmt.Errorf("open raft loglet: epoch %d: %w", seg.Epoch, err)
	}
	closing := make(chan struct{})
	l := &Loglet{
		replica: replica, opts: opts, room: consensus.NewRoom(opts.MaxQueueBytes, closing),
		closing: closing, drained: make(chan struct{}), metrics: m,
	}
	l.inbox.ready = make(chan struct{}, 1)
	l.work.write, l.work.apply = make(chan *Write, 1), make(chan *Apply, 1)
	l.status.Store(driver.Status())
	if len(seg.Spec.Members) > 1 {
		if l.peers, err = opts.Transport.Join(seg, opts.Self, l.deliver); err != nil {
			return nil, errors.Join(fmt.Errorf("open raft loglet: join the peers: %w", err), driver.Close())
		}
	}
	m.begin(l)
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.work.Go(l.writer)
	l.work.Go(l.applier)
	l.wait.Go(func() { l.run(ctx, driver) })
	return l, nil
}

// put takes something in, unless nothing is taken any more.
func (l *Loglet) put(add func(*Inputs)) error {
	l.inbox.Lock()
	defer l.inbox.Unlock()
	if l.inbox.err != nil {
		return l.inbox.err
	}
	add(&l.inbox.Inputs)
	l.wake()
	return nil
}

func (l *Loglet) wake() {
	select {
	case l.inbox.ready <- struct{}{}:
	default:
	}
}

// deliver takes a frame from the transport. What does not fit is dropped, as any network may.
func (l *Loglet) deliver(frame []byte) {
	_ = l.put(func(in *Inputs) {
		if l.inbox.bytes+len(frame) <= l.opts.MaxInboxBytes {
			l.inbox.bytes += len(frame)
			in.Frames = append(in.Frames, frame)
		}
	})
}

// run steps the driver until the loglet is closed or fails.
func (l *Loglet) run(ctx context.Context, d *Driver) {
	ticker := time.NewTicker(l.opts.Tick)
	defer ticker.Stop()
	for {
		ticks := 0
		select {
		case <-l.inbox.ready:
		case <-ticker.C:
			ticks = 1
		case <-l.closing:
			l.stop(d, consensus.ErrClosed)
			return
		}
		in, err := l.collect()
		if err == nil {
			in.Ticks = ticks
			err = l.step(ctx, d, in)
		}
		if err != nil {
			l.stop(d, err)
			return
		}
	}
}

// collect takes out what came in.
func (l *Loglet) collect() (Inputs, error) {
	l.inbox.Lock()
	in, failed := l.inbox.Inputs, l.inbox.failed
	l.inbox.Inputs, l.inbox.bytes = Inputs{}, 0
	l.inbox.Unlock()
	in.Now = l.opts.Now()
	if l.opts.Applied != nil {
		if next, applied := l.replica.Position().Next, l.opts.Applied(); next > applied+1 {
			in.Lag = uint64(next - applied - 1)
		}
	}
	return in, failed
}

// step steps the driver and sets its actions going. The raft library panics when what the disk or a peer says now contradicts what it said before:
// that ends this node's part in the segment, not the process.
func (l *Loglet) step(ctx context.Context, d *Driver, in Inputs) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case raftPanic:
			err = fmt.Errorf("%w: raft: %s", consensus.ErrCorrupt, string(p))
		default:
			panic(p)
		}
	}()
	act, err := d.Step(in)
	if err != nil {
		return err
	}
	if act.Write != nil {
		l.work.write <- act.Write
	}
	if act.Apply != nil {
		l.work.apply <- act.Apply
	}
	for _, f := range act.Send {
		l.peers.Send(f.To, f.Data)
	}
	if act.Fetch != nil {
		l.work.Go(func() { l.fetch(ctx, act.Fetch) })
	}
	if in.Ticks > 0 || act.Apply != nil {
		l.publish(d)
	}
	return nil
}

func (l *Loglet) publish(d *Driver) {
	s := d.Status()
	l.metrics.count(l.status.Swap(s), s)
	if s.Drained {
		select {
		case <-l.drained:
		default:
			close(l.drained)
		}
	}
}

// writer persists what the driver wants written.
func (l *Loglet) writer() {
	for w := range l.work.write {
		begun := time.Now()
		err := w.Persist()
		if w.Sync {
			l.metrics.sync.Observe(time.Since(begun).Seconds())
		}
		l.report(err, func(in *Inputs) { in.Written = w })
	}
}

// applier applies what is committed.
func (l *Loglet) applier() {
	for a := range l.work.apply {
		l.report(a.Perform(l.replica), func(in *Inputs) { in.Applied = a })
	}
}

// report gives the driver back what was done, or ends the loglet.
func (l *Loglet) report(err error, done func(*Inputs)) {
	if err == nil {
		_ = l.put(done)
		return
	}
	l.inbox.Lock()
	defer l.inbox.Unlock()
	if l.inbox.failed == nil {
		l.inbox.failed = err
	}
	l.wake()
}

// fetch brings and applies the entries of a snapshot.
func (l *Loglet) fetch(ctx context.Context, f *Fetch) {
	f.Perform(ctx, l.replica, l.opts.Fetcher)
	if errors.Is(f.Err, consensus.ErrFailed) || errors.Is(f.Err, consensus.ErrClosed) {
		l.report(f.Err, nil)
		return
	}
	l.report(nil, func(in *Inputs) { in.Fetched = f })
}

// install applies entries up to a snapshot's place, under the raft index that was applied before, and the last of them under the snapshot's. Each is
// verified against its predecessor's digest, and nothing of a chunk is applied before all of it was.
func install(ctx context.Context, r *consensus.Replica, fetcher Fetcher, f *Fetch) (consensus.Position, error) {
	for {
		at := r.Position()
		var entries []consensus.Entry
		if at.Next < f.Next {
			var err error
			if entries, err = fetcher.Fetch(ctx, f.Hint, at.Next, f.Next); err != nil {
				return at, err
			}
			if len(entries) == 0 {
				return at, fmt.Errorf("%w: no entries from lsn %d", consensus.ErrInvalid, at.Next)
			}
		}
		next, digest := at.Next, at.Digest
		b := consensus.Batch{Applied: at.Applied}
		for _, e := range entries {
			if e.LSN != next || e.Epoch != r.Segment().Epoch || e.LSN >= f.Next {
				return at, fmt.Errorf("%w: lsn %d of epoch %d where %d was asked for", consensus.ErrInvalid, e.LSN, e.Epoch, next)
			}
			if err := e.Verify(digest); err != nil {
				return at, err
			}
			next, digest = next+1, e.Digest
			b.Items = append(b.Items, consensus.Item{UnixMilli: e.UnixMilli, Record: e.Record})
		}
		if next == f.Next {
			if digest != f.Digest {
				return at, &consensus.CorruptError{LSN: next - 1, Cause: fmt.Errorf("digest is %v, the snapshot says %v", digest, f.Digest)}
			}
			b.Applied = max(at.Applied, f.Index)
		}
		if _, err := r.Apply(b); err != nil {
			return at, err
		}
		if got := r.Position(); got.Next != next || got.Digest != digest {
			panic(fmt.Sprintf("raft: entries verified up to lsn %d and digest %v became lsn %d and digest %v", next-1, digest, got.Next-1, got.Digest))
		}
		if next == f.Next {
			return r.Position(), nil
		}
	}
}

// stop ends the driver: nothing is taken in any more, what is under way is finished, and what waits is told.
func (l *Loglet) stop(d *Driver, err error) {
	l.metrics.end(l)
	if l.peers != nil {
		if e := l.peers.Close(); e != nil {
			d.logger.Warn("leave the peers", "err", e)
		}
	}
	if !errors.Is(err, consensus.ErrClosed) {
		d.logger.Error("raft loglet stopped", "segment", d.seg.Epoch, "err", err)
	}
	l.inbox.Lock()
	l.inbox.err = err
	late := l.inbox.Inputs
	l.inbox.Inputs = Inputs{}
	l.inbox.Unlock()
	l.cancel()
	close(l.work.write)
	close(l.work.apply)
	l.work.Wait()
	if w := d.Flush(); w != nil && errors.Is(err, consensus.ErrClosed) {
		_ = w.Persist() // it saves space, no more; a failure is the store's to report
	}
	if e := d.Close(); e != nil {
		d.logger.Warn("close raft's witness", "err", e)
	}
	d.end(late, err)
}

// Append is consensus.Loglet.Append. The record is offered, again and again, to whoever leads, until ctx ends.
func (l *Loglet) Append(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	size := r.Size()
	if err := l.room.Acquire(ctx, size); err != nil {
		return 0, err
	}
	type answer struct {
		offset consensus.Offset
		err    error
	}
	answers := make(chan answer, 1)
	a := &Append{Record: r, Done: func(o consensus.Offset, err error) {
		l.room.Release(size)
		answers <- answer{o, err}
	}}
	if err := l.put(func(in *Inputs) { in.Appends = append(in.Appends, a) }); err != nil {
		l.room.Release(size)
		return 0, err
	}
	select {
	case got := <-answers:
		return got.offset, got.err
	case <-ctx.Done():
	}
	if a.Withdraw() {
		return 0, ctx.Err()
	}
	select {
	case got := <-answers: // it was answered just now
		return got.offset, got.err
	default:
		return 0, fmt.Errorf("%w: %w", consensus.ErrUnknownFate, ctx.Err())
	}
}

// Seal is consensus.Loglet.Seal. Whether the Seal is valid is decided at its turn.
func (l *Loglet) Seal(ctx context.Context, r consensus.Record) (consensus.Offset, error) {
	if _, err := consensus.SealOf(r); err != nil {
		return 0, err
	}
	return l.Append(ctx, r)
}

// Tail is consensus.Loglet.Tail. A consistent one waits until a leader has confirmed, by its quorum, that it leads, and this node has applied what was
// committed then (ReadIndex, Raft thesis §6.4). In a minority it waits until ctx ends.
func (l *Loglet) Tail(ctx context.Context, c consensus.Consistency) (consensus.Tail, error) {
	if err := ctx.Err(); err != nil {
		return consensus.Tail{}, err
	}
	if c == consensus.Consistent {
		done := make(chan error, 1)
		r := &Read{Done: func(err error) { done <- err }, Gone: func() bool { return ctx.Err() != nil }}
		if err := l.put(func(in *Inputs) { in.Reads = append(in.Reads, r) }); err != nil {
			return consensus.Tail{}, err
		}
		select {
		case err := <-done:
			if err != nil {
				return consensus.Tail{}, err
			}
		case <-ctx.Done():
			return consensus.Tail{}, ctx.Err()
		}
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

// Drained returns a channel that is closed once every member has reported that it applied the Seal: from then on nobody needs this engine any more.
func (l *Loglet) Drained() <-chan struct{} { return l.drained }

// Stopped is consensus.Stopper's: why the loglet stopped by itself, or nil.
func (l *Loglet) Stopped() error {
	l.inbox.Lock()
	defer l.inbox.Unlock()
	if errors.Is(l.inbox.err, consensus.ErrClosed) {
		return nil
	}
	return l.inbox.err
}

// Members returns what this node knows of the segment's members.
func (l *Loglet) Members() DriverStatus { return *l.status.Load() }

// Status is consensus.Loglet.Status.
func (l *Loglet) Status() consensus.LogletStatus {
	d := l.status.Load()
	l.inbox.Lock()
	stopped := l.inbox.err
	l.inbox.Unlock()
	s := l.replica.Status(Name, stopped)
	s.Detail = d.detail()
	switch {
	case s.State != consensus.StateOrdering:
	case d.Leader == 0: // and should the segment have ended, this is how the log finds out
		s.State = StateElecting
	case d.Installing && errors.Is(d.Missing, consensus.ErrTrimmed):
		s.State = consensus.StateTrimmed
	case d.Installing:
		s.State = StateInstalling
	}
	return s
}

// States beside those that every engine has.
const (
	StateElecting   = consensus.StateElecting
	StateInstalling = "installing" // entries that raft's log has no more are being fetched
)

// Close is consensus.Loglet.Close.
func (l *Loglet) Close() error {
	l.inbox.Lock()
	first := !l.inbox.closed
	l.inbox.closed = true
	l.inbox.Unlock()
	if first {
		close(l.closing)
	}
	l.wait.Wait()
	l.inbox.Lock()
	if !errors.Is(l.inbox.err, consensus.ErrClosed) {
		l.inbox.err = consensus.ErrClosed // after a failure, too
	}
	l.inbox.Unlock()
	l.replica.Close()
	return nil
}

func (s *DriverStatus) detail() map[string]string {
	m := map[string]string{
		"leader": strconv.FormatUint(s.Leader, 10), "role": s.Role, "term": strconv.FormatUint(s.Term, 10),
		"committed": strconv.FormatUint(s.Committed, 10), "applied": strconv.FormatUint(s.Applied, 10),
		"quorum": strconv.Itoa(s.Quorum), "queued": strconv.Itoa(s.Queued), "refused": strconv.FormatUint(s.Refused, 10),
	}
	if s.Installing {
		m["awaits"] = strconv.FormatUint(uint64(s.Awaits), 10)
	}
	if s.Missing != nil {
		m["problem"] = s.Missing.Error()
	}
	for _, p := range s.Members {
		v := "missing"
		if p.Recent {
			v = fmt.Sprintf("applied %d, lag %d, clock %v", p.Applied, p.Lag, p.ClockOffset.Round(time.Millisecond))
		}
		m["member."+strconv.FormatUint(p.ID, 10)] = v
	}
	return m
}
