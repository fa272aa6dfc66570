package network

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ledgerd/cmd/ledgerd/internal/home"
)

// ErrNoNetwork is returned by Up for a folder without nodes.
var ErrNoNetwork = errors.New("holds no network; make one with `ledgerd testnet init`")

// Ended says that a node ended otherwise than cleanly and because Up told it to.
type Ended struct {
	Node int
	Told bool   // to stop
	Code int    // its exit code; -1: a signal ended it
	How  string // in words
	Said string // its last message, or ""
	Log  string // file
}

func (e *Ended) Error() string {
	said := ""
	if e.Said != "" {
		said = ": " + e.Said
	}
	what := "ended by itself"
	if e.Told {
		what = "did not stop cleanly"
	}
	return fmt.Sprintf("node %d %s (%s)%s; its messages are in %s", e.Node, what, e.How, said, e.Log)
}

// Options of Up.
type Options struct {
	Dir     string
	Program string        // the ledgerd that is run
	Stdout  io.Writer     // gets a line `ready node=i http=… ws=… pid=…` for each node
	Stderr  io.Writer     // gets a line for a node that ends by itself
	Grace   time.Duration // from the request to stop until nodes are killed; 0: 40 s, more than a node gives itself
}

// Up runs all nodes of a network until ctx ends, and returns after the last of them. nil: all of them stopped cleanly when they
// were told to. If a node ends before it was ready, all are stopped; one that ends later is reported, and the others go on, until
// none is left. The error joins an *Ended for each of these.
func Up(ctx context.Context, opts Options) error {
	if opts.Grace == 0 {
		opts.Grace = 40 * time.Second
	}
	u := &up{opts: opts, ended: make(chan *child)}
	if err := u.start(); err != nil {
		return errors.Join(err, u.stop())
	}
	return u.run(ctx)
}

// up is a running network.
type up struct {
	opts     Options
	children []*child
	ended    chan *child // each child once

	out sync.Mutex // for lines to Stdout
}

// child is a running node.
type child struct {
	index int
	cmd   *exec.Cmd
	log   *os.File
	ready chan struct{} // closed when it serves
	err   error         // set before it is sent to ended; nil: it ended cleanly
	gone  bool          // it was taken from ended
}

// start starts the nodes, in the order of their numbers.
func (u *up) start() error {
	for i := 0; ; i++ {
		h := home.Home(filepath.Join(u.opts.Dir, name(i)))
		if !h.Exists() {
			break
		}
		c, err := u.launch(i, h)
		if err != nil {
			return fmt.Errorf("start node %d: %w", i, err)
		}
		u.children = append(u.children, c)
	}
	if len(u.children) == 0 {
		return fmt.Errorf("%s %w", u.opts.Dir, ErrNoNetwork)
	}
	return nil
}

// launch starts one node. Its messages go to its log file and nowhere else, so that they go on if this process is gone.
func (u *up) launch(i int, h home.Home) (*child, error) {
	path := filepath.Join(string(h), "ledgerd.log")
	log, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, path, err)
	}
	c := &child{index: i, cmd: exec.Command(u.opts.Program, "start", "--home", string(h)), log: log, ready: make(chan struct{})}
	c.cmd.Stderr = log
	c.cmd.SysProcAttr = childAttributes()
	stdout, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go u.watch(c, stdout)
	return c, nil
}

// watch passes a node's ready line on and tells of its end.
func (u *up) watch(c *child, stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		fmt.Fprintln(c.log, lines.Text())
		if rest, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			u.out.Lock()
			fmt.Fprintf(u.opts.Stdout, "ready node=%d %s pid=%d\n", c.index, rest, c.cmd.Process.Pid)
			u.out.Unlock()
			close(c.ready)
		}
	}
	if err := c.cmd.Wait(); err != nil || lines.Err() != nil {
		c.err = &Ended{Node: c.index, Code: c.cmd.ProcessState.ExitCode(), How: c.cmd.ProcessState.String(), Said: lastWords(c.log.Name()), Log: c.log.Name()}
	}
	c.log.Close()
	u.ended <- c
}

// lastWords returns the line with which a ledgerd says why it ends.
func lastWords(path string) string {
	const most = 4096
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	} else {
		_, _ = f.Seek(0, io.SeekStart)
	}
	text, _ := io.ReadAll(f) // what can be read is what can be said
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if said, ok := bytes.CutPrefix(lines[len(lines)-1], []byte("ledgerd: ")); ok {
		return string(said)
	}
	return ""
}

// run waits for the end.
func (u *up) run(ctx context.Context) error {
	var errs []error
	for left := len(u.children); left > 0; left-- {
		select {
		case c := <-u.ended:
			c.gone = true
			if c.err == nil { // somebody stopped it
				c.err = &Ended{Node: c.index, How: "it was stopped", Log: c.log.Name()}
			}
			errs = append(errs, c.err)
			if !c.served() {
				return errors.Join(append(errs, u.stop())...)
			}
			if left > 1 {
				fmt.Fprintf(u.opts.Stderr, "ledgerd: %v\n", c.err)
			}
		case <-ctx.Done():
			return errors.Join(append(errs, u.stop())...)
		}
	}
	return errors.Join(errs...)
}

func (c *child) served() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// stop ends what still runs: all at once, since the nodes need each other to stay, not to go.
func (u *up) stop() error {
	left := 0
	for _, c := range u.children {
		if !c.gone {
			left++
			_ = c.cmd.Process.Signal(syscall.SIGTERM) // an error: it has ended
			resume(c.cmd.Process)                     // one that was paused would not hear
		}
	}
	grace := time.NewTimer(u.opts.Grace)
	defer grace.Stop()
	var errs []error
	for ; left > 0; left-- {
		select {
		case c := <-u.ended:
			c.gone = true
			if ended := (*Ended)(nil); errors.As(c.err, &ended) {
				ended.Told = true
			}
			errs = append(errs, c.err)
		case <-grace.C:
			for _, c := range u.children {
				if !c.gone {
					_ = c.cmd.Process.Kill()
				}
			}
			left++ // nobody has ended yet
		}
	}
	return errors.Join(errs...)
}
