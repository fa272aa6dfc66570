package comet_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/comet"
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
	members []consensus.Member
	listen  [][2]string // where each member really listens
	dir     string
	lines   []*line
	frozen  sync.RWMutex // held by freeze
	engines []*comet.Engine
}

// newTown makes so many members. Each is reached through a line for each of its two addresses.
func newTown(tb logtest.TB, members int) *town {
	tb.Helper()
	dir, err := os.MkdirTemp("", "comet-")
	require.NoError(tb, err)
	t := &town{dir: dir}
	tb.Cleanup(func() {
		for _, e := range t.engines {
			_ = e.Close()
		}
		for _, l := range t.lines {
			l.close()
		}
		_ = os.RemoveAll(dir)
	})
	for i := range members {
		m := consensus.Member{ID: uint64(i) + 1, NodeKey: publicKey(key("node", i)), ConsensusKey: publicKey(key("votes", i))}
		var listen [2]string
		for parity := range 2 {
			listen[parity] = freeAddress(tb)
			l := newLine(tb, t, listen[parity])
			t.lines, m.CometAddresses[parity] = append(t.lines, l), l.address()
		}
		t.members, t.listen = append(t.members, m), append(t.listen, listen)
	}
	return t
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress(tb logtest.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	defer l.Close()
	return l.Addr().String()
}

func (t *town) spec() consensus.Spec {
	return consensus.Spec{Engine: comet.Name, Faults: consensus.ByzantineFaults, Members: t.members}
}

func (t *town) options(member int) comet.Options {
	return comet.Options{
		NodeKey: key("node", member), ConsensusKey: key("votes", member), Listen: t.listen[member],
		Dir: filepath.Join(t.dir, fmt.Sprint(member)),
	}
}

// freeze stops what passes between members.
func (t *town) freeze() (thaw func()) {
	t.frozen.Lock()
	return t.frozen.Unlock
}

// harness is that of the suite. Its specs name members without keys, since it seals with a spec that has none; the engine is told the town's.
func harness(members int) logtest.Harness {
	return logtest.Harness{Members: members, Patience: 2 * time.Minute, New: func(tb logtest.TB, env logtest.Env) logtest.Cluster {
		t := newTown(tb, members)
		spec := consensus.Spec{Engine: comet.Name, Faults: consensus.ByzantineFaults}
		for i := range members {
			spec.Members = append(spec.Members, consensus.Member{ID: uint64(i) + 1})
		}
		return logtest.Cluster{
			Spec: spec, Freeze: t.freeze,
			Engine: func(member int) consensus.Engine {
				opts := t.options(member)
				opts.Now = env.Now
				e, err := comet.New(opts)
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
		t.Run(fmt.Sprintf("members=%d", members), func(t *testing.T) { logtest.Run(t, harness(members)) })
	}
}
