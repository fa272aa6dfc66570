package oracle

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/consensus/beacon"
	"github.com/ethereum/go-ethereum/consensus/ethash"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/stretchr/testify/require"
)

// The benchmarks ask both nodes the same, on the same chain, one after the other on the same machine:
//
//	LEDGERD_BLOCKS=100000 go test ./test/oracle -run '^$' -bench . -timeout 90m -benchtime 3s
//
// Client and server share the process. The client is as bare as can be: a connection that is kept, bytes that are written and bytes that are read.

// longBlocks is the length of the chain in which logs are searched.
func longBlocks() int {
	if n, err := strconv.Atoi(os.Getenv("LEDGERD_BLOCKS")); err == nil {
		return n
	}
	return 2_000
}

// rareEvery is how many blocks there are for one that holds the rare topic.
const rareEvery = 10_000

var rareTopic = common.Hash{0: 0xaa, 31: 1}

// makeLong makes a chain of blocks with a log each.
var makeLong = sync.OnceValue(func() testChain {
	genesis := chainGenesis()
	genesis.Alloc[emitter] = types.Account{Code: emitterCode, Balance: common.Big0}
	_, blocks, _ := core.GenerateChainWithGenesis(genesis, beacon.New(ethash.NewFaker()), longBlocks(), func(i int, b *core.BlockGen) {
		m := &maker{b, uint64(i) + 1}
		if m.block >= mergeBlock {
			b.SetPoS()
		}
		topic := word(int64(i % 100))
		if i%rareEvery == rareEvery/2 {
			topic = rareTopic[:]
		}
		m.legacy(&emitter, 0, topic)
	})
	return testChain{genesis, blocks}
})

// bare is a client on one connection.
type bare struct {
	conn    net.Conn
	read    *bufio.Reader
	request []byte
}

func newBare(tb testing.TB, url, body string) *bare {
	tb.Helper()
	address := strings.TrimPrefix(url, "http://")
	conn, err := net.Dial("tcp", address)
	require.NoError(tb, err)
	tb.Cleanup(func() { conn.Close() })
	request := fmt.Appendf(nil, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", address, len(body), body)
	return &bare{conn, bufio.NewReaderSize(conn, 64<<10), request}
}

// ask returns the length of the answer, which must be a result.
func (c *bare) ask() (int, error) {
	if _, err := c.conn.Write(c.request); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(c.read, nil)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && (answer.StatusCode != http.StatusOK || !bytes.Contains(body[:min(len(body), 60)], []byte(`"result"`))) {
		err = fmt.Errorf("%s: %.200s", answer.Status, body)
	}
	return len(body), err
}

// eachNode runs a benchmark on both.
func eachNode(b *testing.B, c testChain, f func(b *testing.B, url string)) {
	for _, node := range []struct {
		name  string
		start func(testing.TB, *core.Genesis, []*types.Block) string
	}{{"ledgerd", startLedgerd}, {"geth", startGeth}} {
		url := node.start(b, c.genesis, c.blocks)
		b.Run(node.name, func(b *testing.B) { f(b, url) })
	}
}

const blockNumberRequest = `{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber","params":[]}`

// BenchmarkBlockNumber is the cheapest request there is: what it costs is the server's.
func BenchmarkBlockNumber(b *testing.B) {
	const batch = 100
	eachNode(b, makeChain(), func(b *testing.B, url string) {
		for _, tc := range []struct {
			name, body string
			calls      int
		}{
			{"single", blockNumberRequest, 1},
			{"batch", "[" + strings.Repeat(blockNumberRequest+",", batch-1) + blockNumberRequest + "]", batch},
		} {
			b.Run(tc.name, func(b *testing.B) {
				b.SetParallelism(4) // connections for each processor
				b.RunParallel(func(pb *testing.PB) {
					c := newBare(b, url, tc.body)
					for pb.Next() {
						if _, err := c.ask(); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N*tc.calls)/b.Elapsed().Seconds(), "calls/s")
			})
		}
	})
}

// latencies reports how long a request takes, one at a time.
func latencies(b *testing.B, url, body string) {
	c := newBare(b, url, body)
	for range 20 {
		_, err := c.ask()
		require.NoError(b, err)
	}
	all := make([]time.Duration, 0, b.N)
	size := 0
	for b.Loop() {
		begin := time.Now()
		n, err := c.ask()
		all, size = append(all, time.Since(begin)), n
		if err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(all)
	at := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000 }
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(size), "answer-bytes")
}

// BenchmarkCall is a call that writes a slot, hashes nothing and logs once.
func BenchmarkCall(b *testing.B) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":%q,"input":%q},"latest"]}`, emitter, hexutil.Encode(word(3)))
	eachNode(b, makeChain(), func(b *testing.B, url string) { latencies(b, url, body) })
}

// BenchmarkRareLogs searches the whole chain for a topic that few of its blocks have.
func BenchmarkRareLogs(b *testing.B) {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"fromBlock":"0x0","toBlock":"latest","topics":[%q]}]}`, rareTopic)
	eachNode(b, makeLong(), func(b *testing.B, url string) { latencies(b, url, body) })
}
