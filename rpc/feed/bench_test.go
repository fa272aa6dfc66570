package feed

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/rpc/feed/protocol"
)

// BenchmarkClients is one block of ten transactions brought to so many clients, by websocket, until all have it: ns/op is the time of a block.
func BenchmarkClients(b *testing.B) {
	for _, clients := range []int{1, 100, 500} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			f := startFeed(b, Options{})
			rng := rand.New(rand.NewPCG(1, 1))
			calls := randomCalls(rng, 10)
			seen := make(chan struct{}, clients)
			for range clients {
				c := f.dial(b)
				c.subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}, {Kind: protocol.KindLog, Address: addresses[:1]}}, Credit: 1 << 20})
				go func() {
					for credit := 1 << 20; ; credit-- {
						var m protocol.Message
						if c.ReadJSON(&m) != nil {
							return
						}
						if credit == 1<<19 {
							_ = c.WriteJSON(protocol.Grant{Type: protocol.TypeCredit, Credit: 1 << 19})
							credit += 1 << 19
						}
						if m.Kind == protocol.KindBlock {
							seen <- struct{}{}
						}
					}
				}()
			}
			b.ResetTimer()
			for range b.N {
				f.mine(1, calls...)
				for range clients {
					<-seen
				}
			}
		})
	}
}

// BenchmarkHistory reads the past to its end: every log of it, and a log that is not there.
func BenchmarkHistory(b *testing.B) {
	const blocks = 5000
	f := startFeed(b, Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	for range blocks {
		f.mine(1, randomCalls(rng, 4)...)
	}
	for name, filter := range map[string]protocol.Filter{"all": {Kind: protocol.KindLog}, "none": {Kind: protocol.KindLog, Address: []common.Address{{99}}}} {
		b.Run(name, func(b *testing.B) {
			events := 0
			for range b.N {
				c := f.dial(b)
				c.subscribe(protocol.Request{Filters: []protocol.Filter{filter}, Start: protocol.StartEarliest, Credit: 1 << 20})
				for m := c.receive(); m.Type != protocol.TypeProgress || !*m.Live; m = c.receive() {
					events++
				}
				c.Close()
			}
			b.ReportMetric(float64(events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
