package peer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"sync"

	"connectrpc.com/connect"

	"ledgerd/consensus"
	"ledgerd/consensus/peer/peerpb"
	"ledgerd/consensus/peer/peerpb/peerpbconnect"
)

// A SnapshotInfo names a snapshot: a file, from which a node can go on after an LSN without the entries before. Two with the same name are the same file.
type SnapshotInfo struct {
	LSN    consensus.LSN // the last that the snapshot has taken in
	Size   int64         // of the file, in bytes
	SHA256 consensus.Digest
}

// A SnapshotSource is what a node has in snapshots. Its methods may be called concurrently.
type SnapshotSource interface {
	// List returns what there is. The slice is the caller's. It is asked for every chunk, so it should not read files.
	List() []SnapshotInfo
	// ReadAt reads from the snapshot at an LSN, as an io.ReaderAt does. ErrNoSnapshot or fs.ErrNotExist if it is gone.
	ReadAt(lsn consensus.LSN, offset int64, p []byte) (int, error)
}

// maxChunkBytes of a snapshot go into one answer.
const maxChunkBytes = 1 << 20

// ServeSnapshots serves snapshots from now on, or, with nil, none. When it has returned, no call uses the source that was served before.
func (n *Node) ServeSnapshots(source SnapshotSource) { n.snapshots.set(source, source != nil) }

// Snapshots implements peerpbconnect.LogHandler. A node without a source has none.
func (s logService) Snapshots(ctx context.Context, _ *connect.Request[peerpb.SnapshotsRequest]) (*connect.Response[peerpb.SnapshotsResponse], error) {
	out := &peerpb.SnapshotsResponse{}
	err := s.node.snapshots.use(ctx, func(_ context.Context, source SnapshotSource) error {
		for _, i := range source.List() {
			out.Snapshots = append(out.Snapshots, &peerpb.Snapshot{Lsn: uint64(i.LSN), Size: uint64(i.Size), Sha256: i.SHA256[:]})
		}
		return nil
	})
	if err != nil {
		return nil, s.node.outcome(err)
	}
	return connect.NewResponse(out), nil
}

// SnapshotChunk implements peerpbconnect.LogHandler.
func (s logService) SnapshotChunk(ctx context.Context, req *connect.Request[peerpb.SnapshotChunkRequest]) (*connect.Response[peerpb.SnapshotChunkResponse], error) {
	out := &peerpb.SnapshotChunkResponse{}
	err := s.node.snapshots.use(ctx, func(_ context.Context, source SnapshotSource) (err error) {
		out.Data, err = readChunk(source, req.Msg)
		return err
	})
	if err != nil {
		return nil, s.node.outcome(err)
	}
	return connect.NewResponse(out), nil
}

func readChunk(source SnapshotSource, req *peerpb.SnapshotChunkRequest) ([]byte, error) {
	lsn, offset := consensus.LSN(req.GetLsn()), req.GetOffset()
	list := source.List()
	i := slices.IndexFunc(list, func(i SnapshotInfo) bool { return i.LSN == lsn && string(i.SHA256[:]) == string(req.GetSha256()) })
	if i < 0 {
		return nil, fmt.Errorf("snapshot at lsn %d: %w", lsn, ErrNoSnapshot)
	}
	if size := uint64(list[i].Size); offset >= size {
		return nil, fmt.Errorf("snapshot at lsn %d: %w: offset %d of %d bytes", lsn, consensus.ErrInvalid, offset, size)
	}
	data := make([]byte, min(list[i].Size-int64(offset), maxChunkBytes))
	n, err := source.ReadAt(lsn, int64(offset), data)
	switch {
	case n == len(data):
		return data, nil
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w: %w", ErrNoSnapshot, err)
	case err == nil || errors.Is(err, io.EOF):
		err = fmt.Errorf("%d of %d bytes at offset %d", n, len(data), offset)
	}
	return nil, fmt.Errorf("snapshot at lsn %d: %w", lsn, err)
}

// Snapshots returns what the nodes that answer have, the newest first, each snapshot once. It is an ErrNotServing if none answers.
func (c *LogClient) Snapshots(ctx context.Context) ([]SnapshotInfo, error) {
	offers, err := c.offers(ctx)
	if err != nil {
		return nil, fmt.Errorf("snapshots of peers: %w", err)
	}
	return offers.infos(), nil
}

// offers says which nodes have which snapshot.
type offers map[SnapshotInfo][]consensus.Member

func (o offers) infos() []SnapshotInfo {
	infos := make([]SnapshotInfo, 0, len(o))
	for i := range o {
		infos = append(infos, i)
	}
	slices.SortFunc(infos, func(a, b SnapshotInfo) int {
		return cmp.Or(cmp.Compare(b.LSN, a.LSN), slices.Compare(a.SHA256[:], b.SHA256[:]), cmp.Compare(a.Size, b.Size))
	})
	return infos
}

// offers asks all nodes at once. A node that does not keep snapshots has answered, too.
func (c *LogClient) offers(ctx context.Context) (offers, error) {
	var mu sync.Mutex
	found, answers := offers{}, 0
	errs := c.askAll(ctx, c.candidates(0), func(ctx context.Context, m consensus.Member, log peerpbconnect.LogClient) error {
		resp, err := log.Snapshots(ctx, connect.NewRequest(&peerpb.SnapshotsRequest{}))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		answers++
		for _, s := range resp.Msg.GetSnapshots() {
			i := SnapshotInfo{LSN: consensus.LSN(s.GetLsn()), Size: int64(s.GetSize())}
			if len(s.GetSha256()) != len(i.SHA256) || i.Size <= 0 {
				return nonsense(fmt.Errorf("snapshot at lsn %d of %d bytes with a hash of %d", i.LSN, s.GetSize(), len(s.GetSha256())))
			}
			i.SHA256 = consensus.Digest(s.GetSha256())
			if !slices.ContainsFunc(found[i], func(o consensus.Member) bool { return sameNode(o, m) }) {
				found[i] = append(found[i], m)
			}
		}
		return nil
	})
	if answers == 0 {
		return nil, errors.Join(append(errs, ctx.Err())...)
	}
	return found, nil
}

func sameNode(a, b consensus.Member) bool { return string(a.NodeKey) == string(b.NodeKey) }

// FetchOptions of FetchSnapshot. Zero means the default.
type FetchOptions struct {
	// Choose picks one of the snapshots that there are, newest first; false: none will do. Default: the newest.
	Choose func([]SnapshotInfo) (SnapshotInfo, bool)
	// Progress is called after every chunk with the bytes that have been written so far; they start again at 0 when another snapshot has to be taken.
	Progress func(info SnapshotInfo, written int64)
}

// FetchSnapshot writes a snapshot of another node to w, from offset 0 on, and returns which it is once all of it is there and has the SHA-256 that it was
// offered under. When the node fails it goes on, where it was, at another one that has the same; when there is none left it begins anew with one that there
// is. Bytes beyond the size may then be left in w by a larger one: the caller cuts w to the size.
//
// ErrNoSnapshot if none of those who answer has one that will do, ErrNotServing if nobody answers; while part of one is there it does not give up for that,
// until ctx ends. An error of w ends it.
//
// The SHA-256 is the serving node's word: that the snapshot is the network's is for the caller to verify.
func (c *LogClient) FetchSnapshot(ctx context.Context, w io.WriterAt, opts FetchOptions) (SnapshotInfo, error) {
	if opts.Choose == nil {
		opts.Choose = func(infos []SnapshotInfo) (SnapshotInfo, bool) { return infos[0], true }
	}
	f := fetch{client: c, to: w, opts: opts}
	var last error
	for pause := minPause; ; c.pause(ctx, &pause) {
		before := f.written
		done, err := f.round(ctx)
		err, last = errors.Join(err, last), err
		switch {
		case done:
			return f.info, nil
		case c.node.closed():
			err = errors.Join(consensus.ErrClosed, err)
		case ctx.Err() != nil:
			err = errors.Join(ctx.Err(), err)
		case (f.begun || errors.Is(last, errSum)) && !errors.Is(err, errWrite):
			c.node.opts.Logger.Debug("fetch snapshot", "lsn", uint64(f.info.LSN), "offset", f.written, "err", err)
			if f.written > before {
				pause = minPause
			}
			continue
		}
		return SnapshotInfo{}, fmt.Errorf("fetch snapshot: %w", err)
	}
}

var (
	errWrite = errors.New("write")                                  // of the caller's writer
	errSum   = errors.New("snapshot is not what it was offered as") // there may be another
)

// A fetch is how far a snapshot has come.
//
// Its bytes may be of several nodes, so that a sum that is wrong says nothing of any of them. Then it begins anew, and takes all of the bytes from one node:
// if the sum is wrong again, it is that node's fault, and it is not asked for this snapshot any more.
type fetch struct {
	client *LogClient
	to     io.WriterAt
	opts   FetchOptions

	info    SnapshotInfo
	begun   bool // the first byte of it has come
	written int64
	sum     hash.Hash
	sources map[publicKey]bool // whose bytes these are
	single  bool               // take all from one node
	bad     map[badSource]bool
}

type badSource struct {
	key  publicKey
	info SnapshotInfo
}

// begin starts with the first byte of a snapshot.
func (f *fetch) begin(info SnapshotInfo) {
	f.info, f.begun, f.written, f.sum, f.sources = info, false, 0, sha256.New(), map[publicKey]bool{}
}

// round looks who has what, and copies until all is there, or until nobody of them goes on.
func (f *fetch) round(ctx context.Context) (done bool, err error) {
	found, err := f.client.offers(ctx)
	if err != nil {
		return false, err
	}
	for info, members := range found {
		members = slices.DeleteFunc(members, func(m consensus.Member) bool { return f.bad[badSource{publicKey(m.NodeKey), info}] })
		if found[info] = members; len(members) == 0 {
			delete(found, info)
		}
	}
	if len(found[f.info]) == 0 {
		infos := found.infos()
		if len(infos) == 0 {
			return false, ErrNoSnapshot
		}
		info, ok := f.opts.Choose(infos)
		if !ok {
			return false, fmt.Errorf("%w: none of %d will do", ErrNoSnapshot, len(infos))
		}
		f.begin(info)
	}
	var errs []error
	for _, m := range found[f.info] {
		if f.single && !f.sources[publicKey(m.NodeKey)] {
			f.begin(f.info)
		}
		err := f.copy(ctx, m)
		if err == nil {
			return true, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil || f.client.node.closed() || errors.Is(err, errWrite) {
			break
		}
	}
	return false, errors.Join(errs...)
}

// copy takes what is missing from one node, and compares the sum.
func (f *fetch) copy(ctx context.Context, m consensus.Member) error {
	for f.written < f.info.Size {
		data, err := f.client.snapshotChunk(ctx, m, f.info, f.written)
		if err != nil {
			return err
		}
		if _, err := f.to.WriteAt(data, f.written); err != nil {
			return fmt.Errorf("%w: %w", errWrite, err)
		}
		f.sum.Write(data)
		f.written += int64(len(data))
		f.begun, f.sources[publicKey(m.NodeKey)] = true, true
		if f.opts.Progress != nil {
			f.opts.Progress(f.info, f.written)
		}
	}
	got := consensus.Digest(f.sum.Sum(nil))
	if got == f.info.SHA256 {
		return nil
	}
	if len(f.sources) == 1 {
		if f.bad == nil {
			f.bad = map[badSource]bool{}
		}
		f.bad[badSource{publicKey(m.NodeKey), f.info}] = true
	}
	f.single = true
	f.begin(f.info)
	return fmt.Errorf("%w: lsn %d: SHA-256 is %v, offered as %v", errSum, f.info.LSN, got, f.info.SHA256)
}

func (c *LogClient) snapshotChunk(ctx context.Context, m consensus.Member, info SnapshotInfo, offset int64) (data []byte, err error) {
	err = c.attempt(ctx, m, c.node.opts.CallTimeout, func(ctx context.Context, log peerpbconnect.LogClient) error {
		resp, err := log.SnapshotChunk(ctx, connect.NewRequest(&peerpb.SnapshotChunkRequest{
			Lsn: uint64(info.LSN), Sha256: info.SHA256[:], Offset: uint64(offset),
		}))
		if err != nil {
			return err
		}
		if data = resp.Msg.GetData(); len(data) == 0 || len(data) > maxChunkBytes || int64(len(data)) > info.Size-offset {
			return nonsense(fmt.Errorf("chunk of %d bytes at offset %d of %d", len(data), offset, info.Size))
		}
		return nil
	})
	return data, err
}
