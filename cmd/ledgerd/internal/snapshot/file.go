package snapshot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ethereum/go-ethereum/common"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
	"ledgerd/ledger"
)

var (
	// ErrBad means that a file is no snapshot, is damaged, or says what cannot be.
	ErrBad = errors.New("bad snapshot file")
	// ErrExists means that a file is in the way.
	ErrExists = errors.New("is there already; nothing was overwritten")
	// ErrEmpty means that there is nothing to make a snapshot of.
	ErrEmpty = errors.New("nothing has been applied yet that a snapshot could stand for")
)

const magic = "ledgerd node snapshot 1\n"

// lengthBytes is the length of what precedes the log's state.
const lengthBytes = len(magic) + 4

// Info describes a snapshot file: the LSN of the last entry that it stands for, its size, and its hash.
type Info = peer.SnapshotInfo

// Contents says what a snapshot is of.
type Contents struct {
	Info
	Head common.Hash // of the newest block
}

// Log is what a snapshot takes of the log. *consensus.VirtualLog and *consensus.Store are such.
type Log interface {
	Snapshot(ctx context.Context, lsn consensus.LSN) (consensus.LogState, error)
}

// Ledger is what it takes of the ledger. *ledger.Ledger is one.
type Ledger interface {
	Applied() consensus.LSN
	Snapshot(ctx context.Context, w io.Writer) error
}

// Source is what snapshots are made of.
type Source struct {
	Log    Log
	Ledger Ledger
	Told   func(bytes uint64) // how much of a file has been written; nil: nobody is told
}

// Write writes a snapshot of what the ledger has applied. The ledger goes on meanwhile. Errors: ErrEmpty; ledger.ErrLogBehind if the log does not reach
// up to what the ledger has applied, consensus.ErrTrimmed if it does not reach back far enough.
func (s Source) Write(ctx context.Context, w io.Writer) (Contents, error) {
	if s.Ledger.Applied() == 0 {
		return Contents{}, ErrEmpty
	}
	out := newSumWriter(w)
	join := &joiner{ctx: ctx, log: s.Log, out: out}
	err := s.Ledger.Snapshot(ctx, join)
	if err == nil {
		_, err = out.Write(out.sum.Sum(nil))
	}
	if err == nil {
		err = out.buf.Flush()
	}
	if err != nil {
		return Contents{}, err
	}
	return Contents{Info: Info{LSN: join.header.Applied, Size: out.size, SHA256: consensus.Digest(out.sum.Sum(nil))}, Head: join.header.Head}, nil
}

// A sumWriter sums what it writes.
type sumWriter struct {
	buf  *bufio.Writer
	sum  hash.Hash
	size int64
}

func newSumWriter(w io.Writer) *sumWriter {
	return &sumWriter{buf: bufio.NewWriterSize(w, 1<<18), sum: sha256.New()}
}

func (w *sumWriter) Write(p []byte) (int, error) {
	n, err := w.buf.Write(p)
	w.sum.Write(p[:n])
	w.size += int64(n)
	return n, err
}

// A joiner receives the ledger's snapshot. Of its first bytes it learns the LSN, and puts the log's state in front.
type joiner struct {
	ctx    context.Context
	log    Log
	out    io.Writer
	begin  []byte
	header ledger.SnapshotHeader
	joined bool
}

func (j *joiner) Write(p []byte) (int, error) {
	if j.joined {
		return j.out.Write(p)
	}
	j.begin = append(j.begin, p...)
	if len(j.begin) < ledger.SnapshotHeaderBytes {
		return len(p), nil
	}
	if err := j.join(); err != nil {
		return 0, err
	}
	j.joined = true
	if _, err := j.out.Write(j.begin); err != nil {
		return 0, err
	}
	j.begin = nil
	return len(p), nil
}

func (j *joiner) join() (err error) {
	if j.header, err = ledger.DecodeSnapshotHeader(j.begin[:ledger.SnapshotHeaderBytes]); err != nil {
		return err
	}
	state, err := j.log.Snapshot(j.ctx, j.header.Applied)
	if errors.Is(err, consensus.ErrUnwritten) {
		err = fmt.Errorf("%w: %w", ledger.ErrLogBehind, err)
	}
	if err != nil {
		return err
	}
	b := state.Encode()
	_, err = j.out.Write(append(binary.BigEndian.AppendUint32([]byte(magic), uint32(len(b))), b...))
	return err
}

// CreateFile writes a snapshot to a file that does not exist yet (invariant 1). Errors: as of Write; ErrExists.
func (s Source) CreateFile(ctx context.Context, path string) (Contents, error) {
	if _, err := os.Lstat(path); err == nil {
		return Contents{}, fmt.Errorf("%s %w", path, ErrExists)
	}
	return s.create(ctx, filepath.Dir(path), func(Info) string { return filepath.Base(path) })
}

// partSuffix ends the names of files that are being written.
const partSuffix = ".part"

// create writes a snapshot into dir, under the name that it gets when it is known what it is.
func (s Source) create(ctx context.Context, dir string, name func(Info) string) (c Contents, err error) {
	f, err := os.CreateTemp(dir, "making-*"+partSuffix)
	if err != nil {
		return c, fmt.Errorf("%w a snapshot: %w", home.ErrCannotCreate, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a snapshot: %w", err), ignoreMissing(os.Remove(f.Name())))
		}
	}()
	c, err = s.Write(ctx, &countingWriter{w: f, told: s.Told})
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return c, err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name(c.Info))); err != nil {
		return c, err
	}
	return c, syncDir(dir)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A countingWriter tells how much has been written.
type countingWriter struct {
	w    io.Writer
	n    uint64
	told func(uint64)
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	if w.n += uint64(n); w.told != nil {
		w.told(w.n)
	}
	return n, err
}

// A File is an open snapshot whose sum is right and whose beginnings can be read: what it says need not be true yet. Close it.
type File struct {
	Contents
	State consensus.LogState // of the log at LSN

	file   *os.File
	ledger int64 // where the ledger's part begins
}

// OpenFile reads all of a file and checks its sum and its form. progress is told how many of its bytes have been read. The error is ErrBad, or that of
// reading.
func OpenFile(ctx context.Context, path string, progress func(done, total uint64)) (*File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	f := &File{file: file}
	if err := f.open(ctx, progress); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), file.Close())
	}
	return f, nil
}

func (f *File) open(ctx context.Context, progress func(done, total uint64)) error {
	stat, err := f.file.Stat()
	if err != nil {
		return err
	}
	if f.Size = stat.Size(); f.Size < int64(lengthBytes+ledger.SnapshotHeaderBytes+sha256.Size) {
		return fmt.Errorf("%w: it has %d bytes", ErrBad, f.Size)
	}
	start := make([]byte, lengthBytes)
	if _, err := f.file.ReadAt(start, 0); err != nil {
		return err
	}
	if !bytes.HasPrefix(start, []byte(magic)) {
		return fmt.Errorf("%w: it does not begin like one", ErrBad)
	}
	if err := f.checkSum(ctx, progress); err != nil {
		return err
	}
	n := int64(binary.BigEndian.Uint32(start[len(magic):]))
	f.ledger = int64(lengthBytes) + n
	if f.ledger+int64(ledger.SnapshotHeaderBytes) > f.Size-sha256.Size {
		return fmt.Errorf("%w: the state of the log has %d bytes, the file %d", ErrBad, n, f.Size)
	}
	return f.decode(n)
}

// checkSum reads the file from its beginning to its end.
func (f *File) checkSum(ctx context.Context, progress func(done, total uint64)) error {
	sum, buf := sha256.New(), make([]byte, 1<<20)
	end := f.Size - sha256.Size
	for at := int64(0); at < end; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.file.ReadAt(buf[:min(int64(len(buf)), end-at)], at)
		if err != nil {
			return err
		}
		sum.Write(buf[:n])
		at += int64(n)
		progress(uint64(at), uint64(end))
	}
	said := buf[:sha256.Size]
	if _, err := f.file.ReadAt(said, end); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if have := sum.Sum(nil); !bytes.Equal(have, said) {
		return fmt.Errorf("%w: its sum is %x, its bytes make %x: it is cut off or damaged", ErrBad, said, have)
	}
	sum.Write(said)
	f.SHA256 = consensus.Digest(sum.Sum(nil))
	return nil
}

// decode reads the state of the log, which has n bytes, and the header of the ledger's part.
func (f *File) decode(n int64) error {
	state, header := make([]byte, n), make([]byte, ledger.SnapshotHeaderBytes)
	_, err := f.file.ReadAt(state, int64(lengthBytes))
	if err == nil {
		_, err = f.file.ReadAt(header, f.ledger)
	}
	if err != nil {
		return err
	}
	h, err := ledger.DecodeSnapshotHeader(header)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	if f.State, err = consensus.DecodeLogState(state); err != nil {
		return fmt.Errorf("%w: %w", ErrBad, err)
	}
	if h.Applied != f.State.LSN || h.Network != f.State.Network {
		return fmt.Errorf("%w: its ledger is of lsn %d of network %v, its log of lsn %d of %v", ErrBad, h.Applied, h.Network, f.State.LSN, f.State.Network)
	}
	f.LSN, f.Head = h.Applied, h.Head
	return nil
}

// Ledger returns a reader of the ledger's part.
func (f *File) Ledger() *io.SectionReader {
	return io.NewSectionReader(f.file, f.ledger, f.Size-sha256.Size-f.ledger)
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }
