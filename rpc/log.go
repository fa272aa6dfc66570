package rpc

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	gethmath "github.com/ethereum/go-ethereum/common/math"

	"ledgerd/consensus"
)

// logAPI is the log_ namespace: the shared log below the ledger. Positions are quantities in hexadecimal, as everywhere in
// Ethereum's JSON-RPC; as arguments they may be plain numbers too.
type logAPI struct{ *node }

// Tail returns the first unwritten LSN: with "consistent", the default, not below anything acknowledged before the call;
// with "fast", as far as this node knows.
func (api *logAPI) Tail(ctx context.Context, consistency *string) (hexutil.Uint64, error) {
	c := consensus.Consistent
	if consistency != nil {
		switch *consistency {
		case "consistent":
		case "fast":
			c = consensus.Fast
		default:
			return 0, invalidParams("consistency is %q, want \"consistent\" or \"fast\"", *consistency)
		}
	}
	ctx, done := api.whileOpen(ctx)
	defer done()
	bounded, cancel := context.WithTimeout(ctx, api.opts.MaxSyncTimeout)
	defer cancel()
	tail, err := api.log.Tail(bounded, c)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return 0, fmt.Errorf("no quorum has confirmed the tail of the log within %v; \"fast\" is as far as this node knows", api.opts.MaxSyncTimeout)
	}
	return hexutil.Uint64(tail), logError(err)
}

// logEntry is the JSON form of an entry.
type logEntry struct {
	LSN            hexutil.Uint64 `json:"lsn"`
	Epoch          hexutil.Uint64 `json:"epoch"`
	MilliTimestamp hexutil.Uint64 `json:"milliTimestamp"`
	App            string         `json:"app"`
	ID             logRecordID    `json:"id"`
	Payload        hexutil.Bytes  `json:"payload"`
	Digest         hexutil.Bytes  `json:"digest"` // of the log up to and including this entry
}

type logRecordID struct {
	Session hexutil.Uint64 `json:"session"`
	Seq     hexutil.Uint64 `json:"seq"`
}

// readStep is how many entries are asked of the log at a time: at most this many MiB more than the limit are in memory.
const readStep = 8

// Read returns entries from lo up to, not including, hi: at least one, and as many as the limits allow. The caller goes on after
// the last one. Reading below the trim point is 4444, past the tail -32001.
func (api *logAPI) Read(ctx context.Context, lo, hi gethmath.HexOrDecimal64) ([]logEntry, error) {
	if lo == 0 || lo >= hi {
		return nil, invalidParams("empty range [%d, %d): LSNs start at 1", lo, hi)
	}
	end := min(uint64(hi), uint64(lo)+uint64(api.opts.MaxLogReadEntries))
	if end < uint64(lo) { // overflow
		end = uint64(hi)
	}
	ctx, done := api.whileOpen(ctx)
	defer done()
	var answer []logEntry
	for next, size := uint64(lo), 0; next < end && size < api.opts.MaxLogReadBytes; {
		entries, err := api.log.Read(ctx, consensus.LSN(next), consensus.LSN(min(end, next+readStep)))
		if err != nil {
			return nil, logError(err)
		}
		if len(entries) == 0 {
			return nil, fmt.Errorf("log read [%d, %d): no entries", next, end)
		}
		for _, e := range entries {
			answer = append(answer, newLogEntry(e))
			size += len(e.Record.Payload)
		}
		next += uint64(len(entries))
	}
	return answer, nil
}

func newLogEntry(e consensus.Entry) logEntry {
	return logEntry{
		LSN:            hexutil.Uint64(e.LSN),
		Epoch:          hexutil.Uint64(e.Epoch),
		MilliTimestamp: hexutil.Uint64(e.UnixMilli),
		App:            e.Record.App,
		ID:             logRecordID{hexutil.Uint64(e.Record.ID.Session), hexutil.Uint64(e.Record.ID.Seq)},
		Payload:        e.Record.Payload,
		Digest:         e.Digest[:],
	}
}

// logSegment is the JSON form of a segment.
type logSegment struct {
	Network            hexutil.Bytes     `json:"network"`
	Epoch              hexutil.Uint64    `json:"epoch"`
	Recovery           hexutil.Uint64    `json:"recovery"`
	Base               hexutil.Uint64    `json:"base"` // LSN of the first entry
	End                *hexutil.Uint64   `json:"end"`  // LSN after the last entry, its Seal; null in the segment that orders now
	BaseDigest         hexutil.Bytes     `json:"baseDigest"`
	BaseMilliTimestamp hexutil.Uint64    `json:"baseMilliTimestamp"`
	Identity           hexutil.Bytes     `json:"identity"`
	Engine             string            `json:"engine"`
	Faults             string            `json:"faults"` // that the engine bears: "crash" or "byzantine"
	Params             map[string]string `json:"params"`
	Members            []logMember       `json:"members"`
	Admins             []hexutil.Bytes   `json:"admins"`
	Threshold          int               `json:"threshold"`
	Ledger             hexutil.Bytes     `json:"ledger"` // parameters of the ledger that change with this segment
	Proof              *hexutil.Bytes    `json:"proof"`  // of the engine, that the members ordered the Seal; null if it has none, or there is no Seal yet
}

type logMember struct {
	ID             hexutil.Uint64 `json:"id"`
	NodeKey        hexutil.Bytes  `json:"nodeKey"`
	ConsensusKey   hexutil.Bytes  `json:"consensusKey"`
	PeerAddress    string         `json:"peerAddress"`
	CometAddresses [2]string      `json:"cometAddresses"`
}

// Segments returns the chain of segments, oldest first.
func (api *logAPI) Segments(ctx context.Context) ([]logSegment, error) {
	segments := api.log.Segments()
	forms := make([]logSegment, len(segments))
	for i, s := range segments {
		forms[i] = newLogSegment(s)
		if i == 0 {
			continue
		}
		last, lsn := &forms[i-1], forms[i].Base
		last.End = &lsn
		end, ended, err := api.log.SegmentEnd(ctx, s.Epoch-1)
		if err != nil {
			return nil, logError(err)
		}
		if ended && len(end.Proof) > 0 {
			last.Proof = (*hexutil.Bytes)(&end.Proof)
		}
	}
	return forms, nil
}

func newLogSegment(s consensus.Segment) logSegment {
	form := logSegment{
		Network:            s.Network[:],
		Epoch:              hexutil.Uint64(s.Epoch),
		Recovery:           hexutil.Uint64(s.Recovery),
		Base:               hexutil.Uint64(s.Base),
		BaseDigest:         s.BaseDigest[:],
		BaseMilliTimestamp: hexutil.Uint64(s.BaseUnixMilli),
		Identity:           s.Identity[:],
		Engine:             s.Spec.Engine,
		Faults:             s.Spec.Faults.String(),
		Params:             s.Spec.Params,
		Members:            make([]logMember, len(s.Spec.Members)),
		Admins:             make([]hexutil.Bytes, len(s.Spec.Admins)),
		Threshold:          s.Spec.Threshold,
		Ledger:             s.Spec.Ledger,
	}
	if form.Params == nil {
		form.Params = map[string]string{}
	}
	for i, m := range s.Spec.Members {
		form.Members[i] = newLogMember(m)
	}
	for i, k := range s.Spec.Admins {
		form.Admins[i] = keyBytes(k)
	}
	return form
}

func newLogMember(m consensus.Member) logMember {
	return logMember{hexutil.Uint64(m.ID), keyBytes(m.NodeKey), keyBytes(m.ConsensusKey), m.PeerAddress, m.CometAddresses}
}

func keyBytes(k ed25519.PublicKey) hexutil.Bytes { return hexutil.Bytes(k) }

// logStatus is the answer of log_status.
type logStatus struct {
	Network   hexutil.Bytes  `json:"network"`
	Epoch     hexutil.Uint64 `json:"epoch"`
	Base      hexutil.Uint64 `json:"base"`
	Engine    string         `json:"engine"`
	Role      string         `json:"role"` // of this node: "orders" or "observes"
	Tail      hexutil.Uint64 `json:"tail"`
	Trimmed   hexutil.Uint64 `json:"trimmed"` // the last LSN that is gone here; 0x0: none
	Applied   hexutil.Uint64 `json:"applied"` // by the ledger
	HeadBlock hexutil.Uint64 `json:"headBlock"`
	HeadHash  hexutil.Bytes  `json:"headHash"`
	Loglet    logletStatus   `json:"loglet"`
	// Prepared are the identities of epochs that this node is ready to order, should they come.
	Prepared []hexutil.Bytes `json:"prepared,omitempty"`
	// Dissent are the members that claim another history than this node's, with the LSN of their last claim.
	Dissent []logDissent `json:"dissent,omitempty"`
	Notice  string       `json:"notice,omitempty"` // why this node observes a segment that names it as a member
	Problem string       `json:"problem,omitempty"`
}

type logDissent struct {
	Member hexutil.Uint64 `json:"member"`
	LSN    hexutil.Uint64 `json:"lsn"`
}

type logletStatus struct {
	Engine string            `json:"engine"`
	Epoch  hexutil.Uint64    `json:"epoch"`
	State  string            `json:"state"`
	Tail   hexutil.Uint64    `json:"tail"` // an offset
	Sealed bool              `json:"sealed"`
	Detail map[string]string `json:"detail,omitempty"`
}

// Status is the log's state on this node, for people and for `ledgerd log status`.
func (api *logAPI) Status() logStatus {
	s, head := api.log.Status(), api.backend.CurrentHeader()
	form := logStatus{
		Network:   s.NetworkID[:],
		Epoch:     hexutil.Uint64(s.Epoch),
		Base:      hexutil.Uint64(s.Base),
		Engine:    s.Engine,
		Role:      s.Role,
		Tail:      hexutil.Uint64(s.Tail),
		Trimmed:   hexutil.Uint64(s.Trimmed),
		Applied:   hexutil.Uint64(api.backend.Applied()),
		HeadBlock: hexutil.Uint64(head.Number.Uint64()),
		HeadHash:  head.Hash().Bytes(),
		Loglet: logletStatus{
			Engine: s.Loglet.Engine,
			Epoch:  hexutil.Uint64(s.Loglet.Epoch),
			State:  s.Loglet.State,
			Tail:   hexutil.Uint64(s.Loglet.Tail),
			Sealed: s.Loglet.Sealed,
			Detail: s.Loglet.Detail,
		},
		Notice:  s.Notice,
		Problem: s.Problem,
	}
	for _, id := range s.Prepared {
		form.Prepared = append(form.Prepared, id[:])
	}
	for _, id := range slices.Sorted(maps.Keys(s.Dissent)) {
		form.Dissent = append(form.Dissent, logDissent{hexutil.Uint64(id), hexutil.Uint64(s.Dissent[id])})
	}
	return form
}
