package testnet

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rest is how long a chain is left alone before each transaction: it is idle then.
const rest = 150 * time.Millisecond

// idleFor is how long nodes are left alone while their CPU time is looked at: long enough for what they do every few seconds.
const idleFor = 15 * time.Second

// BenchmarkIdle measures networks of four that nobody uses, one of each engine, side by side and asked in turn, so that what else the machine does hits all alike:
//
//	go test ./test/testnet -run '^$' -bench Idle -benchtime 200x
//
// One operation is a transaction at each of them, sent to one node after the other when nothing has happened for a while, until its receipt is there
// (eth_sendRawTransactionSync): the block is final, on the disks of a quorum. What of that is HTTP and the machine, eth_chainId shows. In the end the nodes are left
// alone, and the CPU time that they use is reported as a share of one core, per node.
func BenchmarkIdle(b *testing.B) {
	networks := []*idleNetwork{{engine: "raft"}, {engine: "comet"}}
	for _, n := range networks {
		n.start(b)
	}
	for i := 0; b.Loop(); i++ {
		for k := range networks { // neither is always the first after a pause
			networks[(i+k)%len(networks)].sample(b, i)
		}
	}
	for _, n := range networks {
		n.note()
	}
	<-time.After(idleFor)
	for _, n := range networks {
		n.reportCPU(b)
		report(b, n.engine, n.sync)
		report(b, n.engine+"-http", n.http)
	}
	b.ReportMetric(0, "ns/op")
	for _, n := range networks {
		n.book.verify()
		n.c.stop(n.c.nodes...)
	}
}

// report reports the median and the 95th percentile of some durations.
func report(b *testing.B, name string, all []time.Duration) {
	slices.Sort(all)
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	b.ReportMetric(milliseconds(all[len(all)/2]), name+"-p50-ms")
	b.ReportMetric(milliseconds(all[len(all)*95/100]), name+"-p95-ms")
}

// An idleNetwork is a network of four, and what was measured at it.
type idleNetwork struct {
	engine     string
	c          *cluster
	book       *book
	sync, http []time.Duration // of each operation
	used       []float64       // seconds of CPU time, by each node, when noted
	noted      time.Time
}

func (n *idleNetwork) start(b *testing.B) {
	n.c = newCluster(b, n.engine+"4.toml")
	n.c.start(n.c.nodes...)
	n.book = newBook(n.c)
	for i := range 5 * len(n.c.nodes) { // connections, caches, code that is run for the first time
		n.submit(b, i)
	}
}

// sample takes the time of one transaction on an idle chain.
func (n *idleNetwork) sample(b *testing.B, i int) {
	<-time.After(rest)
	begun := time.Now()
	_, err := n.c.nodes[i%len(n.c.nodes)].running().Client.ChainID(b.Context())
	require.NoError(b, err)
	n.http = append(n.http, time.Since(begun))
	begun = time.Now()
	n.submit(b, i)
	n.sync = append(n.sync, time.Since(begun))
}

// submit sends a transaction to one node after the other. One that does not answer in a second is not waited for; the time is the client's in any case.
func (n *idleNetwork) submit(b *testing.B, i int) {
	b.Helper()
	_, err := n.book.submit(b.Context(), i%len(n.c.accounts), i%len(n.c.nodes))
	require.NoError(b, err)
}

// note takes down how much CPU time each node has used so far.
func (n *idleNetwork) note() {
	n.noted = time.Now()
	for _, node := range n.c.nodes {
		n.used = append(n.used, n.cpu(node))
	}
}

// cpu returns the CPU time that a node has used, in seconds, as its operating system tells it.
func (n *idleNetwork) cpu(node *node) float64 {
	seconds, ok := n.c.metrics(node)["process_cpu_seconds_total"]
	require.True(n.c.t, ok)
	return seconds
}

// reportCPU reports the share of a core that a node has used since, in the mean and at most.
func (n *idleNetwork) reportCPU(b *testing.B) {
	var sum, most float64
	for k, node := range n.c.nodes {
		share := 100 * (n.cpu(node) - n.used[k]) / time.Since(n.noted).Seconds()
		sum, most = sum+share, max(most, share)
	}
	b.ReportMetric(sum/float64(len(n.c.nodes)), n.engine+"-cpu-%")
	b.ReportMetric(most, n.engine+"-max-cpu-%")
}
