package comet

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"time"

	abcicli "github.com/cometbft/cometbft/abci/client"
	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/cometbft/cometbft/libs/service"
	"github.com/cometbft/cometbft/proxy"
	"github.com/cometbft/cometbft/store"
	"github.com/cometbft/cometbft/types"

	"ledgerd/consensus"
)

// appHash is the same in every block. Were it to change, CometBFT would put an empty block after each one to commit to it; the log's digest stands in the
// heads instead.
var appHash = []byte("ledgerd")

// An app is the application that CometBFT orders for: it judges proposals, and hands what was committed to the replica. Its methods are called one at a time.
type app struct {
	abci.BaseApplication
	seg       consensus.Segment
	replica   *consensus.Replica // nil while the epoch is only prepared
	store     *consensus.Store
	area      *consensus.EngineArea
	pool      *pool
	blocks    *store.BlockStore
	now       func() time.Time
	logger    *slog.Logger
	committed func(block, []consensus.Verdict) // what a block came to
	offences  *offences
	villain   villain // nil: this member is honest

	decided struct { // between FinalizeBlock and Commit
		height      int64
		block       block
		misbehavior []abci.Misbehavior
	}
	failed error // why the replica must not go on
}

// Bounds.
const (
	maxClockAhead    = 15 * time.Second                  // of a proposer, before this node
	maxProposalBytes = consensus.MaxRecordBytes + 64<<10 // of a block's transactions, as CometBFT counts them
	maxBarrierBytes  = 16 << 10                          // of these, for barriers
	proposalOverhead = 4<<10 + maxBarrierBytes           // of these, for the head, the Base, and barriers
	retainEvery      = 64                                // heights between two looks at what the trim point lets go
)

// Info implements abci.Application.
func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	r := &abci.ResponseInfo{AppVersion: appVersion, LastBlockAppHash: appHash}
	if a.replica != nil {
		r.LastBlockHeight = int64(a.replica.Applied())
	}
	return r, nil
}

// InitChain implements abci.Application.
func (*app) InitChain(context.Context, *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	return &abci.ResponseInitChain{AppHash: appHash}, nil
}

// PrepareProposal implements abci.Application: a block is a head, the Base if there was none yet, and what of the pool becomes an entry. A Seal goes alone, so
// that it does not wait, and its proof is small.
func (a *app) PrepareProposal(_ context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	at := a.replica.Position()
	h := head{unixMilli: max(at.UnixMilli, uint64(max(0, a.now().UnixMilli()))), next: at.Next, digest: at.Digest}
	out := [][]byte{h.encode()}
	if !at.Based {
		out = append(out, encodeRecord(consensus.BaseRecord(a.seg)))
	}
	good, bad, err := a.choose(h, req.Txs, min(req.MaxTxBytes, maxProposalBytes)-proposalOverhead)
	if err != nil {
		return nil, err
	}
	a.pool.remove(bad...)
	out = append(out, good...)
	if a.villain != nil {
		out = a.villain.propose(req.Height, out)
	}
	return &abci.ResponsePrepareProposal{Txs: out}, nil
}

// choose returns those of the transactions that a block can hold, and the keys of those that none can. CometBFT panics if a proposal is larger than it may be, so that
// no transaction goes in uncounted. room is for records; one may be larger, the first.
func (a *app) choose(h head, txs [][]byte, room int64) (good [][]byte, bad []types.TxKey, err error) {
	var items []consensus.Item
	var of [][]byte // their transactions
	barrierRoom := int64(maxBarrierBytes)
	for _, tx := range txs {
		t, err := decodeTransaction(tx)
		switch {
		case err != nil, t.barrier == nil && consensus.IsBase(t.record):
			bad = append(bad, types.Tx(tx).Key())
		case t.barrier != nil:
			if barrierRoom -= sizeOf(tx); barrierRoom >= 0 {
				good = append(good, tx)
			}
		default:
			items, of = append(items, consensus.Item{UnixMilli: h.unixMilli, Record: t.record}), append(of, tx)
		}
	}
	for i, item := range items {
		if !consensus.IsSeal(item.Record) {
			continue
		}
		if v, err := a.replica.Judge(items[i : i+1]); err != nil {
			return nil, nil, err
		} else if v[0].Next != nil {
			return [][]byte{of[i]}, bad, nil
		}
	}
	verdicts, err := a.replica.Judge(items)
	if err != nil {
		return nil, nil, err
	}
	barriers := len(good)
	for i, v := range verdicts {
		if v.Kind != consensus.Data {
			bad = append(bad, types.Tx(of[i]).Key())
			continue
		}
		if room -= sizeOf(of[i]); room < 0 && len(good) > barriers {
			break
		}
		good = append(good, of[i])
	}
	return good, bad, nil
}

// sizeOf is what transactions take of a block, in bytes, as CometBFT counts.
func sizeOf(txs ...[]byte) int64 { return types.ComputeProtoSizeForTxs(types.ToTxs(txs)) }

// ProcessProposal implements abci.Application. Its verdict is a function of the block and the log before it, but for the clock, which is bounded from above
// only: a block that validators are locked on is judged again later, and must not become bad meanwhile, or they would halt the chain.
func (a *app) ProcessProposal(_ context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	if err := a.judge(req.Txs); err != nil {
		a.logger.Warn("proposal refused", "height", req.Height, "proposer", fmt.Sprintf("%X", req.ProposerAddress), "err", err)
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
	}
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
}

// judge returns what is wrong with a proposed block.
func (a *app) judge(txs [][]byte) error {
	if size := sizeOf(txs...); size > maxProposalBytes {
		return fmt.Errorf("%w: %d bytes of transactions, more than %d", consensus.ErrTooLarge, size, maxProposalBytes)
	}
	b, err := decodeBlock(txs)
	if err != nil {
		return err
	}
	at := a.replica.Position()
	if err := b.head.continues(at); err != nil {
		return err
	}
	if limit := max(at.UnixMilli, uint64(max(0, a.now().Add(maxClockAhead).UnixMilli()))); b.head.unixMilli > limit {
		return fmt.Errorf("%w: its clock is %d, this node's %d", consensus.ErrInvalid, b.head.unixMilli, a.now().UnixMilli())
	}
	if at.Sealed && (len(b.items) > 0 || len(b.nonces) > 0) {
		return fmt.Errorf("%w: it holds something, and the segment is sealed", consensus.ErrInvalid)
	}
	verdicts, err := a.replica.Judge(b.items)
	if err != nil {
		return err
	}
	for i, v := range verdicts {
		based := v.Kind == consensus.Based && !at.Based && i == 0 && b.at[0] == 1
		if !based && v.Kind != consensus.Data {
			return fmt.Errorf("%w: record %v is void (%v): %v", consensus.ErrInvalid, b.items[i].Record.ID, v.Kind, v.Err)
		}
	}
	if !at.Based && (len(verdicts) == 0 || verdicts[0].Kind != consensus.Based) {
		return fmt.Errorf("%w: the segment has no Base yet, and it brings none", consensus.ErrInvalid)
	}
	return nil
}

// continues returns an ErrInvalid unless a block with this head continues the log from a position.
func (h head) continues(at consensus.Position) error {
	if h.next != at.Next || h.digest != at.Digest || h.unixMilli < at.UnixMilli {
		return fmt.Errorf("%w: its head says lsn %d, digest %v, clock %d; the log is at lsn %d, digest %v, clock %d",
			consensus.ErrInvalid, h.next, h.digest, h.unixMilli, at.Next, at.Digest, at.UnixMilli)
	}
	return nil
}

// FinalizeBlock implements abci.Application. It changes nothing: a crash may come before CometBFT has stored the answer, and then it is called again.
func (a *app) FinalizeBlock(_ context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	d := &a.decided
	d.height, d.misbehavior = req.Height, req.Misbehavior
	var err error
	if d.block, err = decodeBlock(req.Txs); err == nil && uint64(req.Height) > a.replica.Applied() {
		err = d.block.head.continues(a.replica.Position())
	}
	if err != nil { // more than two thirds have judged otherwise
		a.failed = fmt.Errorf("%w: block %d, which the members committed: %w", consensus.ErrDiverged, req.Height, err)
		return nil, a.failed
	}
	results := make([]*abci.ExecTxResult, len(req.Txs))
	for i := range results {
		results[i] = &abci.ExecTxResult{}
	}
	return &abci.ResponseFinalizeBlock{TxResults: results, AppHash: appHash}, nil
}

// Commit implements abci.Application: the block's records are applied. CometBFT has stored its answer to FinalizeBlock before, so that the mark does not lead
// it (invariant 3).
func (a *app) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	d := &a.decided
	if uint64(d.height) <= a.replica.Applied() {
		return &abci.ResponseCommit{}, nil
	}
	before := a.replica.Position()
	batch := consensus.Batch{Applied: uint64(d.height), Items: d.block.items}
	if bringsSeal(d.block) {
		proof, err := prove(a.blocks, d.height)
		if err != nil {
			return nil, a.fail(err)
		}
		batch.Proof = proof
	}
	if err := a.offences.add(d.height, d.misbehavior); err != nil {
		return nil, a.fail(err)
	}
	verdicts, err := a.replica.Apply(batch)
	if err != nil {
		return nil, a.fail(err)
	}
	if next := a.replica.Position().Next; next > before.Next {
		err := a.area.Write(false, func(b *consensus.EngineBatch) error {
			return b.Set(heightKey(next), binary.BigEndian.AppendUint64(nil, uint64(d.height)))
		})
		if err != nil {
			return nil, a.fail(err)
		}
	}
	retain, err := a.retain(d.height)
	if err != nil {
		return nil, a.fail(err)
	}
	a.committed(d.block, verdicts)
	return &abci.ResponseCommit{RetainHeight: retain}, nil
}

func (a *app) fail(err error) error {
	if a.failed == nil {
		a.failed = err
	}
	return err
}

func bringsSeal(b block) bool {
	for _, item := range b.items {
		if consensus.IsSeal(item.Record) {
			return true
		}
	}
	return false
}

// heightKey is that of the height at which the log grew up to an LSN.
func heightKey(next consensus.LSN) []byte {
	return binary.BigEndian.AppendUint64([]byte{keyHeight}, uint64(next))
}

// retain returns the lowest height that is still needed, now and then; 0 for all. Blocks whose entries are all trimmed are not.
func (a *app) retain(height int64) (int64, error) {
	trimmed := a.store.Trimmed()
	if height%retainEvery != 0 || trimmed < a.seg.Base {
		return 0, nil
	}
	last := int64(0)
	var lastKey []byte
	err := a.area.Scan([]byte{keyHeight}, heightKey(trimmed+2), func(k, v []byte) error { // whose next LSN is at most trimmed+1
		last, lastKey = int64(binary.BigEndian.Uint64(v)), bytes.Clone(k)
		return nil
	})
	if err != nil || last == 0 {
		return 0, err
	}
	if err := a.area.Write(false, func(b *consensus.EngineBatch) error { return b.DeleteRange([]byte{keyHeight}, lastKey) }); err != nil {
		return 0, err
	}
	return min(last+1, height), nil
}

// conns are CometBFT's connections to the app, all of them the app itself. CometBFT's own would end the process when one fails, and leave a goroutine.
type conns struct {
	service.BaseService
	client    abcicli.Client
	consensus proxy.AppConnConsensus
	query     proxy.AppConnQuery
}

var _ proxy.AppConns = (*conns)(nil)

func newConns(a *app) *conns {
	c := &conns{client: abcicli.NewLocalClient(nil, a)}
	c.BaseService = *service.NewBaseService(nil, "conns", c)
	c.consensus, c.query = proxy.NewAppConnConsensus(c.client, proxy.NopMetrics()), proxy.NewAppConnQuery(c.client, proxy.NopMetrics())
	return c
}

// Consensus implements proxy.AppConns.
func (c *conns) Consensus() proxy.AppConnConsensus { return c.consensus }

// Query implements proxy.AppConns.
func (c *conns) Query() proxy.AppConnQuery { return c.query }

// Mempool implements proxy.AppConns.
func (*conns) Mempool() proxy.AppConnMempool { panic("comet: the mempool connection is not used") }

// Snapshot implements proxy.AppConns.
func (*conns) Snapshot() proxy.AppConnSnapshot { panic("comet: the snapshot connection is not used") }
