//go:build byzantine

package comet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	cs "github.com/cometbft/cometbft/consensus"
	cmted25519 "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p"
	cmtcons "github.com/cometbft/cometbft/proto/tendermint/consensus"
	protomem "github.com/cometbft/cometbft/proto/tendermint/mempool"
	cmtproto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"ledgerd/consensus"
)

// Lies that are not about the content of a block.
const (
	lieVotes     = "two-votes"     // votes for another block too, and tells all
	lieProposals = "two-proposals" // in its turn, makes two blocks that are both valid, and shows each to one half of the others
	lieFlood     = "flood"         // sends what no block can hold, and what nobody asked for
)

// badBlocks make of the transactions of an honest block those of one that nobody must vote for.
var badBlocks = map[string]func(txs [][]byte) [][]byte{
	"empty-block": func([][]byte) [][]byte { return nil },
	"junk-block":  func(txs [][]byte) [][]byte { return append(txs, []byte("junk")) },
	"oversize-block": func(txs [][]byte) [][]byte {
		return append(txs, append([]byte{kindRecord}, make([]byte, consensus.MaxRecordBytes+1)...))
	},
	"swollen-block": func(txs [][]byte) [][]byte { // each of its transactions is good, and CometBFT would bear it
		for i := range uint64(2 * maxProposalBytes / barrierBytes) {
			var barrier nonce
			binary.BigEndian.PutUint64(barrier[:], i)
			txs = append(txs, barrier.encode())
		}
		return txs
	},
	"future-block": func(txs [][]byte) [][]byte {
		return withHead(txs, func(h *head) { h.unixMilli += 3_600_000 })
	},
	"forked-block": func(txs [][]byte) [][]byte {
		return withHead(txs, func(h *head) { h.digest[0]++ })
	},
	"doubled-block": func(txs [][]byte) [][]byte { return append(txs, txs[1:]...) },
	"seal-block":    func(txs [][]byte) [][]byte { return append(txs, encodeRecord(unsignedSeal())) },
}

// Lies are the names of what Misbehave knows, sorted.
func Lies() []string {
	return slices.Sorted(slices.Values(append(slices.Collect(maps.Keys(badBlocks)), lieVotes, lieProposals, lieFlood)))
}

// Misbehave has a member lie, in the ways that are named: all at once, but for its turns to propose, of which each has the next one of the lies that are about blocks,
// and every last of a cycle is honest. ErrInvalid for a name that is none of Lies.
func (o *Options) Misbehave(lies ...string) error {
	for _, lie := range lies {
		if !slices.Contains(Lies(), lie) {
			return fmt.Errorf("%w: no lie %q; there are %s", consensus.ErrInvalid, lie, strings.Join(Lies(), ", "))
		}
	}
	o.villain = func(l *Loglet, honest types.PrivValidator) villain {
		v := &liar{PrivValidator: honest, l: l, lies: lies, told: map[string]*atomic.Int64{}}
		for _, lie := range lies {
			v.told[lie] = new(atomic.Int64)
			if lie != lieVotes && lie != lieFlood {
				v.turns = append(v.turns, lie)
			}
		}
		return v
	}
	return nil
}

// A liar is a villain that lies as it was told.
type liar struct {
	types.PrivValidator // an honest member's
	l                   *Loglet
	lies                []string
	turns               []string                 // of lies, those about blocks
	told                map[string]*atomic.Int64 // how often each was

	mu struct {
		sync.Mutex
		turn   int      // to propose, that it has had
		lie    string   // of this turn; empty: an honest one
		height int64    // of this turn
		txs    [][]byte // proposed in it
		second place    // the other block of its turn
	}
}

// A place is a block of a round.
type place struct {
	height int64
	round  int32
	block  types.BlockID
}

// tell notes a lie.
func (v *liar) tell(lie string, height int64) {
	if n := v.told[lie].Add(1); n&(n-1) == 0 {
		v.l.node.logger.Warn("this member lies", "lie", lie, "times", n, "height", height)
	}
}

// propose implements villain.
func (v *liar) propose(height int64, txs [][]byte) [][]byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.lie, v.mu.height = "", height
	if at := v.mu.turn % (len(v.turns) + 1); at < len(v.turns) {
		v.mu.lie = v.turns[at]
	}
	v.mu.turn++
	if lie, ok := badBlocks[v.mu.lie]; ok {
		txs = lie(slices.Clone(txs))
		v.tell(v.mu.lie, height)
	}
	v.mu.txs = txs
	return txs
}

// SignProposal implements types.PrivValidator. The second proposal is on its way before the first is shown to anybody.
func (v *liar) SignProposal(chainID string, p *cmtproto.Proposal) error {
	if err := v.PrivValidator.SignProposal(chainID, p); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.lie != lieProposals || v.mu.height != p.Height || p.PolRound >= 0 {
		return nil
	}
	return v.proposeAgain(chainID, p)
}

// proposeAgain makes a second valid block for the place of the first, and shows it to half of the others. The caller holds the lock.
func (v *liar) proposeAgain(chainID string, p *cmtproto.Proposal) error {
	n := &v.l.node
	state, err := n.states.Load()
	if err != nil {
		return err
	}
	commit := &types.Commit{}
	if p.Height > state.InitialHeight {
		commit = n.blocks.LoadSeenCommit(p.Height - 1)
	}
	key, err := v.GetPubKey()
	if err != nil {
		return err
	}
	txs := withHead(slices.Clone(v.mu.txs), func(h *head) { h.unixMilli++ })
	block, err := state.MakeBlock(p.Height, types.ToTxs(txs), commit, nil, key.Address())
	if err != nil {
		return err
	}
	parts, err := block.MakePartSet(types.BlockPartSizeBytes)
	if err != nil {
		return err
	}
	id := types.BlockID{Hash: block.Hash(), PartSetHeader: parts.Header()}
	second := types.NewProposal(p.Height, p.Round, -1, id)
	if second.Signature, err = v.sign(types.ProposalSignBytes(chainID, second.ToProto())); err != nil {
		return err
	}
	v.mu.second = place{p.Height, p.Round, id}
	peers := slices.Clone(n.peers.Peers().List()) // the list is its own
	slices.SortFunc(peers, func(a, b p2p.Peer) int { return strings.Compare(string(a.ID()), string(b.ID())) })
	for _, peer := range peers[:(len(peers)+1)/2] {
		peer.TrySend(p2p.Envelope{ChannelID: cs.DataChannel, Message: &cmtcons.Proposal{Proposal: *second.ToProto()}})
		for i := range int(parts.Total()) {
			part, err := parts.GetPart(i).ToProto()
			if err != nil {
				return err
			}
			peer.TrySend(p2p.Envelope{ChannelID: cs.DataChannel, Message: &cmtcons.BlockPart{Height: p.Height, Round: p.Round, Part: *part}})
		}
	}
	v.tell(lieProposals, p.Height)
	return nil
}

// SignVote implements types.PrivValidator.
func (v *liar) SignVote(chainID string, vote *cmtproto.Vote) error {
	if err := v.PrivValidator.SignVote(chainID, vote); err != nil {
		return err
	}
	if !slices.Contains(v.lies, lieVotes) {
		return nil
	}
	second := *vote
	second.BlockID = cmtproto.BlockID{Hash: bytes.Repeat([]byte{7}, 32), PartSetHeader: cmtproto.PartSetHeader{Total: 1, Hash: bytes.Repeat([]byte{8}, 32)}}
	v.mu.Lock()
	if other := v.mu.second; other.height == vote.Height && other.round == vote.Round {
		second.BlockID = other.block.ToProto()
	}
	v.mu.Unlock()
	var err error
	if second.Signature, err = v.sign(types.VoteSignBytes(chainID, &second)); err != nil {
		return err
	}
	for _, peer := range v.l.peers.Peers().List() {
		peer.TrySend(p2p.Envelope{ChannelID: cs.VoteChannel, Message: &cmtcons.Vote{Vote: &second}})
	}
	v.tell(lieVotes, vote.Height)
	return nil
}

// sign signs whatever it is given.
func (v *liar) sign(message []byte) ([]byte, error) {
	return cmted25519.PrivKey(v.l.opts.ConsensusKey).Sign(message)
}

// begin implements villain.
func (v *liar) begin() {
	if slices.Contains(v.lies, lieFlood) {
		v.l.wait.Go(v.flood)
	}
}

const (
	floodEvery = 10 * time.Millisecond
	floodBurst = 20 // messages to each of the others
)

// flood sends what no block can hold, until the loglet is closed. Most of it no honest member would send, and so ends a connection, which is made again.
func (v *liar) flood() {
	ticker := time.NewTicker(floodEvery)
	defer ticker.Stop()
	for n := uint64(1); ; n++ {
		select {
		case <-v.l.closing:
			return
		case <-ticker.C:
		}
		for range floodBurst {
			v.send(v.floodOf(n)...)
			v.tell(lieFlood, 0)
		}
	}
}

// floodOf returns what the n-th burst consists of: the records that an honest member takes to be another's; now and then what it does not.
func (v *liar) floodOf(n uint64) [][]byte {
	payload := make([]byte, 4<<10)
	unasked := encodeRecord(consensus.Record{App: "flood", ID: consensus.RecordID{Session: 99, Seq: n}, Payload: payload})
	if n%100 != 0 {
		var barrier nonce
		binary.BigEndian.PutUint64(barrier[:], n)
		return [][]byte{unasked, encodeRecord(unsignedSeal()), barrier.encode()}
	}
	switch n / 100 % 4 {
	case 0:
		return [][]byte{[]byte("junk")}
	case 1:
		return [][]byte{encodeRecord(consensus.BaseRecord(v.l.replica.Segment()))}
	case 2:
		return [][]byte{encodeRecord(consensus.Record{App: "NO", ID: consensus.RecordID{Session: 99}})}
	default:
		return [][]byte{append([]byte{kindRecord}, make([]byte, consensus.MaxRecordBytes+1)...)}
	}
}

// send sends transactions to each of the others.
func (v *liar) send(txs ...[]byte) {
	for _, p := range v.l.peers.Peers().List() {
		p.TrySend(p2p.Envelope{ChannelID: gossipChannel, Message: &protomem.Txs{Txs: txs}})
	}
}

// withHead changes the head of a block's transactions.
func withHead(txs [][]byte, change func(h *head)) [][]byte {
	h, err := decodeHead(txs[0])
	if err != nil {
		panic(fmt.Sprintf("comet: a block that was made here has no head: %v", err))
	}
	change(&h)
	return append([][]byte{h.encode()}, txs[1:]...)
}

// unsignedSeal is a Seal that nobody authorised.
func unsignedSeal() consensus.Record {
	return consensus.Seal{Request: consensus.Request{NetworkID: consensus.NetworkID{1}, Epoch: 2, NotAfter: 1 << 40, Spec: consensus.Spec{Engine: Name}}}.Record()
}
