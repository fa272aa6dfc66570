package feed

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gorilla/websocket"

	"ledgerd/rpc/feed/protocol"
)

// maxGrantBytes is the length of a client's messages after the first: they grant credit.
const maxGrantBytes = 256

const (
	closeTimeout = 2 * time.Second        // for the message that says why
	lingerTime   = 500 * time.Millisecond // for the client to hang up after it
	lingerBytes  = 1 << 20                // of what it still says
)

func (f *Feed) newUpgrader() websocket.Upgrader {
	return websocket.Upgrader{
		ReadBufferSize:  1 << 10,
		WriteBufferSize: 4 << 10,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     f.opts.OriginAllowed,
	}
}

// socket is the websocket of one client.
type socket struct {
	*websocket.Conn
	feed *Feed
	peer *peer
}

func (f *Feed) serveWebsocket(w http.ResponseWriter, r *http.Request) {
	peer, leave, err := f.enter("websocket", r)
	if err != nil {
		refuse(w, f.explain(err))
		return
	}
	defer leave()
	conn, err := f.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	s := socket{conn, f, peer}
	defer s.Close()
	ctx, cancel := f.untilStop(context.WithoutCancel(r.Context()))
	defer cancel()
	// Who waits for the network does not see the context end.
	stop := context.AfterFunc(ctx, func() {
		s.SetReadDeadline(time.Now())
		time.AfterFunc(closeTimeout, func() { s.Close() })
	})
	defer stop()
	if e := s.serve(ctx, cancel); e != nil && e != gone {
		_ = s.message(farewell(e)) // not after a message that was too long: then the close frame has gone already, with its own code
		s.end(websocket.ClosePolicyViolation, string(e.Code))
		return
	}
	select {
	case <-f.stopping:
		s.end(websocket.CloseGoingAway, "the node is stopping")
	default:
	}
}

// untilStop returns a context that ends with the feed.
func (f *Feed) untilStop(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		select {
		case <-f.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// serve has the dialogue with the client: its request, the answer, then events one way and credit the other.
func (s socket) serve(ctx context.Context, cancel context.CancelFunc) *protocol.Error {
	q, err := s.request(ctx)
	if err != nil {
		return err
	}
	r, failed := s.feed.open(q, s.peer)
	if failed != nil {
		return s.feed.explain(failed)
	}
	sub := &subscription{reader: r, to: s, credit: newCredit(q.Credit, s.feed.opts.MaxCredit)}
	hello, err := sub.greeting()
	if err != nil {
		return err
	}
	if s.message(hello) != nil {
		return gone
	}
	// Both end with the context, and each ends it.
	var wrong *protocol.Error
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		defer cancel()
		wrong = s.listen(ctx, sub.credit)
	}()
	err = sub.run(ctx)
	cancel()
	<-heard
	if err == nil {
		err = wrong
	}
	return err
}

// request reads the first message.
func (s socket) request(ctx context.Context) (*protocol.Request, *protocol.Error) {
	s.SetReadLimit(int64(s.feed.opts.MaxRequestBytes))
	if err := s.expect(ctx, s.feed.opts.RequestTimeout); err != nil {
		return nil, gone
	}
	_, text, err := s.ReadMessage()
	if err != nil {
		return nil, s.unread(err)
	}
	q, err := protocol.DecodeRequest(text)
	if err != nil {
		s.feed.metrics.refused.WithLabelValues(string(protocol.CodeInvalidRequest)).Inc()
		return nil, s.feed.explain(err)
	}
	return q, nil
}

// listen takes credit in until the client is gone or does something else.
func (s socket) listen(ctx context.Context, c *credit) *protocol.Error {
	s.SetReadLimit(maxGrantBytes)
	alive := func(string) error { return s.expect(ctx, s.feed.opts.ReadTimeout) }
	s.SetPongHandler(alive)
	for {
		if err := alive(""); err != nil {
			return gone
		}
		_, text, err := s.ReadMessage()
		if err != nil {
			return s.unread(err)
		}
		n, err := protocol.DecodeGrant(text)
		if err != nil {
			return s.feed.explain(err)
		}
		c.grant(n)
	}
}

// expect gives the client so long to say something. The end of ctx, which takes that time away, comes before the look at it, or after.
func (s socket) expect(ctx context.Context, within time.Duration) error {
	if err := s.SetReadDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	return ctx.Err()
}

// unread makes an error for the client of why it could not be read, if there still may be one.
func (s socket) unread(err error) *protocol.Error {
	var slow net.Error
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return protocol.Errorf(protocol.CodeLimitExceeded, "a message is too long; a request may have %d bytes, another message %d", s.feed.opts.MaxRequestBytes, maxGrantBytes)
	case errors.As(err, &slow) && slow.Timeout():
		select {
		case <-s.feed.stopping:
			return gone
		default:
			return protocol.Errorf(protocol.CodeInvalidRequest, "nothing came for too long")
		}
	}
	return gone
}

func (s socket) event(m *message) error {
	frame, err := m.frame()
	if err != nil {
		return err
	}
	s.SetWriteDeadline(time.Now().Add(s.feed.opts.WriteTimeout))
	return s.WritePreparedMessage(frame)
}

func (s socket) message(m *protocol.Message) error {
	s.SetWriteDeadline(time.Now().Add(s.feed.opts.WriteTimeout))
	return s.WriteMessage(websocket.TextMessage, encode(m))
}

func (s socket) heartbeat() error {
	return s.WriteControl(websocket.PingMessage, nil, time.Now().Add(s.feed.opts.WriteTimeout))
}

// end says why, and lets the client hang up. To close a connection while it still sends, such as credit, would reset it, and what it has not read yet, this
// reason for instance, would be lost.
func (s socket) end(code int, reason string) {
	err := s.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(closeTimeout))
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		return
	}
	conn := s.NetConn()
	if conn.SetReadDeadline(time.Now().Add(lingerTime)) == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(conn, lingerBytes))
	}
}
