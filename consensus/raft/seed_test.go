package raft

import (
	crand "crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// TestSeeds lets a seed decide every interleaving of three drivers: frames lost, doubled and late, writes and applies whenever, restarts with writes
// done or not. Nothing acknowledged is lost, nothing is there twice, all agree; once the faults end, everything is answered; and the same seed gives the
// same trace. A failure names its seed.
func TestSeeds(t *testing.T) {
	reader := crand.Reader
	defer func() { crand.Reader = reader }()
	for seed := range uint64(30) {
		first := playSeed(t, seed)
		require.Equal(t, first, playSeed(t, seed), "seed %d has two traces", seed)
	}
}

// seeded is what the raft library draws its election timeouts from.
type seeded struct{ rng *rand.Rand }

func (s seeded) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return len(b), nil
}

var _ io.Reader = seeded{}

type play struct {
	*stage
	rng   *rand.Rand
	seq   uint64
	acked map[consensus.RecordID]consensus.Offset
	owner map[consensus.RecordID]uint64
}

func playSeed(t *testing.T, seed uint64) [32]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	crand.Reader = seeded{rng}
	p := &play{stage: &stage{t: t}, rng: rng, acked: map[consensus.RecordID]consensus.Offset{}, owner: map[consensus.RecordID]uint64{}}
	defer p.close()
	p.start(3, 1000)
	for range 3000 {
		p.chance()
	}
	for i := range 400 { // the faults end
		if i == 200 {
			for _, a := range p.actors {
				p.seq++
				p.step(a, Inputs{Appends: []*Append{p.offer(a, consensus.RecordID{Session: 1, Seq: p.seq})}})
			}
		}
		for _, a := range p.actors {
			p.step(a, Inputs{Ticks: 1})
		}
		p.run(0)
	}
	require.Empty(t, p.owner, "seed %d: appends without an answer", seed)
	p.check(seed)
	return sha256.Sum256([]byte(p.out.String()))
}

// chance is one thing that happens.
func (p *play) chance() {
	a := p.actors[p.rng.IntN(3)]
	switch p.rng.IntN(20) {
	case 0, 1, 2:
		p.step(a, Inputs{Ticks: 1})
	case 3, 4:
		p.seq++
		p.step(a, Inputs{Appends: []*Append{p.offer(a, consensus.RecordID{Session: 1, Seq: p.seq})}})
	case 5: // one that was offered before, maybe elsewhere
		if p.seq > 0 {
			p.step(a, Inputs{Appends: []*Append{p.offer(a, consensus.RecordID{Session: 1, Seq: 1 + p.rng.Uint64N(p.seq)})}})
		}
	case 6, 7, 8, 9:
		if a.write != nil {
			p.write(a)
		}
	case 10, 11, 12:
		if a.apply != nil {
			p.apply(a)
		}
	case 13:
		if p.rng.IntN(8) == 0 {
			p.crash(a)
			if b := p.actors[p.rng.IntN(3)]; b != a { // power fails at both
				p.crash(b)
			}
		}
	default:
		p.hop(a)
	}
}

// hop delivers one frame to a, most often the oldest; or loses it, or leaves a copy.
func (p *play) hop(a *actor) {
	way := [2]uint64{a.id, uint64(p.rng.IntN(3)) + 1}
	frames := p.frames[way]
	if len(frames) == 0 {
		return
	}
	i := 0
	if p.rng.IntN(4) == 0 {
		i = p.rng.IntN(len(frames))
	}
	frame, fate := frames[i], p.rng.IntN(20)
	if fate > 0 {
		p.frames[way] = append(frames[:i:i], frames[i+1:]...)
	}
	if fate > 1 {
		p.step(a, Inputs{Frames: [][]byte{frame}})
	}
}

// crash restarts a member. What was to be written is, or is not; what was applied but not reported is.
func (p *play) crash(a *actor) {
	if a.write != nil && p.rng.IntN(2) == 0 {
		require.NoError(p.t, a.write.Persist())
	}
	if a.apply != nil && p.rng.IntN(2) == 0 {
		require.NoError(p.t, a.apply.Perform(a.replica))
	}
	p.say("%d restarts", a.id)
	for id, owner := range p.owner {
		if owner == a.id {
			delete(p.owner, id)
		}
	}
	p.stage.open(a)
	p.step(a, Inputs{})
}

func (p *play) offer(a *actor, id consensus.RecordID) *Append {
	p.owner[id] = a.id
	return &Append{Record: consensus.Record{App: "test", ID: id, Payload: []byte(id.String())}, Done: func(o consensus.Offset, err error) {
		require.NoError(p.t, err)
		p.say("%d append %v: %d", a.id, id, o)
		if was, ok := p.acked[id]; ok {
			require.Equal(p.t, was, o, "%v was acknowledged at two places", id)
		}
		p.acked[id] = o
		if p.owner[id] == a.id {
			delete(p.owner, id)
		}
	}}
}

func (p *play) check(seed uint64) {
	head := p.actors[0].replica.Position()
	for _, a := range p.actors[1:] {
		require.Equal(p.t, head, a.replica.Position(), "seed %d: member %d", seed, a.id)
	}
	entries, err := p.actors[0].replica.Read(p.t.Context(), 0, consensus.Offset(head.Next-1))
	require.NoError(p.t, err)
	seen := map[consensus.RecordID]bool{}
	for _, e := range entries {
		require.False(p.t, seen[e.Record.ID], "seed %d: %v is there twice", seed, e.Record.ID)
		seen[e.Record.ID] = true
	}
	for id, o := range p.acked {
		require.Less(p.t, int(o), len(entries), "seed %d", seed)
		require.Equal(p.t, id, entries[o].Record.ID, "seed %d", seed)
	}
	p.say("%v", fmt.Sprint(head))
}
