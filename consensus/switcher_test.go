package consensus

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSwitcherRecovery: what a Switcher does about a segment that was recovered.
func TestSwitcherRecovery(t *testing.T) {
	c := newChain()
	first, second := c.segment(), c.segment()
	second.Epoch, second.Recovery = 2, 1
	now := time.Unix(100, 0)
	running := func() *Switcher {
		s := NewSwitcher(SwitcherOptions{Self: c.public(3)})
		require.NotNil(t, s.Step(SwitchInputs{Now: now, Last: &first}).Ask)
		require.Equal(t, Orders, s.Step(SwitchInputs{Now: now, Ended: &EndedAnswer{Epoch: 1}}).Open.Role)
		s.Step(SwitchInputs{Now: now, Opened: &OpenAnswer{Epoch: 1}})
		require.True(t, s.Running())
		return s
	}

	// The base is where this node stands: the dead engine does not linger, and the next one is not opened before peers are asked.
	s := running()
	act := s.Step(SwitchInputs{Now: now, Last: &second})
	require.Equal(t, []Epoch{1}, act.Close)
	require.Equal(t, Epoch(2), act.Ask.Epoch)
	require.Nil(t, act.Open)

	// The base is further on: the engine is closed, and the segment observed, from now on and after a restart, whatever peers say.
	s = running()
	act = s.Step(SwitchInputs{Now: now, Pending: 1, Ended: &EndedAnswer{Epoch: 1, Ended: true}})
	require.Equal(t, []Epoch{1}, act.Close)
	require.Equal(t, Observes, s.Step(SwitchInputs{Now: now, Closed: 1}).Open.Role)
	for _, opts := range []SwitcherOptions{{Self: c.public(3)}, {Alone: true}, {}} {
		act = NewSwitcher(opts).Step(SwitchInputs{Now: now, Last: &first, Pending: 1})
		require.Nil(t, act.Ask)
		require.Equal(t, Observes, act.Open.Role)
	}
	require.Equal(t, Orders, NewSwitcher(SwitcherOptions{Alone: true}).Step(SwitchInputs{Now: now, Last: &second, Pending: 1}).Open.Role, "of another epoch")

	// An observer asks now and then.
	s = NewSwitcher(SwitcherOptions{Self: c.public(0)})
	require.Equal(t, Observes, s.Step(SwitchInputs{Now: now, Last: &first}).Open.Role)
	require.NotNil(t, s.Step(SwitchInputs{Now: now, Opened: &OpenAnswer{Epoch: 1}}).Ask)
	require.Nil(t, s.Step(SwitchInputs{Now: now.Add(time.Hour)}).Ask, "while it is asking")
	require.Nil(t, s.Step(SwitchInputs{Now: now, Ended: &EndedAnswer{Epoch: 1}}).Ask)
	require.Nil(t, s.Step(SwitchInputs{Now: now.Add(9 * time.Second)}).Ask)
	require.NotNil(t, s.Step(SwitchInputs{Now: now.Add(10 * time.Second)}).Ask)
}
