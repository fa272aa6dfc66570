package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
	"ledgerd/consensus/raft"
)

// How a node goes on that was away until everybody had trimmed what comes next for it:
//
//	running    fetch a snapshot that is ahead, verify it, have it confirmed by a quorum     (join.go; the node serves what it has meanwhile)
//	           Run returns a Rejoin
//	Open       make log and ledger of it beside the data                                    an error, a crash: the node is as it was
//	           the log takes over what the old one has promised (consensus.RejoinStore)
//	           exchange the two directories                                                 a crash: the old one, or the new one (snapshot.Settle)
//	           open it, as after any stop
//
// A member of a raft segment that is waiting for entries stays the member that it was: the snapshot has to end before what it waits for. Any other node is
// an observer.

// A Rejoin is what Run returns when the node is to be opened again with it (Options.Rejoin), to go on from a snapshot.
type Rejoin struct {
	path string
	LSN  consensus.LSN // of the snapshot
}

func (r *Rejoin) Error() string { return fmt.Sprintf("to go on from a snapshot at lsn %d", r.LSN) }

const (
	// rejoinPatience is how long what comes next has to be gone everywhere: one who is away for a moment may have it.
	rejoinPatience = 5 * time.Second
	// rejoinPause is how long is waited for the next try when data could not be replaced by a snapshot.
	rejoinPause = 10 * time.Minute
)

// watchBehind makes Run return a Rejoin when that is how the node can go on, until ctx ends.
func (n *Node) watchBehind(ctx context.Context) error {
	if n.peers == nil || n.snapshots == nil {
		return nil
	}
	patience := rejoinPatience
	if n.rejoinFailed {
		patience = rejoinPause
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for since, told := time.Now(), false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		s := n.log.Status()
		if s.Loglet.State != consensus.StateTrimmed {
			since, told = time.Now(), false
			continue
		}
		if time.Since(since) < patience {
			continue
		}
		r, err := n.fetchAhead(ctx, s)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			n.opts.Logger.Warn("the others have trimmed what comes next; going on from a snapshot", "lsn", uint64(s.Tail), "snapshot", uint64(r.LSN))
			n.fail(r)
			return nil
		case !told:
			n.opts.Logger.Warn("the others have trimmed what comes next, and there is no snapshot to go on from yet", "lsn", uint64(s.Tail), "err", err)
			told = true
		}
	}
}

// fetchAhead brings a snapshot with which the node can go on, and makes sure that the members have the log that it stands for.
func (n *Node) fetchAhead(ctx context.Context, s consensus.Status) (*Rejoin, error) {
	ahead := func(infos []peer.SnapshotInfo) (peer.SnapshotInfo, bool) {
		awaits, err := strconv.ParseUint(s.Loglet.Detail["awaits"], 10, 64)
		i := slices.IndexFunc(infos, func(i peer.SnapshotInfo) bool {
			return i.LSN >= s.Tail && (err != nil || i.LSN < consensus.LSN(awaits))
		})
		if i < 0 {
			return peer.SnapshotInfo{}, false
		}
		return infos[i], true
	}
	path := filepath.Join(n.opts.Home.SnapshotsDir(), "rejoining")
	f, err := n.fetchConfirmed(ctx, path, ahead)
	if err != nil {
		return nil, errors.Join(err, removed(path))
	}
	return &Rejoin{path: path, LSN: f.LSN}, f.Close()
}

// rejoin puts a snapshot in the place of the data, if that is what the node is opened for. If it cannot be done, the node goes on with what it has.
func (n *Node) rejoin(ctx context.Context) error {
	r := n.opts.Rejoin
	if r == nil {
		return nil
	}
	err := n.replace(ctx, r)
	if ctx.Err() == nil && err != nil {
		n.rejoinFailed = true
		n.opts.Logger.Error("cannot go on from the snapshot; going on with what is here", "lsn", uint64(r.LSN), "err", err)
		err = nil
	}
	return errors.Join(err, removed(r.path))
}

func (n *Node) replace(ctx context.Context, r *Rejoin) (err error) {
	defer guard(&err)
	f, err := snapshot.OpenFile(ctx, r.path, func(uint64, uint64) {})
	if err != nil {
		return err
	}
	defer f.Close()
	whole, member := false, false
	t := n.restoreTarget()
	t.Keep = func() bool { return whole || n.holdsMore() }
	t.MakeLog = func(ctx context.Context, opts consensus.StoreOptions, state consensus.LogState) error {
		old := opts
		old.Dir = n.at.log
		store, err := consensus.OpenStore(ctx, old)
		if err != nil {
			return err
		}
		if member, err = staysMember(store, state); err == nil {
			whole = store.Trimmed() == 0
			err = consensus.RejoinStore(ctx, opts, state, store, member)
		}
		return errors.Join(err, store.Close())
	}
	head, err := f.Restore(ctx, t, func(uint64, uint64) {})
	if err != nil {
		return err
	}
	n.opts.Logger.Info("goes on from a snapshot", "lsn", uint64(f.LSN), "block", head.Number, "head", head.Hash(), "member", member)
	return nil
}

// staysMember reports whether the engine of a stopped node's last segment can go on from a state.
func staysMember(store *consensus.Store, state consensus.LogState) (bool, error) {
	segments := store.Segments()
	last := segments[len(segments)-1]
	if last.Spec.Engine != raft.Name || len(state.Segments) != len(segments) {
		return false, nil
	}
	before, waits, err := raft.Awaited(store, last)
	if err == nil && waits && state.LSN >= before {
		err = fmt.Errorf("%w: the snapshot is of lsn %d, and this member waits for what comes before %d", consensus.ErrInvalid, state.LSN, before)
	}
	return waits, err
}

// holdsMore reports whether there is something in the data directory that is neither log nor ledger, nor the messages of an engine that does not go on: what a recovery
// has cut off.
func (n *Node) holdsMore() bool {
	files, err := os.ReadDir(n.opts.Home.DataDir())
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	h := n.opts.Home
	known := []string{filepath.Base(h.LogDir()), filepath.Base(h.StateDir()), filepath.Base(h.CometDir())}
	return slices.ContainsFunc(files, func(f os.DirEntry) bool { return !slices.Contains(known, f.Name()) })
}
