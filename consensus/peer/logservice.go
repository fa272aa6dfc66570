package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"connectrpc.com/connect"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
)

// A Log is what the log service serves. A consensus.VirtualLog is one; the methods are as there.
//
// What else it has is served too, if it is there, and answered with ErrNotServing if not:
//
//	SegmentEnd(ctx, consensus.Epoch) (consensus.SegmentEnd, bool, error)
//	Attest(ctx, consensus.LSN) ([]byte, error)
//	Prepare(ctx, consensus.Prepare) (consensus.Ready, error)
//
// Append and a consistent Tail are for nodes whose Status says that they order: one that observes passes on what its own applications append, and takes nothing
// from others, so that no record goes round in circles among nodes that all follow.
type Log interface {
	Append(ctx context.Context, r consensus.Record) (consensus.LSN, error)
	Tail(ctx context.Context, c consensus.Consistency) (consensus.LSN, error)
	Follow(ctx context.Context, from consensus.LSN, limit int) ([]consensus.Entry, error)
	Segments() []consensus.Segment
	Status() consensus.Status
}

// The optional methods of a Log.
type (
	ender interface {
		SegmentEnd(ctx context.Context, epoch consensus.Epoch) (consensus.SegmentEnd, bool, error)
	}
	attester interface {
		Attest(ctx context.Context, lsn consensus.LSN) ([]byte, error)
	}
	preparer interface {
		Prepare(ctx context.Context, p consensus.Prepare) (consensus.Ready, error)
	}
)

// orders returns an ErrNotServing if the log passes on what it is given.
func orders(log Log) error {
	if log.Status().Role == consensus.Observes.String() {
		return fmt.Errorf("%w: this node observes the log and does not order it", ErrNotServing)
	}
	return nil
}

// Serve serves a log from now on, or, with nil, none. When it has returned, no call uses the one that was served before: a log can be closed then. The calls
// that do are broken off; their callers get ErrNotServing, and go elsewhere. After Close it does nothing.
func (n *Node) Serve(log Log) { n.log.set(log, log != nil) }

// use calls f with the log, and with a context that ends when the log is not served any more. Its error is one for the wire.
func (n *Node) use(ctx context.Context, f func(context.Context, Log) error) error {
	return n.outcome(n.log.use(ctx, f))
}

// outcome turns what a call came to into what its caller is told.
func (n *Node) outcome(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		return ce // of the stream that the answers go to
	}
	out := toWire(err)
	if out.Code() == connect.CodeInternal {
		n.opts.Logger.Error("log service", "err", err)
	}
	return out
}

// A slot holds what is being served to the other nodes: at most one thing at a time.
type slot[T any] struct {
	mu struct {
		sync.RWMutex
		closed bool
		now    *served[T] // nil: nothing
	}
}

// served is one thing while it is being served.
type served[T any] struct {
	what  T
	ended chan struct{} // closed when it is not any more
	calls sync.WaitGroup
}

// set replaces what is served, and returns when no call uses what was.
func (s *slot[T]) set(what T, serve bool) {
	var next *served[T]
	if serve {
		next = &served[T]{what: what, ended: make(chan struct{})}
	}
	s.mu.Lock()
	if s.mu.closed {
		next = nil
	}
	old := s.mu.now
	s.mu.now = next
	s.mu.Unlock()
	if old != nil {
		close(old.ended)
		old.calls.Wait()
	}
}

// close ends the serving for good.
func (s *slot[T]) close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	var nothing T
	s.set(nothing, false)
}

// use calls f with what is served, and with a context that ends when it is not any more. ErrNotServing then, and if nothing is.
func (s *slot[T]) use(ctx context.Context, f func(context.Context, T) error) error {
	s.mu.RLock()
	now := s.mu.now
	if now != nil {
		now.calls.Add(1) // under the lock, so before set waits
	}
	s.mu.RUnlock()
	if now == nil {
		return ErrNotServing
	}
	defer now.calls.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer until(now.ended, cancel)()
	err := f(ctx, now.what)
	if err == nil {
		return nil
	}
	select {
	case <-now.ended:
		return fmt.Errorf("%w: %w", ErrNotServing, err)
	default:
		return err
	}
}

// logService serves this node's log to its peers.
type logService struct{ node *Node }

// Append implements peerpbconnect.LogHandler.
func (s logService) Append(ctx context.Context, req *connect.Request[peerpb.AppendRequest]) (*connect.Response[peerpb.AppendResponse], error) {
	var lsn consensus.LSN
	err := s.node.use(ctx, func(ctx context.Context, log Log) error {
		r, err := consensus.DecodeRecord(req.Msg.GetRecord())
		if err := errors.Join(err, orders(log)); err != nil {
			return err
		}
		lsn, err = log.Append(ctx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&peerpb.AppendResponse{Lsn: uint64(lsn)}), nil
}

// Read implements peerpbconnect.LogHandler.
func (s logService) Read(ctx context.Context, req *connect.Request[peerpb.ReadRequest]) (*connect.Response[peerpb.Entries], error) {
	var out *peerpb.Entries
	err := s.node.use(ctx, func(ctx context.Context, log Log) error {
		from, end := consensus.LSN(req.Msg.GetFrom()), consensus.LSN(req.Msg.GetEnd())
		if from == 0 || from >= end {
			return fmt.Errorf("read lsn %d to %d: %w", from, end, consensus.ErrInvalid)
		}
		tail, err := log.Tail(ctx, consensus.Fast)
		if err != nil {
			return err
		}
		if from >= tail { // or Follow would wait for it
			return fmt.Errorf("read lsn %d: tail is %d: %w", from, tail, consensus.ErrUnwritten)
		}
		entries, err := log.Follow(ctx, from, chunk(from, end))
		out = encodeEntries(entries)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// Follow implements peerpbconnect.LogHandler. It holds one chunk in memory: the next one is read when HTTP/2 flow control has let the one before go.
func (s logService) Follow(ctx context.Context, req *connect.Request[peerpb.FollowRequest], stream *connect.ServerStream[peerpb.Entries]) error {
	return s.node.use(ctx, func(ctx context.Context, log Log) error {
		at, end := consensus.LSN(req.Msg.GetFrom()), consensus.LSN(req.Msg.GetEnd())
		if at == 0 || end != 0 && at > end {
			return fmt.Errorf("follow from lsn %d to %d: %w", at, end, consensus.ErrInvalid)
		}
		for end == 0 || at < end {
			entries, err := log.Follow(ctx, at, chunk(at, end))
			if err != nil {
				return err
			}
			if err := stream.Send(encodeEntries(entries)); err != nil {
				return err
			}
			at += consensus.LSN(len(entries))
		}
		return nil
	})
}

// chunk returns how many entries to ask for between two positions, of which the second may be 0: no end.
func chunk(from, end consensus.LSN) int {
	if end == 0 {
		return consensus.DefaultFollowLimit
	}
	return int(min(end-from, consensus.DefaultFollowLimit))
}

func encodeEntries(entries []consensus.Entry) *peerpb.Entries {
	size := 0
	for _, e := range entries {
		size += 57 + e.Record.Size()
	}
	buf := make([]byte, 0, size)
	out := &peerpb.Entries{Entries: make([][]byte, len(entries))}
	for i, e := range entries {
		start := len(buf)
		buf = consensus.AppendEntry(buf, e)
		out.Entries[i] = buf[start:len(buf):len(buf)]
	}
	return out
}

// decodeEntries is its inverse. What it returns is one dense run from a position on: at least one, and none at or past end unless end is 0. Their digests are
// for the caller to verify, who knows the one before.
func decodeEntries(in *peerpb.Entries, from, end consensus.LSN) ([]consensus.Entry, error) {
	if len(in.GetEntries()) == 0 {
		return nil, fmt.Errorf("%w: no entries", consensus.ErrInvalid)
	}
	entries := make([]consensus.Entry, len(in.GetEntries()))
	for i, b := range in.GetEntries() {
		e, err := consensus.DecodeEntry(b)
		if err != nil {
			return nil, err
		}
		if want := from + consensus.LSN(i); e.LSN != want || end != 0 && e.LSN >= end {
			return nil, fmt.Errorf("%w: entry %d in the place of %d, with end %d", consensus.ErrInvalid, e.LSN, want, end)
		}
		entries[i] = e
	}
	return entries, nil
}

// Tail implements peerpbconnect.LogHandler.
func (s logService) Tail(ctx context.Context, req *connect.Request[peerpb.TailRequest]) (*connect.Response[peerpb.TailResponse], error) {
	consistency := consensus.Fast
	if req.Msg.GetConsistent() {
		consistency = consensus.Consistent
	}
	var tail consensus.LSN
	err := s.node.use(ctx, func(ctx context.Context, log Log) (err error) {
		if consistency == consensus.Consistent {
			if err := orders(log); err != nil {
				return err
			}
		}
		tail, err = log.Tail(ctx, consistency)
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&peerpb.TailResponse{Lsn: uint64(tail)}), nil
}

// Status implements peerpbconnect.LogHandler.
func (s logService) Status(ctx context.Context, _ *connect.Request[peerpb.StatusRequest]) (*connect.Response[peerpb.StatusResponse], error) {
	var status consensus.Status
	err := s.node.use(ctx, func(_ context.Context, log Log) error {
		status = log.Status()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(encodeStatus(status)), nil
}

func encodeStatus(s consensus.Status) *peerpb.StatusResponse {
	out := &peerpb.StatusResponse{
		NetworkId: s.NetworkID[:], Epoch: uint64(s.Epoch), Base: uint64(s.Base), Engine: s.Engine,
		Tail: uint64(s.Tail), Trimmed: uint64(s.Trimmed), Role: s.Role, Problem: s.Problem, Based: s.Based, Notice: s.Notice,
		Loglet: &peerpb.LogletStatus{
			Engine: s.Loglet.Engine, Epoch: uint64(s.Loglet.Epoch), State: s.Loglet.State,
			Tail: uint64(s.Loglet.Tail), Sealed: s.Loglet.Sealed, Detail: s.Loglet.Detail,
		},
	}
	for _, identity := range s.Prepared {
		out.Prepared = append(out.Prepared, identity[:])
	}
	for member, lsn := range s.Dissent {
		if out.Dissent == nil {
			out.Dissent = make(map[uint64]uint64, len(s.Dissent))
		}
		out.Dissent[member] = uint64(lsn)
	}
	return out
}

func decodeStatus(in *peerpb.StatusResponse) (consensus.Status, error) {
	if len(in.GetNetworkId()) != len(consensus.NetworkID{}) {
		return consensus.Status{}, fmt.Errorf("%w: network id of %d bytes", consensus.ErrInvalid, len(in.GetNetworkId()))
	}
	l := in.GetLoglet()
	s := consensus.Status{
		NetworkID: consensus.NetworkID(in.GetNetworkId()), Epoch: consensus.Epoch(in.GetEpoch()), Base: consensus.LSN(in.GetBase()), Engine: in.GetEngine(),
		Tail: consensus.LSN(in.GetTail()), Trimmed: consensus.LSN(in.GetTrimmed()), Role: in.GetRole(), Problem: in.GetProblem(),
		Based: in.GetBased(), Notice: in.GetNotice(),
		Loglet: consensus.LogletStatus{
			Engine: l.GetEngine(), Epoch: consensus.Epoch(l.GetEpoch()), State: l.GetState(),
			Tail: consensus.Offset(l.GetTail()), Sealed: l.GetSealed(), Detail: l.GetDetail(),
		},
	}
	for _, identity := range in.GetPrepared() {
		if len(identity) != len(consensus.Digest{}) {
			return consensus.Status{}, fmt.Errorf("%w: epoch identity of %d bytes", consensus.ErrInvalid, len(identity))
		}
		s.Prepared = append(s.Prepared, consensus.Digest(identity))
	}
	for member, lsn := range in.GetDissent() {
		if s.Dissent == nil {
			s.Dissent = make(map[uint64]consensus.LSN, len(in.GetDissent()))
		}
		s.Dissent[member] = consensus.LSN(lsn)
	}
	return s, nil
}

// Segments implements peerpbconnect.LogHandler.
func (s logService) Segments(ctx context.Context, _ *connect.Request[peerpb.SegmentsRequest]) (*connect.Response[peerpb.SegmentsResponse], error) {
	out := &peerpb.SegmentsResponse{}
	err := s.node.use(ctx, func(_ context.Context, log Log) error {
		for _, seg := range log.Segments() {
			out.Segments = append(out.Segments, seg.Encode())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// SegmentEnd implements peerpbconnect.LogHandler.
func (s logService) SegmentEnd(ctx context.Context, req *connect.Request[peerpb.SegmentEndRequest]) (*connect.Response[peerpb.SegmentEndResponse], error) {
	out := &peerpb.SegmentEndResponse{}
	err := s.node.use(ctx, func(ctx context.Context, log Log) error {
		e, ok := log.(ender)
		if !ok {
			return fmt.Errorf("%w: this node does not tell the ends of segments", ErrNotServing)
		}
		end, ended, err := e.SegmentEnd(ctx, consensus.Epoch(req.Msg.GetEpoch()))
		if err == nil && ended {
			out.Ended, out.End = true, end.Encode()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// Attest implements peerpbconnect.LogHandler.
func (s logService) Attest(ctx context.Context, req *connect.Request[peerpb.AttestRequest]) (*connect.Response[peerpb.AttestResponse], error) {
	out := &peerpb.AttestResponse{}
	err := s.node.use(ctx, func(ctx context.Context, log Log) (err error) {
		a, ok := log.(attester)
		if !ok {
			return fmt.Errorf("%w: this node proves nothing", ErrNotServing)
		}
		out.Proof, err = a.Attest(ctx, consensus.LSN(req.Msg.GetLsn()))
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// Prepare implements peerpbconnect.LogHandler. Whoever reads may call it: what it takes are the administrators' signatures, which the log looks at.
func (s logService) Prepare(ctx context.Context, req *connect.Request[peerpb.PrepareRequest]) (*connect.Response[peerpb.PrepareResponse], error) {
	out := &peerpb.PrepareResponse{}
	err := s.node.use(ctx, func(ctx context.Context, log Log) error {
		l, ok := log.(preparer)
		if !ok {
			return fmt.Errorf("%w: this node takes part in no reconfiguration", ErrNotServing)
		}
		p, err := consensus.DecodePrepare(req.Msg.GetPrepare())
		if err != nil {
			return err
		}
		ready, err := l.Prepare(ctx, p)
		if err == nil {
			out.Ready = ready.Encode()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}
