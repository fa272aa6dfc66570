// Package feedclient reads the feed of a ledgerd node and resumes by itself: it reconnects, to the next node if there are several, with growing
// pauses, at the cursor of the last event that the application has handled. So the application is handed every event once, as long as it runs; and over its
// own restarts too, if it keeps Event.Cursor together with what it makes of the event.
//
// It imports nothing of the node.
package feedclient

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"ledgerd/rpc/feed/protocol"
)

// Options configure a client. Filters is required, the rest has defaults.
type Options struct {
	Filters []protocol.Filter
	// Cursor is where to go on: that of the last event that was handled. Without one it begins where Start says (protocol.StartEarliest,
	// protocol.StartLatest or a block number in hexadecimal), by default after the head.
	Cursor string
	Start  string

	// Window is how many events may be on their way, or waiting here, at a time. Default 256.
	Window int
	// MinPause and MaxPause are between two attempts to connect. Defaults 100 ms and 10 s.
	MinPause, MaxPause time.Duration
	// Silence after which a connection is dead; a node says something every 15 s. Default 45 s.
	Silence time.Duration
	// Behind is how long nodes may answer that the cursor lies beyond their head, as one that catches up does, until that is an error. Default 1 min.
	Behind time.Duration

	// Progress is called with cursors that come when nothing matches: everything before them was handled, or does not match. live: that is all there
	// is so far. It runs between calls of the handler. Optional.
	Progress func(cursor string, live bool)
	Dialer   *websocket.Dialer // default websocket.DefaultDialer
	// Auth adds a token to the header of each request to connect, as go-ethereum's rpc.HTTPAuth does: a token may be good for a minute only. Optional.
	Auth   func(http.Header) error
	Logger *slog.Logger // of reconnections; nil discards
}

func (o *Options) ensureDefaults() {
	if o.Window <= 0 {
		o.Window = 256
	}
	for v, d := range map[*time.Duration]time.Duration{
		&o.MinPause: 100 * time.Millisecond, &o.MaxPause: 10 * time.Second, &o.Silence: 45 * time.Second, &o.Behind: time.Minute,
	} {
		if *v <= 0 {
			*v = d
		}
	}
	if o.Dialer == nil {
		o.Dialer = websocket.DefaultDialer
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// An Event is something that a filter selected.
type Event struct {
	Kind   protocol.Kind
	Cursor string          // of what follows it: where to resume once it is handled
	Data   json.RawMessage // the JSON of a header, transaction, receipt, log or segment, as the JSON-RPC methods have it
}

// Decode decodes the data, for instance into a *types.Log of go-ethereum.
func (e Event) Decode(v any) error {
	if err := json.Unmarshal(e.Data, v); err != nil {
		return fmt.Errorf("decode %s: %w", e.Kind, err)
	}
	return nil
}

// Client reads one feed.
type Client struct {
	urls   []string
	opts   Options
	cursor atomic.Pointer[string]
}

// New makes a client of one or several nodes of a network, by the URLs of their RPC (http://host:port, also https, ws, wss).
func New(urls []string, opts Options) (*Client, error) {
	opts.ensureDefaults()
	request := protocol.Request{Filters: opts.Filters, Cursor: opts.Cursor, Start: opts.Start}
	if err := request.Validate(); err != nil {
		return nil, err
	}
	if len(urls) == 0 {
		return nil, errors.New("feed: no URL")
	}
	c := &Client{opts: opts}
	for _, text := range urls {
		u, err := feedURL(text)
		if err != nil {
			return nil, err
		}
		c.urls = append(c.urls, u)
	}
	c.cursor.Store(&opts.Cursor)
	return c, nil
}

func feedURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil {
		return "", fmt.Errorf("feed: %w", err)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", fmt.Errorf("feed: %q is not a URL of http, https, ws or wss", text)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/feed"
	}
	return u.String(), nil
}

// Cursor is where a new client would have to go on: everything before it was handled, or does not match. It is empty before the first connection of a
// client that was given none. It may be called at any time.
func (c *Client) Cursor() string { return *c.cursor.Load() }

// Run hands every event to handle, one after the other, until ctx ends (its error), handle returns an error (that one; the event then is
// not handled), or it cannot go on: an *protocol.Error that another attempt would not change, or an answer that is no feed's. Run is called once at a time.
func (c *Client) Run(ctx context.Context, handle func(context.Context, Event) error) error {
	pause := c.opts.MinPause
	var behind time.Time // since when every node has said that the cursor lies beyond its head
	for attempt := 0; ; attempt++ {
		s := session{Client: c, url: c.urls[attempt%len(c.urls)], handle: handle}
		err := s.run(ctx)
		var final *finalError
		var known *protocol.Error
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &final):
			return final.error
		case errors.As(err, &known) && !known.Code.Temporary():
			return known
		case s.served:
			pause, behind = c.opts.MinPause, time.Time{}
		case known != nil && known.Code == protocol.CodeBeyondHead:
			if behind.IsZero() {
				behind = time.Now()
			} else if time.Since(behind) > c.opts.Behind {
				return known
			}
		}
		c.opts.Logger.Info("feed interrupted", "url", s.url, "err", err, "cursor", c.Cursor(), "pause", pause)
		timer := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		pause = min(2*pause, c.opts.MaxPause)
	}
}

// finalError ends Run.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// session is one connection.
type session struct {
	*Client
	url    string
	handle func(context.Context, Event) error
	conn   *websocket.Conn
	served bool // the node took the subscription
}

func (s *session) run(ctx context.Context) error {
	if err := s.dial(ctx); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { s.conn.Close() })
	defer stop()
	// Events are read as they come, so that pings are answered however long the application takes; credit bounds how many that are.
	messages := make(chan protocol.Message, s.opts.Window+16)
	done := make(chan struct{})
	var broken error // why reading ended, once messages is closed
	go func() {
		defer close(messages)
		broken = s.read(messages, done)
	}()
	defer func() {
		close(done)
		s.conn.Close()
		for range messages {
		}
	}()
	request := protocol.Request{Type: protocol.TypeSubscribe, Filters: s.opts.Filters, Credit: uint64(s.opts.Window), Cursor: s.Cursor()}
	if request.Cursor == "" {
		request.Start = s.opts.Start
	}
	if err := s.conn.WriteJSON(request); err != nil {
		return err
	}
	handled := 0
	for m := range messages {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.take(ctx, m); err != nil {
			return err
		}
		if m.Type == protocol.TypeEvent {
			handled++
		}
		if handled > s.opts.Window/2 {
			if err := s.conn.WriteJSON(protocol.Grant{Type: protocol.TypeCredit, Credit: uint64(handled)}); err != nil {
				return err
			}
			handled = 0
		}
	}
	return broken
}

// take does what a message says.
func (s *session) take(ctx context.Context, m protocol.Message) error {
	switch m.Type {
	case protocol.TypeSubscribed:
		s.served = true
	case protocol.TypeEvent:
		if err := s.handle(ctx, Event{m.Kind, m.Cursor, m.Data}); err != nil {
			return &finalError{err}
		}
	case protocol.TypeProgress:
		if s.opts.Progress != nil {
			s.opts.Progress(m.Cursor, m.Live != nil && *m.Live)
		}
	case protocol.TypeError:
		return &protocol.Error{Code: m.Code, Message: m.Text, Cursor: m.Cursor}
	default:
		return nil // of a later version
	}
	s.cursor.Store(&m.Cursor)
	return nil
}

// dial connects.
func (s *session) dial(ctx context.Context) error {
	header := make(http.Header)
	if s.opts.Auth != nil {
		if err := s.opts.Auth(header); err != nil {
			return &finalError{err}
		}
	}
	conn, response, err := s.opts.Dialer.DialContext(ctx, s.url, header)
	if err == nil {
		s.conn = conn
		return nil
	}
	if response == nil {
		return err
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	var m protocol.Message
	if json.Unmarshal(body, &m) == nil && m.Type == protocol.TypeError {
		return &protocol.Error{Code: m.Code, Message: m.Text}
	}
	err = fmt.Errorf("feed: %s answers %s", s.url, response.Status)
	if slices.Contains([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUpgradeRequired}, response.StatusCode) {
		return &finalError{err}
	}
	return err
}

// read brings what comes to messages, until the connection ends or done is closed, and returns why.
func (s *session) read(messages chan<- protocol.Message, done <-chan struct{}) error {
	alive := func() { s.conn.SetReadDeadline(time.Now().Add(s.opts.Silence)) }
	s.conn.SetPingHandler(func(data string) error {
		alive()
		err := s.conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(s.opts.Silence))
		if errors.Is(err, websocket.ErrCloseSent) {
			return nil
		}
		return err
	})
	for {
		alive()
		var m protocol.Message
		if err := s.conn.ReadJSON(&m); err != nil {
			return err
		}
		if m.Type == protocol.TypeProgress && len(messages) >= s.opts.Window {
			continue // the application has other things to do, and a later one says more
		}
		select {
		case messages <- m:
		case <-done:
			return net.ErrClosed
		}
	}
}
