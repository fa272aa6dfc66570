package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/rpc"
)

// openSnapshots opens the folder of the snapshots, if the node has a home, and lets the other nodes fetch them.
func (n *Node) openSnapshots(context.Context) (err error) {
	if n.opts.Home == "" {
		return nil
	}
	source := snapshot.Source{Log: n.log, Ledger: n.ledger}
	n.snapshots, err = snapshot.OpenManager(n.opts.Home.SnapshotsDir(), n.opts.Config.Snapshot.Keep, source, n.opts.Logger.With("part", "snapshot"))
	if err == nil && n.peers != nil {
		n.peers.node.ServeSnapshots(n.snapshots)
		n.onClose(func() error { n.peers.node.ServeSnapshots(nil); return nil })
	}
	return err
}

// Snapshots returns what keeps the node's snapshots; nil for a node without a home.
func (n *Node) Snapshots() *snapshot.Manager { return n.snapshots }

// madeSnapshots shows the snapshots to the RPC server.
type madeSnapshots struct{ kept *snapshot.Manager }

// Make implements rpc.Snapshots.
func (s madeSnapshots) Make(ctx context.Context) (rpc.Snapshot, error) {
	i, err := s.kept.Make(ctx)
	return s.shown(i), err
}

// List implements rpc.Snapshots.
func (s madeSnapshots) List() (all []rpc.Snapshot) {
	for _, i := range s.kept.List() {
		all = append(all, s.shown(i))
	}
	return all
}

func (s madeSnapshots) shown(i snapshot.Info) rpc.Snapshot {
	return rpc.Snapshot{LSN: i.LSN, File: filepath.Base(s.kept.Path(i)), Size: i.Size, SHA256: i.SHA256}
}

const (
	// snapshotTick is how often is looked whether a snapshot or a trim is due.
	snapshotTick = time.Second
	// snapshotPause is how long after a failure that is tried again: a full disk does not get better by the second.
	snapshotPause = time.Minute
)

// keepSnapshots makes snapshots and trims the log, as the configuration says, until ctx ends. Only if the node's storage has failed does the node end; that a
// snapshot cannot be made is a warning.
func (n *Node) keepSnapshots(ctx context.Context) error {
	err := n.snapshotLoop(ctx)
	if err != nil {
		n.fail(err)
	}
	return err
}

func (n *Node) snapshotLoop(ctx context.Context) (err error) {
	defer guard(&err)
	if n.snapshots == nil || n.opts.Config.Snapshot.Every == 0 && n.opts.Config.Log.Retain == 0 {
		return nil
	}
	timer := time.NewTimer(snapshotTick)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := snapshotTick
		switch err := errors.Join(n.makeDue(ctx), n.trim(ctx)); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, consensus.ErrFailed):
			return err
		case err != nil:
			n.opts.Logger.Warn("snapshot", "err", err, "again in", snapshotPause)
			pause = snapshotPause
		}
		timer.Reset(pause)
	}
}

// makeDue makes a snapshot if the newest is old enough.
func (n *Node) makeDue(ctx context.Context) error {
	every, newest, applied := n.opts.Config.Snapshot.Every, n.snapshots.Newest(), n.ledger.Applied()
	if every == 0 || applied < newest || uint64(applied-newest) < every {
		return nil
	}
	_, err := n.snapshots.Make(ctx)
	return err
}

// openStopped opens the log and the ledger of a home whose node is stopped, to look at them: no engine is started and no other node called. It is to be
// closed, also after an error.
func openStopped(ctx context.Context, opts Options) (*Node, error) {
	opts.ensureDefaults()
	n := newNode(opts)
	engines := make(map[string]consensus.Engine)
	for _, name := range EngineNames() {
		engines[name] = consensus.EngineFunc(openOffline)
	}
	if opts.Genesis.Ledgerd.Imported {
		return n, fmt.Errorf("%s: %w", opts.Home, ErrImported)
	}
	if err := n.place(ctx); err != nil {
		return n, err
	}
	return n, n.openStorage(ctx, engines)
}

// Made describes a snapshot that was made.
type Made struct {
	File   string           `json:"file"`
	LSN    consensus.LSN    `json:"lsn"`
	Block  uint64           `json:"block"`
	Head   common.Hash      `json:"head"`
	Size   int64            `json:"size"`
	SHA256 consensus.Digest `json:"sha256"`
}

// MakeSnapshot makes a snapshot of a stopped node in the file out, which must not exist; or, if out is empty, among the snapshots that the node keeps.
// written is told how many bytes have been written. Errors: as of Open and of snapshot.Source; snapshot.ErrExists.
func MakeSnapshot(ctx context.Context, opts Options, out string, written func(bytes uint64)) (m Made, err error) {
	defer guard(&err)
	n, err := openStopped(ctx, opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	if err != nil {
		return m, err
	}
	source := snapshot.Source{Log: n.log, Ledger: n.ledger, Told: written}
	var info snapshot.Info
	if out != "" {
		var c snapshot.Contents
		c, err = source.CreateFile(ctx, out)
		info = c.Info
	} else {
		var kept *snapshot.Manager
		if kept, err = snapshot.OpenManager(opts.Home.SnapshotsDir(), opts.Config.Snapshot.Keep, source, n.opts.Logger); err == nil {
			info, err = kept.Make(ctx)
			out = kept.Path(info)
		}
	}
	if err != nil {
		return m, err
	}
	if info.LSN > n.ledger.Applied() {
		return m, fmt.Errorf("%s is of lsn %d, and the ledger has applied %d: %w", out, info.LSN, n.ledger.Applied(), ledger.ErrLogBehind)
	}
	head := n.ledger.CurrentHeader()
	return Made{File: out, LSN: info.LSN, Block: head.Number.Uint64(), Head: head.Hash(), Size: info.Size, SHA256: info.SHA256}, nil
}

// Restored describes a node that was restored.
type Restored struct {
	Network consensus.NetworkID `json:"network"`
	LSN     consensus.LSN       `json:"lsn"`
	Epoch   consensus.Epoch     `json:"epoch"` // that the next entry falls into
	Block   uint64              `json:"block"`
	Head    common.Hash         `json:"head"`
	// Observer says that the segment is ordered by members: this node follows, until a reconfiguration makes it one of them.
	Observer bool `json:"observer"`
}

// Restore makes the data of a home of a snapshot file. The home must have none that are worth anything: home.ErrExists if an entry has been applied
// there. progress is told what is being done and how far it has come. Other errors: as of snapshot.OpenFile and snapshot.File.Restore; those of a home.
func Restore(ctx context.Context, opts Options, path string, progress func(what string, done, total uint64)) (r Restored, err error) {
	opts.ensureDefaults()
	n := newNode(opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.place(ctx); err != nil {
		return r, err
	}
	return n.restore(ctx, path, progress)
}

// restore is Restore of a home that this node has open, before it opens its log.
func (n *Node) restore(ctx context.Context, path string, progress func(what string, done, total uint64)) (r Restored, err error) {
	defer guard(&err)
	if err := n.unused(ctx); err != nil {
		return r, err
	}
	f, err := snapshot.OpenFile(ctx, path, func(done, total uint64) { progress("reading", done, total) })
	if err != nil {
		return r, err
	}
	defer f.Close()
	head, err := f.Restore(ctx, n.restoreTarget(), func(done, total uint64) { progress("restoring", done, total) })
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	last := f.State.Segments[len(f.State.Segments)-1]
	return Restored{
		Network: f.State.Network, LSN: f.LSN, Epoch: last.Epoch, Block: head.Number.Uint64(), Head: head.Hash(), Observer: len(last.Spec.Members) > 0,
	}, nil
}

// restoreTarget says that a snapshot is restored to this node's data.
func (n *Node) restoreTarget() snapshot.Target {
	h, fresh := n.opts.Home, newNode(n.opts) // with metrics of its own
	return snapshot.Target{
		Dir: h.DataDir(), Log: filepath.Base(h.LogDir()), Ledger: filepath.Base(h.StateDir()), Genesis: n.opts.Genesis,
		LogOptions:    consensus.StoreOptions{Logger: n.opts.Logger.With("part", "log"), OnFatal: func(error) {}}, // the write that failed returns it
		LedgerOptions: fresh.ledgerOptions(),
	}
}

// unused returns home.ErrExists if the home's data hold anything that is not made of the genesis alone. What Prepare made does not count: nothing
// vouches for a restored log, so it must not vote, and need not know that it could have.
func (n *Node) unused(ctx context.Context) error {
	used := func(lsn consensus.LSN, block uint64) error {
		return fmt.Errorf("%s has lsn %d and block %d; it %w", n.opts.Home.DataDir(), lsn, block, home.ErrExists)
	}
	if _, err := os.Stat(n.at.log); err == nil {
		id, err := n.opts.Genesis.NetworkID()
		if err != nil {
			return err
		}
		store, err := consensus.OpenStore(ctx, consensus.StoreOptions{
			FS: n.at.fs, Dir: n.at.log, NetworkID: id, Genesis: n.opts.Genesis.Spec(), Window: int(n.opts.Genesis.Ledgerd.DedupWindow), OnFatal: func(error) {},
		})
		if err != nil {
			return err
		}
		last := store.Next() - 1
		if err := store.Close(); err != nil {
			return err
		}
		if last > 0 {
			return used(last, 0)
		}
	}
	if _, err := os.Stat(n.at.ledger); err == nil {
		look := newNode(n.opts)
		l, err := ledger.Open(n.at.ledger, n.opts.Genesis, look.ledgerOptions())
		if err != nil {
			return err
		}
		lsn, block := l.Applied(), l.CurrentHeader().Number.Uint64()
		if err := l.Close(); err != nil {
			return err
		}
		if lsn > 0 || block > 0 {
			return used(lsn, block)
		}
	}
	return nil
}
