package feed

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/gorilla/websocket"

	"ledgerd/rpc/feed/protocol"
)

// ServeHTTP serves /feed, /feed/sse and /feed/schema.json.
func (f *Feed) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/feed" && websocket.IsWebSocketUpgrade(r):
		f.serveWebsocket(w, r)
	case r.URL.Path == "/feed":
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "the feed is a websocket; /feed/sse has it as server-sent events", http.StatusUpgradeRequired)
	case r.URL.Path == "/feed/sse":
		f.serveEvents(w, r)
	case r.URL.Path == "/feed/schema.json":
		w.Header().Set("Content-Type", "application/schema+json")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		w.Write(protocol.Schema)
	default:
		http.NotFound(w, r)
	}
}

// serveEvents serves server-sent events (WHATWG HTML, §9.2). The id of each is its cursor, so that a browser that reconnects resumes.
func (f *Feed) serveEvents(w http.ResponseWriter, r *http.Request) {
	if !f.opts.OriginAllowed(r) {
		http.Error(w, "origin not allowed", http.StatusForbidden)
		return
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Add("Vary", "Origin")
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "the feed is read with GET", http.StatusMethodNotAllowed)
		return
	}
	peer, leave, err := f.enter("sse", r)
	if err != nil {
		f.turnAway(w, r, f.explain(err))
		return
	}
	defer leave()
	q, err := f.queryRequest(r)
	if err != nil {
		f.metrics.refused.WithLabelValues(string(protocol.CodeInvalidRequest)).Inc()
		f.turnAway(w, r, f.explain(err))
		return
	}
	reader, err := f.open(q, peer)
	if err != nil {
		f.turnAway(w, r, f.explain(err))
		return
	}
	s := f.newStream(w)
	sub := &subscription{reader: reader, to: s}
	hello, problem := sub.greeting()
	if problem != nil {
		f.turnAway(w, r, problem)
		return
	}
	s.begin()
	ctx, cancel := f.untilStop(r.Context())
	defer cancel()
	if s.message(hello) != nil {
		return
	}
	if e := sub.run(ctx); e != nil && e != gone {
		_ = s.message(farewell(e))
	}
}

// retryAfter is when an EventSource comes again that was turned away.
const retryAfter = time.Second

// turnAway answers a request that does not become a stream. An EventSource gives up for good when the status is not 200, so that one that would be served
// later gets a stream all the same, with the failure as its only event: it comes again, with the last id that it has.
func (f *Feed) turnAway(w http.ResponseWriter, r *http.Request, e *protocol.Error) {
	temporary := e.Code == protocol.CodeBeyondHead || e.Code == protocol.CodeOverloaded
	if !temporary || !acceptsEvents(r) {
		refuse(w, e)
		return
	}
	s := f.newStream(w)
	s.begin()
	s.retry(retryAfter)
	_ = s.message(farewell(e))
}

// acceptsEvents says whether a client names server-sent events among what it accepts, as every EventSource does.
func acceptsEvents(r *http.Request) bool {
	for _, accepted := range r.Header.Values("Accept") {
		for kind := range strings.SplitSeq(accepted, ",") {
			kind, _, _ = strings.Cut(kind, ";")
			if strings.EqualFold(strings.TrimSpace(kind), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// refuse answers a request that does not become a stream, nor pretends to.
func refuse(w http.ResponseWriter, e *protocol.Error) {
	status := http.StatusBadRequest
	switch e.Code {
	case protocol.CodeOtherChain, protocol.CodeOtherHistory, protocol.CodeBeyondHead:
		status = http.StatusConflict
	case protocol.CodePruned:
		status = http.StatusGone
	case protocol.CodeOverloaded:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	case protocol.CodeInternal:
		status = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(encode(farewell(e)), '\n'))
}

// queryRequest reads a request from a URL: filters as JSON in "filters", or one filter for each "kind", all with the same address, topic0 to topic3, from and to. A
// header Last-Event-ID goes before the parameter cursor: it is newer.
func (f *Feed) queryRequest(r *http.Request) (*protocol.Request, error) {
	if len(r.URL.RawQuery) > f.opts.MaxRequestBytes {
		return nil, protocol.Errorf(protocol.CodeLimitExceeded, "a query of %d bytes, at most %d", len(r.URL.RawQuery), f.opts.MaxRequestBytes)
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, protocol.Errorf(protocol.CodeInvalidRequest, "the query: %v", err)
	}
	q, err := decodeQuery(values)
	if err != nil {
		return nil, err
	}
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		q.Cursor, q.Start = id, ""
	}
	return q, q.Validate()
}

var (
	filterParameters = []string{"kind", "address", "topic0", "topic1", "topic2", "topic3", "from", "to"}
	parameters       = append([]string{"filters", "cursor", "start"}, filterParameters...)
)

func decodeQuery(values url.Values) (*protocol.Request, error) {
	for name, list := range values {
		switch {
		case !slices.Contains(parameters, name):
			return nil, protocol.Errorf(protocol.CodeInvalidRequest, "unknown parameter %.40q; there are %s", name, strings.Join(parameters, ", "))
		case len(list) > 1 && !slices.Contains(filterParameters, name):
			return nil, protocol.Errorf(protocol.CodeInvalidRequest, "parameter %q is given %d times", name, len(list))
		case values.Has("filters") && slices.Contains(filterParameters, name):
			return nil, protocol.Errorf(protocol.CodeInvalidRequest, "parameter %q beside filters, which says it all", name)
		}
	}
	q := &protocol.Request{Type: protocol.TypeSubscribe, Cursor: values.Get("cursor"), Start: values.Get("start")}
	if values.Has("filters") {
		if err := json.Unmarshal([]byte(values.Get("filters")), &q.Filters); err != nil {
			return nil, protocol.Errorf(protocol.CodeInvalidRequest, "the parameter filters: %v", err)
		}
		return q, nil
	}
	common, err := decodeFilter(values)
	if err != nil {
		return nil, err
	}
	for _, kind := range split(values["kind"]) {
		one := *common
		one.Kind = protocol.Kind(kind)
		q.Filters = append(q.Filters, one)
	}
	return q, nil
}

// decodeFilter reads the conditions.
func decodeFilter(values url.Values) (*protocol.Filter, error) {
	var filter protocol.Filter
	for name, list := range map[string]*[]common.Address{"address": &filter.Address, "from": &filter.From, "to": &filter.To} {
		for _, text := range split(values[name]) {
			var a common.Address
			if err := a.UnmarshalText([]byte(text)); err != nil {
				return nil, protocol.Errorf(protocol.CodeInvalidRequest, "the parameter %s: %v", name, err)
			}
			*list = append(*list, a)
		}
	}
	for i := range protocol.MaxTopics {
		name := "topic" + strconv.Itoa(i)
		for _, text := range split(values[name]) {
			var topic common.Hash
			if err := topic.UnmarshalText([]byte(text)); err != nil {
				return nil, protocol.Errorf(protocol.CodeInvalidRequest, "the parameter %s: %v", name, err)
			}
			for len(filter.Topics) <= i {
				filter.Topics = append(filter.Topics, nil)
			}
			filter.Topics[i] = append(filter.Topics[i], topic)
		}
	}
	return &filter, nil
}

// split joins a parameter that is given several times with one that has commas.
func split(values []string) (all []string) {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if part != "" {
				all = append(all, part)
			}
		}
	}
	return all
}

// stream is the connection of one client of server-sent events.
type stream struct {
	w       http.ResponseWriter
	c       *http.ResponseController
	timeout time.Duration
	buffer  bytes.Buffer
}

func (f *Feed) newStream(w http.ResponseWriter) *stream {
	return &stream{w: w, c: http.NewResponseController(w), timeout: f.opts.WriteTimeout}
}

// begin makes a stream of the answer.
func (s *stream) begin() {
	h := s.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")     // of nginx, which would hold events back
	_ = s.c.SetReadDeadline(time.Time{}) // the server's is for requests that end
}

// retry says, with the next event, how long the client should wait before it connects again.
func (s *stream) retry(after time.Duration) {
	s.buffer.WriteString("retry: " + strconv.FormatInt(after.Milliseconds(), 10) + "\n")
}

func (s *stream) event(m *message) error { return s.send(string(m.kind), m.cursor, m.text) }

// message has the cursor of a progress, and of the greeting, as its id: a browser that loses the connection before the first event resumes there. The event
// of an error is called "failure", since "error" is what EventSource calls its own.
func (s *stream) message(m *protocol.Message) error {
	name, id := m.Type, m.Cursor
	if m.Type == protocol.TypeError {
		name, id = "failure", ""
	}
	return s.send(name, id, encode(m))
}

// heartbeat is a comment.
func (s *stream) heartbeat() error {
	s.buffer.WriteString(":\n\n")
	return s.flush()
}

func (s *stream) send(name, id string, data []byte) error {
	if id != "" {
		s.buffer.WriteString("id: " + id + "\n")
	}
	s.buffer.WriteString("event: " + name + "\ndata: ")
	s.buffer.Write(data) // JSON in one line
	s.buffer.WriteString("\n\n")
	return s.flush()
}

func (s *stream) flush() error {
	_ = s.c.SetWriteDeadline(time.Now().Add(s.timeout)) // not every writer has one
	_, err := s.w.Write(s.buffer.Bytes())
	s.buffer.Reset()
	if err != nil {
		return err
	}
	return s.c.Flush()
}
