package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	gethrpc "github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

// Timing of a websocket: a ping after pingInterval, the peer is gone when nothing came for readTimeout.
const (
	pingInterval = 20 * time.Second
	readTimeout  = 60 * time.Second
	closeTimeout = 5 * time.Second        // to get a control message out while a long message is being written
	slowLinger   = 5 * time.Second        // for a peer that was told why to come to it and to hang up: a slow one has much to read before
	stopLinger   = 500 * time.Millisecond // the same, when the node stops
)

// sockets are the open websockets. go-ethereum's own websocket handler would do but for three things that it keeps to
// itself: it cannot end one connection, it cannot say why it ended, and nothing in it knows which subscription is whose.
// So this is the transport, and a codec of go-ethereum's sits on top of it (codec.go).
type sockets struct {
	server   *Server
	upgrader websocket.Upgrader
	running  sync.WaitGroup
	mu       struct {
		sync.Mutex
		open   map[string]*socket // by id
		last   uint64
		closed bool
	}
}

func newSockets(s *Server) *sockets {
	ss := &sockets{server: s}
	ss.upgrader = websocket.Upgrader{
		ReadBufferSize:  1 << 10,
		WriteBufferSize: 4 << 10,
		WriteBufferPool: new(sync.Pool),
		CheckOrigin:     s.checkOrigin,
	}
	ss.mu.open = make(map[string]*socket)
	return ss
}

func (s *Server) serveWebsocket(w http.ResponseWriter, r *http.Request) {
	conn, err := s.sockets.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // Upgrade has answered
	}
	sock := s.sockets.add(conn)
	if sock == nil {
		conn.Close()
		return
	}
	defer s.sockets.remove(sock)
	s.rpc.ServeCodec(newCodec(gethrpc.NewFuncCodec, sock), 0)
}

// add returns nil when the server is stopping.
func (ss *sockets) add(conn *websocket.Conn) *socket {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.mu.closed {
		return nil
	}
	ss.mu.last++
	sock := &socket{
		conn:   conn,
		server: ss.server,
		client: shareOf(conn.RemoteAddr().String()),
		id:     fmt.Sprintf("%s#%d", conn.RemoteAddr(), ss.mu.last),
		window: newWindow(),
	}
	sock.open, sock.gone = context.WithCancel(context.Background())
	conn.SetReadLimit(int64(ss.server.opts.MaxMessageBytes))
	conn.SetReadDeadline(time.Now().Add(readTimeout))
	conn.SetPongHandler(func(string) error { return conn.SetReadDeadline(time.Now().Add(readTimeout)) })
	ss.mu.open[sock.id] = sock
	ss.server.metrics.websockets.Inc()
	ss.running.Add(2)
	go func() {
		defer ss.running.Done()
		sock.ping()
	}()
	return sock
}

func (ss *sockets) remove(sock *socket) {
	sock.Close()
	ss.mu.Lock()
	delete(ss.mu.open, sock.id)
	ss.mu.Unlock()
	ss.server.metrics.websockets.Dec()
	ss.running.Done()
}

// of returns the websocket that a request came by, or nil if it came otherwise.
func (ss *sockets) of(peer gethrpc.PeerInfo) *socket {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.mu.open[peer.RemoteAddr]
}

// end closes one websocket with a reason, without waiting for it.
func (ss *sockets) end(sock *socket, code int, reason string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.mu.open[sock.id] != sock {
		return
	}
	ss.running.Add(1)
	go func() {
		defer ss.running.Done()
		sock.end(code, reason, slowLinger)
	}()
}

// close ends all and lets no more in. The channel is closed when every peer has been told, or could not be.
func (ss *sockets) close() (told <-chan struct{}) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.mu.closed = true
	var telling sync.WaitGroup
	for _, sock := range ss.mu.open {
		telling.Go(func() { sock.end(websocket.CloseGoingAway, "the node is stopping", stopLinger) })
	}
	done := make(chan struct{})
	ss.running.Go(func() {
		telling.Wait()
		close(done)
	})
	return done
}

// begin runs functions that wait waits for, unless the server is stopping: then it may have done so already, and begin returns false.
func (ss *sockets) begin(fs ...func()) bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.mu.closed {
		return false
	}
	for _, f := range fs {
		ss.running.Go(f)
	}
	return true
}

func (ss *sockets) wait() { ss.running.Wait() }

// socket is one websocket, shown to go-ethereum's codec as a stream of JSON values: Read joins the messages, each Write is a
// message of its own (the codec makes one for every answer and notification, and never two at a time).
type socket struct {
	conn          *websocket.Conn
	server        *Server
	client        string // as shareOf names it
	id            string // also what gethrpc.PeerInfo gives as its address
	subscriptions atomic.Int64
	window        *window // of messages that are not answered yet

	ending  atomic.Bool // the peer is being told why: what it still says is not heard
	message []byte      // what is left of the message that Read is in
	broken  bool        // the last message was not JSON

	open context.Context // ends when the connection does; of the socket, not of a request
	gone context.CancelFunc
}

var _ interface {
	gethrpc.Conn
	gethrpc.ConnRemoteAddr
} = (*socket)(nil)

func (s *socket) RemoteAddr() string { return s.id }

// Read is the codec's. Each message has to be a JSON value by itself, or a cut-off one would swallow the next.
func (s *socket) Read(p []byte) (int, error) {
	if len(s.message) == 0 {
		if s.broken {
			return 0, io.EOF
		}
		message, err := s.next()
		if err != nil {
			s.Close() // go-ethereum does it when the last call has ended, and a call may hang on what this connection never gets again
			return 0, err
		}
		if !json.Valid(message) {
			// "]" makes the codec answer with a parse error and close, when the calls have ended.
			s.gone()
			s.broken, message = true, []byte("]")
		}
		s.message = append(renameDiscover(message), '\n') // or a number would go on in the next message
	}
	n := copy(p, s.message)
	if s.message = s.message[n:]; len(s.message) == 0 {
		s.message = nil // it may have been long
	}
	return n, nil
}

// next reads a message, when there is room for one more that is not answered. What comes when the peer has been told that this is the end is passed over.
func (s *socket) next() ([]byte, error) {
	for {
		if err := s.window.wait(s.open, &s.ending); err != nil {
			return nil, err
		}
		s.conn.SetReadDeadline(time.Now().Add(readTimeout)) // nothing was read while there was no room, pongs neither
		kind, message, err := s.conn.ReadMessage()
		if err != nil {
			return nil, err
		}
		if s.ending.Load() || (kind != websocket.TextMessage && kind != websocket.BinaryMessage) {
			continue
		}
		if message = s.window.admit(message); message != nil {
			return message, nil
		}
	}
}

// Write is the codec's. The message counts as under way until it is written: what waits for that is memory.
func (s *socket) Write(p []byte) (int, error) {
	message, done := s.server.sending(s.client, bytes.TrimSuffix(p, []byte("\n")))
	defer done()
	wanted, ended := s.window.answers(message)
	defer ended()
	if !wanted {
		return len(p), nil
	}
	if err := s.conn.WriteMessage(websocket.TextMessage, message); err != nil {
		if !errors.Is(err, websocket.ErrCloseSent) { // then end closes
			// After a timeout half a message may be on the wire: nothing can follow.
			s.Close()
		}
		return 0, err
	}
	return len(p), nil
}

func (s *socket) SetWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }

// end tells the peer why, if it still listens, lets it hang up, and closes. To close a connection while the peer still sends would reset it, and what it has
// not read yet, this reason for instance, would be lost. Read goes on meanwhile, and sees the peer go.
func (s *socket) end(code int, reason string, linger time.Duration) {
	defer s.Close()
	s.ending.Store(true)
	s.window.look()
	err := s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason), time.Now().Add(closeTimeout))
	if err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		return
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-s.open.Done():
	case <-timer.C:
	}
}

// Close is the codec's too. It may be called more than once.
func (s *socket) Close() error {
	s.gone()
	return s.conn.Close()
}

func (s *socket) ping() {
	tick := time.NewTicker(pingInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			err := s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(closeTimeout))
			var busy net.Error
			if err != nil && !errors.Is(err, websocket.ErrCloseSent) && !(errors.As(err, &busy) && busy.Timeout()) { // a timeout: a long message is being written
				s.Close()
			}
		case <-s.open.Done():
			return
		}
	}
}
