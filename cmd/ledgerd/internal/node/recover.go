package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/cmd/ledgerd/internal/recovery"
	"ledgerd/cmd/ledgerd/internal/snapshot"
	"ledgerd/consensus"
	"ledgerd/consensus/raft"
	"ledgerd/ledger"
)

// advise names the command that helps a node which cannot go on by itself.
func advise(err error) error {
	if errors.Is(err, consensus.ErrCutOff) {
		return fmt.Errorf("%w; `ledgerd log recover apply` cuts them off and keeps them in a file", err)
	}
	return err
}

// openStore opens the log of a stopped node as it lies on the disk, without anything that serves it.
func (n *Node) openStore(ctx context.Context) (*consensus.Store, error) {
	if err := n.place(ctx); err != nil {
		return nil, err
	}
	g := n.opts.Genesis
	id, err := g.NetworkID()
	if err != nil {
		return nil, err
	}
	store, err := consensus.OpenStore(ctx, consensus.StoreOptions{
		FS: n.at.fs, Dir: n.at.log, NetworkID: id, Genesis: g.Spec(), Window: int(g.Ledgerd.DedupWindow), Logger: n.opts.Logger.With("part", "log"),
		OnFatal: n.opts.Fatal,
	})
	if err != nil {
		return nil, fmt.Errorf("open the log: %w", err)
	}
	n.onClose(store.Close)
	return store, nil
}

// RecoveryStatus says what a stopped node holds of the log. at are LSNs whose digests are wanted beside those that are given anyway.
func RecoveryStatus(ctx context.Context, opts Options, at []consensus.LSN) (s recovery.Status, err error) {
	defer guard(&err)
	opts.ensureDefaults()
	n := newNode(opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	key, err := home.ReadKey(opts.Home.NodeKey())
	if err != nil {
		return s, err
	}
	store, err := n.openStore(ctx)
	if err != nil {
		return s, err
	}
	if s, err = recovery.ReadStatus(store, key.Public().(ed25519.PublicKey), at...); err != nil {
		return s, err
	}
	if _, waits := store.Pending(); waits {
		return s, nil // the segment is dead already, and where it ended is said
	}
	chain := store.Segments()
	tail, verdicts, err := unapplied(store, chain[len(chain)-1])
	if err == nil {
		s.GoOn(verdicts, tail.Term, tail.Index)
	}
	return s, err
}

// unapplied returns what a stopped member's engine has promised and not applied, with what would become of it.
func unapplied(store *consensus.Store, seg consensus.Segment) (tail raft.UnappliedTail, verdicts []consensus.Verdict, err error) {
	if seg.Spec.Engine != raft.Name {
		return tail, nil, nil
	}
	if tail, err = raft.Unapplied(store, seg); err != nil || len(tail.Items) == 0 {
		return tail, nil, err
	}
	replica, err := store.Replica(seg.Epoch)
	if err != nil {
		return tail, nil, err
	}
	defer replica.Close()
	verdicts, err = replica.Judge(tail.Items)
	return tail, verdicts, err
}

// salvageable returns the batch with which a stopped member comes to a recovery's base, of what its engine has promised: if that is the log that was recovered.
// ok is false if it is not, or none is needed.
func salvageable(store *consensus.Store, r consensus.Recovery, plan consensus.RecoveryPlan) (b consensus.Batch, ok bool, err error) {
	if !plan.Pending || plan.Cuts() {
		return b, false, nil
	}
	tail, verdicts, err := unapplied(store, plan.Dead)
	for i, v := range verdicts {
		if v.Kind == consensus.Data && v.LSN+1 == r.Base {
			same := v.Next == nil && v.Entry.Digest == r.Digest && v.Entry.UnixMilli == r.UnixMilli
			return consensus.Batch{Applied: tail.Indexes[i], Items: tail.Items[:i+1], Sync: true, Observed: true}, same, err
		}
	}
	return b, false, err
}

// salvage applies that, when the store waits for the recovery's base: so the segment ends there in the same batch, and its engine never goes on.
func salvage(store *consensus.Store, dead consensus.Epoch, b consensus.Batch) error {
	replica, err := store.Replica(dead)
	if err != nil {
		return err
	}
	defer replica.Close()
	_, err = replica.Apply(b)
	return err
}

// Recovered is what a recovery does to a node.
type Recovered struct {
	consensus.RecoveryPlan
	Salvaged  bool          // the entries that lack are in the raft log here, so none are waited for
	Vouched   bool          // the disk may vote in the segment that begins
	Applied   consensus.LSN // by the ledger
	Ledger    string        // where the ledger is moved that has applied what is cut off; empty if it stays
	Snapshots []string      // that are of what is cut off, and get another name
}

// Recover applies a recovery to a stopped node; with dry it only says what that would do. The order is such that a crash at any point leaves a node whose
// ledger has applied no more than its log holds, and that Recover can be repeated. vouch says that this node has not taken the recovery on another disk.
// Errors: as of consensus.Store.Recover; consensus.ErrTrimmed too if the log does not reach back far enough to make the ledger again.
func Recover(ctx context.Context, opts Options, r consensus.SignedRecovery, vouch, dry bool) (done Recovered, err error) {
	defer guard(&err)
	opts.ensureDefaults()
	n := newNode(opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	store, err := n.openStore(ctx)
	if err != nil {
		return done, err
	}
	if done.RecoveryPlan, err = store.PlanRecovery(r); err != nil {
		return done, err
	}
	if err := n.planRollback(store, r.Recovery, &done); err != nil {
		return done, err
	}
	var rest consensus.Batch
	if rest, done.Salvaged, err = salvageable(store, r.Recovery, done.RecoveryPlan); err != nil {
		return done, err
	}
	done.Pending = done.Pending && !done.Salvaged
	vouched, err := store.Vouched(r.Epoch)
	if done.Vouched = vouched || vouch && !done.Done || done.Cuts() && vouchedAfter(store); err != nil || dry {
		return done, err
	}
	if err := n.rollBack(done); err != nil {
		return done, err
	}
	if vouch && !vouched && !done.Done {
		if err := store.Vouch(r.Epoch); err != nil {
			return done, err
		}
	}
	if _, err = store.Recover(r); err == nil && done.Salvaged {
		err = salvage(store, r.Epoch-1, rest)
	}
	return done, err
}

// vouchedAfter reports whether the disk is vouched for from some epoch on: then it is, after a cut, for the one that begins in its place.
func vouchedAfter(store *consensus.Store) bool {
	vouched, err := store.Vouched(consensus.Epoch(len(store.Segments()) + 1))
	return err == nil && vouched
}

// planRollback finds what has been made of entries that are cut off.
func (n *Node) planRollback(store *consensus.Store, r consensus.Recovery, done *Recovered) (err error) {
	if _, err := os.Stat(n.at.ledger); err == nil {
		l, err := ledger.Open(n.at.ledger, n.opts.Genesis, n.ledgerOptions())
		if err != nil {
			return fmt.Errorf("open the ledger: %w", err)
		}
		done.Applied = l.Applied()
		if err := l.Close(); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if done.Applied >= done.Cut {
		if trimmed := store.Trimmed(); trimmed > 0 {
			return fmt.Errorf("the ledger has applied lsn %d, the log is cut back to %d and begins after %d: %w; make the node anew, with `ledgerd snapshot restore`",
				done.Applied, done.Cut-1, trimmed, consensus.ErrTrimmed)
		}
		if done.Ledger, err = free(fmt.Sprintf("%s.cut-epoch-%d-recovery-%d", n.at.ledger, r.Epoch, r.Count)); err != nil {
			return err
		}
	}
	done.Snapshots, err = snapshot.After(n.opts.Home.SnapshotsDir(), done.Cut)
	return err
}

// free returns the first of path, path.1, path.2, … that is not there.
func free(path string) (string, error) {
	for name, i := path, 1; ; name, i = fmt.Sprintf("%s.%d", path, i), i+1 {
		_, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// rollBack moves aside what has been made of entries that are cut off. The node makes its ledger anew, from the log.
func (n *Node) rollBack(done Recovered) error {
	for _, name := range done.Snapshots {
		path := filepath.Join(n.opts.Home.SnapshotsDir(), name)
		if err := os.Rename(path, path+".cut"); err != nil {
			return err
		}
	}
	if done.Ledger == "" {
		return nil
	}
	if err := os.Rename(n.at.ledger, done.Ledger); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(n.at.ledger))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
