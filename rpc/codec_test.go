package rpc

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
)

// longAPI is a namespace with a method that takes and gives much.
type longAPI struct{}

func (longAPI) Answer(bytes int) string     { return strings.Repeat("x", bytes) }
func (longAPI) Length(s string) (bytes int) { return len(s) }

// TestIdleWebsocketIsSmall: a websocket keeps nothing of the longest request and answer that it has had.
func TestIdleWebsocketIsSmall(t *testing.T) {
	const size, sockets = 2 << 20, 12
	n := startNode(t, Options{MaxMessageBytes: size + 1000})
	require.NoError(t, n.server.rpc.RegisterName("long", longAPI{}))
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for range sockets {
		c, _, err := n.websocket(t, nil)
		require.NoError(t, err)
		require.NoError(t, c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"long_length","params":[%q]}`, strings.Repeat("x", size))))
		_, answer, err := c.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":%d}`, size), strings.TrimSpace(string(answer)))
		require.NoError(t, c.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":1,"method":"long_answer","params":[%d]}`, size)))
		_, r, err := c.NextReader()
		require.NoError(t, err)
		read, err := io.Copy(io.Discard, r)
		require.NoError(t, err)
		require.Greater(t, read, int64(size))
	}
	eventually(t, "the memory comes back", func() bool { return heap() < before+size*sockets/2 })
	require.EqualValues(t, sockets, valueOf(n.server.metrics.websockets))
}
