package feed

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"ledgerd/rpc/feed/protocol"
)

// TestEventSourceComesAgain: an EventSource is told of what passes such that it tries again, which it does only after the status 200; of all else, and every other
// client, by the status.
func TestEventSourceComesAgain(t *testing.T) {
	f := startFeed(t, Options{MaxClients: 1})
	f.mine(1)
	get := func(query, accept, last string) (status int, kind, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.address+"/feed/sse"+query, nil)
		require.NoError(t, err)
		r.Header.Set("Accept", accept)
		if last != "" {
			r.Header.Set("Last-Event-ID", last)
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, response.Header.Get("Content-Type"), string(text)
	}
	const ahead = "1-1337-7-0-0000000000000000"
	for _, accept := range []string{"text/event-stream", "text/html, Text/Event-Stream;q=0.9"} {
		status, kind, body := get("?kind=block", accept, ahead)
		require.Equal(t, 200, status)
		require.Equal(t, "text/event-stream", kind)
		require.Equal(t, "retry: 1000\nevent: failure\ndata: {\"type\":\"error\",\"code\":\"cursor_beyond_head\",\"message\":\"block 7 lies beyond the head of this node, block 1\"}\n\n", body)
	}
	for _, tc := range []struct {
		accept, last string
		status       int
	}{
		{"*/*", ahead, 409}, {"application/json", ahead, 409},
		{"text/event-stream", "x", 400}, {"text/event-stream", "1-1-0-0-0000000000000000", 409}, {"text/event-stream", "1-1337-1-0-0000000000000000", 409},
	} {
		status, kind, _ := get("?kind=block", tc.accept, tc.last)
		require.Equal(t, tc.status, status, tc.last)
		require.Equal(t, "application/json", kind)
	}

	f.dial(t).subscribe(protocol.Request{Filters: []protocol.Filter{{Kind: protocol.KindBlock}}})
	status, _, body := get("?kind=block", "text/event-stream", "")
	require.Equal(t, 200, status)
	require.Contains(t, body, "retry: 1000\nevent: failure\ndata: {\"type\":\"error\",\"code\":\"overloaded\"")
	status, _, _ = get("?kind=block", "*/*", "")
	require.Equal(t, 503, status)
}
