package consensus

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAttemptUnknown: an attempt that needs a member which this node does not know ends at once, and says so; one that does not need it goes on without.
func TestAttemptUnknown(t *testing.T) {
	c := newChain()
	seg := c.segment()
	now := time.Unix(1000, 0)
	key := func(id uint64) ed25519.PrivateKey { return c.keys[id-1] }
	attempt := func(members int) (*Attempt, Request) {
		q := c.request(2)
		q.Spec.Members = nil
		for id := uint64(1); id <= uint64(members); id++ {
			q.Spec.Members = append(q.Spec.Members, Member{ID: id, NodeKey: publicOf(key(id)), PeerAddress: "a:1"})
		}
		a, err := NewAttempt(AttemptOptions{}, []Segment{seg}, q, []Signature{q.Sign(c.keys[0]), q.Sign(c.keys[1])}, 5, now)
		require.NoError(t, err)
		return a, q
	}
	step := func(a *Attempt, p ...PrepareAnswer) AttemptActions {
		return a.Step(AttemptInputs{Now: now, Segments: []Segment{seg}, Prepared: p})
	}
	ready := func(q Request, id uint64) PrepareAnswer {
		return PrepareAnswer{Member: id, Ready: SignReady(key(id), q.Hash(), 5, Digest{1}, Digest{2}, 1)}
	}
	unknown := PrepareAnswer{Member: 2, Err: errors.Join(errors.New("prepare"), ErrUnknownNode)}

	a, q := attempt(2)
	require.Len(t, step(a).Prepare, 2)
	step(a, ready(q, 1))
	require.Equal(t, Preparing, a.Progress().Stage)
	step(a, unknown)
	require.Equal(t, Abandoned, a.Progress().Stage, "two of two are needed")
	require.ErrorIs(t, a.Progress().Err, ErrUnknownNode)
	require.ErrorContains(t, a.Progress().Err, "member 2: ")

	a, _ = attempt(2)
	step(a)
	step(a, PrepareAnswer{Member: 2, Err: errors.New("connection refused")})
	require.Equal(t, Preparing, a.Progress().Stage, "that may pass")

	a, q = attempt(3)
	step(a)
	step(a, unknown)
	require.Equal(t, Preparing, a.Progress().Stage)
	act := step(a, ready(q, 1), ready(q, 3))
	require.Equal(t, Sealing, a.Progress().Stage)
	require.NotNil(t, act.Append)
}
