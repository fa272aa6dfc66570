package peer

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// A Membership is this node's part in one epoch: what an engine sends and receives through.
type Membership struct {
	node     *Node
	identity consensus.Digest
	self     uint64
	members  map[uint64]publicKey
	links    map[uint64]*link // to the others
	deliver  func(frame []byte)

	// delivering is held while deliver runs, shared; Close takes it whole, so that nothing is delivered afterwards.
	delivering sync.RWMutex
	closed     bool // in delivering
}

// Join makes the node reachable as member self of the segment, of which only identity and members count: it may be one that has no base yet. From then on
// deliver is called with the frames that members of that epoch send to self. It must not block, nor call Close; it may be called concurrently, and keeps the
// frame.
//
// ErrInvalid if self is not a member with this node's key, if a member has no node key, or if the epoch was joined already; ErrClosed.
func (n *Node) Join(seg consensus.Segment, self uint64, deliver func(frame []byte)) (*Membership, error) {
	m := &Membership{
		node: n, identity: seg.Identity, self: self, deliver: deliver,
		members: make(map[uint64]publicKey), links: make(map[uint64]*link),
	}
	for _, member := range seg.Spec.Members {
		key, ok := keyOf(member.NodeKey)
		if !ok {
			return nil, fmt.Errorf("join epoch %d: %w: member %d has no node key", seg.Epoch, consensus.ErrInvalid, member.ID)
		}
		m.members[member.ID] = key
	}
	if key, ok := m.members[self]; !ok || key != n.key {
		return nil, fmt.Errorf("join epoch %d: %w: this node is not its member %d", seg.Epoch, consensus.ErrInvalid, self)
	}
	n.mu.Lock()
	if n.mu.closed {
		n.mu.Unlock()
		return nil, fmt.Errorf("join epoch %d: %w", seg.Epoch, consensus.ErrClosed)
	}
	if n.mu.joined[m.identity] != nil {
		n.mu.Unlock()
		return nil, fmt.Errorf("join epoch %d: %w: joined already", seg.Epoch, consensus.ErrInvalid)
	}
	for _, member := range seg.Spec.Members {
		if member.ID != self && m.members[member.ID] != n.key {
			m.links[member.ID] = n.useLink(m.members[member.ID], n.opts.Resolve(member))
		}
	}
	n.mu.joined[m.identity] = m
	meshed := n.dropMesh(func(i int) bool { return n.mu.meshes[i].identity == m.identity }) // the membership holds them now
	n.mu.Unlock()
	n.letGo(meshed)
	return m, nil
}

// A mesh holds the links to the members of an epoch that this node has not joined.
type mesh struct {
	identity consensus.Digest
	links    []*link
}

// maxMeshes bounds how many epochs are meshed at a time. Most often one follows; more are asked for when requests race.
const maxMeshes = 4

// Mesh connects this node to the members of an epoch that it may join soon, so that no frame waits for a handshake then. The connections are held until the
// epoch has been joined, or the node is closed, or others that were meshed later push it out. Meshing an epoch again does nothing.
func (n *Node) Mesh(next consensus.Segment) error {
	n.mu.Lock()
	if n.mu.closed {
		n.mu.Unlock()
		return fmt.Errorf("mesh epoch %d: %w", next.Epoch, consensus.ErrClosed)
	}
	known := slices.ContainsFunc(n.mu.meshes, func(m mesh) bool { return m.identity == next.Identity })
	if known || n.mu.joined[next.Identity] != nil {
		n.mu.Unlock()
		return nil
	}
	m := mesh{identity: next.Identity}
	for _, member := range next.Spec.Members {
		if key, ok := keyOf(member.NodeKey); ok && key != n.key {
			m.links = append(m.links, n.useLink(key, n.opts.Resolve(member)))
		}
	}
	n.mu.meshes = append(n.mu.meshes, m)
	oldest := n.dropMesh(func(i int) bool { return i < len(n.mu.meshes)-maxMeshes })
	n.mu.Unlock()
	n.letGo(oldest)
	return nil
}

// dropMesh forgets the meshes for which drop says so, and returns their links, to be let go. The caller holds mu.
func (n *Node) dropMesh(drop func(i int) bool) (links []*link) {
	var kept []mesh
	for i, m := range n.mu.meshes {
		if drop(i) {
			links = append(links, m.links...)
		} else {
			kept = append(kept, m)
		}
	}
	n.mu.meshes = kept
	return links
}

// letGo gives up one use of each of the links, and closes those that nobody uses any more.
func (n *Node) letGo(links []*link) {
	n.mu.Lock()
	var unused []*link
	for _, l := range links {
		if l.users--; l.users == 0 {
			delete(n.mu.links, l.key)
			unused = append(unused, l)
		}
	}
	n.mu.Unlock()
	for _, l := range unused {
		l.close()
	}
}

// Send hands over a frame for a member. It never blocks, and keeps the frame, which is not changed any more. Frames may be lost: they are dropped when too
// many wait for the member, when they have waited too long, and when a connection breaks. What is sent to a member that is not one, or to self, is dropped.
func (m *Membership) Send(to uint64, frame []byte) {
	if l := m.links[to]; l != nil {
		l.send(outgoing{epoch: &m.identity, from: m.self, to: to, frame: frame})
	}
}

// Close ends the membership. When it has returned, deliver is not called any more. Closing again does nothing.
func (m *Membership) Close() error {
	m.delivering.Lock()
	done := m.closed
	m.closed = true
	m.delivering.Unlock()
	if done {
		return nil
	}
	n := m.node
	n.mu.Lock()
	delete(n.mu.joined, m.identity)
	n.mu.Unlock()
	n.letGo(slices.Collect(maps.Values(m.links)))
	return nil
}

// take delivers what a peer has sent. A frame is looked at by nobody before it is known that its epoch is joined here, that its sender is the member that it
// says it is, and that the sender may order in the epoch. The error ends the stream: it is for what no honest node sends.
func (n *Node) take(s *session, frames *peerpb.Frames) error {
	rights := s.rights.Load()
	bytes := 0
	for _, f := range frames.GetFrames() {
		if len(f.GetEpoch()) != len(consensus.Digest{}) {
			return fmt.Errorf("%w: epoch identity of %d bytes", consensus.ErrInvalid, len(f.GetEpoch()))
		}
		bytes += len(f.GetFrame())
		if reason := n.deliver(s.key, rights, consensus.Digest(f.GetEpoch()), f); reason != "" {
			n.metrics.dropped(reason, 1)
		}
	}
	n.metrics.receivedFrames.Add(float64(len(frames.GetFrames())))
	n.metrics.receivedBytes.Add(float64(bytes))
	return nil
}

// deliver hands one frame to its engine, or returns why not.
func (n *Node) deliver(key publicKey, rights *Rights, identity consensus.Digest, f *peerpb.Frame) (dropped string) {
	n.mu.RLock()
	m := n.mu.joined[identity]
	n.mu.RUnlock()
	switch {
	case m == nil:
		return dropEpoch
	case f.GetTo() != m.self:
		return dropReceiver
	case m.members[f.GetFrom()] != key: // a number that is no member's has the zero key, which nobody can own
		return dropSender
	case !rights.Orders(identity):
		return dropRight
	case len(f.GetFrame()) > n.opts.MaxFrameBytes:
		return dropOversize
	}
	m.delivering.RLock()
	defer m.delivering.RUnlock()
	if m.closed {
		return dropEpoch
	}
	m.deliver(f.GetFrame())
	return ""
}

// engineService serves what peers send to this node's engines.
type engineService struct{ node *Node }

// Carry implements peerpbconnect.EngineHandler.
func (e engineService) Carry(ctx context.Context, stream *connect.BidiStream[peerpb.Frames, peerpb.Ready]) error {
	s := ctx.Value(sessionKey{}).(*session)
	if err := stream.Send(&peerpb.Ready{}); err != nil {
		return err
	}
	e.node.pokeLink(s.key) // it is up: if our own link to it waits for its next attempt, it need not
	for {
		frames, err := stream.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil && !s.allowed(*s.rights.Load()):
			return toWire(fmt.Errorf("carry frames: %w", ErrRefused))
		case err != nil:
			return err
		}
		if err := e.node.take(s, frames); err != nil {
			e.node.opts.Logger.Warn("peer sends nonsense", "peer", fmt.Sprintf("%x", s.key), "err", err)
			return toWire(err)
		}
	}
}

// outgoing is a frame on its way.
type outgoing struct {
	epoch    *consensus.Digest
	from, to uint64
	frame    []byte
	since    time.Time
}

// cost is what a frame counts against MaxQueueBytes: more than nothing even when it is empty.
func (o outgoing) cost() int { return len(o.frame) + frameOverhead }

// A link carries the frames of all epochs to one peer, over one stream at a time on a connection of its own, so that no bulk read delays a vote.
//
//	send ─► queue ─► run: dial ─► Carry ─► Ready ─► message of all that wait ─► message of all that wait ─► …
//	                  ▲                                                                                     │
//	                  └────────────── pause (doubles, with jitter) ◄────────────── broken ◄─────────────────┘
//
// There is no timer that waits for company: a lone frame leaves at once, and those that come while it is being written are one message.
type link struct {
	node      *Node
	key       publicKey
	transport *http.Transport
	client    peerpbconnect.EngineClient
	address   atomic.Pointer[string]
	users     int // memberships, in node.mu

	wake   chan struct{} // holds one: there are frames
	again  chan struct{} // holds one: try to connect now
	cancel context.CancelFunc
	done   chan struct{}

	mu struct {
		sync.Mutex
		queue     []outgoing
		bytes     int // cost of what waits, in queue and in run's hands
		connected bool
		dropped   uint64
		err       error // why it is not connected
	}
}

// Bounds of the pause between two attempts to connect.
const (
	minRedial = 20 * time.Millisecond
	maxRedial = time.Second
)

// useLink returns the link to a peer for one more user. The last address that was given counts. Called with n.mu held.
func (n *Node) useLink(key publicKey, address string) *link {
	l := n.mu.links[key]
	if l == nil {
		l = &link{node: n, key: key, wake: make(chan struct{}, 1), again: make(chan struct{}, 1), done: make(chan struct{})}
		l.transport = n.newTransport(key, func() string { return *l.address.Load() }, n.opts.LinkPingInterval, n.opts.LinkPingTimeout)
		l.client = peerpbconnect.NewEngineClient(wholeMessages{l.transport}, "https://"+serverName(n.opts.Network, key), clientOptions(1024)...)
		ctx, cancel := context.WithCancel(context.Background())
		l.cancel = cancel
		n.mu.links[key] = l
		defer func() { // when it has its address
			go func() {
				defer close(l.done)
				l.run(ctx)
			}()
		}()
	}
	l.address.Store(&address)
	l.users++
	return l
}

func clientOptions(maxBytes int) []connect.ClientOption {
	return []connect.ClientOption{connect.WithReadMaxBytes(maxBytes), connect.WithAcceptCompression("gzip", nil, nil)}
}

func (l *link) close() {
	l.cancel()
	l.node.conns.closeIf(func(c *conn) bool { return c.owner == l.transport }) // a write may be stuck in one
	<-l.done
	l.transport.CloseIdleConnections()
}

func (n *Node) pokeLink(key publicKey) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if l := n.mu.links[key]; l != nil {
		l.poke()
	}
}

func (l *link) poke() { signal(l.again) }

// signal fills a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *link) send(o outgoing) {
	o.since = time.Now()
	opts := &l.node.opts
	if len(o.frame) > opts.MaxFrameBytes {
		l.lost(dropOversize, 1)
		return
	}
	l.mu.Lock()
	old := 0 // frames that nobody wants any more, which pile up while there is no connection
	for old < len(l.mu.queue) && o.since.Sub(l.mu.queue[old].since) > opts.MaxQueueAge {
		l.mu.bytes -= l.mu.queue[old].cost()
		l.mu.queue[old] = outgoing{}
		old++
	}
	l.mu.queue = l.mu.queue[old:]
	full := l.mu.bytes > 0 && l.mu.bytes+o.cost() > opts.MaxQueueBytes
	if !full {
		l.mu.queue = append(l.mu.queue, o)
		l.mu.bytes += o.cost()
	}
	l.mu.Unlock()
	signal(l.wake)
	if old > 0 {
		l.lost(dropAge, old)
	}
	if full {
		l.lost(dropQueue, 1)
	}
}

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context) {
	w := &writer{link: l}
	for pause := minRedial; ctx.Err() == nil; {
		connected, err := l.carry(ctx, w)
		if ctx.Err() != nil {
			return
		}
		l.failed(err)
		if connected {
			pause = minRedial
		}
		l.rest(ctx, pause)
		pause = min(2*pause, maxRedial)
	}
}

// rest waits between half the pause and all of it, so that nodes that lost each other at one moment do not all come back at another.
func (l *link) rest(ctx context.Context, pause time.Duration) {
	t := time.NewTimer(pause/2 + rand.N(pause/2))
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.again:
	case <-ctx.Done():
	}
}

func (l *link) setConnected(up bool) {
	l.mu.Lock()
	l.mu.connected = up
	if up {
		l.mu.err = nil
	}
	l.mu.Unlock()
	if up {
		l.node.metrics.connected.Inc()
	} else {
		l.node.metrics.connected.Dec()
	}
}

func (l *link) failed(err error) {
	l.mu.Lock()
	l.mu.err = err
	l.mu.Unlock()
	l.node.opts.Logger.Debug("peer link down", "peer", fmt.Sprintf("%x", l.key), "address", *l.address.Load(), "err", err)
}

// carry makes one connection and uses it for as long as it lasts.
func (l *link) carry(ctx context.Context, w *writer) (connected bool, err error) {
	if l.node.opts.Roster.Rights(l.key[:]).Stranger() {
		return false, fmt.Errorf("%w: peer has no rights", ErrRefused)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream := l.client.Carry(ctx)
	ready := time.AfterFunc(2*l.node.opts.DialTimeout, func() { cancel(fmt.Errorf("%w: no answer", ErrNotServing)) })
	defer ready.Stop()
	if err := stream.Send(nil); err != nil && !errors.Is(err, io.EOF) {
		return false, fromWire(err)
	}
	if _, err := stream.Receive(); err != nil {
		return false, fromWire(err)
	}
	ready.Stop()
	l.setConnected(true)
	defer l.setConnected(false)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := stream.Receive(); err != nil {
				cancel(fmt.Errorf("stream ended: %w", fromWire(err)))
				return
			}
		}
	}()
	err = w.copy(ctx, stream.Send)
	if errors.Is(err, io.EOF) {
		<-ended // it is the receiver that learns why
	}
	cancel(err)
	_ = stream.CloseRequest() // net/http sees the end of a context only when it does not wait for the body's next part
	<-ended
	return true, context.Cause(ctx)
}

// A writer takes frames from a link's queue and makes messages of them. What it has taken and not sent outlives a connection.
type writer struct {
	link  *link
	taken []outgoing
	at    int // first of taken that was not sent

	message peerpb.Frames
	frames  []*peerpb.Frame // of message, used again
}

// copy sends what there is until send fails or ctx ends.
func (w *writer) copy(ctx context.Context, send func(*peerpb.Frames) error) error {
	for {
		n, bytes := w.next()
		if n == 0 {
			select {
			case <-w.link.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w.message.Frames = w.frames[:n]
		err := send(&w.message)
		for _, f := range w.frames[:n] {
			f.Frame = nil // it may be large, and the next one may be long in coming
		}
		w.link.release(bytes + n*frameOverhead)
		if err != nil {
			w.link.lost(dropLink, n)
			return err
		}
		w.link.node.metrics.sentFrames.Add(float64(n))
		w.link.node.metrics.sentBytes.Add(float64(bytes))
	}
}

// next fills w.frames with what goes into the next message, and returns how many frames that is, and their bytes.
func (w *writer) next() (n, bytes int) {
	if w.at == len(w.taken) {
		clear(w.taken)
		w.taken, w.at = w.link.swap(w.taken[:0]), 0
	}
	now := time.Now()
	for ; w.at < len(w.taken) && n < maxMessageFrames; w.at++ {
		o := w.taken[w.at]
		if now.Sub(o.since) > w.link.node.opts.MaxQueueAge {
			w.link.release(o.cost())
			w.link.lost(dropAge, 1)
			continue
		}
		if n > 0 && bytes+len(o.frame) > maxMessageBytes {
			break
		}
		if n == len(w.frames) {
			w.frames = append(w.frames, &peerpb.Frame{})
		}
		f := w.frames[n]
		f.Epoch, f.From, f.To, f.Frame = o.epoch[:], o.from, o.to, o.frame
		n++
		bytes += len(o.frame)
	}
	return n, bytes
}

// swap takes the queue and leaves an empty one.
func (l *link) swap(empty []outgoing) []outgoing {
	l.mu.Lock()
	defer l.mu.Unlock()
	queue := l.mu.queue
	l.mu.queue = empty
	return queue
}

func (l *link) release(cost int) {
	l.mu.Lock()
	l.mu.bytes -= cost
	l.mu.Unlock()
}

func (l *link) lost(reason string, frames int) {
	l.mu.Lock()
	l.mu.dropped += uint64(frames)
	l.mu.Unlock()
	l.node.metrics.dropped(reason, frames)
}

// wholeMessages is an HTTP client whose requests' bodies are read one message at a time. Connect writes the five bytes of a message's prefix and the message one
// after the other, and net/http sends what it gets at once, as a frame of HTTP/2, a TLS record and a system call each: twice what one message takes.
type wholeMessages struct{ http.RoundTripper }

// Do implements connect.HTTPClient.
func (c wholeMessages) Do(r *http.Request) (*http.Response, error) {
	r.Body = &messageReader{ReadCloser: r.Body}
	return c.RoundTrip(r)
}

// A messageReader reads a stream of messages, each behind a byte of flags and four of length (the Connect protocol's envelope), so that a read ends where a
// message does, or where the buffer does.
type messageReader struct {
	io.ReadCloser
	prefix [5]byte
	have   int // of prefix, what was not handed out is at its end: prefix[5-have:]
	left   int // of the message, without prefix
}

// Read implements io.Reader.
func (r *messageReader) Read(b []byte) (n int, err error) {
	if r.have == 0 && r.left == 0 {
		if _, err := io.ReadFull(r.ReadCloser, r.prefix[:]); err != nil {
			return 0, err
		}
		r.have, r.left = len(r.prefix), int(binary.BigEndian.Uint32(r.prefix[1:]))
	}
	n = copy(b, r.prefix[len(r.prefix)-r.have:])
	r.have -= n
	rest := b[n:min(len(b), n+r.left)]
	if len(rest) == 0 {
		return n, nil
	}
	m, err := io.ReadFull(r.ReadCloser, rest)
	r.left -= m
	return n + m, err
}

// LinkStatus is the state of the link to one peer.
type LinkStatus struct {
	Key         ed25519.PublicKey `json:"key"`
	Address     string            `json:"address"`
	Connected   bool              `json:"connected"`
	QueuedBytes int               `json:"queuedBytes"`
	Dropped     uint64            `json:"dropped"`       // frames that were not sent, so far
	Err         string            `json:"err,omitempty"` // why it is not connected
}

// Links returns the state of the links to the members of all joined epochs, in no order.
func (n *Node) Links() []LinkStatus {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := make([]LinkStatus, 0, len(n.mu.links))
	for _, l := range n.mu.links {
		all = append(all, l.status())
	}
	return all
}

func (l *link) status() LinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := LinkStatus{
		Key: append(ed25519.PublicKey(nil), l.key[:]...), Address: *l.address.Load(),
		Connected: l.mu.connected, QueuedBytes: l.mu.bytes, Dropped: l.mu.dropped,
	}
	if l.mu.err != nil {
		s.Err = l.mu.err.Error()
	}
	return s
}
