package node

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/rpc"
)

// scriptedLog lets a test say how each attempt goes.
type scriptedLog struct {
	calls    chan *scriptedAttempt
	segments []consensus.Segment
}

// scriptedAttempt is a call of Reconfigure that the test answers.
type scriptedAttempt struct {
	ctx      context.Context
	request  consensus.Request
	progress func(consensus.Progress)
	result   chan result
}

type result struct {
	last consensus.Progress
	err  error
}

func (l *scriptedLog) Reconfigure(ctx context.Context, q consensus.Request, _ []consensus.Signature, progress func(consensus.Progress)) (consensus.Progress, error) {
	a := &scriptedAttempt{ctx, q, progress, make(chan result)}
	l.calls <- a
	select {
	case r := <-a.result:
		return r.last, r.err
	case <-ctx.Done():
		return consensus.Progress{Stage: consensus.Sealing}, ctx.Err()
	}
}

func (l *scriptedLog) Segments() []consensus.Segment { return l.segments }

// begun is the answer of a BeginReconfiguration.
type begun struct {
	rpc.Reconfiguration
	err error
}

// begin asks, in the background, for an epoch; x tells requests for one epoch apart.
func begin(t *testing.T, r *reconfigurations, epoch consensus.Epoch, x consensus.LSN) (consensus.Request, chan begun) {
	q := consensus.Request{Epoch: epoch, NotAfter: x, Spec: consensus.Spec{Engine: "local"}}
	answer := make(chan begun, 1)
	go func() {
		state, err := r.BeginReconfiguration(t.Context(), q, nil)
		answer <- begun{state, err}
	}()
	return q, answer
}

// TestReconfigurations follows attempts through their ends, in a bubble: nothing in it waits for the clock.
func TestReconfigurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &scriptedLog{calls: make(chan *scriptedAttempt)}
		r := newReconfigurations(log, nil, nil)
		defer r.Close()
		_, known := r.Reconfiguration(2)
		require.False(t, known)

		// Refused at once: an error, and nothing to remember.
		_, answer := begin(t, r, 2, 1)
		call := <-log.calls
		call.result <- result{consensus.Progress{Stage: consensus.Abandoned}, fmt.Errorf("reconfigure: %w", consensus.ErrInvalid)}
		require.ErrorIs(t, (<-answer).err, consensus.ErrInvalid)
		_, known = r.Reconfiguration(2)
		require.False(t, known)

		// Taken up: how it stands is answered at once, to whoever asks with the same request.
		_, first := begin(t, r, 2, 2)
		call = <-log.calls
		q, second := begin(t, r, 2, 2)
		synctest.Wait()
		require.Empty(t, first)
		require.Empty(t, second)
		call.progress(consensus.Progress{Stage: consensus.Preparing, Ready: []uint64{1}})
		for _, c := range []chan begun{first, second} {
			got := <-c
			require.NoError(t, got.err)
			require.Equal(t, rpc.Reconfiguration{Request: q, Running: true, Progress: consensus.Progress{Ready: []uint64{1}}}, got.Reconfiguration)
		}
		// Another request has to wait until it has switched.
		_, answer = begin(t, r, 2, 3)
		require.ErrorIs(t, (<-answer).err, rpc.ErrReconfiguring)
		call.progress(consensus.Progress{Stage: consensus.Completing, Base: 9})
		_, answer = begin(t, r, 3, 4)
		third := <-log.calls
		third.progress(consensus.Progress{})
		require.True(t, (<-answer).Running)
		state, known := r.Reconfiguration(2)
		require.True(t, known)
		require.Equal(t, consensus.LSN(9), state.Progress.Base)

		// A complete one is not begun again.
		call.result <- result{consensus.Progress{Stage: consensus.Complete, Base: 9}, nil}
		synctest.Wait()
		_, answer = begin(t, r, 2, 2)
		got := <-answer
		require.NoError(t, got.err)
		require.False(t, got.Running)
		require.Equal(t, consensus.Complete, got.Progress.Stage)

		// One that failed is: the members may be ready now.
		unready := errors.New("1 of the next members is ready, it takes 2")
		third.result <- result{consensus.Progress{Stage: consensus.Abandoned, Err: unready}, fmt.Errorf("epoch 3: %w", unready)}
		synctest.Wait()
		state, _ = r.Reconfiguration(3)
		require.False(t, state.Running)
		require.Equal(t, unready, state.Err)
		_, answer = begin(t, r, 3, 4)
		(<-log.calls).result <- result{consensus.Progress{Stage: consensus.Abandoned}, consensus.ErrSuperseded}
		got = <-answer
		require.NoError(t, got.err, "that it was superseded is how it ended")
		require.ErrorIs(t, got.Err, consensus.ErrSuperseded)

		// No attempt lasts for ever.
		_, answer = begin(t, r, 4, 5)
		(<-log.calls).progress(consensus.Progress{Stage: consensus.Sealing})
		require.True(t, (<-answer).Running)
		time.Sleep(attemptTimeout)
		synctest.Wait()
		state, _ = r.Reconfiguration(4)
		require.False(t, state.Running)
		require.ErrorIs(t, state.Err, context.DeadlineExceeded)
		require.Equal(t, consensus.Sealing, state.Progress.Stage)
	})
}

// TestReconfigurationsClose: closing ends what runs, and begins nothing new.
func TestReconfigurationsClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &scriptedLog{calls: make(chan *scriptedAttempt)}
		r := newReconfigurations(log, nil, nil)
		_, answer := begin(t, r, 2, 1)
		call := <-log.calls
		call.progress(consensus.Progress{})
		require.NoError(t, (<-answer).err)
		require.NoError(t, r.Close())
		require.ErrorIs(t, call.ctx.Err(), context.Canceled)
		_, answer = begin(t, r, 2, 1)
		require.ErrorIs(t, (<-answer).err, consensus.ErrClosed)
	})
}

// TestReconfigurationsForget: the last ones are remembered.
func TestReconfigurationsForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &scriptedLog{calls: make(chan *scriptedAttempt)}
		r := newReconfigurations(log, nil, nil)
		defer r.Close()
		for epoch := consensus.Epoch(2); epoch < 2+attemptsKept+1; epoch++ {
			_, answer := begin(t, r, epoch, 1)
			call := <-log.calls
			call.progress(consensus.Progress{})
			call.result <- result{consensus.Progress{Stage: consensus.Complete}, nil}
			<-answer
			synctest.Wait()
		}
		_, known := r.Reconfiguration(2)
		require.False(t, known)
		_, known = r.Reconfiguration(3)
		require.True(t, known)
	})
}

// answers are members' last epochs, by id; who is not in it does not answer.
type answers map[uint64]consensus.Epoch

func (a answers) Status(_ context.Context, m consensus.Member) (consensus.Status, error) {
	epoch, ok := a[m.ID]
	if !ok {
		return consensus.Status{}, errors.New("silence")
	}
	return consensus.Status{Epoch: epoch}, nil
}

func (answers) SegmentEnd(context.Context, consensus.Segment) (consensus.SegmentEnd, bool, error) {
	return consensus.SegmentEnd{}, false, errors.New("not asked here")
}

func (answers) Prepare(context.Context, consensus.Member, consensus.Prepare) (consensus.Ready, error) {
	return consensus.Ready{}, errors.New("not asked here")
}

// TestMembers: who may be turned off depends on a quorum of those who order, and on nobody else.
func TestMembers(t *testing.T) {
	member := func(id uint64) consensus.Member {
		key := make(ed25519.PublicKey, ed25519.PublicKeySize)
		key[0] = byte(id)
		return consensus.Member{ID: id, NodeKey: key}
	}
	renamed := member(2) // the disk of member 2 was wiped
	renamed.ID = 6
	segments := []consensus.Segment{
		{Epoch: 1, Spec: consensus.Spec{Members: []consensus.Member{member(1), member(2), member(3)}}},
		{Epoch: 2, Spec: consensus.Spec{Members: []consensus.Member{member(3), member(4), member(5), renamed}}},
	}
	const in, out, mayGo = "in", "out", "may go"
	for name, tc := range map[string]struct {
		segments []consensus.Segment
		answers  consensus.Peers
		want     string
	}{
		"a quorum is over":     {segments, answers{4: 2, 5: 2, 1: 1}, "[3:2 in][4:2 in][5:2 in][6:0 in][1:1 may go]"},
		"no quorum is over":    {segments, answers{4: 2, 5: 1, 1: 2}, "[3:2 in][4:2 in][5:1 in][6:0 in][1:2 out]"},
		"nobody answers":       {segments, answers{}, "[3:2 in][4:0 in][5:0 in][6:0 in][1:0 out]"},
		"a node without peers": {segments, nil, "[3:2 in][4:0 in][5:0 in][6:0 in][1:0 out]"},
		"a node by itself": {[]consensus.Segment{{Epoch: 1, Spec: consensus.Spec{Members: []consensus.Member{{ID: 1}}}}}, nil,
			"[1:1 in]"},
		"no members": {[]consensus.Segment{{Epoch: 1}}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReconfigurations(&scriptedLog{segments: tc.segments}, member(3).NodeKey, tc.answers)
			defer r.Close()
			got := ""
			for _, m := range r.Members(t.Context()) {
				word := out
				switch {
				case m.InSegment:
					word = in
				case m.MayStop:
					word = mayGo
				}
				got += fmt.Sprintf("[%d:%d %s]", m.ID, m.Epoch, word)
			}
			require.Equal(t, tc.want, got)
		})
	}
}

func TestFaults(t *testing.T) {
	for _, engine := range EngineNames() {
		_, err := Faults(engine)
		require.NoError(t, err)
	}
	_, err := Faults("paxos")
	require.ErrorIs(t, err, ErrUnknownEngine)
}
