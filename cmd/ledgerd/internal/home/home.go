package home

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
)

var (
	// ErrInUse is returned by Open while another process has the home open.
	ErrInUse = errors.New("is in use by another ledgerd process")
	// ErrExists is returned by Create for a home that was made before.
	ErrExists = errors.New("holds a node already; nothing was overwritten")
	// ErrNotHome is returned by Open for a directory that Create never finished.
	ErrNotHome = errors.New("is not the home of a node; make it with `ledgerd init`")
	// ErrCannotCreate wraps the reason why a directory or a file could not be made.
	ErrCannotCreate = errors.New("cannot create")
)

// Home is the path of a home directory. Its methods name the files.
type Home string

func (h Home) Config() string       { return filepath.Join(string(h), "config.toml") }
func (h Home) Genesis() string      { return filepath.Join(string(h), "genesis.json") }
func (h Home) NodeKey() string      { return filepath.Join(string(h), "node.key") }
func (h Home) ConsensusKey() string { return filepath.Join(string(h), "consensus.key") }
func (h Home) DataDir() string      { return filepath.Join(string(h), "data") }
func (h Home) LogDir() string       { return filepath.Join(h.DataDir(), "log") }
func (h Home) CometDir() string     { return filepath.Join(h.DataDir(), "comet") }
func (h Home) StateDir() string     { return filepath.Join(h.DataDir(), "ledger") }
func (h Home) SnapshotsDir() string { return filepath.Join(string(h), "snapshots") }

// Exists reports whether Create has finished here: the genesis is the last file that it writes.
func (h Home) Exists() bool {
	_, err := os.Stat(h.Genesis())
	return err == nil
}

// Create makes the home, with a new node key and a new consensus key unless they are there already. If the home exists it returns ErrExists; files that
// an interrupted Create left are kept, except that nothing of them counts until the genesis is there. prepare, if not nil, is
// called just before that, with everything else in place; its error ends Create. After an interruption it is called again.
func (h Home) Create(config, genesis []byte, prepare func() error) error {
	if h.Exists() {
		return fmt.Errorf("directory %s %w", h, ErrExists)
	}
	if err := os.MkdirAll(string(h), 0o755); err != nil {
		return fmt.Errorf("%w %s: %w", ErrCannotCreate, h, unwrapPath(err))
	}
	lock, err := h.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	if h.Exists() { // made by another process between the first look and the lock
		return fmt.Errorf("directory %s %w", h, ErrExists)
	}
	if _, err := os.Stat(h.Config()); errors.Is(err, fs.ErrNotExist) {
		if err := WriteFile(h.Config(), config, 0o644); err != nil {
			return err
		}
	}
	for _, key := range []string{h.NodeKey(), h.ConsensusKey()} {
		if _, err := os.Stat(key); errors.Is(err, fs.ErrNotExist) {
			if _, err := NewKey(key); err != nil {
				return err
			}
		}
	}
	if prepare != nil {
		if err := prepare(); err != nil {
			return err
		}
	}
	return WriteFile(h.Genesis(), genesis, 0o644)
}

// A Lock is an open home.
type Lock struct {
	file *flock.Flock
}

// Open takes the home for this process until Close, or returns ErrInUse, or ErrNotHome.
func (h Home) Open() (*Lock, error) {
	if !h.Exists() {
		return nil, fmt.Errorf("%s %w", h, ErrNotHome)
	}
	return h.lock()
}

// lock is Open of a directory that need not be complete.
func (h Home) lock() (*Lock, error) {
	path := filepath.Join(string(h), "LOCK")
	file := flock.New(path)
	switch taken, err := file.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("%w %s: %w", ErrCannotCreate, path, unwrapPath(err))
	case !taken:
		return nil, fmt.Errorf("data directory %s %w%s", h, ErrInUse, holder(path))
	}
	// The id is for people who look for the process. A failure to write it takes nothing from the lock.
	_ = os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644)
	return &Lock{file}, nil
}

// Close gives the home back. It may be called twice.
func (l *Lock) Close() error { return l.file.Close() }

// holder names the process that has the lock, if the file tells.
func holder(path string) string {
	text, err := os.ReadFile(path)
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return ""
	}
	return fmt.Sprintf(" (process %d)", pid)
}

// WriteFile makes or replaces a file so that a reader, or a start after a power cut, finds the old content or the
// new, never a part (invariant 2).
func WriteFile(path string, data []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w %s: %w", ErrCannotCreate, path, unwrapPath(err))
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // mode 0600 until it is complete
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// unwrapPath drops the path that an *fs.PathError repeats; the messages here name it themselves.
func unwrapPath(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
