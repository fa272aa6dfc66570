//go:build byzantine

package comet

import (
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
)

// villain returns a member's.
func (c *cluster) villain(i int) *liar { return c.loglets[i].app.villain.(*liar) }

// startWithLiar starts four members, of whom one lies.
func startWithLiar(t *testing.T, member int, lies ...string) *cluster {
	t.Helper()
	return startCluster(t, 4, func(i int, o *Options) {
		if i == member {
			require.NoError(t, o.Misbehave(lies...))
		}
	})
}

// TestByzantineLies: what is no lie is refused.
func TestByzantineLies(t *testing.T) {
	var o Options
	require.ErrorIs(t, o.Misbehave("two-votes", "white"), consensus.ErrInvalid)
	require.Nil(t, o.villain)
	require.NoError(t, o.Misbehave(Lies()...))
	require.Len(t, Lies(), len(badBlocks)+3)
}

// TestByzantineVotes: one of four votes for two things each time. The others order on, agree, and say who it was.
func TestByzantineVotes(t *testing.T) {
	skipEvidenceUnderRace(t)
	c := startWithLiar(t, 3, lieVotes)
	c.append(0, 20)
	c.eventually("evidence is committed", func() bool {
		c.append(1, 1)
		pieces, _ := c.loglets[0].app.offences.sum()
		return pieces > 0
	})
	require.Positive(t, c.villain(3).told[lieVotes].Load())
	c.agree(0, 1, 2)
	d := c.loglets[0].Status().Detail
	require.NotEqual(t, "0", d["evidence"])
	require.Contains(t, d["offender"], "member 4: DUPLICATE_VOTE")

	pieces, _ := c.loglets[0].app.offences.sum()
	c.stop(0)
	c.start(0)
	again, last := c.loglets[0].app.offences.sum()
	require.GreaterOrEqual(t, again, pieces, "it is known after a restart")
	require.Contains(t, last, "member 4: DUPLICATE_VOTE")
}

// TestByzantineProposals: one of four shows another valid block to half of the others than to the rest, and votes for both. The others do not fork.
func TestByzantineProposals(t *testing.T) {
	for name, lies := range map[string][]string{"votes for one": {lieProposals}, "votes for both": {lieProposals, lieVotes}} {
		t.Run(name, func(t *testing.T) {
			if len(lies) > 1 {
				skipEvidenceUnderRace(t)
			}
			c := startWithLiar(t, 1, lies...)
			split := 0 // blocks that took more than a round
			c.eventually("it has had its turns", func() bool {
				c.append(0, 1)
				return c.villain(1).told[lieProposals].Load() >= 5
			})
			c.agree(0, 2, 3)
			blocks := c.loglets[0].blocks
			for h := blocks.Base(); h <= blocks.Height(); h++ {
				for _, i := range []int{2, 3} {
					c.eventually("it has the block", func() bool { return c.loglets[i].blocks.Height() >= blocks.Height() })
					require.Equal(t, blocks.LoadBlockMeta(h).BlockID, c.loglets[i].blocks.LoadBlockMeta(h).BlockID, "block %d of member %d", h, i)
				}
				if commit := blocks.LoadSeenCommit(h); commit != nil && commit.Round > 0 {
					split++
				}
			}
			t.Logf("%d lies, %d of %d blocks took more than a round", c.villain(1).told[lieProposals].Load(), split, blocks.Height())
		})
	}
}

// TestByzantineBlocks: one of four proposes what it must not, in each of its turns but one. The others refuse, order on, and agree.
func TestByzantineBlocks(t *testing.T) {
	for lie := range badBlocks {
		t.Run(lie, func(t *testing.T) {
			c := startWithLiar(t, 2, lie)
			c.eventually("it has had its turns", func() bool {
				c.append(0, 1)
				return c.villain(2).told[lie].Load() >= 2
			})
			for _, e := range c.agree(0, 1, 3) {
				require.Equal(t, "test", e.Record.App)
			}
			blocks := c.loglets[0].blocks
			for h := blocks.Base(); h <= blocks.Height(); h++ {
				require.LessOrEqual(t, sizeOf(blocks.LoadBlock(h).Txs.ToSliceOfBytes()...), int64(maxProposalBytes), "block %d", h)
			}
		})
	}
}

// TestByzantineFlood: one of four sends the others what nobody appended, as fast as they take it, and junk. What honest members append is ordered all the same, and the pools
// stay bounded.
func TestByzantineFlood(t *testing.T) {
	c := startWithLiar(t, 3, lieFlood)
	c.append(0, 1)
	told := c.villain(3).told[lieFlood]
	for told.Load() < 3000 {
		c.append(0, 1)
		for i := range 3 {
			require.LessOrEqual(t, c.loglets[i].pool.SizeBytes(), int64(c.loglets[i].opts.MaxForeignBytes+consensus.MaxRecordBytes))
		}
	}
	c.eventually("junk is refused", func() bool { return c.loglets[0].gossip.refusals() > 0 })
	c.append(1, 5)
	c.agree(0, 1, 2)
}

// TestByzantineFullPools: one of four has its whole room at each of the others taken by valid records. What an honest member appends is ordered before the most of it,
// though the liar, which has none of them in its own, hardly ever makes a block that counts.
func TestByzantineFullPools(t *testing.T) {
	c := startWithLiar(t, 3, "empty-block", "junk-block", "doubled-block", "future-block", "forked-block")
	c.append(0, 1)
	full := int64(c.loglets[0].opts.MaxForeignBytes) * 9 / 10
	n := uint64(0)
	payload := make([]byte, 4<<10)
	c.eventually("the pools are full", func() bool {
		var burst [][]byte
		for range 200 {
			n++
			burst = append(burst, encodeRecord(consensus.Record{App: "flood", ID: consensus.RecordID{Session: 98, Seq: n}, Payload: payload}))
		}
		c.villain(3).send(burst...)
		for i := range 3 {
			if c.loglets[i].pool.SizeBytes() < full {
				return false
			}
		}
		return true
	})
	before := c.loglets[0].replica.Position().Next - 1 // the epoch is the first: an offset is an LSN less one
	offset, err := c.loglets[0].Append(c.ctx, c.record())
	require.NoError(t, err)
	ahead := int64(offset) - int64(before)
	t.Logf("%d of its records came before, of %d that waited", ahead, c.loglets[0].pool.Size())
	require.Less(t, ahead, full/2/int64(len(payload)))
	c.agree(0, 1, 2)
}
