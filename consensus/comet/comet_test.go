package comet

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/logtest"
)

// key derives a private key from words.
func key(words ...any) ed25519.PrivateKey {
	seed := sha256.Sum256(fmt.Append(nil, words...))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicKey(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

// A town is what some members share: their keys, addresses, and the lines between them, which can be frozen and cut.
type town struct {
	params  map[string]string // of the spec
	members []consensus.Member
	dir     string
	lines   map[way]*line
	frozen  sync.RWMutex // held by freeze
	engines []*Engine
}

// A way leads from one member to another, in epochs of one parity.
type way struct{ from, to, parity int }

// newTown makes so many members. Each reaches each of the others through a line.
func newTown(tb logtest.TB, members int) *town {
	tb.Helper()
	dir, err := os.MkdirTemp("", "comet-")
	require.NoError(tb, err)
	t := &town{dir: dir, lines: map[way]*line{}}
	tb.Cleanup(func() {
		for _, e := range t.engines {
			_ = e.Close()
		}
		for _, l := range t.lines {
			l.close()
		}
		_ = os.RemoveAll(dir)
	})
	addresses := freeAddresses(tb, 2*members)
	for i := range members {
		t.members = append(t.members, consensus.Member{
			ID: uint64(i) + 1, NodeKey: publicKey(key("node", i)), ConsensusKey: publicKey(key("votes", i)),
			CometAddresses: [2]string(addresses[2*i : 2*i+2]),
		})
		for from := range members {
			for parity, to := range t.members[i].CometAddresses {
				t.lines[way{from, i, parity}] = newLine(tb, t, to)
			}
		}
	}
	return t
}

// freeAddresses returns loopback addresses that nobody listens on, below the range from which Linux takes the ports of clients: they may be used much later.
func freeAddresses(tb logtest.TB, n int) (addresses []string) {
	tb.Helper()
	for range 100 + n {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(12000+rand.IntN(20000))))
		if err != nil {
			continue
		}
		defer l.Close()
		if addresses = append(addresses, l.Addr().String()); len(addresses) == n {
			return addresses
		}
	}
	require.FailNow(tb, "no free ports")
	return nil
}

func (t *town) spec() consensus.Spec {
	return consensus.Spec{
		Engine: Name, Faults: consensus.ByzantineFaults, Members: t.members, Params: t.params,
		Admins: []ed25519.PublicKey{publicKey(key("administrator"))}, Threshold: 1,
	}
}

// seal is a Seal of the first epoch, for another with the same members.
func (t *town) seal() consensus.Record {
	q := consensus.Request{NetworkID: consensus.NetworkID{1}, Epoch: 2, Spec: t.spec(), NotAfter: 1 << 40}
	s := consensus.Seal{Request: q, Signatures: []consensus.Signature{q.Sign(key("administrator"))}}
	for i := range t.members {
		s.Ready = append(s.Ready, consensus.SignReady(key("node", i), q.Hash(), 0, consensus.Digest{}, consensus.Digest{}, 0))
	}
	return s.Record()
}

func (t *town) options(member int) Options {
	return Options{
		NodeKey: key("node", member), ConsensusKey: key("votes", member), Dir: filepath.Join(t.dir, fmt.Sprint(member)),
		Address: func(m consensus.Member, parity int) string {
			return t.lines[way{member, int(m.ID) - 1, parity}].address()
		},
	}
}

// freeze stops what passes between members.
func (t *town) freeze() (thaw func()) {
	t.frozen.Lock()
	return t.frozen.Unlock
}

// isolate breaks all connections of a member, or lets them be made again.
func (t *town) isolate(member int, cut bool) {
	for w, l := range t.lines {
		if w.from == member || w.to == member {
			l.sever(cut)
		}
	}
}

// harness is that of the suite. Its specs name members without keys, since it seals with a spec that has none; the engine is told the town's.
func harness(members int) logtest.Harness {
	return logtest.Harness{Members: members, Patience: 2 * time.Minute, New: func(tb logtest.TB, env logtest.Env) logtest.Cluster {
		t := newTown(tb, members)
		spec := consensus.Spec{Engine: Name, Faults: consensus.ByzantineFaults}
		for i := range members {
			spec.Members = append(spec.Members, consensus.Member{ID: uint64(i) + 1})
		}
		return logtest.Cluster{
			Spec: spec, Freeze: t.freeze,
			Engine: func(member int) consensus.Engine {
				opts := t.options(member)
				opts.Now = env.Now
				e, err := New(opts)
				require.NoError(tb, err)
				t.engines = append(t.engines, e)
				return consensus.EngineFunc(func(ctx context.Context, store *consensus.Store, seg consensus.Segment) (consensus.Loglet, error) {
					if err := store.Vouch(1); err != nil {
						return nil, err
					}
					seg.Spec.Members, seg.Spec.Faults = t.members, consensus.ByzantineFaults
					return e.Open(ctx, store, seg)
				})
			},
		}
	}}
}

func TestLoglet(t *testing.T) {
	for _, members := range []int{1, 4} {
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) {
			if raceDetector && members > 1 {
				t.Skip("under the race detector the suite runs with one member: four take longer than the others together, and the tests of faults have four")
			}
			logtest.Run(t, harness(members))
		})
	}
}
