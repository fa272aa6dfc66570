package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
)

// joinPause is how long a node that joins waits before it asks again for what nobody had or confirmed.
const joinPause = 2 * time.Second

// join begins the data of a home that has none with a snapshot of the other nodes, if the configuration wants that. Nothing of the snapshot is used before
//
//	its bytes have the sum that it was offered under, and the sum inside
//	its chain of segments leads from this node's genesis, by Seals that administrators signed
//	a quorum of the last segment's members has the same log up to its end
//	its state makes the state root of its head, and that names its log (snapshot.File.Restore)
//
// The node is an observer then: nothing vouches for its disk. It waits as long as nobody has a snapshot, or not enough members answer.
func (n *Node) join(ctx context.Context) error {
	if n.opts.Config.Node.Join != config.JoinSnapshot || n.peers == nil {
		return nil
	}
	if _, err := os.Stat(n.at.log); !errors.Is(err, fs.ErrNotExist) {
		return err // nil: there are data, whatever they are
	}
	for {
		err := n.joinOnce(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		if !errors.Is(err, peer.ErrNoSnapshot) && !errors.Is(err, peer.ErrNotServing) && !errors.Is(err, errUnconfirmed) {
			return err
		}
		n.opts.Logger.Warn("join: waiting for a snapshot (snapshot.every makes members have one; node.join = \"full\" does without)", "err", err)
		select {
		case <-time.After(joinPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (n *Node) joinOnce(ctx context.Context) (err error) {
	path := filepath.Join(n.opts.Home.SnapshotsDir(), "joining")
	defer func() { err = errors.Join(err, removed(path)) }()
	f, err := n.fetchConfirmed(ctx, path, nil)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	r, err := n.restore(ctx, path, func(string, uint64, uint64) {})
	if err != nil {
		return err
	}
	n.opts.Logger.Info("joined by a snapshot", "lsn", uint64(r.LSN), "epoch", uint64(r.Epoch), "block", r.Block, "head", r.Head.Hex(), "bytes", f.Size)
	return nil
}

// fetchConfirmed brings a snapshot of another node into a file, and opens it when a quorum of the members has the log that it stands for. choose is that of
// peer.FetchOptions.
func (n *Node) fetchConfirmed(ctx context.Context, path string, choose func([]peer.SnapshotInfo) (peer.SnapshotInfo, bool)) (*snapshot.File, error) {
	if err := n.fetchSnapshot(ctx, path, choose); err != nil {
		return nil, err
	}
	f, err := snapshot.OpenFile(ctx, path, func(uint64, uint64) {})
	if err != nil {
		return nil, err
	}
	if err := n.confirm(ctx, f.State); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// fetchSnapshot brings a snapshot that another node has into a file.
func (n *Node) fetchSnapshot(ctx context.Context, path string, choose func([]peer.SnapshotInfo) (peer.SnapshotInfo, bool)) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("%w %s: %w", home.ErrCannotCreate, filepath.Dir(path), err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("%w %s: %w", home.ErrCannotCreate, path, err)
	}
	last := time.Now()
	info, err := n.peers.client.FetchSnapshot(ctx, file, peer.FetchOptions{Choose: choose, Progress: func(info peer.SnapshotInfo, written int64) {
		if time.Since(last) > 2*time.Second {
			last = time.Now()
			n.opts.Logger.Info("join: fetching a snapshot", "lsn", uint64(info.LSN), "bytes", written, "of", info.Size)
		}
	}})
	if err == nil {
		err = errors.Join(file.Truncate(info.Size), file.Sync())
	}
	return errors.Join(err, file.Close())
}

// errUnconfirmed: not enough members say that they have the log which a snapshot continues.
var errUnconfirmed = errors.New("the members do not confirm the snapshot")

// confirm asks the members of a log state's last segment for the digest at its end, until a quorum of them has the same. That they are the members, their
// administrators have signed.
func (n *Node) confirm(ctx context.Context, state consensus.LogState) error {
	id, err := n.opts.Genesis.NetworkID()
	if err != nil {
		return err
	}
	if err := state.Verify(id, n.opts.Genesis.Spec()); err != nil {
		return err
	}
	n.peers.follow(state.Segments, nil) // or newer members would be strangers
	spec := state.Segments[len(state.Segments)-1].Spec
	good, errs := 0, []error(nil)
	for _, m := range spec.Members {
		digest, err := n.digestAt(ctx, m, state.LSN)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("member %d: %w", m.ID, err))
		case digest != state.Digest():
			errs = append(errs, fmt.Errorf("member %d has digest %v at lsn %d, the snapshot %v", m.ID, digest, state.LSN, state.Digest()))
		default:
			good++
		}
	}
	if want := spec.Quorum(); good < want {
		return fmt.Errorf("%w: %d do, it takes %d: %w", errUnconfirmed, good, want, errors.Join(errs...))
	}
	return nil
}

// confirmTimeout is how long one member is waited for.
const confirmTimeout = 5 * time.Second

// digestAt returns the digest of a member's log up to an LSN, which it must still hold.
func (n *Node) digestAt(ctx context.Context, m consensus.Member, lsn consensus.LSN) (digest consensus.Digest, err error) {
	ctx, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	got := errors.New("got it")
	err = n.peers.all.Follow(ctx, m, lsn, func(entries []consensus.Entry) error {
		digest = entries[0].Digest
		return got
	})
	if errors.Is(err, got) {
		return digest, nil
	}
	return digest, err
}
