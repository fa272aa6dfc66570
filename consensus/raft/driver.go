package raft

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"ledgerd/consensus"
)

// ErrOverloaded: too many reads of the tail wait already.
var ErrOverloaded = errors.New("overloaded")

// A Driver is the protocol as one node takes part in it: a state machine that is given inputs and returns what is to be done. It sees no clock, starts
// no goroutine and waits for nothing; the only I/O in it is reading raft entries that have left its cache. The same inputs give the same actions, but
// for the election timeouts, which the raft library draws from crypto/rand.Reader.
//
// One step:
//
//	take in what was written, applied and fetched            (and release the messages that waited for it)
//	take in frames, ticks, appends and reads
//	hand appends over: propose them if leading, else forward them to the leader
//	collect what raft wants: writes, items to apply, messages
//	answer
//
// There is at most one Write, one Apply and one Fetch under way at a time, and the Driver must be given each back before it asks for the next. What comes
// up meanwhile gathers, and goes into the next one together.
//
// Not safe for concurrent use, nor are its actions to be changed. A storage or a peer's state that contradicts what it has promised makes Step panic
// with a raftPanic, in the words of the raft library.
type Driver struct {
	opts   Options
	seg    consensus.Segment
	self   uint64
	voters []uint64
	logger *slog.Logger
	log    *storage
	rn     *raft.RawNode
	judge  func(consensus.Record) (consensus.Offset, error) // of a record offered to the sealed segment

	started bool
	now     time.Time
	appLag  uint64
	tick    uint64 // since the start
	leader  uint64 // 0: unknown
	term    uint64
	role    raft.StateType
	commit  uint64

	elections     uint64 // in which this node has stood
	leaderChanges uint64
	lastLeader    uint64 // who led last; 0: nobody yet

	sealed uint64 // applied index at which the segment was known to be sealed here; 0: it is not

	// Own appends, in the order in which they came, up to their answer. Those before cursor have been handed over, or are done.
	own       []*Append
	cursor    int
	byKey     map[consensus.RecordKey][]*Append
	handed    int    // bytes of records that were handed to another leader and not answered
	unsure    uint64 // tick of the last look at appends that are overdue
	forwarded []consensus.Record
	forwBytes int
	proposed  map[consensus.RecordKey]struct{} // by this leader in this term, not yet applied
	baseTerm  uint64                           // in which this leader proposed the Base; 0: in none
	diverged  error                            // a quorum of the members has begun from another log than this node's

	writes   []*raftpb.Message // MsgStorageAppend, to go into the next Write
	writing  *Write
	applies  []*raftpb.Message // MsgStorageApply
	applying *Apply
	refs     []ref

	reads     []*Read // waiting for a round to begin
	round     *round
	confirmed []*round // waiting for their index to be applied
	roundSeq  uint64
	nonce     uint64

	install   *incoming // what is being fetched; applying waits for it
	rebase    *rebase   // raft's log is to begin anew; raft stands still until it does
	refused   int       // campaigns in a row, not held because this node lags
	wrong     uint64
	offSince  uint64 // tick since which the clock is off; 0: it is not
	transfers uint64 // tick of the last attempt to hand over the lead

	peers map[uint64]*peer
	out   []outgoing
	act   Actions
}

// peer is what is known of another member.
type peer struct {
	heard   uint64 // tick of the last frame; 0: none yet
	offset  time.Duration
	applied uint64
	lag     uint64
	snap    uint64 // tick at which it was last sent a snapshot; 0: it needs none
	snapAt  uint64 // raft index of that
	strange bool   // it begins the segment from another log than this node's
}

type outgoing struct {
	to uint64
	m  message
}

// An Append is a record on its way. Record and Done are the caller's to set.
type Append struct {
	Record consensus.Record
	Done   func(consensus.Offset, error) // called once, at the latest when the driver has noticed a withdrawal; it must not block

	key     consensus.RecordKey
	state   atomic.Int32
	done    bool   // answered or dropped
	handed  bool   // to raft or to the leader, in this term
	counted bool   // in Driver.handed
	at      uint64 // tick of that
	after   uint64 // not to be handed over before this tick
}

// States of an append. Only one that waits can be withdrawn for sure.
const (
	waiting = iota
	taken
	withdrawn // surely not in
	left      // the caller does not wait any more
)

// Withdraw gives the append up, and reports whether it is surely not in: it was not handed over. It may be called beside Step.
func (a *Append) Withdraw() bool {
	if a.state.CompareAndSwap(waiting, withdrawn) {
		return true
	}
	a.state.CompareAndSwap(taken, left)
	return false
}

func (a *Append) take() bool {
	return a.state.CompareAndSwap(waiting, taken) || a.state.Load() == taken
}

// A Read asks for a tail that is not below any acknowledged append. Done is called once, when the replica has got there.
type Read struct {
	Done func(error)
	Gone func() bool // reports that nobody waits any more; nil: somebody does
}

type round struct {
	ctx   string
	index uint64
	begun uint64
	reads []*Read
}

// incoming is a snapshot on its way in. Raft does not know of it until its entries are here: it votes, and takes in what leaders send, by the log that it has.
// Only applying waits, from the moment on in which the entries that are fetched could come first.
type incoming struct {
	pendingSnapshot
	from     uint64          // who sent it
	message  *raftpb.Message // to be looked at again afterwards; nil after a restart
	stored   bool            // it is on the disk that this is under way
	fetch    bool            // a Fetch is under way
	fetched  bool
	unserved error  // why the last Fetch brought nothing; nil: it brought something, or there was none
	after    uint64 // no Fetch before this tick
}

// A rebase is a place from which raft's log begins anew: all that stands for is in the log.
type rebase struct {
	mark
	message *raftpb.Message // the snapshot that says so, for raft to look at afterwards; nil after a restart
	last    bool            // nothing is to be fetched any more
}

// Inputs of a step. All of it may be empty.
type Inputs struct {
	Now     time.Time
	Ticks   int
	Lag     uint64 // by how many entries the application is behind the log's tail on this node
	Frames  [][]byte
	Appends []*Append
	Reads   []*Read
	Written *Write // what the last Actions.Write asked for is stored
	Applied *Apply // what the last Actions.Apply asked for is done
	Fetched *Fetch // what the last Actions.Fetch asked for has ended
}

// Actions are what a step asks for.
type Actions struct {
	Write *Write
	Apply *Apply
	Fetch *Fetch
	Send  []Frame
}

// A Frame is for Peers.Send.
type Frame struct {
	To   uint64
	Data []byte
}

// An Apply is a batch of committed items for the replica. Perform it, then give it back in Inputs.Applied.
type Apply struct {
	batch     consensus.Batch
	entries   []*raftpb.Entry
	responses []*raftpb.Message
	verdicts  []consensus.Verdict
	position  consensus.Position
}

// Perform applies the batch. It may run beside Driver.Step.
func (a *Apply) Perform(r *consensus.Replica) error {
	var err error
	if a.verdicts, err = r.Apply(a.batch); err == nil {
		a.position = r.Position()
	}
	return err
}

// A Fetch asks for the entries up to a place, to be verified and applied. Perform it, then give it back in Inputs.Fetched; or set Err without.
type Fetch struct {
	Hint     uint64
	Next     consensus.LSN // the first LSN not wanted
	Digest   consensus.Digest
	Index    uint64 // raft's, to apply the last of it under
	Position consensus.Position
	Err      error
}

// Perform brings the entries and applies them. It may run beside Driver.Step. What became of it is in Position and Err; what was applied before an error
// stays applied.
func (f *Fetch) Perform(ctx context.Context, r *consensus.Replica, from Fetcher) {
	f.Position, f.Err = install(ctx, r, from, f)
}

// NewDriver returns the driver of a member of the replica's segment, which goes on where its store stands. consensus.ErrNotMember if that does not hold the
// segment's identity and is not vouched for. nonce must differ from that of any earlier driver of this member.
func NewDriver(store *consensus.Store, replica *consensus.Replica, opts Options, nonce uint64) (*Driver, error) {
	opts.EnsureDefaults()
	log, err := openStorage(store, replica, opts.Self, opts.CacheBytes)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		opts: opts, seg: replica.Segment(), self: opts.Self, voters: log.members, logger: log.logger, log: log, judge: replica.AnswerSealed,
		byKey: map[consensus.RecordKey][]*Append{}, proposed: map[consensus.RecordKey]struct{}{}, nonce: nonce, peers: map[uint64]*peer{},
	}
	for _, id := range log.members {
		if id != d.self {
			d.peers[id] = &peer{}
		}
	}
	if log.position.Sealed {
		d.sealed = max(1, log.position.Applied)
	}
	if p := log.pending; p != nil {
		d.install = &incoming{pendingSnapshot: *p, stored: true, fetched: log.position.Applied >= p.index}
	}
	if err := d.restart(); err != nil {
		return nil, errors.Join(err, log.close())
	}
	return d, nil
}

// restart makes a raft node of what is stored.
func (d *Driver) restart() error {
	config := &raft.Config{
		ID:                        d.self,
		ElectionTick:              d.opts.ElectionTicks,
		HeartbeatTick:             d.opts.HeartbeatTicks,
		Storage:                   d.log,
		AsyncStorageWrites:        true,
		MaxSizePerMsg:             uint64(d.opts.MaxMessageBytes),
		MaxCommittedSizePerReady:  uint64(d.opts.MaxBatchBytes),
		MaxUncommittedEntriesSize: uint64(d.opts.MaxUncommittedBytes),
		MaxInflightMsgs:           d.opts.MaxInflight,
		CheckQuorum:               true,
		PreVote:                   true,
		ReadOnlyOption:            raft.ReadOnlySafe,
		Logger:                    raftLogger{d.logger.With("segment", d.seg.Epoch, "member", d.self)},
		DisableProposalForwarding: true,
	}
	config.Applied = max(d.log.compacted.index, min(d.log.position.Applied, d.log.last)) // it lies past the end if the log is to begin anew
	rn, err := raft.NewRawNode(config)
	if err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	d.rn, d.writes, d.applies = rn, nil, nil
	if d.round != nil {
		d.reads, d.round = append(d.round.reads, d.reads...), nil
	}
	d.observe()
	return nil
}

// Step takes in what has happened and returns what is to be done. An error means that this node cannot go on.
func (d *Driver) Step(in Inputs) (Actions, error) {
	d.act, d.now, d.appLag = Actions{}, in.Now, in.Lag
	if err := d.completed(in); err != nil {
		return d.act, err
	}
	for _, f := range in.Frames {
		if err := d.frame(f); err != nil {
			if d.wrong++; d.wrong&(d.wrong-1) == 0 { // 1, 2, 4, ...
				d.logger.Warn("frame refused", "segment", d.seg.Epoch, "count", d.wrong, "err", err)
			}
		}
	}
	if !d.started {
		d.started = true
		d.begin()
	}
	if d.diverged != nil {
		return d.act, d.diverged
	}
	for range in.Ticks {
		d.ticked()
	}
	for _, a := range in.Appends {
		d.own = append(d.own, a)
		a.key = a.Record.Key()
		d.byKey[a.key] = append(d.byKey[a.key], a)
	}
	d.queueReads(in.Reads)
	for {
		d.hand()
		d.beginRound()
		more, err := d.collect()
		if err != nil {
			return d.act, err
		}
		if !more && !d.startWrite(in.Ticks > 0) {
			break
		}
	}
	d.startApply()
	d.startFetch()
	d.answerReads()
	d.send(in.Ticks > 0)
	return d.act, nil
}

// completed takes in what was done outside.
func (d *Driver) completed(in Inputs) error {
	if w := in.Written; w != nil {
		d.writing = nil
		d.log.written(w)
		if i := d.install; i != nil && w.pending == &i.pendingSnapshot {
			i.stored = true
		}
		if w.rebased != (mark{}) {
			if err := d.rebased(); err != nil {
				return err
			}
		} else if w.installed {
			d.installed()
		}
		d.respond(w.responses)
	}
	if a := in.Applied; a != nil {
		d.applied(a)
	}
	if f := in.Fetched; f != nil {
		d.fetched(f)
	}
	return nil
}

// respond delivers messages that waited for the disk. When raft's log is about to begin anew they are dropped, as a network might.
func (d *Driver) respond(ms []*raftpb.Message) {
	if d.rebase != nil {
		return
	}
	for _, m := range ms {
		if m.GetTo() == d.self {
			d.step(m)
		} else {
			d.post(m)
		}
	}
}

// step gives raft a message. Its errors say that it had no use for it.
func (d *Driver) step(m *raftpb.Message) {
	if d.rebase != nil {
		return
	}
	_ = d.rn.Step(m)
	d.observe()
}

// observe notes what raft has come to, and begins anew with the appends when another term or leader has.
func (d *Driver) observe() {
	st := d.rn.BasicStatus()
	leader, term := st.Lead, st.HardState.GetTerm()
	if st.RaftState == raft.StateCandidate && (d.role != raft.StateCandidate || term != d.term) {
		d.elections++
	}
	d.commit, d.role = st.HardState.GetCommit(), st.RaftState
	if leader != 0 && leader != d.lastLeader {
		d.lastLeader = leader
		d.leaderChanges++
	}
	if leader == d.leader && term == d.term {
		return
	}
	if leader != d.leader {
		d.logger.Info("raft leader", "segment", d.seg.Epoch, "member", d.self, "leader", leader, "term", term)
	}
	d.leader, d.term = leader, term
	if leader != 0 {
		d.refused = 0
	}
	clear(d.proposed)
	d.forwarded, d.forwBytes = nil, 0 // their senders see the change too, or ask again
	for _, p := range d.peers {
		p.snap = 0
	}
	d.sweep()
	for _, a := range d.own {
		a.handed, a.after = false, 0
		d.uncount(a)
	}
	d.cursor = 0
}

// frame takes in what a peer sent.
func (d *Driver) frame(b []byte) error {
	h, body, err := decodeHeader(b)
	if err != nil {
		return err
	}
	p := d.peers[h.from]
	switch {
	case h.identity != d.seg.Identity:
		return fmt.Errorf("%w: frame of epoch identity %v, this is %v", consensus.ErrInvalid, h.identity, d.seg.Identity)
	case p == nil || h.to != d.self:
		return fmt.Errorf("%w: frame from %d to %d at member %d", consensus.ErrInvalid, h.from, h.to, d.self)
	}
	ms, err := decodeMessages(body)
	if err != nil {
		return fmt.Errorf("frame from %d: %w", h.from, err)
	}
	p.heard = d.tick + 1
	p.offset = time.UnixMilli(int64(h.unixMilli)).Sub(d.now)
	p.applied, p.lag = max(p.applied, h.applied), h.lag
	if p.snap != 0 && p.applied >= p.snapAt { // from there on the log can bring it on
		p.snap = 0
		d.rn.ReportSnapshot(h.from, raft.SnapshotFinish)
	}
	for _, m := range ms {
		if err := d.message(h.from, m); err != nil {
			return fmt.Errorf("frame from %d: %w", h.from, err)
		}
	}
	return nil
}

func (d *Driver) message(from uint64, m message) error {
	switch m.kind {
	case kindAppend:
		if d.leader != d.self || d.forwBytes+m.record.Size() > d.opts.MaxForwardedBytes {
			d.out = append(d.out, outgoing{from, message{kind: kindRefuse, key: m.record.Key()}})
			return nil
		}
		d.forwarded = append(d.forwarded, m.record)
		d.forwBytes += m.record.Size()
	case kindRefuse:
		for _, a := range d.byKey[m.key] {
			if a.handed {
				a.handed, a.after = false, d.tick+uint64(d.opts.HeartbeatTicks)
				d.uncount(a)
				d.cursor = 0
			}
		}
	case kindRaft:
		if m.raft.GetFrom() != from || m.raft.GetTo() != d.self {
			return fmt.Errorf("%w: raft message from %d to %d", consensus.ErrInvalid, m.raft.GetFrom(), m.raft.GetTo())
		}
		switch {
		case !d.heeds(d.peers[from], m.raft):
		case m.raft.GetType() == raftpb.MsgSnap:
			return d.snapshot(from, m.raft)
		case m.raft.GetType() == raftpb.MsgTimeoutNow && d.install != nil: // it could order nothing
		default:
			d.step(m.raft)
		}
	}
	return nil
}

// heeds decides whether a message is one to go by. A leader that begins the segment from another log than this node's is not followed, nor elected: who of
// the two has gone astray is for a quorum to say. So such a leader gets its Base committed only where a quorum has the same log as it; and once it has,
// those who have not know that they must not go on. Until then they answer it, so that it goes on telling them how far it is, and promise nothing.
func (d *Driver) heeds(p *peer, m *raftpb.Message) bool {
	var answer *raftpb.Message
	switch m.GetType() {
	case raftpb.MsgApp:
		if !d.compare(p, m) && p.strange { // what comes after the Base; it is to come again with it
			answer = &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), Index: new(m.GetIndex()), Reject: new(true)}
		}
	case raftpb.MsgHeartbeat:
		answer = &raftpb.Message{Type: raftpb.MsgHeartbeatResp.Enum()}
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp, raftpb.MsgVoteResp, raftpb.MsgPreVoteResp:
		return true
	default:
	}
	if p.strange && answer != nil && m.GetTerm() >= d.term {
		answer.From, answer.To, answer.Term = new(d.self), new(m.GetFrom()), new(m.GetTerm())
		d.post(answer)
	}
	return !p.strange
}

// compare looks at the Base in what a leader sends, as long as this node has not applied one. It reports whether there is one, of another log.
func (d *Driver) compare(p *peer, m *raftpb.Message) (another bool) {
	if d.log.position.Based {
		return false
	}
	for _, e := range m.GetEntries() {
		if len(e.GetData()) == 0 {
			continue
		}
		item, err := decodeEnvelope(e.GetData())
		if err != nil || !consensus.IsBase(item.Record) {
			continue
		}
		if err = consensus.ValidBase(d.seg, item.Record); !errors.Is(err, consensus.ErrDiverged) {
			continue
		}
		if !p.strange {
			d.logger.Error("a leader begins from another log; it is not followed", "segment", d.seg.Epoch, "from", m.GetFrom(), "err", err)
		}
		if p.strange, another = true, true; m.GetCommit() >= e.GetIndex() {
			d.diverged = fmt.Errorf("committed by member %d: %w", m.GetFrom(), err)
		}
	}
	return another
}

// ticked is one tick of the clock.
func (d *Driver) ticked() {
	d.tick++
	if d.rebase == nil {
		d.begin()
		d.rn.Tick()
		d.observe()
	}
	d.fitness()
	if d.tick-d.unsure >= uint64(d.opts.ElectionTicks) {
		d.unsure = d.tick
		d.overdue()
	}
	if r := d.round; r != nil && d.tick-r.begun >= uint64(d.opts.ElectionTicks) { // lost on the way
		d.round = nil
		d.reads = append(r.reads, d.reads...)
	}
	for _, id := range d.voters { // not over the map, whose order would be another input
		p := d.peers[id]
		if p != nil && p.snap != 0 && d.tick-p.snap >= 4*uint64(d.opts.ElectionTicks) {
			p.snap = 0
			d.rn.ReportSnapshot(id, raft.SnapshotFailure) // it may be; raft looks again how far the member is
		}
	}
}

// begin campaigns without waiting for an election timeout where there is nobody to wait for: a single member, and in a segment in which nobody has voted
// yet, the first of the spec, again with every tick until the others are up; and the others in their turn, should those before them not have come up.
func (d *Driver) begin() {
	alone := len(d.voters) == 1 && d.role == raft.StateFollower
	first := d.term == 0 && d.leader == 0 && d.tick >= d.turn() && d.tick <= uint64(d.opts.ElectionTicks)
	if (alone || first) && d.install == nil {
		_ = d.rn.Campaign()
		d.observe()
	}
}

// turn returns the tick from which on this member campaigns in a segment in which nobody has voted.
func (d *Driver) turn() uint64 {
	rank := slices.IndexFunc(d.seg.Spec.Members, func(m consensus.Member) bool { return m.ID == d.self })
	return uint64(rank) * uint64(d.opts.HeartbeatTicks+1)
}

// overdue hands over again what has had no answer for long, since the message or the leader's memory may be lost, and forgets what nobody waits for.
func (d *Driver) overdue() {
	d.sweep()
	for i, a := range d.own {
		if a.handed && d.tick-a.at >= uint64(d.opts.ElectionTicks) {
			a.handed = false
			d.uncount(a)
			d.cursor = min(d.cursor, i)
		}
	}
	d.reads = slices.DeleteFunc(d.reads, func(r *Read) bool { return r.Gone != nil && r.Gone() })
}

func (d *Driver) uncount(a *Append) {
	if a.counted {
		a.counted = false
		d.handed -= a.Record.Size()
	}
}

// sweep drops the appends that are done or given up.
func (d *Driver) sweep() {
	kept := d.own[:0]
	for _, a := range d.own {
		if s := a.state.Load(); !a.done && (s == withdrawn || s == left) {
			d.finish(a, 0, consensus.ErrUnknownFate) // nobody listens
		}
		if !a.done {
			kept = append(kept, a)
		}
	}
	clear(d.own[len(kept):])
	d.own, d.cursor = kept, 0
}

// finish answers an append.
func (d *Driver) finish(a *Append, o consensus.Offset, err error) {
	if a.done {
		return
	}
	a.done = true
	d.uncount(a)
	if same := slices.DeleteFunc(d.byKey[a.key], func(b *Append) bool { return a == b }); len(same) > 0 {
		d.byKey[a.key] = same
	} else {
		delete(d.byKey, a.key)
	}
	a.Done(o, err)
}

// hand gives appends to whoever orders them.
func (d *Driver) hand() {
	if d.cursor == len(d.own) && len(d.forwarded) == 0 && !d.owesBase() || d.install != nil {
		return
	}
	switch {
	case d.sealed != 0:
		d.answerSealed()
	case d.leader == d.self && d.role == raft.StateLeader:
		d.propose()
	case d.leader != 0:
		d.forward()
	}
}

// answerSealed answers everything that waits when the Seal has been applied: what was ordered before it has been answered already.
func (d *Driver) answerSealed() {
	for _, a := range d.own {
		if !a.done && a.take() {
			o, err := d.judge(a.Record)
			d.finish(a, o, err)
		}
	}
	d.sweep()
	d.forwarded, d.forwBytes = nil, 0
}

// owesBase reports whether this node leads a segment whose members have not ordered its Base, and has not proposed it in this term. It goes before
// everything else, so that it is the first item of the segment whoever comes to lead.
func (d *Driver) owesBase() bool {
	return d.leader == d.self && !d.log.position.Based && d.baseTerm != d.term
}

// propose puts as many records into raft's log as one write takes. While a write is under way it waits, so that the next one is large.
func (d *Driver) propose() {
	if d.writing != nil || len(d.writes) > 0 || d.off() {
		return
	}
	now := uint64(max(0, d.now.UnixMilli()))
	var batch []*raftpb.Entry
	size, total := 0, 0
	flush := func() bool {
		if len(batch) == 0 {
			return true
		}
		err := d.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(d.self), Entries: batch})
		batch, size = nil, 0
		return err == nil
	}
	add := func(r consensus.Record) bool {
		key := r.Key()
		if _, ok := d.proposed[key]; ok {
			return true
		}
		data := appendEnvelope(make([]byte, 0, envelopeHeaderBytes+r.Size()), now, r)
		if size > 0 && size+len(data) > d.opts.MaxMessageBytes && !flush() {
			return false
		}
		batch = append(batch, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Data: data})
		d.proposed[key] = struct{}{}
		size += len(data)
		total += len(data)
		return true
	}
	full := func() bool { return total >= d.opts.MaxBatchBytes }
	if d.owesBase() {
		d.baseTerm = d.term
		add(consensus.BaseRecord(d.seg))
	}
	half := func() bool { return d.cursor < len(d.own) && total >= d.opts.MaxBatchBytes/2 } // the rest is for the own
	n := 0
	for ok := true; ok && n < len(d.forwarded) && !full() && !half(); n++ {
		d.forwBytes -= d.forwarded[n].Size()
		ok = add(d.forwarded[n])
	}
	d.forwarded = d.forwarded[n:]
	if len(d.forwarded) == 0 {
		d.forwarded = nil
	}
	for d.cursor < len(d.own) && !full() {
		a := d.own[d.cursor]
		d.cursor++
		if a.done || a.handed || !a.take() {
			continue
		}
		a.handed, a.at = true, d.tick
		if !add(a.Record) {
			break
		}
	}
	if !flush() {
		// Raft's log is full of what is not committed, or the lead is being handed over. What was not taken comes again, the own appends by overdue,
		// those of others by their senders; a copy of what was taken is harmless.
		clear(d.proposed)
	}
	d.observe()
}

// forward sends the own appends to the leader, as many as may be on their way.
func (d *Driver) forward() {
	first := -1
	for i := d.cursor; i < len(d.own); i++ {
		a := d.own[i]
		if a.done || a.handed {
			continue
		}
		if a.after > d.tick || d.handed > d.opts.MaxForwardedBytes/2 {
			if first < 0 {
				first = i
			}
			if a.after > d.tick {
				continue
			}
			break
		}
		if !a.take() {
			continue
		}
		a.handed, a.at, a.counted = true, d.tick, true
		d.handed += a.Record.Size()
		d.out = append(d.out, outgoing{d.leader, message{kind: kindAppend, record: a.Record}})
	}
	if d.cursor = len(d.own); first >= 0 {
		d.cursor = first
	}
}

// collect takes what raft has ready. It reports whether there was anything.
func (d *Driver) collect() (bool, error) {
	if d.rebase != nil || !d.rn.HasReady() {
		return false, nil
	}
	rd := d.rn.Ready()
	for _, rs := range rd.ReadStates {
		d.confirm(rs)
	}
	asks := func(m *raftpb.Message) bool { return m.GetType() == raftpb.MsgPreVote }
	unfit := slices.ContainsFunc(rd.Messages, asks) && !d.fit()
	for _, m := range rd.Messages {
		switch {
		case unfit && asks(m): // stays what it is, and votes for whoever does ask
		case m.GetType() == raftpb.MsgStorageAppend:
			if m.Snapshot != nil && !raft.IsEmptySnap(m.Snapshot) {
				return false, fmt.Errorf("%w: raft wants to restore a snapshot by itself", consensus.ErrCorrupt) // snapshot keeps this from happening
			}
			d.writes = append(d.writes, m)
		case m.GetType() == raftpb.MsgStorageApply:
			d.applies = append(d.applies, m)
		default:
			d.post(m)
		}
	}
	d.observe()
	return true, nil
}

// post sends a raft message.
func (d *Driver) post(m *raftpb.Message) {
	if p := d.peers[m.GetTo()]; p != nil && m.GetType() == raftpb.MsgSnap {
		p.snap, p.snapAt = d.tick+1, m.GetSnapshot().GetMetadata().GetIndex()
	}
	d.out = append(d.out, outgoing{m.GetTo(), message{kind: kindRaft, raft: m}})
}

// startWrite asks for the next write, if none is under way. A commit index alone is not worth one: whatever waited for it is released at once, and
// startWrite reports that raft may have more.
func (d *Driver) startWrite(idle bool) bool {
	if d.writing != nil || d.act.Write != nil {
		return false
	}
	if d.settle(); d.rebase != nil {
		d.rebaseWrite(d.rebase)
		return false
	}
	w := d.log.newWrite()
	for _, m := range d.writes {
		w.merge(m)
	}
	more := len(d.writes) > 0
	d.writes = nil
	if i := d.install; i != nil && d.applying == nil {
		if !i.stored {
			w.pending = &i.pendingSnapshot
		}
		w.installed = i.fetched
	}
	w.Sync = len(w.entries) > 0 || w.hard.term != d.log.hard.term || w.hard.vote != d.log.hard.vote || w.pending != nil || w.installed
	if !w.Sync && more {
		d.log.hard = w.hard
		d.respond(w.responses)
		return true
	}
	if !w.Sync && !(idle && d.applying == nil && len(d.refs) > 0) {
		return false
	}
	if len(w.entries) > 0 && w.entries[0].GetIndex() <= d.log.last {
		w.cut = w.entries[0].GetIndex()
	}
	d.housekeeping(w)
	d.writing, d.act.Write = w, w
	return false
}

// merge adds a MsgStorageAppend. Later entries replace earlier ones.
func (w *Write) merge(m *raftpb.Message) {
	if m.Term != nil {
		w.hard = hardState{m.GetTerm(), m.GetVote(), m.GetCommit()}
	}
	if es := m.GetEntries(); len(es) > 0 {
		if n := len(w.entries); n > 0 && es[0].GetIndex() <= w.entries[n-1].GetIndex() {
			first := w.entries[0].GetIndex()
			if es[0].GetIndex() <= first {
				w.entries = nil
			} else {
				w.entries = w.entries[:es[0].GetIndex()-first]
			}
		}
		w.entries = append(w.entries, es...)
	}
	w.responses = append(w.responses, m.GetResponses()...)
}

// housekeeping lets references and compaction ride along with a write.
func (d *Driver) housekeeping(w *Write) {
	keep := uint64(d.opts.KeepEntries)
	applied := d.log.position.Applied
	if applied > keep && applied-keep-d.log.compacted.index >= max(1, keep/4) {
		at := applied - keep
		if term, err := d.log.Term(at); err == nil {
			w.compacted = mark{at, term}
		}
	}
	compacted := max(d.log.compacted.index, w.compacted.index)
	for _, r := range d.refs {
		if r.index > compacted {
			w.refs = append(w.refs, r)
		}
	}
	d.refs = nil
}

// Flush returns the write that ends the driver: what would have ridden along with the next one. Nothing may be under way, and Step is not called any
// more. nil: there is nothing to write.
func (d *Driver) Flush() *Write {
	if len(d.refs) == 0 || d.rebase != nil {
		return nil
	}
	w := d.log.newWrite()
	d.housekeeping(w)
	return w
}

// Close lets go of what the driver holds. Nothing may be under way, and Step is not called any more.
func (d *Driver) Close() error { return d.log.close() }

// startApply asks for the next batch to be applied, if none is.
func (d *Driver) startApply() {
	if d.applying != nil || len(d.applies) == 0 || d.install != nil {
		return
	}
	a := &Apply{}
	for _, m := range d.applies {
		a.entries = append(a.entries, m.GetEntries()...)
		a.responses = append(a.responses, m.GetResponses()...)
	}
	d.applies = nil
	a.entries = slices.DeleteFunc(a.entries, func(e *raftpb.Entry) bool { return e.GetIndex() <= d.log.position.Applied }) // they were fetched
	if len(a.entries) == 0 {
		d.respond(a.responses)
		return
	}
	for _, e := range a.entries {
		if len(e.GetData()) == 0 {
			continue
		}
		item, err := decodeEnvelope(e.GetData())
		if err != nil { // frame and propose let nothing else in, and the disk has its checksums
			panic(raftPanic(fmt.Sprintf("committed entry %d: %v", e.GetIndex(), err)))
		}
		a.batch.Items = append(a.batch.Items, item)
	}
	a.batch.Applied = a.entries[len(a.entries)-1].GetIndex()
	d.applying, d.act.Apply = a, a
}

// applied answers the own appends of a batch, and makes references of its entries.
func (d *Driver) applied(a *Apply) {
	d.applying = nil
	d.log.position = a.position
	i := 0
	for _, e := range a.entries {
		if len(e.GetData()) == 0 {
			continue
		}
		v, key := a.verdicts[i], a.batch.Items[i].Record.Key()
		i++
		delete(d.proposed, key)
		if v.Kind == consensus.Data {
			d.refs = append(d.refs, ref{e.GetIndex(), e.GetTerm(), v.LSN})
		}
		for _, own := range slices.Clone(d.byKey[key]) {
			if own.take() {
				o, err := d.seg.Answer(v)
				d.finish(own, o, err)
			}
		}
	}
	if a.position.Sealed && d.sealed == 0 {
		d.sealed = a.position.Applied
		d.logger.Info("raft segment sealed", "segment", d.seg.Epoch, "lsn", a.position.Next-1)
		d.answerSealed()
	}
	d.respond(a.responses)
	if len(d.own) > 64 && d.cursor > len(d.own)/2 {
		d.trimOwn()
	}
}

// trimOwn forgets the answered appends at the front.
func (d *Driver) trimOwn() {
	n := 0
	for n < d.cursor && d.own[n].done {
		n++
	}
	rest := copy(d.own, d.own[n:])
	clear(d.own[rest:])
	d.own, d.cursor = d.own[:rest], d.cursor-n
}

// queueReads takes in reads of the tail. Those that come while a round is under way wait for the next: it may have begun too early for them.
func (d *Driver) queueReads(reads []*Read) {
	for _, r := range reads {
		switch {
		case d.sealed != 0:
			r.Done(nil) // the tail does not move any more
		case len(d.reads) >= d.opts.MaxReads:
			r.Done(ErrOverloaded)
		default:
			d.reads = append(d.reads, r)
		}
	}
}

// beginRound asks the leader, and it its quorum, how far the log is committed (Raft thesis §6.4).
func (d *Driver) beginRound() {
	if d.round != nil || len(d.reads) == 0 || d.leader == 0 || d.install != nil {
		return
	}
	if len(d.voters) == 1 {
		// Raft answers for a single member at once, even before that has committed anything in its term: then it may have forgotten how far it was.
		if term, err := d.log.Term(d.commit); err != nil || term != d.term {
			return
		}
	}
	d.roundSeq++
	ctx := binary.BigEndian.AppendUint64(nil, d.self)
	ctx = binary.BigEndian.AppendUint64(ctx, d.nonce)
	ctx = binary.BigEndian.AppendUint64(ctx, d.roundSeq)
	d.round = &round{ctx: string(ctx), begun: d.tick, reads: d.reads}
	d.reads = nil
	d.rn.ReadIndex(ctx)
}

func (d *Driver) confirm(rs raft.ReadState) {
	if r := d.round; r != nil && r.ctx == string(rs.RequestCtx) {
		r.index = rs.Index
		d.confirmed = append(d.confirmed, r)
		d.round = nil
	}
}

// answerReads answers the reads whose index is applied. After the Seal all are: nothing that is acknowledged comes behind it.
func (d *Driver) answerReads() {
	done := func(r *round) bool {
		if d.sealed == 0 && r.index > d.log.position.Applied {
			return false
		}
		for _, read := range r.reads {
			read.Done(nil)
		}
		return true
	}
	d.confirmed = slices.DeleteFunc(d.confirmed, done)
	if d.sealed != 0 {
		for _, r := range d.reads {
			r.Done(nil)
		}
		if d.reads = nil; d.round != nil {
			done(d.round)
			d.round = nil
		}
	}
}

// snapshot decides about a snapshot: whether it is one of this segment, whether it is needed, and whether raft need only be told of its index.
func (d *Driver) snapshot(from uint64, m *raftpb.Message) error {
	meta := m.GetSnapshot().GetMetadata()
	at, err := decodePlace(m.GetSnapshot().GetData())
	if err != nil {
		return err
	}
	conf := meta.GetConfState()
	voters := slices.Sorted(slices.Values(conf.GetVoters()))
	p, i := d.log.position, d.install
	switch {
	case !slices.Equal(voters, d.voters) || len(conf.GetLearners())+len(conf.GetVotersOutgoing())+len(conf.GetLearnersNext()) > 0:
		return fmt.Errorf("%w: snapshot for the members %v, they are %v", consensus.ErrInvalid, voters, d.voters)
	case meta.GetTerm() > m.GetTerm() || meta.GetTerm() == 0 || at.next < d.seg.Base:
		return fmt.Errorf("%w: snapshot at raft index %d of term %d, sent in term %d, at lsn %d", consensus.ErrInvalid, meta.GetIndex(), meta.GetTerm(), m.GetTerm(), at.next)
	case i == nil && meta.GetIndex() == p.Applied && (at.next != p.Next || at.digest != p.Digest):
		return fmt.Errorf("%w: snapshot at raft index %d has lsn %d and digest %v, here they are %d and %v", consensus.ErrCorrupt, p.Applied, at.next, at.digest, p.Next, p.Digest)
	case i == nil && meta.GetIndex() > p.Applied && at.next < p.Next:
		return fmt.Errorf("%w: snapshot at raft index %d ends before lsn %d, index %d did before %d", consensus.ErrCorrupt, meta.GetIndex(), at.next, p.Applied, p.Next)
	case at.next <= p.Next && !d.log.had(at):
		return fmt.Errorf("%w: snapshot at raft index %d has digest %v before lsn %d, here it is another", consensus.ErrCorrupt, meta.GetIndex(), at.digest, at.next)
	}
	term, err := d.log.Term(meta.GetIndex())
	known := err == nil && term == meta.GetTerm()
	in := &incoming{pendingSnapshot: pendingSnapshot{mark{meta.GetIndex(), meta.GetTerm()}, at}, from: from, message: m}
	switch {
	case d.rebase != nil:
	case m.GetTerm() < d.term || meta.GetIndex() <= d.commit || known:
		d.step(m) // raft does not restore it
	case d.opts.Fetcher == nil:
		return fmt.Errorf("%w: a snapshot is needed, and there is no fetcher", consensus.ErrInvalid)
	case i == nil:
		d.logger.Info("raft snapshot", "segment", d.seg.Epoch, "member", d.self, "index", in.index, "lsn", at.next, "from", from)
		d.install = in
	case i.fetch || i.fetched:
	case in.index <= i.index && at.next <= p.Next:
		d.rebase = &rebase{mark: in.mark, message: m}
	case in.index > i.index && at.next >= i.next && i.unserved != nil, in.index < i.index:
		d.logger.Debug("another raft snapshot", "segment", d.seg.Epoch, "member", d.self, "index", in.index, "lsn", at.next, "from", from, "instead", i.index, "err", i.unserved)
		in.after, in.unserved = i.after, i.unserved
		d.install = in
	}
	return nil
}

// settle sees whether raft's log can go on as it is, when all that a snapshot stands for has been fetched, or is to begin anew behind it. Nothing may be on
// its way to the disk.
func (d *Driver) settle() {
	i := d.install
	if i == nil || !i.fetched || d.rebase != nil {
		return
	}
	if term, err := d.log.Term(i.index); err != nil || term != i.term {
		d.rebase = &rebase{mark: i.mark, message: i.message, last: true}
	}
}

// rebaseWrite is the write with which raft's log begins anew. What raft has not written by then is dropped: nobody was promised it. Of what is dropped with
// the old log, entries up to the mark are in the log, and one behind it could not be committed any more, or the log would have the mark.
func (d *Driver) rebaseWrite(r *rebase) {
	if d.applying != nil {
		return
	}
	d.writes, d.applies, d.refs = nil, nil, nil
	w := d.log.newWrite()
	w.Sync, w.rebased, w.compacted, w.installed = true, r.mark, r.mark, r.last
	if w.hard.term < r.term {
		w.hard.term, w.hard.vote = r.term, 0
	}
	w.hard.commit = r.index
	d.writing, d.act.Write = w, w
}

// rebased goes on behind the mark.
func (d *Driver) rebased() error {
	r := d.rebase
	if d.rebase = nil; r.last {
		d.install = nil
	}
	if err := d.restart(); err != nil {
		return err
	}
	if r.last {
		d.installed()
	}
	if r.message != nil {
		d.step(r.message) // raft knows it now, and tells the leader
	}
	return nil
}

// installed ends an install: applying goes on.
func (d *Driver) installed() {
	d.install = nil
	if d.log.position.Sealed && d.sealed == 0 {
		d.sealed = d.log.position.Applied
	}
	if d.sealed != 0 {
		d.answerSealed()
	}
}

func (d *Driver) startFetch() {
	i := d.install
	if i == nil || !i.stored || i.fetch || i.fetched || d.rebase != nil || d.applying != nil || d.tick < i.after || d.opts.Fetcher == nil {
		return
	}
	i.fetch = true
	d.act.Fetch = &Fetch{Hint: i.from, Next: i.next, Digest: i.digest, Index: i.index}
}

func (d *Driver) fetched(f *Fetch) {
	i := d.install
	i.fetch = false
	before := d.log.position
	if f.Position != (consensus.Position{}) {
		d.log.position = f.Position
	}
	if f.Err == nil {
		i.fetched, i.unserved = true, nil
		return
	}
	d.logger.Warn("fetch entries", "segment", d.seg.Epoch, "lsn", d.log.position.Next, "before", i.next, "err", f.Err)
	i.after = d.tick + uint64(d.opts.ElectionTicks)
	if i.unserved = nil; d.log.position.Next == before.Next {
		i.unserved = f.Err
	}
}

// recent says whether a member was heard of lately.
func (d *Driver) recent(p *peer) bool {
	return p.heard != 0 && d.tick+1-p.heard <= 2*uint64(d.opts.ElectionTicks)
}

// fitness watches over the clock and the application, and hands the lead over when this node should not have it.
func (d *Driver) fitness() {
	if off := clockOff(d.offsets()); off > d.opts.MaxClockOffset || off < -d.opts.MaxClockOffset {
		if d.offSince == 0 {
			d.offSince = d.tick
			d.logger.Error("clock is off its peers' median", "segment", d.seg.Epoch, "member", d.self, "by", -off)
		}
	} else {
		d.offSince = 0
	}
	if d.role != raft.StateLeader || d.tick-d.transfers < uint64(d.opts.ElectionTicks) {
		return
	}
	if d.off() || d.lags() {
		d.transfers = d.tick
		d.transfer()
	}
}

// off says whether the clock has been off for as long as it takes to hear everybody again after a jump.
func (d *Driver) off() bool {
	return d.offSince != 0 && d.tick-d.offSince >= 2*uint64(d.opts.HeartbeatTicks)
}

func (d *Driver) lags() bool { return d.lag() > d.opts.MaxLag }

func (d *Driver) lag() uint64 {
	unapplied := uint64(0)
	if d.commit > d.log.position.Applied {
		unapplied = d.commit - d.log.position.Applied
	}
	return d.appLag + unapplied
}

// offsets are the members' clocks, seen from this one's, which is among them. One that was last heard of long ago bears witness still.
func (d *Driver) offsets() []time.Duration {
	offsets := []time.Duration{0}
	for _, p := range d.peers {
		if p.heard != 0 {
			offsets = append(offsets, p.offset)
		}
	}
	return offsets
}

// clockOff returns the median of the members' clocks as an offset from this one's. Of an even number, it is that one of the middle two which is nearer:
// of two clocks, nobody can tell which one is wrong.
func clockOff(offsets []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(offsets))
	lo, hi := s[(len(s)-1)/2], s[len(s)/2]
	if lo <= 0 && hi >= 0 {
		return 0
	}
	if lo > 0 {
		return lo
	}
	return hi
}

// better returns a member that could lead: one heard of lately that does not lag. It takes the one that holds most of the log.
func (d *Driver) better() uint64 {
	st := d.rn.Status()
	best, match := uint64(0), uint64(0)
	for _, id := range d.voters {
		if p := d.peers[id]; p != nil && d.recent(p) && p.lag <= d.opts.MaxLag && (best == 0 || st.Progress[id].Match > match) {
			best, match = id, st.Progress[id].Match
		}
	}
	return best
}

func (d *Driver) transfer() {
	if to := d.better(); to != 0 {
		d.logger.Warn("raft lead is handed over", "segment", d.seg.Epoch, "from", d.self, "to", to, "lag", d.lag(), "clock", -clockOff(d.offsets()))
		d.rn.TransferLeader(to)
		d.observe()
	}
}

// patience is how many campaigns in a row a node that should not lead leaves to others.
const patience = 3

// fit says whether this node may campaign. One whose clock is off or whose application lags leaves it to others, but not for ever: they may all be like
// it, or lack what only this one has in its raft log. Then it leads until it can hand over, which brings the other up to date first. With
// its clock off it orders nothing meanwhile (invariant 8). One that is installing a snapshot never campaigns: a quorum without it has what it lacks.
func (d *Driver) fit() bool {
	if d.install != nil {
		return false
	}
	if len(d.voters) == 1 || !d.off() && !d.lags() || d.refused >= patience {
		return true
	}
	d.refused++
	d.logger.Warn("raft campaign is left to others", "segment", d.seg.Epoch, "member", d.self, "lag", d.lag(), "clock", -clockOff(d.offsets()))
	return false
}

// send makes frames of what goes out, one or few for each member. A node that lags says so to everybody once in a while, also without a leader, and one
// that has applied the Seal says that.
func (d *Driver) send(ticked bool) {
	if (d.refused > 0 && d.leader == 0 || d.sealed != 0) && ticked && d.tick%uint64(d.opts.HeartbeatTicks) == 0 {
		for _, id := range d.voters {
			if id != d.self {
				d.out = append(d.out, outgoing{to: id})
			}
		}
	}
	if len(d.out) == 0 {
		return
	}
	slices.SortStableFunc(d.out, func(a, b outgoing) int { return cmp.Compare(a.to, b.to) })
	h := header{
		identity: d.seg.Identity, from: d.self, unixMilli: uint64(max(0, d.now.UnixMilli())),
		applied: d.log.position.Applied, lag: d.lag(),
	}
	var frame []byte
	end := func() {
		if frame != nil {
			d.act.Send = append(d.act.Send, Frame{h.to, frame})
			frame = nil
		}
	}
	for _, o := range d.out {
		if o.to != h.to || len(frame) > d.opts.MaxMessageBytes {
			end()
		}
		if h.to = o.to; frame == nil {
			frame = h.append(nil)
		}
		if o.m.kind == 0 {
			continue
		}
		b, err := appendMessage(frame, o.m)
		if err != nil {
			panic(fmt.Sprintf("raft: %v", err)) // what raft makes can be encoded
		}
		frame = b
	}
	end()
	clear(d.out)
	d.out = d.out[:0]
}
