package comet

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// barrier is the transaction of a barrier.
func barrier(number uint64) []byte {
	var n nonce
	binary.BigEndian.PutUint64(n[:], number)
	return n.encode()
}

// TestFloodOfBarriers: a member that sends more barriers than CometBFT's largest block has room for keeps nobody from proposing, and no record waits for them.
func TestFloodOfBarriers(t *testing.T) {
	c := startCluster(t, 1, nil)
	c.append(0, 1)
	l := c.loglets[0]
	for i := range uint64(maxBlockBytes / barrierBytes) {
		l.pool.addForeign(barrier(i), "liar", time.Now())
	}
	c.append(0, 3)
	_, err := l.Tail(c.ctx, consensus.Consistent)
	require.NoError(t, err)
	require.NoError(t, l.Stopped())
}

// TestForeignRoom: what a member's transactions take here is bounded, however small and many they are. What leaves makes room.
func TestForeignRoom(t *testing.T) {
	p := newPool(10*costOf(barrier(0))+100*costOf(make([]byte, 1)), time.Minute)
	now := time.Now()
	for i := range uint64(1000) {
		p.addForeign(barrier(i), "a", now)
	}
	require.Equal(t, maxForeignBarriers, p.Size())
	for i := range byte(200) {
		p.addForeign([]byte{kindRecord, i}, "a", now)
	}
	full := p.Size()
	require.Less(t, full, 120)
	p.addForeign(barrier(5000), "b", now)
	p.addForeign([]byte{kindRecord, 250}, "b", now)
	require.Equal(t, full+2, p.Size(), "another member has room of its own")
	require.NoError(t, p.Update(1, p.ReapMaxTxs(maxForeignBarriers), nil, nil, nil))
	require.Equal(t, full+2-maxForeignBarriers, p.Size())
	p.addForeign(barrier(6000), "a", now)
	require.Equal(t, full+3-maxForeignBarriers, p.Size())
	p.nudge(now.Add(2 * time.Minute))
	require.Zero(t, p.Size())
	require.Empty(t, p.mu.foreign)
	require.Empty(t, p.mu.barriers)
}
