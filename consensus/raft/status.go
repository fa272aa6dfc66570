package raft

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"

	"ledgerd/consensus"
)

// DriverStatus is what a member knows of itself and the others.
type DriverStatus struct {
	Leader    uint64 // 0: unknown
	Role      string // "follower", "pre-candidate", "candidate", "leader"
	Term      uint64
	Committed uint64 // raft index
	Applied   uint64 // raft index
	Quorum    int    // how many members it takes
	Queued    int    // own appends that are not answered
	Proposed  int    // records that this node has proposed, leading, and that are not applied
	Last      uint64 // raft index of the last entry here
	Refused   uint64 // frames

	Elections     uint64 // in which this node has stood, since it was opened
	LeaderChanges uint64 // to another member than before, since then

	Installing bool
	Awaits     consensus.LSN  // if Installing: the first LSN that is not to be fetched
	Missing    error          // why the entries that are to be installed are not to be had now; nil: they come
	Drained    bool           // sealed, and every member has applied the Seal
	Members    []MemberStatus // in the order of their ids
}

// MemberStatus is what is known of one member.
type MemberStatus struct {
	ID          uint64
	Recent      bool   // heard of within two election timeouts
	Applied     uint64 // raft index
	Match       uint64 // raft index up to which the leader knows it to hold the log; 0 on others
	Lag         uint64 // entries by which its application is behind
	ClockOffset time.Duration
}

const roleLeader = "leader"

var roles = map[raft.StateType]string{
	raft.StateFollower: "follower", raft.StatePreCandidate: "pre-candidate", raft.StateCandidate: "candidate", raft.StateLeader: roleLeader,
}

// Status returns the driver's state, as of the last step.
func (d *Driver) Status() *DriverStatus {
	s := &DriverStatus{
		Leader: d.leader, Role: roles[d.role], Term: d.term, Committed: d.commit, Applied: d.log.position.Applied,
		Quorum: len(d.voters)/2 + 1, Queued: len(d.own), Refused: d.wrong, Installing: d.install != nil, Drained: d.sealed != 0,
		Proposed: len(d.proposed), Last: d.log.last, Elections: d.elections, LeaderChanges: d.leaderChanges,
	}
	match := map[uint64]uint64{}
	if d.role == raft.StateLeader {
		d.rn.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) { match[id] = p.Match })
	}
	if i := d.install; i != nil {
		s.Awaits, s.Missing = i.next, i.unserved
	}
	for _, id := range d.voters {
		m := MemberStatus{ID: id, Recent: true, Applied: s.Applied, Match: match[id], Lag: d.lag()}
		if p := d.peers[id]; p != nil {
			m.Recent, m.Applied, m.Lag, m.ClockOffset = d.recent(p), p.applied, p.lag, p.offset
		}
		s.Drained = s.Drained && m.Applied >= d.sealed
		s.Members = append(s.Members, m)
	}
	return s
}

// end answers everything that waits, when the driver is not stepped any more.
func (d *Driver) end(late Inputs, err error) {
	for _, a := range append(d.own, late.Appends...) {
		switch {
		case a.done:
		case a.state.CompareAndSwap(waiting, taken): // it was never handed over
			a.Done(0, err)
		default:
			a.Done(0, fmt.Errorf("%w: %w", consensus.ErrUnknownFate, err))
		}
		a.done = true
	}
	reads := append(d.reads, late.Reads...)
	for _, r := range append(d.confirmed, d.round) {
		if r != nil {
			reads = append(reads, r.reads...)
		}
	}
	for _, r := range reads {
		r.Done(err)
	}
	d.own, d.reads, d.confirmed, d.round = nil, nil, nil, nil
}

// raftPanic is what the raft library said when it found that something contradicts what was promised.
type raftPanic string

// raftLogger hands the raft library's words on.
type raftLogger struct{ l *slog.Logger }

func (r raftLogger) Debug(v ...any)                 { r.l.Debug("raft", "detail", fmt.Sprint(v...)) }
func (r raftLogger) Debugf(format string, v ...any) { r.at(slog.LevelDebug, format, v) }
func (r raftLogger) Info(v ...any)                  { r.l.Debug("raft", "detail", fmt.Sprint(v...)) }
func (r raftLogger) Infof(format string, v ...any)  { r.at(slog.LevelDebug, format, v) }
func (r raftLogger) Warning(v ...any)               { r.l.Warn("raft", "detail", fmt.Sprint(v...)) }
func (r raftLogger) Warningf(f string, v ...any)    { r.at(slog.LevelWarn, f, v) }
func (r raftLogger) Error(v ...any)                 { r.l.Error("raft", "detail", fmt.Sprint(v...)) }
func (r raftLogger) Errorf(format string, v ...any) { r.at(slog.LevelError, format, v) }
func (r raftLogger) Fatal(v ...any)                 { panic(raftPanic(fmt.Sprint(v...))) }
func (r raftLogger) Fatalf(format string, v ...any) { panic(raftPanic(fmt.Sprintf(format, v...))) }
func (r raftLogger) Panic(v ...any)                 { panic(raftPanic(fmt.Sprint(v...))) }
func (r raftLogger) Panicf(format string, v ...any) { panic(raftPanic(fmt.Sprintf(format, v...))) }

func (r raftLogger) at(level slog.Level, format string, v []any) {
	if r.l.Enabled(context.Background(), level) {
		r.l.Log(context.Background(), level, "raft", "detail", fmt.Sprintf(format, v...))
	}
}

var _ raft.Logger = raftLogger{}
