package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Bounds of what is under way. HTTP/1.1 has one request a connection, so that the limit on connections bounds it; a connection of HTTP/2 has up to
// maxStreams, and a websocket as many as its peer cares to send.
const (
	minRequests     = 4096    // by HTTP at a time, at least: twice the connections if those are more
	maxUnanswered   = 64      // messages of a websocket that were read and not answered yet
	minUnanswered   = 4       // the same, when the answers are long
	unansweredBytes = 4 << 20 // about what the answers that wait in a websocket may come to
	longAnswer      = 1 << 20 // from here on an answer counts towards those that are being written
	longAnswers     = 8       // as many of the longest may be being written at a time, half of them to one client
)

// quota is so much of something, of which one client may have a part.
type quota struct {
	all, one int

	mu struct {
		sync.Mutex
		taken   int
		clients map[string]int // of taken, without those that are not named; no zeros
	}
}

func newQuota(all, one int) *quota {
	q := &quota{all: all, one: one}
	q.mu.clients = make(map[string]int)
	return q
}

// share says how much of a quota was asked for in vain.
type share int

const (
	shareHad    share = iota // it is there
	shareOfOne               // the client has all that one may have
	shareOfNone              // there is no more for anybody
)

// take has n for a client until give. "" is nobody: it has no share of its own.
func (q *quota) take(client string, n int) share {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.mu.taken+n > q.all:
		return shareOfNone
	case client != "" && q.mu.clients[client]+n > q.one:
		return shareOfOne
	}
	q.mu.taken += n
	if client != "" {
		q.mu.clients[client] += n
	}
	return shareHad
}

func (q *quota) give(client string, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.taken -= n
	if client == "" {
		return
	}
	if q.mu.clients[client] -= n; q.mu.clients[client] == 0 {
		delete(q.mu.clients, client)
	}
}

// shareOf names the client at an address for a quota: "" if it is on this machine, as for the limit on connections.
func shareOf(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil || at.Addr().Unmap().IsLoopback() {
		return ""
	}
	return clientAt(at.Addr())
}

// bounded serves a request if not too many are being served. What is turned away comes from one that has hundreds under way, and may try again.
func (s *Server) bounded(w http.ResponseWriter, r *http.Request, serve func(client string)) {
	client := shareOf(r.RemoteAddr)
	switch s.requests.take(client, 1) {
	case shareHad:
		defer s.requests.give(client, 1)
		serve(client)
		return
	case shareOfOne:
		s.metrics.refused.WithLabelValues("client requests").Inc()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many requests at a time", http.StatusTooManyRequests)
	case shareOfNone:
		s.metrics.refused.WithLabelValues("requests").Inc()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the node is busy with other requests", http.StatusServiceUnavailable)
	}
}

// sending returns what to write in place of an answer, and must be told when that is done. A long one that is waiting for its client is memory: there is only
// so much for all of them, and beyond it the answer is an error.
func (s *Server) sending(client string, answer []byte) (limited []byte, done func()) {
	limited = limitResponse(answer, s.opts.MaxResponseBytes)
	n := len(limited)
	if n < longAnswer || bytes.HasPrefix(limited, announcing) { // announcements have bounds of their own, and none may be left out
		return limited, func() {}
	}
	if s.answers.take(client, n) == shareHad {
		return limited, func() { s.answers.give(client, n) }
	}
	s.metrics.refused.WithLabelValues("answers").Inc()
	return busyAnswer(answer), func() {}
}

// busyAnswer takes the place of an answer, or of the answers to a batch.
func busyAnswer(answer []byte) []byte {
	id, ok := json.RawMessage(nil), false
	if answer[0] == '{' {
		id, ok = idOf(answer)
	}
	if !ok {
		id = json.RawMessage("null")
	}
	return errorAnswer(id, codeLimitExceeded, "the node is busy: too many long answers are waiting to be read")
}

// window says how many messages of a websocket may be under way: many, or few when the answers are long. One goroutine waits and begins, any may end.
type window struct {
	opened chan struct{} // capacity 1: something has ended
	mu     struct {
		sync.Mutex
		begun   int // and not ended
		longest int // answer, of late: bytes
	}
}

func newWindow() *window { return &window{opened: make(chan struct{}, 1)} }

// wait returns when one more may begin, or when the peer is not heard any more, or with ctx's error.
func (w *window) wait(ctx context.Context, ending *atomic.Bool) error {
	for w.full() && !ending.Load() {
		select {
		case <-w.opened:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *window) full() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.begun >= min(maxUnanswered, max(minUnanswered, unansweredBytes/max(w.mu.longest, 1)))
}

func (w *window) begin() {
	w.mu.Lock()
	w.mu.begun++
	w.mu.Unlock()
}

// end is called when a message has been answered, with the length of the answer.
func (w *window) end(bytes int) {
	w.mu.Lock()
	w.mu.begun--
	w.mu.longest = max(bytes, w.mu.longest-w.mu.longest/8)
	w.mu.Unlock()
	w.look()
}

// look makes wait look again.
func (w *window) look() {
	select {
	case w.opened <- struct{}{}:
	default:
	}
}

// A message without an id gets no answer, but is executed all the same. To know when that is over it is given this one, and what comes back is dropped.
const silent = `"id":"a notification",`

var (
	silentAnswer  = []byte(`{"jsonrpc":"2.0",` + silent)
	silentAnswers = append([]byte{'['}, silentAnswer...)
	announcing    = []byte(`{"jsonrpc":"2.0","method":`) // a notification of a subscription
)

// admit counts a message as under way, and returns it such that go-ethereum's server will write exactly one answer; nil if there would be none, since nothing
// is asked in it.
func (w *window) admit(message []byte) []byte {
	asks, notifies, responds := contents(message)
	switch {
	case asks:
	case notifies && !responds:
		at := bytes.IndexByte(message, '{') + 1
		message = bytes.Join([][]byte{message[:at], message[at:]}, []byte(silent))
	default:
		return nil
	}
	w.begin()
	return message
}

// answers says whether a message that is to be written is wanted, and returns what to call when it is written.
func (w *window) answers(message []byte) (wanted bool, written func()) {
	if bytes.HasPrefix(message, announcing) {
		return true, func() {}
	}
	wanted = !bytes.HasPrefix(message, silentAnswer) && !bytes.HasPrefix(message, silentAnswers)
	return wanted, func() { w.end(len(message)) }
}

// contents says what kinds of message there are in a message or a batch, as go-ethereum's server tells them apart: those that get an answer, what is not JSON-RPC
// among them; notifications; and responses, which this server never waits for.
func contents(message []byte) (asks, notifies, responds bool) {
	var batch []json.RawMessage
	if trimmed := bytes.TrimLeft(message, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		batch = []json.RawMessage{message}
	} else if json.Unmarshal(message, &batch) != nil || len(batch) == 0 {
		return true, false, false
	}
	for _, m := range batch {
		var fields struct {
			Version string          `json:"jsonrpc"`
			Method  string          `json:"method"`
			ID      json.RawMessage `json:"id"`
			Result  json.RawMessage `json:"result"`
			Error   json.RawMessage `json:"error"`
		}
		_ = json.Unmarshal(m, &fields) // what is wrong stays empty
		valid := fields.Version == "2.0"
		switch {
		case valid && fields.ID == nil && fields.Method != "":
			notifies = true
		case valid && fields.ID != nil && fields.Method == "" && (fields.Result != nil || fields.Error != nil):
			responds = true
		default:
			asks = true
		}
	}
	return asks, notifies, responds
}
