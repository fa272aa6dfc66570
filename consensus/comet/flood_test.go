package comet

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/cometbft/cometbft/p2p"
	"github.com/cometbft/cometbft/types"
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
	for i := range byte(200) {
		p.addForeign([]byte{kindRecord, 1, i}, "a", now)
	}
	full = p.Size()
	later := now.Add(2 * time.Minute)
	p.addForeign([]byte{kindRecord, 251}, "a", later)
	require.Equal(t, full, p.Size(), "a full room is not searched")
	p.nudge(later)
	require.Zero(t, p.Size())
	p.addForeign([]byte{kindRecord, 251}, "a", later)
	require.Equal(t, 1, p.Size())
	p.nudge(later.Add(2 * time.Minute))
	for _, q := range p.mu.queues {
		require.Zero(t, q.cost, "%q", q.from)
		require.Zero(t, q.barriers, "%q", q.from)
	}
}

// waits puts records of a size into a pool, of the node's own or of another member, whose payloads begin with their numbers.
func waits(p *pool, from p2p.ID, size int, numbers ...uint64) {
	for _, i := range numbers {
		tx := binary.BigEndian.AppendUint64(append([]byte{kindRecord}, from...), i)
		tx = append(tx, make([]byte, size-len(tx))...)
		if from == "" {
			p.addOwn(tx, time.Now())
		} else {
			p.addForeign(tx, from, time.Now())
		}
	}
}

// upTo returns the numbers in [lo, hi).
func upTo(lo, hi uint64) (all []uint64) {
	for i := lo; i < hi; i++ {
		all = append(all, i)
	}
	return all
}

// commit has the pool see a block of what is first in it, and returns how many bytes of it are each sender's.
func commit(t *testing.T, p *pool, room int64) map[p2p.ID]int64 {
	t.Helper()
	shares := map[p2p.ID]int64{}
	txs := p.ReapMaxBytesMaxGas(room, -1)
	for _, tx := range txs {
		shares[p.mu.byKey[tx.Key()][0].queue.from] += sizeOf(tx)
	}
	require.NoError(t, p.Update(1, txs, nil, nil, nil))
	return shares
}

// TestFloodTakesTurns: a member whose whole room is full keeps what others send, or this node's own, out of no block; however they differ in size.
func TestFloodTakesTurns(t *testing.T) {
	const flood, record = 16 << 20, 4 << 10
	p := newPool(flood, time.Minute)
	waits(p, "liar", record, upTo(0, flood/record)...)
	require.Greater(t, p.SizeBytes(), int64(flood)*9/10)
	waits(p, "honest", 100, 0)
	waits(p, "", 100, 0)
	shares := commit(t, p, maxProposalBytes)
	require.Positive(t, shares["honest"])
	require.Positive(t, shares[""])
	require.Greater(t, shares["liar"], int64(maxProposalBytes-2*record), "the rest of the block is not left empty")

	waits(p, "honest", maxProposalBytes-record, 1) // it goes into no block that begins with two of the liar's
	waits(p, "late", 2*record, 0)
	require.Zero(t, commit(t, p, maxProposalBytes)["honest"])
	require.Positive(t, commit(t, p, maxProposalBytes)["honest"])
}

// TestEqualShares: who has something waiting gets as many bytes of the blocks as any other, in the order in which it was sent.
func TestEqualShares(t *testing.T) {
	const room, blocks = maxProposalBytes, 12
	p := newPool(4*blocks*room, time.Minute)
	sizes := map[p2p.ID]int{"": 1 << 10, "a": 200, "b": 20 << 10, "c": consensus.MaxRecordBytes / 2}
	for from, size := range sizes {
		waits(p, from, size, upTo(0, blocks*room/uint64(size))...)
	}
	sum, next := map[p2p.ID]int64{}, map[p2p.ID]uint64{}
	for range blocks {
		txs := p.ReapMaxBytesMaxGas(room, -1)
		require.LessOrEqual(t, types.ComputeProtoSizeForTxs(txs), int64(room))
		again := p.ReapMaxBytesMaxGas(room, -1)
		require.Equal(t, txs.Hash(), again.Hash(), "what was proposed in vain is proposed again")
		for _, tx := range txs {
			from := p.mu.byKey[tx.Key()][0].queue.from
			require.Equal(t, next[from], binary.BigEndian.Uint64(tx[1+len(from):]), "%q", from)
			next[from]++
		}
		for from, bytes := range commit(t, p, room) {
			sum[from] += bytes
		}
	}
	for from := range sizes {
		require.InDelta(t, sum[""], sum[from], consensus.MaxRecordBytes/2+1<<10, "%q", from)
	}
}

// TestLeadIsBounded: blocks of others that served one member only, since they did not know what another has here, cost it one block of this node's, not as many.
func TestLeadIsBounded(t *testing.T) {
	const record = 64 << 10
	p := newPool(16<<20, time.Minute)
	waits(p, "hidden", record, upTo(0, 200)...)
	for block := range uint64(20) {
		waits(p, "known", record, upTo(10*block, 10*block+10)...)
		var txs types.Txs
		for e := p.queueOf("known").waiting.Front(); e != nil; e = e.Next() {
			txs = append(txs, e.Value.(*pooled).tx)
		}
		require.Len(t, txs, 10)
		require.NoError(t, p.Update(1, txs, nil, nil, nil))
	}
	waits(p, "known", record, 1000)
	commit(t, p, maxProposalBytes)
	require.Positive(t, commit(t, p, maxProposalBytes)["known"])
}

// TestNobodySavesTurns: whoever asked for nothing while others were served does not come before them for that.
func TestNobodySavesTurns(t *testing.T) {
	const record = 64 << 10
	p := newPool(16<<20, time.Minute)
	waits(p, "busy", record, upTo(0, 200)...)
	for range 5 {
		commit(t, p, maxProposalBytes)
	}
	waits(p, "idle", record, upTo(0, 200)...)
	shares := commit(t, p, maxProposalBytes)
	require.InDelta(t, shares["busy"], shares["idle"], 2*record)
}

// TestSameOfSeveral: a member that sends again what others have sent, before them even, does not change their turns; and no block has it twice.
func TestSameOfSeveral(t *testing.T) {
	const record = 4 << 10
	p := newPool(16<<20, time.Minute)
	waits(p, "liar", record, upTo(0, 2000)...)
	tx, again := append([]byte{kindRecord}, "the same"...), time.Now().Add(2*time.Minute)
	for _, from := range []p2p.ID{"liar", "honest", "honest", "liar"} {
		p.addForeign(tx, from, again)
	}
	require.Equal(t, 2002, p.Size())
	txs := p.ReapMaxBytesMaxGas(3*record, -1)
	require.Contains(t, txs, types.Tx(tx))
	all, times := p.ReapMaxTxs(-1), 0
	for _, other := range all {
		if string(other) == string(tx) {
			times++
		}
	}
	require.Equal(t, 1, times)
	require.Len(t, all, 2001)

	p.nudge(again)
	require.Equal(t, 2, p.Size(), "both have been seen again")
	require.NoError(t, p.Update(1, txs, nil, nil, nil))
	require.Zero(t, p.Size())
	require.Zero(t, p.SizeBytes())
	require.Empty(t, p.mu.byKey)

	p.addForeign(tx, "liar", again)
	p.addForeign(tx, "honest", again)
	p.addOwn(tx, again)
	p.addForeign(tx, "liar", again)
	require.Equal(t, 1, p.Size(), "its own is this node's")
	p.nudge(again.Add(time.Hour))
	require.Equal(t, 1, p.Size())
	p.remove(types.Tx(tx).Key())
	require.Zero(t, p.Size())
}
