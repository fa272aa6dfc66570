package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"golang.org/x/sync/errgroup"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/ledger"
)

// Verification is what a replay of a log showed.
type Verification struct {
	Entries  uint64      `json:"entries"` // played
	Block    uint64      `json:"block"`   // number of the stored head
	Stored   common.Hash `json:"stored"`  // hash of that block
	Replayed common.Hash `json:"replayed"`
	Equal    bool        `json:"equal"`
	// The first block that is not equal, and where in the log it comes from.
	FirstDifferent    uint64        `json:"firstDifferent,omitempty"`
	FirstDifferentLSN consensus.LSN `json:"firstDifferentLsn,omitempty"`
}

// Verify plays the log of a home into a fresh ledger in a temporary folder and compares it with the home's. The home
// must not be in use. progress is called now and then with the LSN that was reached and the last one.
// Errors: as of Open; consensus.ErrTrimmed if the log does not reach back to its beginning.
func Verify(ctx context.Context, opts Options, progress func(done, total uint64)) (v Verification, err error) {
	n, err := openStopped(ctx, opts)
	defer func() { err = errors.Join(err, n.Close()) }()
	if err != nil {
		return v, err
	}
	opts = n.opts // with its defaults
	if trimmed := n.log.Trimmed(); trimmed > 0 {
		return v, fmt.Errorf("verify: the log begins after lsn %d: %w", trimmed, consensus.ErrTrimmed)
	}
	dir, err := os.MkdirTemp("", "ledgerd-verify-")
	if err != nil {
		return v, fmt.Errorf("%w a temporary folder: %w", home.ErrCannotCreate, err)
	}
	n.onClose(func() error { return os.RemoveAll(dir) })

	fresh := newNode(opts) // with metrics of its own
	replayed, err := ledger.Open(dir, opts.Genesis, fresh.ledgerOptions())
	if err != nil {
		return v, err
	}
	n.onClose(replayed.Close)
	// What the stored head was made from; the log may hold more, which the node has not applied yet.
	v.Entries = uint64(n.ledger.Applied())
	if err := replay(ctx, replayed, n.log, v.Entries, progress); err != nil {
		return v, err
	}
	return compare(v, n.ledger, replayed), nil
}

// replay plays log into l up to the LSN last.
func replay(ctx context.Context, l *ledger.Ledger, log ledger.Log, last uint64, progress func(done, total uint64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var g errgroup.Group
	failed := make(chan struct{})
	g.Go(func() error {
		defer close(failed)
		return l.Run(ctx, log)
	})
	err := waitApplied(ctx, l, last, failed, progress)
	cancel()
	return errors.Join(g.Wait(), err)
}

func waitApplied(ctx context.Context, l *ledger.Ledger, last uint64, failed <-chan struct{}, progress func(done, total uint64)) error {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		applied := uint64(l.Applied())
		progress(min(applied, last), last)
		if applied >= last {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-failed:
			return nil // with the error that Run returned
		case <-ticker.C:
		}
	}
}

// compare looks for the first block of stored that replayed has not. Since each block names its parent's hash, blocks
// are equal up to there and different from there on, so that halving finds it.
func compare(v Verification, stored, replayed *ledger.Ledger) Verification {
	hash := func(l *ledger.Ledger, number uint64) common.Hash {
		if h := l.HeaderByNumber(number); h != nil {
			return h.Hash()
		}
		return common.Hash{}
	}
	v.Block = stored.CurrentHeader().Number.Uint64()
	v.Stored, v.Replayed = stored.CurrentHeader().Hash(), hash(replayed, v.Block)
	if v.Equal = v.Stored == v.Replayed; v.Equal {
		return v
	}
	v.FirstDifferent = uint64(sort.Search(int(v.Block), func(i int) bool {
		return hash(stored, uint64(i)) != hash(replayed, uint64(i))
	}))
	if h := stored.HeaderByNumber(v.FirstDifferent); h != nil {
		if p, ok := ledger.PositionOf(h); ok {
			v.FirstDifferentLSN = p.LSN
		}
	}
	return v
}
