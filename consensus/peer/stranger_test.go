package peer

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// certificate makes one with something wrong.
func certificate(t *testing.T, public, signer any, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{serverName(testNetwork, publicKey(publicOf(1)))},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, signer)
	require.NoError(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}
}

// TestStrangers dials a node of a network of two, as a member with something wrong, and expects not to get through the handshake.
func TestStrangers(t *testing.T) {
	c := newCluster(t, 2, nil)
	target := c.nodes[2]
	own := func(n uint64, network consensus.NetworkID) tls.Certificate {
		cert, err := newCertificate(network, testKey(n))
		require.NoError(t, err)
		return cert
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	otherNetwork := consensus.NetworkID{9}
	member := own(1, testNetwork)
	for _, test := range []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{name: "member", change: func(*tls.Config) {}, ok: true},
		{name: "member with a certificate of a day", ok: true, change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{certificate(t, publicOf(1), testKey(1), nil)}
		}},
		{name: "no certificate", change: func(c *tls.Config) { c.Certificates = nil }},
		{name: "foreign key", change: func(c *tls.Config) { c.Certificates = []tls.Certificate{own(77, testNetwork)} }},
		{name: "member's certificate without its key", change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{{Certificate: member.Certificate, PrivateKey: testKey(77)}}
		}},
		{name: "the target's own key", change: func(c *tls.Config) { c.Certificates = []tls.Certificate{own(2, testNetwork)} }},
		{name: "member's certificate for another network", change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{own(1, otherNetwork)}
		}},
		{name: "another kind of key", change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{certificate(t, ecKey.Public(), ecKey, nil)}
		}},
		{name: "expired certificate", change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{certificate(t, publicOf(1), testKey(1), func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-time.Minute) })}
		}},
		{name: "certificate of tomorrow", change: func(c *tls.Config) {
			c.Certificates = []tls.Certificate{certificate(t, publicOf(1), testKey(1), func(x *x509.Certificate) {
				x.NotBefore, x.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
			})}
		}},
		{name: "two certificates", change: func(c *tls.Config) {
			two := member
			two.Certificate = [][]byte{member.Certificate[0], own(77, testNetwork).Certificate[0]}
			c.Certificates = []tls.Certificate{two}
		}},
		{name: "wrong server name", change: func(c *tls.Config) { c.ServerName = "example.org" }},
		{name: "no server name", change: func(c *tls.Config) { c.ServerName = "" }},
		{name: "name of another member", change: func(c *tls.Config) { c.ServerName = serverName(testNetwork, publicKey(publicOf(1))) }},
		{name: "name in another network", change: func(c *tls.Config) { c.ServerName = serverName(otherNetwork, publicKey(publicOf(2))) }},
		{name: "TLS 1.2", change: func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		{name: "HTTP/1.1", change: func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
		{name: "no protocol", change: func(c *tls.Config) { c.NextProtos = nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := &tls.Config{
				MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, ServerName: target.name, NextProtos: []string{"h2"},
				Certificates: []tls.Certificate{member},
			}
			test.change(config)
			before := value(target.metrics.refused)
			err := greet(t, target.Addr().String(), config)
			if test.ok {
				require.NoError(t, err)
				require.Equal(t, before, value(target.metrics.refused))
				return
			}
			require.Error(t, err)
		})
	}
	require.Positive(t, value(target.metrics.refused))
	require.Zero(t, sessions(target))
}

// greet says hello in HTTP/2, and waits for its answer: in TLS 1.3 a client is done before the server has looked at its certificate.
func greet(t *testing.T, address string, config *tls.Config) error {
	t.Helper()
	raw, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = raw.Close() }()
	require.NoError(t, raw.SetDeadline(time.Now().Add(within)))
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
		return err
	}
	header := make([]byte, 9)
	if _, err := io.ReadFull(conn, header); err != nil {
		return err
	}
	if header[3] != 4 {
		return errors.New("the answer is not SETTINGS")
	}
	return nil
}

func TestPlainTCPIsNoAnswer(t *testing.T) {
	c := newCluster(t, 1, nil)
	conn, err := net.Dial("tcp", c.nodes[1].Addr().String())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(within)))
	_, err = conn.Write([]byte("GET /ledgerd.peer.v1.Log/Status HTTP/1.1\r\nHost: x\r\n\r\n"))
	require.NoError(t, err)
	answer, _ := io.ReadAll(conn)
	require.NotContains(t, string(answer), "200")
}

// TestDialFindsAnotherNode: whoever answers at a member's address must have that member's key.
func TestDialFindsAnotherNode(t *testing.T) {
	c := newCluster(t, 3, nil)
	swapped := c.seg
	swapped.Spec.Members = append([]consensus.Member(nil), c.seg.Spec.Members...)
	swapped.Spec.Members[1].PeerAddress = c.seg.Spec.Members[2].PeerAddress // member 2 is said to live where member 3 does
	m, err := c.nodes[1].Join(swapped, 1, nil)
	require.NoError(t, err)
	_, wrong := c.join(t, 3, c.seg)
	m.Send(2, []byte("for member 2 only"))
	status := func() (s LinkStatus) {
		for _, l := range c.nodes[1].Links() {
			if publicKey(l.Key).is(publicOf(2)) {
				s = l
			}
		}
		return s
	}
	eventually(t, func() bool { return status().Err != "" }, "the link says why not")
	require.False(t, status().Connected)
	require.NotContains(t, wrong.all(), "for member 2 only")

	// And where an impostor would let anybody in: the client looks for itself.
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert,
		Certificates: []tls.Certificate{c.nodes[3].cert},
	})
	require.NoError(t, err)
	result := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		result <- err
	}()
	impostor := c.nodes[1].newTransport(publicKey(publicOf(2)), listener.Addr().String, time.Second, time.Second)
	defer impostor.CloseIdleConnections()
	_, err = peerpbconnect.NewLogClient(&http.Client{Transport: impostor}, "https://"+c.nodes[2].name).
		Status(context.Background(), connect.NewRequest(&peerpb.StatusRequest{}))
	require.ErrorContains(t, err, "another")
	require.Error(t, <-result, "not a byte of HTTP has come")
	require.NoError(t, listener.Close())
}

// TestRosterChanges: rights come and go while the connections stand.
func TestRosterChanges(t *testing.T) {
	c := newCluster(t, 3, nil)
	views := map[string]View{
		"all":      {Segments: []consensus.Segment{c.seg}},
		"without":  {Segments: []consensus.Segment{without(c.seg, 1)}},
		"observer": {Segments: []consensus.Segment{without(c.seg, 1)}, Observers: []ed25519.PublicKey{publicOf(1)}},
	}
	m1, in1 := c.join(t, 1, c.seg)
	m2, in2 := c.join(t, 2, c.seg)
	reach(t, m1, 2, in2, "1 to 2")
	reach(t, m2, 1, in1, "2 to 1")
	client := c.nodes[1].LogClient(func() []consensus.Member { return c.members()[1:2] })
	_, err := client.Tail(context.Background(), consensus.Fast)
	require.ErrorIs(t, err, ErrNotServing)

	// Removed: in both directions, and for good.
	c.directory.Set(views["without"])
	eventually(t, func() bool {
		for _, n := range []uint64{1, 2} {
			for _, l := range c.nodes[n].Links() {
				if l.Connected && (n == 1 || publicKey(l.Key).is(publicOf(1))) {
					return false
				}
			}
		}
		return true
	}, "the links of the removed member are down")
	refused := value(c.nodes[2].metrics.refused)
	before := len(in2.all())
	eventually(t, func() bool {
		m1.Send(2, []byte("late"))
		return greetAs(t, c, 1, 2) != nil && value(c.nodes[2].metrics.refused) > refused
	}, "it is refused now")
	require.Len(t, in2.all(), before)

	// An observer may read, not order.
	c.directory.Set(views["observer"])
	require.NoError(t, greetAs(t, c, 1, 2))
	eventually(t, func() bool {
		for _, l := range c.nodes[1].Links() {
			if publicKey(l.Key).is(publicOf(2)) {
				return !l.Connected && l.Err != "" && errors.Is(linkErr(c.nodes[1], 2), ErrRefused)
			}
		}
		return false
	}, "the stream for frames is refused by name")
	_, err = client.Tail(context.Background(), consensus.Fast)
	require.ErrorIs(t, err, ErrNotServing)
	require.NotErrorIs(t, err, ErrRefused)
	require.Len(t, in2.all(), before)

	// And back: the links come up by themselves.
	c.directory.Set(views["all"])
	reach(t, m1, 2, in2, "1 to 2 again")
	reach(t, m2, 1, in1, "2 to 1 again")

	// Only the right to order goes: the stream ends, the connection may stay.
	c.directory.Set(views["observer"])
	eventually(t, func() bool { return errors.Is(linkErr(c.nodes[1], 2), ErrRefused) }, "the running stream is ended")
}

func linkErr(n *Node, id uint64) error {
	n.mu.RLock()
	l := n.mu.links[publicKey(publicOf(id))]
	n.mu.RUnlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.err
}

func greetAs(t *testing.T, c *cluster, from, to uint64) error {
	t.Helper()
	return greet(t, c.nodes[to].Addr().String(), &tls.Config{
		MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: c.nodes[to].name, NextProtos: []string{"h2"},
		Certificates: []tls.Certificate{c.nodes[from].cert},
	})
}

func without(seg consensus.Segment, id uint64) consensus.Segment {
	var members []consensus.Member
	for _, m := range seg.Spec.Members {
		if m.ID != id {
			members = append(members, m)
		}
	}
	seg.Spec.Members = members
	return seg
}

// TestRights: what the right is that each call takes.
func TestRights(t *testing.T) {
	roster := &fixedRoster{changed: make(chan struct{})}
	c := newCluster(t, 2, func(o *Options) {
		if o.Key.Equal(testKey(2)) {
			o.Roster = roster
		}
	})
	for _, test := range []struct {
		name                string
		rights              Rights
		read, append, carry bool
	}{
		{"reader", Rights{Read: true}, true, false, false},
		{"writer", Rights{Append: true}, false, true, false},
		{"orderer", Rights{Order: []consensus.Digest{identity(1)}}, false, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			roster.set(test.rights)
			transport := c.nodes[1].newTransport(publicKey(publicOf(2)), c.nodes[2].Addr().String, time.Second, within)
			defer transport.CloseIdleConnections()
			ctx, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			log := peerpbconnect.NewLogClient(&http.Client{Transport: transport}, "https://"+c.nodes[2].name)
			verdict := func(may bool, err error) {
				t.Helper()
				if may {
					require.ErrorIs(t, fromWire(err), ErrNotServing) // it got as far as a log that is not there
				} else {
					require.ErrorIs(t, fromWire(err), ErrRefused)
					require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err))
				}
			}
			_, err := log.Tail(ctx, connect.NewRequest(&peerpb.TailRequest{}))
			verdict(test.read, err)
			_, err = log.Append(ctx, connect.NewRequest(&peerpb.AppendRequest{}))
			verdict(test.append, err)
			follow, err := log.Follow(ctx, connect.NewRequest(&peerpb.FollowRequest{From: 1}))
			require.NoError(t, err)
			require.False(t, follow.Receive())
			verdict(test.read, follow.Err())
			carry := peerpbconnect.NewEngineClient(&http.Client{Transport: transport}, "https://"+c.nodes[2].name).Carry(ctx)
			require.NoError(t, carry.Send(nil))
			_, err = carry.Receive()
			if test.carry {
				require.NoError(t, err)
			} else {
				verdict(false, err)
			}
			require.NoError(t, follow.Close())
			require.NoError(t, carry.CloseRequest())
			_ = carry.CloseResponse()
		})
	}
}

// A fixedRoster gives everybody the same rights.
type fixedRoster struct {
	sync.Mutex
	rights  Rights
	changed chan struct{}
}

func (r *fixedRoster) set(rights Rights) {
	r.Lock()
	defer r.Unlock()
	r.rights = rights
}

func (r *fixedRoster) Rights(ed25519.PublicKey) Rights {
	r.Lock()
	defer r.Unlock()
	return r.rights
}

func (r *fixedRoster) Changed() <-chan struct{} { return r.changed }

func TestDirectory(t *testing.T) {
	segment := func(epoch consensus.Epoch, members ...uint64) consensus.Segment {
		s := consensus.Segment{Epoch: epoch, Identity: identity(epoch)}
		for _, id := range members {
			s.Spec.Members = append(s.Spec.Members, consensus.Member{ID: id, NodeKey: publicOf(id)})
		}
		return s
	}
	d := NewDirectory()
	require.True(t, d.Rights(publicOf(1)).Stranger())
	changed := d.Changed()
	withoutKey := segment(3, 3, 4)
	withoutKey.Spec.Members = append(withoutKey.Spec.Members, consensus.Member{ID: 9})
	d.Set(View{
		Segments:  []consensus.Segment{segment(1, 1), segment(2, 2, 3), withoutKey},
		Prepared:  []consensus.Segment{segment(4, 4, 5)},
		Observers: []ed25519.PublicKey{publicOf(6), publicOf(4)},
		Bootstrap: []consensus.Member{{NodeKey: publicOf(8)}, {NodeKey: publicOf(6)}, {}},
	})
	<-changed
	require.Equal(t, Rights{Read: true, Append: true}, d.Rights(publicOf(1)), "member of a segment long past")
	require.Equal(t, Rights{Read: true, Append: true, Order: []consensus.Digest{identity(2)}}, d.Rights(publicOf(2)), "of the one before the last")
	require.Equal(t, Rights{Read: true, Append: true, Order: []consensus.Digest{identity(2), identity(3)}}, d.Rights(publicOf(3)))
	require.Equal(t, Rights{Read: true, Append: true, Order: []consensus.Digest{identity(3), identity(4)}}, d.Rights(publicOf(4)))
	require.Equal(t, Rights{Read: true, Append: true, Order: []consensus.Digest{identity(4)}}, d.Rights(publicOf(5)), "prepared")
	require.Equal(t, Rights{Read: true, Append: true}, d.Rights(publicOf(6)), "observer")
	require.True(t, d.Rights(publicOf(7)).Stranger())
	require.Equal(t, Rights{Read: true}, d.Rights(publicOf(8)), "bootstrap")
	require.True(t, d.Rights(nil).Stranger(), "no key is nobody's, though a member has none")
	require.True(t, d.Rights(make(ed25519.PublicKey, 32)).Stranger())
	d.Set(View{})
	require.True(t, d.Rights(publicOf(3)).Stranger())
}

// TestManyHandshakes: who only opens connections pushes out others who do, and nobody else.
func TestManyHandshakes(t *testing.T) {
	c := newCluster(t, 2, func(o *Options) { o.DialTimeout = time.Minute }) // so that it is not the timeout
	m, _ := c.join(t, 1, c.seg)
	_, in := c.join(t, 2, c.seg)
	reach(t, m, 2, in, "before")
	var idle []net.Conn
	defer func() {
		for _, conn := range idle {
			_ = conn.Close()
		}
	}()
	for range maxHandshakes + 1 {
		conn, err := net.Dial("tcp", c.nodes[2].Addr().String())
		require.NoError(t, err)
		idle = append(idle, conn)
	}
	require.NoError(t, idle[0].SetReadDeadline(time.Now().Add(within)))
	_, err := idle[0].Read(make([]byte, 1))
	var timeout net.Error
	require.Error(t, err)
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the oldest was closed")
	require.NoError(t, greetAs(t, c, 1, 2), "an honest handshake gets through")
	reach(t, m, 2, in, "after")
	require.True(t, c.nodes[1].Links()[0].Connected)
}
