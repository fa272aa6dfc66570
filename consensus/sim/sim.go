package sim

import (
	"container/heap"
	crand "crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"
)

// Options of a run.
type Options struct {
	Seed  uint64
	Plant Fault     // a fault in the system under test, which the checks are to find; None for the real one
	Trace io.Writer // gets every line of the trace; nil: only the last ones are kept, for a Failure
}

// A Result says what became of a run.
type Result struct {
	Trace [32]byte // hash of the whole trace
	Stats Stats
	Err   error // a *Failure, or nil
}

// Stats count what a run has come across, so that a test can tell a quiet simulation from a correct system.
type Stats struct {
	Events, Crashes, Torn, Stopped, Wipes, Switches, Attempts, Forged, Appends, Reads, Unknown, Observed, Fetches int
	Entries                                                                                                       int
	Virtual                                                                                                       time.Duration
}

// Add adds up the counts of two runs.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	s.Crashes += o.Crashes
	s.Torn += o.Torn
	s.Stopped += o.Stopped
	s.Wipes += o.Wipes
	s.Switches += o.Switches
	s.Attempts += o.Attempts
	s.Forged += o.Forged
	s.Appends += o.Appends
	s.Reads += o.Reads
	s.Unknown += o.Unknown
	s.Observed += o.Observed
	s.Fetches += o.Fetches
	s.Entries += o.Entries
	s.Virtual += o.Virtual
}

// A Failure is a promise that was found broken.
type Failure struct {
	Seed   uint64
	Plant  Fault
	What   string
	Recent []string // the last lines of the trace
}

func (f *Failure) Error() string {
	text := fmt.Sprintf("seed %d: %s\nrun it alone: LEDGERD_SIM_SEED=%d go test ./consensus/sim -run TestSeeds -v\n", f.Seed, f.What, f.Seed)
	for _, line := range f.Recent {
		text += "  " + line + "\n"
	}
	return text
}

// Durations of a run, in the simulation's time.
const (
	minTrouble  = 6 * time.Second
	maxTrouble  = 30 * time.Second
	healBound   = 60 * time.Second // within which everything must have come to rest once the faults have ended
	restTick    = 250 * time.Millisecond
	recentLines = 120
)

// Run plays one seed. The raft library draws its election timeouts from crypto/rand.Reader, so Run replaces that for as long as it takes: nothing else
// may need randomness meanwhile, and runs must not overlap.
func Run(opts Options) (res Result) {
	reader := crand.Reader
	defer func() { crand.Reader = reader }()
	crand.Reader = seeded{rand.New(rand.NewPCG(opts.Seed, 2))}
	w := newWorld(opts)
	defer func() {
		if p := recover(); p != nil {
			f := &Failure{Seed: opts.Seed, Plant: opts.Plant, Recent: w.recent()}
			if v, ok := p.(violation); ok {
				f.What = string(v)
			} else { // the code's own assertions, and the raft library's
				f.What = fmt.Sprintf("panic: %v\n%s", p, debug.Stack())
			}
			res.Err = f
		}
		w.close()
		w.stats.Virtual = w.now
		w.stats.Entries = len(w.check.log)
		w.digest.Sum(res.Trace[:0])
		res.Stats = w.stats
	}()
	w.play()
	return res
}

// violation is what fail panics with.
type violation string

// seeded is a source of bytes for the raft library.
type seeded struct{ rng *rand.Rand }

func (s seeded) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return len(b), nil
}

// world is one run: a queue of what is to happen, in the order of a clock that only the queue moves.
type world struct {
	opts  Options
	rng   *rand.Rand
	now   time.Duration
	queue events
	seq   uint64
	mix   mix
	calm  bool // the faults have ended
	stats Stats

	digest hash.Hash
	ring   [recentLines]string
	lines  int

	net      *network
	nodes    []*node
	clients  []*client
	operator *operator
	check    *checker
}

func newWorld(opts Options) *world {
	w := &world{opts: opts, rng: rand.New(rand.NewPCG(opts.Seed, 1)), digest: sha256.New()}
	w.mix = newMix(w)
	w.check = newChecker(w)
	w.net = &network{w: w}
	w.operator = newOperator(w)
	for i := range w.mix.nodes {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range w.mix.clients {
		w.clients = append(w.clients, newClient(w, i))
	}
	return w
}

// play lets trouble have its time, ends it, and demands rest, an append through each node, and rest again.
func (w *world) play() {
	w.say("mix %+v", w.mix)
	for _, n := range w.nodes {
		n.create()
	}
	for _, c := range w.clients {
		c.begin()
	}
	w.trouble()
	w.run(w.between(minTrouble, maxTrouble), nil)
	w.heal()
	w.rest("after the faults have ended")
	for _, n := range w.nodes {
		w.clients[0].through(n)
	}
	w.rest("after an append through each node")
	w.check.end()
}

// run lets happen what is due within d, or until stop says so, which is asked now and then.
func (w *world) run(d time.Duration, stop func() bool) bool {
	end, look := w.now+d, w.now
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		w.stats.Events++
		e.f()
		if stop != nil && w.now >= look {
			if stop() {
				return true
			}
			look = w.now + restTick
		}
	}
	w.now = end
	return false
}

// rest runs until nothing is left to be done.
func (w *world) rest(when string) {
	if !w.run(healBound, func() bool { return w.restless() == "" }) {
		w.fail("no rest within %v %s: %s", healBound, when, w.restless())
	}
}

// restless says what is left to be done.
func (w *world) restless() string {
	for _, c := range w.clients {
		if c.busy {
			return fmt.Sprintf("client %d waits for %v", c.id, c.rec.ID)
		}
	}
	for _, n := range w.nodes {
		if why := n.restless(); why != "" {
			return fmt.Sprintf("%v %s", n, why)
		}
	}
	return ""
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.discard()
	}
}

// fail ends the run.
func (w *world) fail(format string, args ...any) {
	panic(violation(fmt.Sprintf(format, args...)))
}

// must ends the run at an error that no simulated fault explains.
func (w *world) must(err error, what string, args ...any) {
	if err != nil {
		w.fail("%s: %v", fmt.Sprintf(what, args...), err)
	}
}

// say adds a line to the trace.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%9.4f ", w.now.Seconds()) + fmt.Sprintf(format, args...)
	_, _ = io.WriteString(w.digest, line)
	w.ring[w.lines%recentLines] = line
	w.lines++
	if w.opts.Trace != nil {
		fmt.Fprintln(w.opts.Trace, line)
	}
}

func (w *world) recent() (lines []string) {
	for i := max(0, w.lines-recentLines); i < w.lines; i++ {
		lines = append(lines, w.ring[i%recentLines])
	}
	return lines
}

// after lets f happen in d.
func (w *world) after(d time.Duration, f func()) {
	w.seq++
	heap.Push(&w.queue, event{w.now + max(0, d), w.seq, f})
}

// Dice.

func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

func (w *world) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

// about is exponentially distributed: most often short, now and then long.
func (w *world) about(mean time.Duration) time.Duration {
	return time.Duration(w.rng.ExpFloat64() * float64(mean))
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// events is a heap.
type events []event

type event struct {
	at  time.Duration
	seq uint64 // what was asked for first happens first
	f   func()
}

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// errCrashed is what callers outside of a node see when it goes down.
var errCrashed = errors.New("the node went down")
