package raft

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"
	"go.etcd.io/raft/v3/raftpb"

	"ledgerd/consensus"
)

// TestDriver plays dialogues with drivers: nothing is written, applied or delivered but by command.
//
//	start members=N keep=K [forwarded=BYTES]    N members, each with a driver that has made its first step; K is KeepEntries, BYTES MaxForwardedBytes
//	tick ID [n]                  n ticks of the clock
//	append ID SEQ [SEQ ...]      appends offered in one step
//	read ID                      a consistent tail
//	write ID | apply ID          performs what was asked for
//	fetch ID from=ID [upto=LSN]  performs the fetch from the other's store, as far as that or upto goes
//	deliver TO FROM | drop TO FROM    all frames on that way
//	run [without=ID]             everything, until nothing is left, but for that member; says the answers alone
//	restart ID                   from what is stored
//	tail ID
func TestDriver(t *testing.T) {
	reader := crand.Reader
	defer func() { crand.Reader = reader }()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		crand.Reader = late{}
		s := &stage{t: t}
		defer s.close()
		datadriven.RunTest(t, path, s.command)
	})
}

// late is what the raft library draws its election timeouts from in a dialogue: they are all long, so that a member comes forward only when the
// dialogue has it tick for long.
type late struct{}

func (late) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = 0x09 // below every power of two that a timeout may be drawn from, or it would be drawn again for ever
	}
	return len(b), nil
}

// answer is what run does say: how an append or a read has ended.
var answer = regexp.MustCompile(`^\d+ (append|read)`)

type stage struct {
	t      *testing.T
	opts   Options
	actors []*actor
	frames map[[2]uint64][][]byte // to, from
	out    strings.Builder
}

type actor struct {
	id      uint64
	store   *consensus.Store
	replica *consensus.Replica
	driver  *Driver
	write   *Write
	apply   *Apply
	fetch   *Fetch
}

func (s *stage) close() {
	for _, a := range s.actors {
		require.NoError(s.t, a.driver.Close())
		a.replica.Close()
		require.NoError(s.t, a.store.Close())
	}
}

func (s *stage) command(t *testing.T, d *datadriven.TestData) string {
	s.out.Reset()
	var ids []uint64
	for _, arg := range d.CmdArgs {
		if n, err := strconv.ParseUint(arg.Key, 10, 64); err == nil && len(arg.Vals) == 0 {
			ids = append(ids, n)
		}
	}
	at := func() *actor { return s.actors[ids[0]-1] }
	switch d.Cmd {
	case "start":
		var members, keep int
		d.ScanArgs(t, "members", &members)
		d.ScanArgs(t, "keep", &keep)
		d.MaybeScanArgs(t, "forwarded", &s.opts.MaxForwardedBytes)
		s.start(members, keep)
	case "tick":
		n := uint64(1)
		if len(ids) > 1 {
			n = ids[1]
		}
		s.step(at(), Inputs{Ticks: int(n)})
	case "append":
		var in Inputs
		for _, seq := range ids[1:] {
			in.Appends = append(in.Appends, s.append(at(), seq))
		}
		s.step(at(), in)
	case "read":
		id := ids[0]
		s.step(at(), Inputs{Reads: []*Read{{Done: func(err error) { s.say("%d read: %v", id, err) }}}})
	case "write":
		if at().write == nil {
			return "nothing\n"
		}
		s.write(at())
	case "apply":
		if at().apply == nil {
			return "nothing\n"
		}
		s.apply(at())
	case "fetch":
		if at().fetch == nil {
			return "nothing\n"
		}
		var from, upto uint64
		d.ScanArgs(t, "from", &from)
		d.MaybeScanArgs(t, "upto", &upto)
		s.fetch(at(), s.actors[from-1], consensus.LSN(upto))
	case "deliver":
		s.deliver(ids[0], ids[1])
	case "drop":
		s.say("%d frames", len(s.frames[[2]uint64{ids[0], ids[1]}]))
		delete(s.frames, [2]uint64{ids[0], ids[1]})
	case "run":
		var without uint64
		d.MaybeScanArgs(t, "without", &without)
		s.run(without)
		all := s.out.String()
		s.out.Reset()
		for line := range strings.Lines(all) {
			if answer.MatchString(line) {
				s.out.WriteString(line)
			}
		}
	case "restart":
		s.open(at())
		s.step(at(), Inputs{})
	case "tail":
		p := at().replica.Position()
		s.say("%d is at lsn %d, raft index %d, leader %d", ids[0], p.Next, p.Applied, at().driver.leader)
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	if s.out.Len() == 0 {
		return "ok\n"
	}
	return s.out.String()
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *stage) start(members, keep int) {
	s.frames = map[[2]uint64][][]byte{}
	s.opts.HeartbeatTicks, s.opts.ElectionTicks, s.opts.KeepEntries, s.opts.Fetcher = 1, 10, keep, nobody{}
	spec := consensus.Spec{Engine: Name}
	for i := range members {
		spec.Members = append(spec.Members, consensus.Member{ID: uint64(i) + 1})
	}
	for i := range members {
		store, err := consensus.OpenStore(context.Background(), consensus.StoreOptions{NetworkID: consensus.NetworkID{1}, Genesis: spec})
		require.NoError(s.t, err)
		require.NoError(s.t, store.Vouch(1))
		a := &actor{id: uint64(i) + 1, store: store}
		a.replica, err = store.Replica(1)
		require.NoError(s.t, err)
		s.actors = append(s.actors, a)
		s.open(a)
		s.step(a, Inputs{})
	}
}

// nobody is a Fetcher that is never called: the stage performs fetches.
type nobody struct{}

func (nobody) Fetch(context.Context, uint64, consensus.LSN, consensus.LSN) ([]consensus.Entry, error) {
	panic("called")
}

func (s *stage) open(a *actor) {
	opts := s.opts
	opts.Self = a.id
	var err error
	if a.driver != nil {
		require.NoError(s.t, a.driver.Close())
	}
	a.driver, err = NewDriver(a.store, a.replica, opts, 1)
	require.NoError(s.t, err)
	a.write, a.apply, a.fetch = nil, nil, nil
}

func (s *stage) append(a *actor, seq uint64) *Append {
	r := consensus.Record{App: "test", ID: consensus.RecordID{Session: a.id, Seq: seq}, Payload: fmt.Append(nil, seq)}
	return &Append{Record: r, Done: func(o consensus.Offset, err error) { s.say("%d append %d: %d, %v", a.id, seq, o, err) }}
}

// step says what a step asked for, and keeps it.
func (s *stage) step(a *actor, in Inputs) {
	in.Now = time.UnixMilli(1_700_000_000_000)
	act, err := a.driver.Step(in)
	require.NoError(s.t, err)
	if w := act.Write; w != nil {
		a.write = w
		s.say("%d write: %s", a.id, w.describe())
	}
	if p := act.Apply; p != nil {
		a.apply = p
		s.say("%d apply: %d to %d", a.id, p.entries[0].GetIndex(), p.batch.Applied)
	}
	if f := act.Fetch; f != nil {
		a.fetch = f
		s.say("%d fetch: before lsn %d, from %d", a.id, f.Next, f.Hint)
	}
	for _, f := range act.Send {
		way := [2]uint64{f.To, a.id}
		s.frames[way] = append(s.frames[way], f.Data)
		_, body, err := decodeHeader(f.Data)
		require.NoError(s.t, err)
		ms, err := decodeMessages(body)
		require.NoError(s.t, err)
		for _, m := range ms {
			s.say("%d to %d: %s", a.id, f.To, m.describe())
		}
	}
}

func (s *stage) write(a *actor) {
	w := a.write
	a.write = nil
	require.NoError(s.t, w.Persist())
	s.step(a, Inputs{Written: w})
}

func (s *stage) apply(a *actor) {
	p := a.apply
	a.apply = nil
	require.NoError(s.t, p.Perform(a.replica))
	s.step(a, Inputs{Applied: p})
}

func (s *stage) fetch(a, from *actor, upto consensus.LSN) {
	f := a.fetch
	a.fetch = nil
	f.Perform(context.Background(), a.replica, reader{from.replica, upto})
	if f.Err != nil {
		s.say("%d has fetched up to lsn %d", a.id, f.Position.Next-1)
	}
	s.step(a, Inputs{Fetched: f})
}

type reader struct {
	r    *consensus.Replica
	upto consensus.LSN // 0: all that there is
}

func (r reader) Fetch(ctx context.Context, _ uint64, from, end consensus.LSN) ([]consensus.Entry, error) {
	end = min(end, r.r.Position().Next)
	if r.upto != 0 {
		end = min(end, r.upto+1)
	}
	if from >= end {
		return nil, consensus.ErrUnwritten
	}
	return r.r.Read(ctx, consensus.Offset(from-1), consensus.Offset(end-1))
}

func (s *stage) deliver(to, from uint64) {
	way := [2]uint64{to, from}
	frames := s.frames[way]
	delete(s.frames, way)
	s.step(s.actors[to-1], Inputs{Frames: frames})
}

func (s *stage) run(without uint64) {
	for more := true; more; {
		more = false
		for _, a := range s.actors {
			if a.id == without {
				continue
			}
			if a.write != nil {
				s.write(a)
				more = true
			}
			if a.apply != nil {
				s.apply(a)
				more = true
			}
			for _, b := range s.actors {
				if way := [2]uint64{a.id, b.id}; len(s.frames[way]) > 0 && b.id != without {
					s.deliver(a.id, b.id)
					more = true
				}
			}
		}
	}
	for way := range s.frames {
		if slices.Contains(way[:], without) {
			delete(s.frames, way)
		}
	}
}

func (w *Write) describe() string {
	var parts []string
	if w.Sync {
		parts = append(parts, "sync")
	}
	parts = append(parts, fmt.Sprintf("term %d vote %d", w.hard.term, w.hard.vote))
	if w.cut != 0 {
		parts = append(parts, fmt.Sprintf("cut from %d", w.cut))
	}
	if len(w.entries) > 0 {
		parts = append(parts, "entries "+describeEntries(w.entries))
	}
	for _, r := range w.refs {
		parts = append(parts, fmt.Sprintf("%d is lsn %d", r.index, r.lsn))
	}
	if w.compacted != (mark{}) {
		parts = append(parts, fmt.Sprintf("compact to %d", w.compacted.index))
	}
	if w.pending != nil {
		parts = append(parts, fmt.Sprintf("install %d", w.pending.index))
	}
	if w.rebased != (mark{}) {
		parts = append(parts, fmt.Sprintf("begin anew behind %d", w.rebased.index))
	}
	if w.installed {
		parts = append(parts, "installed")
	}
	return strings.Join(parts, ", ")
}

func describeEntries(es []*raftpb.Entry) string {
	var parts []string
	for _, e := range es {
		what := "-"
		if len(e.GetData()) > 0 {
			item, err := decodeEnvelope(e.GetData())
			if err != nil {
				return err.Error()
			}
			what = fmt.Sprintf("%d.%d", item.Record.ID.Session, item.Record.ID.Seq)
		}
		parts = append(parts, fmt.Sprintf("%d/%d:%s", e.GetTerm(), e.GetIndex(), what))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func (m message) describe() string {
	switch m.kind {
	case kindAppend:
		return fmt.Sprintf("append %d.%d", m.record.ID.Session, m.record.ID.Seq)
	case kindRefuse:
		return fmt.Sprintf("refuse %v", m.key)
	}
	r := m.raft
	out := fmt.Sprintf("%v term %d", r.GetType(), r.GetTerm())
	switch r.GetType() {
	case raftpb.MsgApp:
		out += fmt.Sprintf(", after %d/%d, commit %d, entries %s", r.GetLogTerm(), r.GetIndex(), r.GetCommit(), describeEntries(r.GetEntries()))
	case raftpb.MsgPreVoteResp, raftpb.MsgVoteResp:
		out += fmt.Sprintf(", reject %v", r.GetReject())
	case raftpb.MsgAppResp:
		out += fmt.Sprintf(", index %d, reject %v", r.GetIndex(), r.GetReject())
	case raftpb.MsgSnap:
		out += fmt.Sprintf(", at %d/%d", r.GetSnapshot().GetMetadata().GetTerm(), r.GetSnapshot().GetMetadata().GetIndex())
	case raftpb.MsgReadIndexResp:
		out += fmt.Sprintf(", index %d", r.GetIndex())
	}
	return out
}
