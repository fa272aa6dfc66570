package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
)

// shelf is a SnapshotSource in memory.
type shelf struct {
	mu     sync.Mutex
	files  map[consensus.LSN][]byte
	reads  atomic.Int64
	onRead func(n int64) error // before the n-th read, from 1; nil: nothing
}

func (s *shelf) List() []SnapshotInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []SnapshotInfo
	for lsn, data := range s.files {
		all = append(all, infoOf(lsn, data))
	}
	return all
}

func infoOf(lsn consensus.LSN, data []byte) SnapshotInfo {
	return SnapshotInfo{LSN: lsn, Size: int64(len(data)), SHA256: sha256.Sum256(data)}
}

func (s *shelf) ReadAt(lsn consensus.LSN, offset int64, p []byte) (int, error) {
	if n := s.reads.Add(1); s.onRead != nil {
		if err := s.onRead(n); err != nil {
			return 0, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.files[lsn]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return bytes.NewReader(data).ReadAt(p, offset)
}

func (s *shelf) set(lsn consensus.LSN, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files == nil {
		s.files = map[consensus.LSN][]byte{}
	}
	if s.files[lsn] = data; data == nil {
		delete(s.files, lsn)
	}
}

// content is a file's of some size, that no other seed has.
func content(seed byte, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = seed + byte(i>>12) + byte(i)
	}
	return b
}

// A file takes what is written to it.
type file struct {
	data []byte
	err  error
}

func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	if end := int(offset) + len(p); end > len(f.data) {
		f.data = append(f.data, make([]byte, end-len(f.data))...)
	}
	return copy(f.data[offset:], p), nil
}

// snapshotCluster is a cluster in which nodes 2 and 3 have snapshots, and node 1 asks.
func snapshotCluster(t *testing.T) (*cluster, [2]*shelf, *LogClient) {
	c := newCluster(t, 3, nil)
	shelves := [2]*shelf{{}, {}}
	c.nodes[2].ServeSnapshots(shelves[0])
	c.nodes[3].ServeSnapshots(shelves[1])
	return c, shelves, c.nodes[1].LogClient(c.members)
}

func TestSnapshotsAreListed(t *testing.T) {
	c, shelves, client := snapshotCluster(t)
	ctx := testContext(t)
	infos, err := client.Snapshots(ctx)
	require.NoError(t, err, "nothing is an answer")
	require.Empty(t, infos)
	_, err = client.FetchSnapshot(ctx, &file{}, FetchOptions{})
	require.ErrorIs(t, err, ErrNoSnapshot)

	old, both, mine := content(1, 10), content(2, 3<<20), content(3, 1<<20)
	shelves[0].set(5, old)
	shelves[0].set(9, both)
	shelves[1].set(9, both)
	shelves[1].set(7, mine)
	infos, err = client.Snapshots(ctx)
	require.NoError(t, err)
	require.Equal(t, []SnapshotInfo{infoOf(9, both), infoOf(7, mine), infoOf(5, old)}, infos)
	for _, want := range [][]byte{both, mine, old} {
		var f file
		var steps []int64
		got, err := client.FetchSnapshot(ctx, &f, FetchOptions{
			Choose: func(infos []SnapshotInfo) (SnapshotInfo, bool) {
				for _, i := range infos {
					if i.SHA256 == sha256.Sum256(want) {
						return i, true
					}
				}
				return SnapshotInfo{}, false
			},
			Progress: func(_ SnapshotInfo, n int64) { steps = append(steps, n) },
		})
		require.NoError(t, err)
		require.Equal(t, int64(len(want)), got.Size)
		require.True(t, bytes.Equal(want, f.data))
		require.Len(t, steps, (len(want)+maxChunkBytes-1)/maxChunkBytes)
		require.Equal(t, got.Size, steps[len(steps)-1])
	}
	_, err = client.FetchSnapshot(ctx, &file{}, FetchOptions{Choose: func([]SnapshotInfo) (SnapshotInfo, bool) { return SnapshotInfo{}, false }})
	require.ErrorIs(t, err, ErrNoSnapshot, "none will do")
	c.nodes[2].ServeSnapshots(nil)
	require.NoError(t, c.nodes[3].Close())
	_, err = client.FetchSnapshot(ctx, &file{}, FetchOptions{})
	require.ErrorIs(t, err, ErrNotServing)
}

// TestSnapshotGoesOnElsewhere: the serving node fails mid-way, and the rest comes from the other one.
func TestSnapshotGoesOnElsewhere(t *testing.T) {
	_, shelves, client := snapshotCluster(t)
	data := content(1, 6<<20)
	var gone atomic.Bool
	for i := range shelves {
		shelves[i].set(5, data)
		shelves[i].onRead = func(n int64) error {
			if n == 3 && gone.CompareAndSwap(false, true) { // whoever is asked first
				shelves[i].set(5, nil)
			}
			return nil
		}
	}
	var f file
	last := int64(0)
	_, err := client.FetchSnapshot(testContext(t), &f, FetchOptions{Progress: func(_ SnapshotInfo, n int64) {
		require.Greater(t, n, last, "nothing is fetched twice")
		last = n
	}})
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, f.data))
	require.True(t, gone.Load())
	require.Equal(t, int64(7), shelves[0].reads.Load()+shelves[1].reads.Load(), "six chunks, and one in vain")
}

// TestSnapshotBeginsAnew: mid-way the snapshot is gone everywhere, and there is a newer one.
func TestSnapshotBeginsAnew(t *testing.T) {
	_, shelves, client := snapshotCluster(t)
	old, newer := content(1, 6<<20), content(2, 2<<20)
	for i := range shelves {
		shelves[i].set(5, old)
		shelves[i].onRead = func(n int64) error {
			if n == 3 {
				for _, s := range shelves {
					s.set(5, nil)
					s.set(8, newer)
				}
			}
			return nil
		}
	}
	var f file
	got, err := client.FetchSnapshot(testContext(t), &f, FetchOptions{})
	require.NoError(t, err)
	require.Equal(t, infoOf(8, newer), got)
	require.True(t, bytes.Equal(newer, f.data[:got.Size]), "what the larger one has left beyond is for the caller to cut off")
}

// TestSnapshotComesBack: all nodes stop serving for a while. What is there is not fetched again.
func TestSnapshotComesBack(t *testing.T) {
	c, shelves, client := snapshotCluster(t)
	c.nodes[3].ServeSnapshots(nil)
	data := content(1, 6<<20)
	shelves[0].set(5, data)
	stopped := make(chan struct{})
	var once sync.Once
	var f file
	last := int64(0)
	var wait sync.WaitGroup
	wait.Go(func() {
		<-stopped
		c.nodes[2].ServeSnapshots(nil)
		c.nodes[2].ServeSnapshots(shelves[0])
	})
	_, err := client.FetchSnapshot(testContext(t), &f, FetchOptions{Progress: func(_ SnapshotInfo, n int64) {
		require.Greater(t, n, last)
		if last = n; n >= 3<<20 {
			once.Do(func() { close(stopped); wait.Wait() })
		}
	}})
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, f.data))
}

// A rotten source has changed bytes under the sum of before.
type rotten struct {
	*shelf
	good []SnapshotInfo
}

func (r rotten) List() []SnapshotInfo { return append([]SnapshotInfo(nil), r.good...) }

// TestRottenSnapshot: a node whose bytes do not sum up is found out, even if others have given part of them, and is not asked again.
func TestRottenSnapshot(t *testing.T) {
	c, shelves, client := snapshotCluster(t)
	ctx := testContext(t)
	data := content(1, 4<<20)
	bad := bytes.Clone(data)
	bad[3<<20]++
	shelves[0].set(5, data)
	shelves[1].set(5, bad)
	c.nodes[3].ServeSnapshots(rotten{shelves[1], shelves[0].List()})
	// The good one fails once after two chunks, so that the rest comes from the rotten one; or the other way round, if that was asked first.
	var failed atomic.Bool
	for _, s := range shelves {
		s.onRead = func(n int64) error {
			if n == 3 && failed.CompareAndSwap(false, true) {
				return errors.New("disk is busy")
			}
			return nil
		}
	}
	var f file
	_, err := client.FetchSnapshot(ctx, &f, FetchOptions{})
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, f.data))

	c.nodes[2].ServeSnapshots(nil)
	_, err = client.FetchSnapshot(ctx, &f, FetchOptions{})
	require.ErrorIs(t, err, ErrNoSnapshot, "there is only a rotten one")
	require.ErrorContains(t, err, "SHA-256")
	older := content(7, 100)
	shelves[1].set(2, older)
	c.nodes[3].ServeSnapshots(rotten{shelves[1], []SnapshotInfo{infoOf(5, data), infoOf(2, older)}})
	got, err := client.FetchSnapshot(ctx, &f, FetchOptions{Choose: func(infos []SnapshotInfo) (SnapshotInfo, bool) { return infos[0], true }})
	require.NoError(t, err)
	require.Equal(t, infoOf(2, older), got, "the next one that there is")
}

// TestFetchEnds: with the caller's writer, its context, and the node.
func TestFetchEnds(t *testing.T) {
	c, shelves, client := snapshotCluster(t)
	shelves[0].set(5, content(1, 4<<20))
	full := errors.New("disk is full")
	_, err := client.FetchSnapshot(testContext(t), &file{err: full}, FetchOptions{})
	require.ErrorIs(t, err, full)
	ctx, cancel := context.WithCancel(testContext(t))
	_, err = client.FetchSnapshot(ctx, &file{}, FetchOptions{Progress: func(SnapshotInfo, int64) { cancel() }})
	require.ErrorIs(t, err, context.Canceled)
	_, err = client.FetchSnapshot(testContext(t), &file{}, FetchOptions{Progress: func(SnapshotInfo, int64) { _ = c.nodes[1].Close() }})
	require.ErrorIs(t, err, consensus.ErrClosed)
}

// TestChunkChecks: the other side does not trust the client to have looked.
func TestChunkChecks(t *testing.T) {
	c, shelves, _ := snapshotCluster(t)
	ctx := testContext(t)
	data := content(1, maxChunkBytes+10)
	shelves[0].set(5, data)
	p, err := c.nodes[1].logPeer(c.members()[1])
	require.NoError(t, err)
	chunk := func(lsn, offset uint64, sum consensus.Digest) ([]byte, error) {
		resp, err := p.client.SnapshotChunk(ctx, connect.NewRequest(&peerpb.SnapshotChunkRequest{Lsn: lsn, Sha256: sum[:], Offset: offset}))
		if err != nil {
			return nil, fromWire(err)
		}
		return resp.Msg.GetData(), nil
	}
	sum := consensus.Digest(sha256.Sum256(data))
	got, err := chunk(5, 0, sum)
	require.NoError(t, err)
	require.Equal(t, data[:maxChunkBytes], got)
	got, err = chunk(5, maxChunkBytes, sum)
	require.NoError(t, err)
	require.Equal(t, data[maxChunkBytes:], got)
	for _, offset := range []uint64{uint64(len(data)), 1 << 62, 1 << 63, ^uint64(0)} {
		_, err = chunk(5, offset, sum)
		require.ErrorIs(t, err, consensus.ErrInvalid)
	}
	_, err = chunk(6, 0, sum)
	require.ErrorIs(t, err, ErrNoSnapshot)
	_, err = chunk(5, 0, consensus.Digest{})
	require.ErrorIs(t, err, ErrNoSnapshot, "another file")
	c.nodes[2].ServeSnapshots(short{shelves[0]})
	_, err = chunk(5, 0, sum)
	require.Error(t, err)
	require.NotErrorIs(t, err, ErrNoSnapshot)
}

// A short source has less than it says.
type short struct{ *shelf }

func (s short) ReadAt(lsn consensus.LSN, offset int64, p []byte) (int, error) {
	n, _ := s.shelf.ReadAt(lsn, offset, p)
	return n / 2, io.EOF
}

// TestServeSnapshotsWaits: when it has returned, the files may be removed under nobody's feet.
func TestServeSnapshotsWaits(t *testing.T) {
	c, shelves, client := snapshotCluster(t)
	c.nodes[3].ServeSnapshots(nil)
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	var inside atomic.Int64
	shelves[0].set(5, content(1, 100))
	shelves[0].onRead = func(int64) error {
		inside.Add(1)
		defer inside.Add(-1)
		entered <- struct{}{}
		<-leave
		return nil
	}
	fetched, stopped := make(chan struct{}), make(chan struct{})
	go func() { defer close(fetched); _, _ = client.FetchSnapshot(testContext(t), &file{}, FetchOptions{}) }()
	<-entered
	go func() { defer close(stopped); c.nodes[2].ServeSnapshots(nil) }()
	eventually(t, func() bool { return c.nodes[2].snapshots.serving() == nil }, "nothing is served any more")
	select {
	case <-stopped:
		t.Error("it did not wait")
	default:
	}
	require.Equal(t, int64(1), inside.Load())
	close(leave)
	<-stopped
	require.Zero(t, inside.Load())
	<-fetched
}

// serving returns what is served now.
func (s *slot[T]) serving() *served[T] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mu.now
}
