package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/ethereum/go-ethereum/core/types"

	"ledgerd/consensus"
	"ledgerd/ledger"
	"ledgerd/ledger/genesis"
)

// Target says where and as what a snapshot is restored.
type Target struct {
	Dir         string // of a node's data
	Log, Ledger string // names of the two directories in it

	Genesis       *genesis.Genesis
	LogOptions    consensus.StoreOptions // directory, network, genesis and window are filled in
	LedgerOptions ledger.Options

	// MakeLog makes the log with these options. nil: consensus.RestoreStore.
	MakeLog func(context.Context, consensus.StoreOptions, consensus.LogState) error
	// Keep reports, after MakeLog, whether the content of Dir is worth something: it is kept then, under another name. nil: it is not.
	Keep func() bool
}

// Restore makes log and ledger of the file in the place of the target's directory, and returns the ledger's head. progress is told how much of the ledger's part
// has been read. Errors: consensus.ErrWrongNetwork; ErrBad; of MakeLog; those of the disk.
//
// All is made and verified beside the directory, and then takes its place. After an error, or a crash before that, the directory is as it was, once Settle has
// seen to what is left beside it.
func (f *File) Restore(ctx context.Context, t Target, progress func(done, total uint64)) (*types.Header, error) {
	fresh := t.Dir + restoringSuffix
	err := os.RemoveAll(fresh)
	if err == nil {
		err = os.MkdirAll(fresh, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	head, err := f.restore(ctx, t, fresh, progress)
	if err == nil {
		err = exchange(fresh, t.Dir, t.Keep != nil && t.Keep())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("restore: %w", err), os.RemoveAll(fresh))
	}
	return head, nil
}

// restore makes log and ledger in the directory fresh.
func (f *File) restore(ctx context.Context, t Target, fresh string, progress func(done, total uint64)) (*types.Header, error) {
	id, err := t.Genesis.NetworkID()
	if err != nil {
		return nil, err
	}
	t.LogOptions.FS, t.LogOptions.Dir = vfs.Default, filepath.Join(fresh, t.Log)
	t.LogOptions.NetworkID, t.LogOptions.Genesis, t.LogOptions.Window = id, t.Genesis.Spec(), int(t.Genesis.Ledgerd.DedupWindow)
	makeLog := t.MakeLog
	if makeLog == nil {
		makeLog = consensus.RestoreStore
	}
	if err := makeLog(ctx, t.LogOptions, f.State); errors.Is(err, consensus.ErrInvalid) {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	} else if err != nil {
		return nil, err
	}
	l, err := ledger.Open(filepath.Join(fresh, t.Ledger), t.Genesis, t.LedgerOptions)
	if err != nil {
		return nil, err
	}
	part := f.Ledger()
	in := &countingReader{r: part, told: func(n uint64) { progress(n, uint64(part.Size())) }}
	if err = l.Restore(ctx, in); err == nil {
		err = f.agrees(l)
	}
	head := l.CurrentHeader()
	return head, errors.Join(err, l.Close())
}

// agrees checks the restored ledger against the state of the log.
func (f *File) agrees(l *ledger.Ledger) error {
	head := l.CurrentHeader()
	if l.Applied() != f.LSN || head.Hash() != f.Head {
		return fmt.Errorf("%w: its ledger is at lsn %d with the head %v, it says lsn %d and %v", ErrBad, l.Applied(), head.Hash(), f.LSN, f.Head)
	}
	return agreesAt(head, f.State)
}

// agreesAt checks that a head can be the newest block that a log made, whose state this is.
func agreesAt(head *types.Header, state consensus.LogState) error {
	position, ok := ledger.PositionOf(head)
	if !ok {
		return nil // no entry has made a block yet
	}
	if position.LSN > state.LSN || position.UnixMilli > state.UnixMilli {
		return fmt.Errorf("%w: block %d is of lsn %d at %d ms, the log ends at lsn %d at %d ms", ErrBad, head.Number, position.LSN, position.UnixMilli, state.LSN, state.UnixMilli)
	}
	digest, known := state.DigestAt(position.LSN)
	if known && (head.ParentBeaconRoot == nil || consensus.Digest(*head.ParentBeaconRoot) != digest) {
		return fmt.Errorf("%w: at lsn %d the log has digest %v, block %d was made from another", ErrBad, position.LSN, digest, head.Number)
	}
	return nil
}

// Names beside a directory, of what takes its place or is to leave it.
const (
	restoringSuffix = ".restoring"     // not whole
	replacedSuffix  = ".replaced"      // to be removed
	keepingSuffix   = ".replaced-keep" // to be kept
	keptSuffix      = ".before-rejoin" // is kept
)

// exchange puts the directory fresh in the place of dir, and keeps or removes what was there. A crash between any two of its steps is Settle's to mend.
func exchange(fresh, dir string, keep bool) error {
	for _, step := range exchangeSteps(fresh, dir, keep) {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func exchangeSteps(fresh, dir string, keep bool) []func() error {
	old := dir + replacedSuffix
	if keep {
		old = dir + keepingSuffix
	}
	return []func() error{
		func() error { return Settle(dir, fresh) },
		func() error { return syncDir(fresh) },
		func() error { return ignoreMissing(os.Rename(dir, old)) },
		func() error { return os.Rename(fresh, dir) },
		func() error { return syncDir(filepath.Dir(dir)) },
		func() error { return Settle(dir) },
	}
}

// Settle ends what a crash has left of a Restore into dir: either the directory is as it was before, or it is the new one. but names what is not to be removed.
func Settle(dir string, but ...string) error {
	_, err := os.Lstat(dir)
	there := err == nil
	if err := ignoreMissing(err); err != nil {
		return err
	}
	for _, suffix := range []string{replacedSuffix, keepingSuffix} {
		old := dir + suffix
		if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		var err error
		switch {
		case !there:
			err, there = os.Rename(old, dir), true
		case suffix == keepingSuffix:
			err = keep(old, dir+keptSuffix)
		default:
			err = os.RemoveAll(old)
		}
		if err = errors.Join(err, syncDir(filepath.Dir(dir))); err != nil {
			return fmt.Errorf("settle %s: %w", dir, err)
		}
	}
	if fresh := dir + restoringSuffix; !slices.Contains(but, fresh) {
		return os.RemoveAll(fresh)
	}
	return nil
}

// keep gives a directory another name; if that is taken, with a number.
func keep(dir, name string) error {
	for to, i := name, 1; ; to, i = fmt.Sprintf("%s.%d", name, i), i+1 {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return os.Rename(dir, to)
		} else if err != nil {
			return err
		}
	}
}

// A countingReader tells how much has been read.
type countingReader struct {
	r    io.Reader
	n    uint64
	told func(uint64)
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.n += uint64(n); n > 0 {
		r.told(r.n)
	}
	return n, err
}
