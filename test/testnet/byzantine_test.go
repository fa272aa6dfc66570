package testnet

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/test/internal/process"
	"ledgerd/testnet"
)

// lies are what the lying member of TestByzantine tells, by turns or all the time (comet.Lies).
var lies = []string{
	"two-votes", "two-proposals", "flood",
	"empty-block", "junk-block", "oversize-block", "swollen-block", "future-block", "forked-block", "doubled-block", "seal-block",
}

// TestByzantine: one of four members runs a program that lies in every way it knows, under load; it is killed in between and lies on. Nobody forks, blocks go on, nothing
// acknowledged is lost, and everybody can read who it was. The administrator votes it out.
func TestByzantine(t *testing.T) {
	lying, err := process.Build(t.TempDir(), "-tags", "byzantine")
	require.NoError(t, err)
	const variable = "LEDGERD_BYZANTINE"
	for path, want := range map[string]bool{lying: true, binary: false} {
		program, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, bytes.Contains(program, []byte(variable)), "whether a program can lie: %s", path)
	}
	c := newCluster(t, "comet4.toml")
	const liar = 2
	honest := []*node{c.nodes[0], c.nodes[1], c.nodes[3]}
	c.nodes[liar].binary, c.nodes[liar].env = lying, []string{variable + "=" + strings.Join(lies, ",")}
	c.start(c.nodes...)
	b := newBook(c)
	stop := b.load()
	for range 2 {
		eventually(t, "it has told every lie", func() error {
			said := c.nodes[liar].running().Stderr()
			for _, lie := range lies {
				if !strings.Contains(said, "lie="+lie) {
					return fmt.Errorf("not %s; %d transactions", lie, b.count())
				}
			}
			return nil
		})
		before := b.count()
		eventually(t, "the load goes on", func() error { return b.more(before, 2*len(c.accounts)) })
		c.do(testnet.Kill, c.nodes[liar])()
	}
	for _, n := range honest {
		eventually(t, "the evidence is found", func() error {
			s, err := n.status(t.Context())
			if err != nil {
				return err
			}
			if d := s.Loglet.Detail; d["evidence"] == "0" || !strings.Contains(d["offender"], "member 3: DUPLICATE_VOTE") {
				return fmt.Errorf("node %d: %v", n.index, d)
			}
			return nil
		})
		require.Positive(t, c.metrics(n)["ledgerd_comet_evidence"])
		require.Contains(t, n.running().Stderr(), `offender="member 3" kind=DUPLICATE_VOTE`)
	}
	require.NoError(t, stop())
	b.verify()

	r := c.reconfigure(c.nodes[0], members(honest...))
	c.inEpoch(r.Epoch, "orders", honest...)
	c.inEpoch(r.Epoch, "observes", c.nodes[liar])
	_, err = b.submit(t.Context(), 0, 0)
	require.NoError(t, err)
	b.verify()
	c.stop(c.nodes...)
	t.Logf("%d transactions acknowledged in %d blocks, 0 lost, 0 doubled", b.count(), len(b.blocks)-1)
}
