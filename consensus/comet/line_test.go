package comet

import (
	"net"
	"sync"

	"github.com/stretchr/testify/require"

	"ledgerd/consensus/logtest"
)

// A line forwards connections to one address, for as long as the town is not frozen and the line not cut.
type line struct {
	town     *town
	to       string
	listener net.Listener
	wait     sync.WaitGroup

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newLine(tb logtest.TB, t *town, to string) *line {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(tb, err)
	l := &line{town: t, to: to, listener: listener, conns: map[net.Conn]bool{}}
	l.wait.Go(l.accept)
	return l
}

func (l *line) address() string { return l.listener.Addr().String() }

func (l *line) accept() {
	for {
		in, err := l.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", l.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		if !l.keep(in, out) {
			continue
		}
		l.wait.Go(func() { l.forward(in, out) })
		l.wait.Go(func() { l.forward(out, in) })
	}
}

func (l *line) keep(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		if l.cut {
			_ = c.Close()
		} else {
			l.conns[c] = true
		}
	}
	return !l.cut
}

// forward hands on what comes, until one side is closed. Both are then.
func (l *line) forward(from, to net.Conn) {
	defer func() {
		_, _ = from.Close(), to.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		l.town.frozen.RLock()
		_, err = to.Write(buf[:n])
		l.town.frozen.RUnlock()
		if err != nil {
			return
		}
	}
}

// sever breaks the connections of a line, and lets no others through until it is mended.
func (l *line) sever(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = cut
	for c := range l.conns {
		_ = c.Close()
	}
}

func (l *line) close() {
	_ = l.listener.Close()
	l.sever(true)
	l.wait.Wait()
}
