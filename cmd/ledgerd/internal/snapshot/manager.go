package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"ledgerd/cmd/ledgerd/internal/home"
	"ledgerd/consensus"
	"ledgerd/consensus/peer"
)

var _ peer.SnapshotSource = (*Manager)(nil)

// A Manager keeps the snapshots of a running node in a directory, newest first, under names that say what they are:
//
//	LSN in 20 digits - SHA-256 of the file in 64 hexadecimal digits .snapshot
//
// Its methods may be called concurrently.
type Manager struct {
	dir    string
	keep   int
	source Source
	logger *slog.Logger

	making chan struct{} // holds a token while a snapshot is made
	mu     struct {
		sync.Mutex
		list []Info // newest first
	}
}

const fileSuffix = ".snapshot"

func fileName(i Info) string { return fmt.Sprintf("%020d-%v%s", i.LSN, i.SHA256, fileSuffix) }

// parseName is the inverse of fileName, without the size.
func parseName(name string) (i Info, ok bool) {
	lsn, sum, dash := strings.Cut(strings.TrimSuffix(name, fileSuffix), "-")
	n, err := strconv.ParseUint(lsn, 10, 64)
	if !dash || err != nil || i.SHA256.UnmarshalText([]byte(sum)) != nil {
		return Info{}, false
	}
	i.LSN = consensus.LSN(n)
	return i, fileName(i) == name
}

// After returns the names of the snapshots in a directory that stand for the log up to an LSN or more, as a log that was cut back there no longer has. The
// directory need not exist.
func After(dir string, lsn consensus.LSN) (names []string, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, ignoreMissing(err)
	}
	for _, f := range files {
		if info, ok := parseName(f.Name()); ok && info.LSN >= lsn {
			names = append(names, f.Name())
		}
	}
	return names, nil
}

// OpenManager opens the directory, which need not exist, and removes what a crash left half made. Other files in it are not touched. It keeps
// the newest keep snapshots, at least one.
func OpenManager(dir string, keep int, source Source, logger *slog.Logger) (*Manager, error) {
	m := &Manager{dir: dir, keep: max(keep, 1), source: source, logger: logger, making: make(chan struct{}, 1)}
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open snapshots: %w", err)
	}
	for _, f := range files {
		if strings.HasPrefix(f.Name(), "making-") && strings.HasSuffix(f.Name(), partSuffix) {
			if err := ignoreMissing(os.Remove(filepath.Join(dir, f.Name()))); err != nil {
				return nil, fmt.Errorf("open snapshots: %w", err)
			}
		}
		if info, ok := parseName(f.Name()); ok {
			stat, err := f.Info()
			if err != nil {
				return nil, fmt.Errorf("open snapshots: %w", err)
			}
			info.Size = stat.Size()
			m.mu.list = append(m.mu.list, info)
		}
	}
	slices.SortFunc(m.mu.list, func(a, b Info) int { return cmp.Compare(b.LSN, a.LSN) })
	return m, nil
}

// Make makes a snapshot of what has been applied, unless the newest stands for as much, and removes those that are too many. Calls take turns. Errors: as of
// Source.Write; home.ErrCannotCreate.
func (m *Manager) Make(ctx context.Context) (Info, error) {
	select {
	case m.making <- struct{}{}:
		defer func() { <-m.making }()
	case <-ctx.Done():
		return Info{}, ctx.Err()
	}
	if list := m.List(); len(list) > 0 && list[0].LSN >= m.source.Ledger.Applied() {
		return list[0], nil
	}
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return Info{}, fmt.Errorf("%w %s: %w", home.ErrCannotCreate, m.dir, err)
	}
	c, err := m.source.create(ctx, m.dir, fileName)
	if err != nil {
		return Info{}, err
	}
	m.logger.Info("snapshot", "lsn", c.LSN, "bytes", c.Size, "head", c.Head)
	for _, old := range m.enter(c.Info) {
		if err := ignoreMissing(os.Remove(m.Path(old))); err != nil { // the next OpenManager finds it again
			m.logger.Warn("remove an old snapshot", "lsn", old.LSN, "err", err)
		}
	}
	return c.Info, nil
}

// enter notes a new snapshot, and forgets and returns those that are too many now.
func (m *Manager) enter(i Info) []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := slices.Insert(m.mu.list, 0, i)
	kept := min(m.keep, len(list))
	m.mu.list = slices.Clip(list[:kept])
	return list[kept:]
}

// Path returns the name of the file of a snapshot.
func (m *Manager) Path(i Info) string { return filepath.Join(m.dir, fileName(i)) }

// List returns the snapshots that are there, newest first.
func (m *Manager) List() []Info {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mu.list)
}

// Newest returns the LSN of the newest snapshot, 0 if there is none.
func (m *Manager) Newest() consensus.LSN {
	if list := m.List(); len(list) > 0 {
		return list[0].LSN
	}
	return 0
}

// Oldest returns the LSN of the oldest snapshot that is kept, 0 if there is none. Who has just fetched it needs the entries from there on.
func (m *Manager) Oldest() consensus.LSN {
	if list := m.List(); len(list) > 0 {
		return list[len(list)-1].LSN
	}
	return 0
}

// ReadAt reads from the file of a snapshot as an io.ReaderAt does. peer.ErrNoSnapshot if there is none at lsn.
func (m *Manager) ReadAt(lsn consensus.LSN, offset int64, p []byte) (int, error) {
	list := m.List()
	i := slices.IndexFunc(list, func(i Info) bool { return i.LSN == lsn })
	if i < 0 {
		return 0, fmt.Errorf("%w at lsn %d", peer.ErrNoSnapshot, lsn)
	}
	f, err := os.Open(m.Path(list[i]))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("%w at lsn %d", peer.ErrNoSnapshot, lsn)
	} else if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(p, offset)
}
