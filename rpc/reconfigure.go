package rpc

import (
	"context"
	"crypto/ed25519"
	"errors"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	gethmath "github.com/ethereum/go-ethereum/common/math"

	"ledgerd/consensus"
)

// logSignature is an administrator's, over a request.
type logSignature struct {
	Key       hexutil.Bytes `json:"key"`
	Signature hexutil.Bytes `json:"signature"`
}

// logReconfiguration is the JSON form of a Reconfiguration.
type logReconfiguration struct {
	Epoch    hexutil.Uint64   `json:"epoch"`
	Request  hexutil.Bytes    `json:"request"`  // its hash
	Identity hexutil.Bytes    `json:"identity"` // of the epoch
	Engine   string           `json:"engine"`
	Stage    string           `json:"stage"` // preparing, sealing, switching, completing, complete, abandoned
	Ready    []hexutil.Uint64 `json:"ready"` // next members that said so
	Over     []hexutil.Uint64 `json:"over"`  // next members known to hold everything below the base
	Base     *hexutil.Uint64  `json:"base"`  // null before it is sealed
	// GapMilliseconds is the time from the Seal to the first item of the new segment, as this node saw it; null if it did not.
	GapMilliseconds *float64 `json:"gapMilliseconds"`
	Running         bool     `json:"running"`
	Switched        bool     `json:"switched"`   // the new segment orders
	Complete        bool     `json:"complete"`   // who is not a member any more may be turned off
	Superseded      bool     `json:"superseded"` // another request was sealed for the epoch
	Error           *string  `json:"error"`      // why it ended before it was complete
}

func newLogReconfiguration(r Reconfiguration) *logReconfiguration {
	hash, next, p := r.Request.Hash(), r.Request.Segment(), r.Progress
	form := &logReconfiguration{
		Epoch:      hexutil.Uint64(next.Epoch),
		Request:    hash[:],
		Identity:   next.Identity[:],
		Engine:     next.Spec.Engine,
		Stage:      p.Stage.String(),
		Ready:      quantities(p.Ready),
		Over:       quantities(p.Over),
		Running:    r.Running,
		Switched:   p.Stage == consensus.Completing || p.Stage == consensus.Complete,
		Complete:   p.Stage == consensus.Complete,
		Superseded: errors.Is(r.Err, consensus.ErrSuperseded),
	}
	if p.Base > 0 {
		form.Base = (*hexutil.Uint64)(&p.Base)
	}
	if p.Gap > 0 {
		ms := float64(p.Gap.Round(time.Microsecond)) / float64(time.Millisecond)
		form.GapMilliseconds = &ms
	}
	if r.Err != nil {
		text := r.Err.Error()
		form.Error = &text
	}
	return form
}

func quantities(ids []uint64) []hexutil.Uint64 {
	forms := make([]hexutil.Uint64, len(ids))
	for i, id := range ids {
		forms[i] = hexutil.Uint64(id)
	}
	return forms
}

// Reconfigure begins to bring a signed request through, and returns how that stands: it goes on after the call. Called again with the same request, here
// or on another node, it joins what is under way. A request that cannot come true is -32602 and says why. Nobody has to be trusted with this method: the
// signatures decide.
func (api *logAPI) Reconfigure(ctx context.Context, request hexutil.Bytes, signatures []logSignature) (*logReconfiguration, error) {
	q, err := consensus.DecodeRequest(request)
	if err != nil {
		return nil, logError(err)
	}
	var sigs []consensus.Signature
	for i, s := range signatures {
		if len(s.Key) != ed25519.PublicKeySize || len(s.Signature) != ed25519.SignatureSize {
			return nil, invalidParams("signature %d: a key of %d bytes and a signature of %d; want %d and %d",
				i, len(s.Key), len(s.Signature), ed25519.PublicKeySize, ed25519.SignatureSize)
		}
		sigs = append(sigs, consensus.Signature{Key: ed25519.PublicKey(s.Key), Bytes: [ed25519.SignatureSize]byte(s.Signature)})
	}
	ctx, done := api.whileOpen(ctx)
	defer done()
	r, err := api.log.BeginReconfiguration(ctx, q, sigs)
	if err != nil {
		return nil, logError(err)
	}
	return newLogReconfiguration(r), nil
}

// Reconfiguration returns how the newest attempt of this node at an epoch stands; null if it knows of none.
func (api *logAPI) Reconfiguration(epoch gethmath.HexOrDecimal64) *logReconfiguration {
	r, ok := api.log.Reconfiguration(consensus.Epoch(epoch))
	if !ok {
		return nil
	}
	return newLogReconfiguration(r)
}

// logMemberStatus is the JSON form of a MemberStatus.
type logMemberStatus struct {
	logMember
	Epoch     *hexutil.Uint64 `json:"epoch"` // the last one it knows; null: it does not answer
	InSegment bool            `json:"inSegment"`
	Reachable bool            `json:"reachable"`
	MayStop   bool            `json:"mayStop"`
}

// Members returns all who are or were members, with what they answer now.
func (api *logAPI) Members(ctx context.Context) []logMemberStatus {
	ctx, done := api.whileOpen(ctx)
	defer done()
	members := api.log.Members(ctx)
	forms := make([]logMemberStatus, len(members))
	for i, m := range members {
		forms[i] = logMemberStatus{logMember: newLogMember(m.Member), InSegment: m.InSegment, Reachable: m.Epoch > 0, MayStop: m.MayStop}
		if m.Epoch > 0 {
			forms[i].Epoch = (*hexutil.Uint64)(&members[i].Epoch)
		}
	}
	return forms
}
