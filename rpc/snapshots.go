package rpc

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"ledgerd/consensus"
)

// Snapshots is what makes and keeps the snapshots of a node. Methods may be called concurrently.
type Snapshots interface {
	// Make makes a snapshot of what the ledger has applied, unless the newest one stands for as much, and returns the newest.
	Make(ctx context.Context) (Snapshot, error)
	// List returns those that are kept, newest first.
	List() []Snapshot
}

// Snapshot is a file that stands for the log up to an LSN.
type Snapshot struct {
	LSN    consensus.LSN
	File   string // its name, without the folder
	Size   int64  // bytes
	SHA256 consensus.Digest
}

var (
	errNoSnapshots = errors.New("this node keeps no snapshots: it has no home")
	errNotTrusted  = errors.New("a snapshot stops the ledger for a moment and fills the node's disk: it is made for who has shown a token, or is on the node's machine")
)

// ledgerSnapshot is the answer of ledger_snapshot, and an element of that of ledger_snapshots.
type ledgerSnapshot struct {
	LSN         hexutil.Uint64  `json:"lsn"`    // of the last entry that it stands for
	Digest      *hexutil.Bytes  `json:"digest"` // of the log up to there; null if the entry is trimmed
	BlockNumber *hexutil.Uint64 `json:"blockNumber"`
	BlockHash   *common.Hash    `json:"blockHash"` // of the newest block that it holds; its state is the one that the snapshot holds
	StateRoot   *common.Hash    `json:"stateRoot"`
	File        string          `json:"file"` // its name in the folder snapshots of the node's home
	Size        hexutil.Uint64  `json:"size"` // bytes
	SHA256      hexutil.Bytes   `json:"sha256"`
}

// snapshotInMaking is the attempt that runs now, which all who ask meanwhile wait for.
type snapshotInMaking struct {
	sync.Mutex
	attempt *snapshotAttempt // nil: none
}

type snapshotAttempt struct {
	over chan struct{} // closed when the others are set
	made Snapshot
	err  error
}

// Snapshot makes a snapshot of the node: a file in its home from which another node can begin, and a backup. It is of what the ledger has applied; if nothing has
// been since the newest one, that is returned. One is made at a time, and who asks meanwhile waits for the same. It goes on when its request ends, be it
// because it takes longer than an answer may: ledger_snapshots has it then. The callers must have shown a token, or be on the node's machine.
func (api *ledgerAPI) Snapshot(ctx context.Context) (*ledgerSnapshot, error) {
	switch {
	case api.opts.Snapshots == nil:
		return nil, errNoSnapshots
	case !api.trusted(ctx):
		return nil, errNotTrusted
	}
	ctx, done := api.whileOpen(ctx)
	defer done()
	attempt, err := api.makeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-attempt.over:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if attempt.err != nil {
		return nil, attempt.err
	}
	return api.snapshotForm(ctx, attempt.made)
}

// Snapshots returns the snapshots that the node keeps, newest first.
func (api *ledgerAPI) Snapshots(ctx context.Context) ([]*ledgerSnapshot, error) {
	if api.opts.Snapshots == nil {
		return nil, errNoSnapshots
	}
	forms := []*ledgerSnapshot{}
	for _, s := range api.opts.Snapshots.List() {
		form, err := api.snapshotForm(ctx, s)
		if err != nil {
			return nil, err
		}
		forms = append(forms, form)
	}
	return forms, nil
}

// trusted says whether who makes a request has shown a token, without which nothing is served if there is a secret; or is on this machine.
func (n *node) trusted(ctx context.Context) bool {
	remote := remoteOf(ctx)
	at, err := netip.ParseAddrPort(remote)
	return n.opts.JWTSecret != nil || remote == "" || err == nil && at.Addr().Unmap().IsLoopback()
}

// makeSnapshot returns the attempt that runs, or begins one, unless whoever asks has gone or the server stops. It takes no place among what is heavy, since there
// is one at a time anyway and nothing bounds how long it takes, and ends with the server.
func (n *node) makeSnapshot(ctx context.Context) (*snapshotAttempt, error) {
	n.making.Lock()
	defer n.making.Unlock()
	if n.making.attempt != nil {
		return n.making.attempt, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	attempt := &snapshotAttempt{over: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	untilStop := func() {
		defer cancel()
		select {
		case <-n.hub.done:
		case <-attempt.over:
		}
	}
	run := func() {
		attempt.made, attempt.err = n.opts.Snapshots.Make(ctx)
		n.making.Lock()
		n.making.attempt = nil
		n.making.Unlock()
		close(attempt.over)
	}
	if !n.sockets.begin(untilStop, run) {
		cancel()
		return nil, errStopping
	}
	n.making.attempt = attempt
	return attempt, nil
}

func (n *node) snapshotForm(ctx context.Context, s Snapshot) (*ledgerSnapshot, error) {
	form := &ledgerSnapshot{LSN: hexutil.Uint64(s.LSN), File: s.File, Size: hexutil.Uint64(s.Size), SHA256: s.SHA256[:]}
	if head, err := n.backend.Fingerprint(s.LSN); err == nil {
		if h := n.backend.HeaderByHash(common.Hash(head)); h != nil {
			hash, root := h.Hash(), h.Root
			form.BlockNumber, form.BlockHash, form.StateRoot = (*hexutil.Uint64)(new(h.Number.Uint64())), &hash, &root
		}
	}
	if n.log == nil {
		return form, nil
	}
	switch entries, err := n.log.Read(ctx, s.LSN, s.LSN+1); {
	case errors.Is(err, consensus.ErrTrimmed):
	case err != nil:
		return nil, logError(err)
	case len(entries) > 0:
		digest := hexutil.Bytes(entries[0].Digest[:])
		form.Digest = &digest
	}
	return form, nil
}
