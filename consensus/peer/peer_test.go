package peer

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testNetwork = consensus.NetworkID{1, 2, 3}

// testKey makes the key of a number, so that a failure shows the same names each time.
func testKey(n uint64) ed25519.PrivateKey {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("key"), n))
	return ed25519.NewKeyFromSeed(seed[:])
}

func publicOf(n uint64) ed25519.PublicKey { return testKey(n).Public().(ed25519.PublicKey) }

func identity(epoch consensus.Epoch) consensus.Digest {
	return consensus.EpochIdentity(testNetwork, epoch, consensus.Digest{}, 0)
}

// within is how long a test waits for what must come.
const within = 10 * time.Second

func eventually(t testing.TB, condition func() bool, what string) {
	t.Helper()
	require.Eventually(t, condition, within, time.Millisecond, what)
}

// A cluster is nodes 1 to n, that are the members of one epoch, on loopback sockets.
type cluster struct {
	directory *Directory
	seg       consensus.Segment
	nodes     map[uint64]*Node
	metrics   map[uint64]*prometheus.Registry
	change    func(*Options)
}

func newCluster(t testing.TB, n int, change func(*Options)) *cluster {
	c := &cluster{
		directory: NewDirectory(), nodes: make(map[uint64]*Node), metrics: make(map[uint64]*prometheus.Registry), change: change,
		seg: consensus.Segment{Network: testNetwork, Epoch: 1, Base: 1, Identity: identity(1)},
	}
	for id := uint64(1); id <= uint64(n); id++ {
		node := c.listen(t, id, "127.0.0.1:0")
		c.seg.Spec.Members = append(c.seg.Spec.Members, consensus.Member{ID: id, NodeKey: publicOf(id), PeerAddress: node.Addr().String()})
	}
	c.directory.Set(View{Segments: []consensus.Segment{c.seg}})
	t.Cleanup(func() {
		for _, node := range c.nodes {
			require.NoError(t, node.Close())
		}
	})
	return c
}

func (c *cluster) listen(t testing.TB, id uint64, address string) *Node {
	t.Helper()
	c.metrics[id] = prometheus.NewRegistry()
	opts := Options{
		Key: testKey(id), Network: testNetwork, Roster: c.directory, Address: address, Registerer: c.metrics[id],
		LinkPingInterval: 50 * time.Millisecond, LinkPingTimeout: within, // a loaded machine must not look like a dead one
	}
	if c.change != nil {
		c.change(&opts)
	}
	node, err := Listen(opts)
	require.NoError(t, err)
	c.nodes[id] = node
	return node
}

func (c *cluster) members() []consensus.Member { return c.seg.Spec.Members }

// An inbox holds what was delivered, and blocks nobody.
type inbox struct {
	sync.Mutex
	frames []string
}

func (i *inbox) deliver(frame []byte) {
	i.Lock()
	defer i.Unlock()
	i.frames = append(i.frames, string(frame))
}

func (i *inbox) all() []string {
	i.Lock()
	defer i.Unlock()
	return append([]string(nil), i.frames...)
}

func (i *inbox) has(frame string) func() bool {
	return func() bool {
		i.Lock()
		defer i.Unlock()
		for _, f := range i.frames {
			if f == frame {
				return true
			}
		}
		return false
	}
}

func (c *cluster) join(t testing.TB, id uint64, seg consensus.Segment) (*Membership, *inbox) {
	t.Helper()
	in := &inbox{}
	m, err := c.nodes[id].Join(seg, id, in.deliver)
	require.NoError(t, err)
	return m, in
}

// reach sends until something arrives: before the first connection, and around a broken one, frames may be lost.
func reach(t testing.TB, from *Membership, to uint64, in *inbox, text string) {
	t.Helper()
	eventually(t, func() bool {
		from.Send(to, []byte(text))
		return in.has(text)()
	}, "reach member with "+text)
}

func (c *cluster) dropped(id uint64, reason string) float64 {
	return value(c.nodes[id].metrics.drops.WithLabelValues(reason))
}

func TestFramesBothDirections(t *testing.T) {
	c := newCluster(t, 3, nil)
	memberships, inboxes := map[uint64]*Membership{}, map[uint64]*inbox{}
	for id := uint64(1); id <= 3; id++ {
		memberships[id], inboxes[id] = c.join(t, id, c.seg)
	}
	for from := uint64(1); from <= 3; from++ {
		for to := uint64(1); to <= 3; to++ {
			if from != to {
				memberships[from].Send(to, fmt.Appendf(nil, "%d to %d", from, to))
				eventually(t, inboxes[to].has(fmt.Sprintf("%d to %d", from, to)), "frame sent before the connection stood")
			}
		}
	}
	// In order on a connection that holds, and nothing twice.
	for i := range 5000 {
		memberships[1].Send(2, fmt.Append(nil, i))
	}
	eventually(t, inboxes[2].has("4999"), "last frame")
	got := inboxes[2].all()[2:]
	require.Len(t, got, 5000)
	for i, frame := range got {
		require.Equal(t, fmt.Sprint(i), frame)
	}
	memberships[1].Send(1, []byte("self"))
	memberships[1].Send(9, []byte("nobody"))
	for _, l := range c.nodes[1].Links() {
		require.True(t, l.Connected)
		require.Empty(t, l.Err)
		require.Zero(t, l.Dropped)
	}
	require.Equal(t, 2.0, value(c.nodes[1].metrics.connected))
	require.GreaterOrEqual(t, value(c.nodes[2].metrics.receivedFrames), 5000.0)
}

func TestSeveralEpochsShareALink(t *testing.T) {
	c := newCluster(t, 2, nil)
	next := c.seg
	next.Epoch, next.Identity = 2, identity(2)
	c.directory.Set(View{Segments: []consensus.Segment{c.seg}, Prepared: []consensus.Segment{next}})

	old1, _ := c.join(t, 1, c.seg)
	_, oldIn := c.join(t, 2, c.seg)
	new1, _ := c.join(t, 1, next)
	_, newIn := c.join(t, 2, next)
	require.Len(t, c.nodes[1].Links(), 1)
	reach(t, old1, 2, oldIn, "one")
	reach(t, new1, 2, newIn, "two")
	require.NotContains(t, oldIn.all(), "two")
	require.NotContains(t, newIn.all(), "one")

	// The old epoch ends, the link goes on.
	require.NoError(t, old1.Close())
	require.NoError(t, old1.Close())
	reach(t, new1, 2, newIn, "three")
	require.NoError(t, new1.Close())
	require.Empty(t, c.nodes[1].Links())
}

func TestNothingIsDeliveredAfterClose(t *testing.T) {
	c := newCluster(t, 2, nil)
	sender, _ := c.join(t, 1, c.seg)
	var mu sync.Mutex
	closed, late, n := false, false, 0
	receiver, err := c.nodes[2].Join(c.seg, 2, func([]byte) {
		mu.Lock()
		defer mu.Unlock()
		late = late || closed
		n++
	})
	require.NoError(t, err)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				sender.Send(2, []byte("x"))
			}
		}
	})
	eventually(t, func() bool { mu.Lock(); defer mu.Unlock(); return n > 1000 }, "frames")
	require.NoError(t, receiver.Close())
	mu.Lock()
	closed = true
	mu.Unlock()
	eventually(t, func() bool { return c.dropped(2, dropEpoch) > 0 }, "frames after the end of the membership")
	close(stop)
	wait.Wait()
	require.False(t, late)

	// The epoch can be joined again.
	_, in := c.join(t, 2, c.seg)
	reach(t, sender, 2, in, "again")
}

func TestJoinRefuses(t *testing.T) {
	c := newCluster(t, 2, nil)
	_, err := c.nodes[1].Join(c.seg, 2, nil)
	require.ErrorIs(t, err, consensus.ErrInvalid, "another member's number")
	_, err = c.nodes[1].Join(c.seg, 7, nil)
	require.ErrorIs(t, err, consensus.ErrInvalid, "no member's number")
	noKey := c.seg
	noKey.Spec.Members = append([]consensus.Member{{ID: 3}}, c.seg.Spec.Members...)
	_, err = c.nodes[1].Join(noKey, 1, nil)
	require.ErrorIs(t, err, consensus.ErrInvalid, "member without a key")
	c.join(t, 1, c.seg)
	_, err = c.nodes[1].Join(c.seg, 1, nil)
	require.ErrorIs(t, err, consensus.ErrInvalid, "joined already")
	require.NoError(t, c.nodes[1].Close())
	_, err = c.nodes[1].Join(c.seg, 1, nil)
	require.ErrorIs(t, err, consensus.ErrClosed)
}

func TestOptions(t *testing.T) {
	_, err := Listen(Options{})
	require.ErrorIs(t, err, consensus.ErrInvalid)
	for _, part := range []string{"Key", "Network", "Roster", "Address"} {
		require.ErrorContains(t, err, part)
	}
	_, err = Listen(Options{Key: testKey(1), Network: testNetwork, Roster: NewDirectory(), Address: "127.0.0.1:0", MaxQueueBytes: 1, PingTimeout: -1})
	require.ErrorContains(t, err, "MaxQueueBytes")
	require.ErrorContains(t, err, "negative")
}

func TestReconnectAfterRestart(t *testing.T) {
	c := newCluster(t, 2, nil)
	sender, back := c.join(t, 1, c.seg)
	_, in := c.join(t, 2, c.seg)
	reach(t, sender, 2, in, "before")

	address := c.nodes[2].Addr().String()
	require.NoError(t, c.nodes[2].Close())
	eventually(t, func() bool { return !c.nodes[1].Links()[0].Connected }, "link notices")
	c.listen(t, 2, address)
	again, in := c.join(t, 2, c.seg)
	reach(t, sender, 2, in, "after")
	reach(t, again, 1, back, "and back")
}

// TestDeadPeerIsNoticed cuts the wire without a word: neither FIN nor RST.
func TestDeadPeerIsNoticed(t *testing.T) {
	proxies := map[string]*proxy{}
	c := newCluster(t, 2, func(o *Options) {
		o.LinkPingInterval, o.LinkPingTimeout, o.DialTimeout = 50*time.Millisecond, 200*time.Millisecond, time.Second
		o.Resolve = func(m consensus.Member) string { return proxies[m.PeerAddress].address() }
	})
	for _, m := range c.members() {
		proxies[m.PeerAddress] = newProxy(t, m.PeerAddress)
	}
	sender, _ := c.join(t, 1, c.seg)
	_, in := c.join(t, 2, c.seg)
	reach(t, sender, 2, in, "before")
	p := proxies[c.members()[1].PeerAddress]
	p.cut(true)
	eventually(t, func() bool { return !c.nodes[1].Links()[0].Connected }, "a silent connection is given up")
	p.cut(false)
	reach(t, sender, 2, in, "after")
}

// TestQueuedFramesAgeOut shows that a peer that comes back is not told what was news when it left.
func TestQueuedFramesAgeOut(t *testing.T) {
	c := newCluster(t, 2, func(o *Options) { o.MaxQueueAge = 100 * time.Millisecond })
	address := c.nodes[2].Addr().String()
	require.NoError(t, c.nodes[2].Close())
	sender, _ := c.join(t, 1, c.seg)
	sender.Send(2, []byte("old"))
	eventually(t, func() bool {
		sender.Send(2, []byte("filler"))
		return c.dropped(1, dropAge) > 0
	}, "the old frame gives way")
	c.listen(t, 2, address)
	_, in := c.join(t, 2, c.seg)
	reach(t, sender, 2, in, "new")
	require.NotContains(t, in.all(), "old")
}

func TestSlowReceiver(t *testing.T) {
	const queue = 1 << 20
	c := newCluster(t, 2, func(o *Options) { o.MaxFrameBytes, o.MaxQueueBytes, o.MaxQueueAge = 64<<10, queue, time.Hour })
	sender, _ := c.join(t, 1, c.seg)
	gate := make(chan struct{})
	in := &inbox{}
	_, err := c.nodes[2].Join(c.seg, 2, func(frame []byte) {
		<-gate
		in.deliver(frame[:min(len(frame), 8)])
	})
	require.NoError(t, err)
	frame := make([]byte, 64<<10)
	eventually(t, func() bool {
		sender.Send(2, frame)
		return c.dropped(1, dropQueue) >= 100
	}, "the queue is full")
	link := c.nodes[1].Links()[0]
	require.LessOrEqual(t, link.QueuedBytes, queue)
	require.GreaterOrEqual(t, link.Dropped, uint64(100))
	close(gate)
	reach(t, sender, 2, in, "through")
	eventually(t, func() bool { return c.nodes[1].Links()[0].QueuedBytes == 0 }, "the queue drains")
}

func TestOversizeFrames(t *testing.T) {
	c := newCluster(t, 2, func(o *Options) { o.MaxFrameBytes = 1 << 20 })
	sender, _ := c.join(t, 1, c.seg)
	_, in := c.join(t, 2, c.seg)
	sender.Send(2, make([]byte, 1<<20+1))
	require.Equal(t, 1.0, c.dropped(1, dropOversize), "not even sent")
	largest := strings.Repeat("x", 1<<20)
	reach(t, sender, 2, in, largest)

	// From somebody who does not keep to it: a frame that is too large is dropped, a message that is too large ends the stream before it is decoded.
	raw := c.raw(t, 1, 2)
	raw.send(t, &peerpb.Frames{Frames: []*peerpb.Frame{raw.frame(1, 2, make([]byte, 1<<20+1)), raw.frame(1, 2, []byte("small"))}})
	eventually(t, in.has("small"), "the frame after it")
	require.Equal(t, 1.0, c.dropped(2, dropOversize))
	many := &peerpb.Frames{}
	for range 4 {
		many.Frames = append(many.Frames, raw.frame(1, 2, []byte(largest)))
	}
	raw.send(t, many)
	require.ErrorContains(t, raw.end(t), "larger than configured max")
	reach(t, sender, 2, in, "others are unhurt")
}

// raw is a member that says what it likes over a Carry stream.
type raw struct {
	seg    consensus.Segment
	stream interface {
		Send(*peerpb.Frames) error
		Receive() (*peerpb.Ready, error)
	}
}

// raw opens a stream to a node with the key of another.
func (c *cluster) raw(t *testing.T, from, to uint64) raw {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	transport := c.nodes[from].newTransport(publicKey(publicOf(to)), c.nodes[to].Addr().String, time.Second, within)
	t.Cleanup(func() { cancel(); transport.CloseIdleConnections() })
	stream := peerpbconnect.NewEngineClient(&http.Client{Transport: transport}, "https://"+c.nodes[to].name).Carry(ctx)
	require.NoError(t, stream.Send(nil))
	_, err := stream.Receive()
	require.NoError(t, err)
	return raw{c.seg, stream}
}

func (r raw) frame(from, to uint64, frame []byte) *peerpb.Frame {
	return &peerpb.Frame{Epoch: r.seg.Identity[:], From: from, To: to, Frame: frame}
}

func (r raw) send(t *testing.T, frames *peerpb.Frames) {
	t.Helper()
	require.NoError(t, r.stream.Send(frames))
}

func (r raw) end(t *testing.T) error {
	t.Helper()
	_, err := r.stream.Receive()
	require.Error(t, err)
	return err
}

// TestForeignFrames: what is not for an engine here, or not from whom it says, is refused before the engine sees it.
func TestForeignFrames(t *testing.T) {
	c := newCluster(t, 3, nil)
	old := c.seg
	old.Epoch, old.Identity = 7, identity(7)
	_, in := c.join(t, 2, c.seg)
	r := c.raw(t, 1, 2)
	with := func(change func(*peerpb.Frame)) *peerpb.Frame {
		f := r.frame(1, 2, []byte("forged"))
		change(f)
		return f
	}
	for _, test := range []struct {
		name, reason string
		frame        *peerpb.Frame
	}{
		{"another epoch", dropEpoch, with(func(f *peerpb.Frame) { f.Epoch = old.Identity[:] })},
		{"the same epoch of another network", dropEpoch, with(func(f *peerpb.Frame) {
			other := consensus.EpochIdentity(consensus.NetworkID{9}, 1, consensus.Digest{}, 0)
			f.Epoch = other[:]
		})},
		{"the same epoch after a recovery", dropEpoch, with(func(f *peerpb.Frame) {
			other := consensus.EpochIdentity(testNetwork, 1, consensus.Digest{}, 1)
			f.Epoch = other[:]
		})},
		{"in another member's name", dropSender, with(func(f *peerpb.Frame) { f.From = 3 })},
		{"in the receiver's name", dropSender, with(func(f *peerpb.Frame) { f.From = 2 })},
		{"in nobody's name", dropSender, with(func(f *peerpb.Frame) { f.From = 0 })},
		{"for another member", dropReceiver, with(func(f *peerpb.Frame) { f.To = 3 })},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := c.dropped(2, test.reason)
			mark := fmt.Sprint("honest after ", test.name)
			r.send(t, &peerpb.Frames{Frames: []*peerpb.Frame{test.frame, r.frame(1, 2, []byte(mark))}})
			eventually(t, in.has(mark), "honest frame in the same message")
			require.Equal(t, before+1, c.dropped(2, test.reason))
		})
	}
	require.NotContains(t, in.all(), "forged")

	// A member that the roster lets order in another epoch only.
	c.directory.Set(View{Prepared: []consensus.Segment{old}})
	before := c.dropped(2, dropRight)
	eventually(t, func() bool { // the change reaches a session a moment later
		r.send(t, &peerpb.Frames{Frames: []*peerpb.Frame{r.frame(1, 2, []byte("late"))}})
		return c.dropped(2, dropRight) > before
	}, "no right in this epoch")
	before = c.dropped(2, dropRight)
	r.send(t, &peerpb.Frames{Frames: []*peerpb.Frame{r.frame(1, 2, []byte("forged"))}})
	eventually(t, func() bool { return c.dropped(2, dropRight) > before }, "no right in this epoch")
	require.NotContains(t, in.all(), "forged")

	// No epoch at all: no honest node sends that.
	r.send(t, &peerpb.Frames{Frames: []*peerpb.Frame{{Epoch: []byte("short"), From: 1, To: 2}}})
	require.ErrorIs(t, fromWire(r.end(t)), consensus.ErrInvalid)
}

// TestMesh: the members of an epoch that may come are connected before anybody joins it, and go on over the same connections then.
func TestMesh(t *testing.T) {
	c := newCluster(t, 2, nil)
	next := c.seg
	next.Epoch, next.Identity = 2, identity(2)
	c.directory.Set(View{Segments: []consensus.Segment{c.seg}, Prepared: []consensus.Segment{next}})
	links := func(id uint64) (links, users, meshes int) {
		n := c.nodes[id]
		n.mu.RLock()
		defer n.mu.RUnlock()
		for _, l := range n.mu.links {
			users += l.users
		}
		return len(n.mu.links), users, len(n.mu.meshes)
	}
	for id := range c.nodes {
		require.NoError(t, c.nodes[id].Mesh(next))
		require.NoError(t, c.nodes[id].Mesh(next), "twice is fine")
	}
	linked := func() bool {
		return value(c.nodes[1].metrics.connected) == 1 && value(c.nodes[2].metrics.connected) == 1
	}
	eventually(t, linked, "both are connected")
	a, _ := c.join(t, 1, next)
	_, in := c.join(t, 2, next)
	a.Send(2, []byte("the first frame is not lost"))
	eventually(t, in.has("the first frame is not lost"), "over the connection that is there")
	l, users, meshes := links(1)
	require.Equal(t, [3]int{1, 1, 0}, [3]int{l, users, meshes}, "the membership has the link")
	require.NoError(t, a.Close())
	l, _, _ = links(1)
	require.Zero(t, l)

	for epoch := consensus.Epoch(3); epoch < 3+2*maxMeshes; epoch++ { // requests that come to nothing
		next.Epoch, next.Identity = epoch, identity(epoch)
		require.NoError(t, c.nodes[1].Mesh(next))
	}
	l, users, meshes = links(1)
	require.Equal(t, [3]int{1, maxMeshes, maxMeshes}, [3]int{l, users, meshes})
	require.NoError(t, c.nodes[1].Close())
	l, _, _ = links(1)
	require.Zero(t, l)
	require.ErrorIs(t, c.nodes[1].Mesh(next), consensus.ErrClosed)
}

func TestConcurrentClose(t *testing.T) {
	for range 10 {
		c := newCluster(t, 3, nil)
		var wait sync.WaitGroup
		for id := uint64(1); id <= 3; id++ {
			m, _ := c.join(t, id, c.seg)
			client := c.nodes[id].LogClient(c.members)
			wait.Go(func() {
				for i := range 500 {
					m.Send(uint64(i%3+1), []byte("x"))
				}
			})
			wait.Go(func() { require.NoError(t, m.Close()) })
			wait.Go(func() { // whichever error: it returns
				for range client.Follow(context.Background(), 1) {
				}
			})
			wait.Go(func() { _, err := client.Append(context.Background(), record(1)); require.Error(t, err) })
			for range 2 {
				wait.Go(func() { require.NoError(t, c.nodes[id].Close()) })
			}
		}
		wait.Wait()
	}
}

// TestGeneratedCodeIsFresh makes the Go code from peer.proto again and compares, where protoc is to be had.
func TestGeneratedCodeIsFresh(t *testing.T) {
	if _, err := exec.LookPath("protoc"); err != nil {
		t.Skip("SKIPPED: protoc is not installed, so whether peerpb is fresh is not known")
	}
	if testing.Short() {
		t.Skip("SKIPPED: compiles two plugins")
	}
	cmd := exec.Command("./generate.sh", "--check")
	cmd.Dir = "peerpb"
	cmd.Env = os.Environ()
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// A proxy passes bytes on, until it is cut: then it swallows them and keeps the connections open.
type proxy struct {
	listener net.Listener
	mu       struct {
		sync.Mutex
		down  bool
		conns []net.Conn
	}
}

func newProxy(t *testing.T, target string) *proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{listener: listener}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			p.mu.Lock()
			p.mu.conns = append(p.mu.conns, in, out)
			p.mu.Unlock()
			wait.Go(func() { p.pump(out, in) })
			wait.Go(func() { p.pump(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, c := range p.mu.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wait.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.down = down
}

// pump remembers for each connection whether it was ever cut: what has a hole stays silent.
func (p *proxy) pump(dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	silent := false
	for {
		n, err := src.Read(buf)
		p.mu.Lock()
		silent = silent || p.mu.down
		p.mu.Unlock()
		if err != nil {
			_ = dst.Close()
			return
		}
		if !silent {
			if _, err := dst.Write(buf[:n]); err != nil {
				_ = src.Close()
				return
			}
		}
	}
}

// value reads a counter or a gauge.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	if out.Gauge != nil {
		return out.Gauge.GetValue()
	}
	return out.Counter.GetValue()
}
