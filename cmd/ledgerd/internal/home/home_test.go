package home

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCreateOnce(t *testing.T) {
	h := Home(filepath.Join(t.TempDir(), "a", "b"))
	require.False(t, h.Exists())
	require.NoError(t, h.Create([]byte("config"), []byte("genesis"), nil))
	require.True(t, h.Exists())
	first, err := ReadKey(h.NodeKey())
	require.NoError(t, err)

	require.ErrorIs(t, h.Create([]byte("other"), []byte("other"), nil), ErrExists)
	genesis, err := os.ReadFile(h.Genesis())
	require.NoError(t, err)
	require.Equal(t, "genesis", string(genesis))
	again, err := ReadKey(h.NodeKey())
	require.NoError(t, err)
	require.Equal(t, first, again)
}

// TestCreateAfterCrash takes each prefix of what Create writes and creates again: the key that was there is kept.
func TestCreateAfterCrash(t *testing.T) {
	h := Home(t.TempDir())
	key, err := NewKey(h.NodeKey())
	require.NoError(t, err)
	require.False(t, h.Exists(), "without a genesis it is no home")
	_, err = h.Open()
	require.ErrorIs(t, err, ErrNotHome)
	require.NoError(t, h.Create([]byte("config"), []byte("genesis"), nil))
	kept, err := ReadKey(h.NodeKey())
	require.NoError(t, err)
	require.Equal(t, key, kept)
}

// TestCreatePrepares: what prepare makes is there before the home counts as one, and its failure leaves none.
func TestCreatePrepares(t *testing.T) {
	h := Home(t.TempDir())
	failed := errors.New("failed")
	require.ErrorIs(t, h.Create(nil, nil, func() error { return failed }), failed)
	require.False(t, h.Exists())
	key, err := ReadKey(h.NodeKey())
	require.NoError(t, err)
	require.NoError(t, h.Create(nil, nil, func() error {
		again, err := ReadKey(h.NodeKey())
		require.Equal(t, key, again)
		require.False(t, h.Exists())
		return err
	}))
	require.True(t, h.Exists())
}

func TestCreateWhereNothingCanBe(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	err := Home(filepath.Join(file, "home")).Create(nil, nil, nil)
	require.ErrorIs(t, err, ErrCannotCreate)
	require.Equal(t, 1, strings.Count(err.Error(), file), "the path is named once: %v", err)
}

// TestOpenIsExclusive is invariant 1, first half; TestLockEndsWithItsProcess is the other.
func TestOpenIsExclusive(t *testing.T) {
	h := Home(t.TempDir())
	require.NoError(t, h.Create(nil, nil, nil))
	lock, err := h.Open()
	require.NoError(t, err)
	_, err = h.Open()
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, string(h))
	require.NoError(t, lock.Close())
	require.NoError(t, lock.Close())
	lock, err = h.Open()
	require.NoError(t, err)
	require.NoError(t, lock.Close())

	_, err = Home(filepath.Join(string(h), "nowhere")).Open()
	require.ErrorIs(t, err, ErrNotHome)
}

// TestLockEndsWithItsProcess runs this test binary as the other process, kills it, and opens what it had open.
func TestLockEndsWithItsProcess(t *testing.T) {
	const child = "HOME_TEST_LOCK"
	if dir := os.Getenv(child); dir != "" {
		if _, err := Home(dir).Open(); err != nil {
			os.Exit(3)
		}
		os.Stdout.WriteString("locked\n")
		select {}
	}
	h := Home(t.TempDir())
	require.NoError(t, h.Create(nil, nil, nil))
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockEndsWithItsProcess$")
	cmd.Env = append(os.Environ(), child+"="+string(h))
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line := make([]byte, len("locked\n"))
	_, err = out.Read(line)
	require.NoError(t, err)
	require.Equal(t, "locked\n", string(line))

	_, err = h.Open()
	require.ErrorIs(t, err, ErrInUse)
	require.ErrorContains(t, err, "(process ")

	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait() // killed
	lock, err := h.Open()
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

// TestWriteFileReplacesWhole checks mode and content, and that nothing is left beside the file.
func TestWriteFileReplacesWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	require.NoError(t, WriteFile(path, []byte("a longer text"), 0o644))
	require.NoError(t, WriteFile(path, []byte("b"), 0o600))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "b", string(data))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1)

	require.ErrorIs(t, WriteFile(filepath.Join(dir, "no", "f"), nil, 0o600), ErrCannotCreate)
}

// TestSecrets is invariant 3.
func TestSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	key, err := NewKey(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())

	_, err = NewKey(path)
	require.ErrorIs(t, err, ErrCannotCreate)
	again, err := ReadKey(path)
	require.NoError(t, err)
	require.Equal(t, key, again)

	for _, mode := range []os.FileMode{0o640, 0o604, 0o660, 0o644, 0o610} {
		require.NoError(t, os.Chmod(path, mode))
		_, err = ReadKey(path)
		require.ErrorIs(t, err, ErrTooOpen, "mode %o", mode)
		require.NotContains(t, err.Error(), "PRIVATE")
	}
	require.NoError(t, os.Chmod(path, 0o400))
	_, err = ReadKey(path)
	require.NoError(t, err)
}

// TestJWTSecret: what is made can be read, also as others write it, and what is too short is refused.
func TestJWTSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jwt.hex")
	require.NoError(t, NewJWTSecret(path))
	secret, err := ReadJWTSecret(path)
	require.NoError(t, err)
	require.Len(t, secret, 32)
	require.ErrorIs(t, NewJWTSecret(path), ErrCannotCreate)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	write := func(text string) {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	write("0x" + string(text) + " \n")
	again, err := ReadJWTSecret(path)
	require.NoError(t, err)
	require.Equal(t, secret, again)
	for _, bad := range []string{"", "secret", string(text[:62]), "0x" + string(text[:63])} {
		write(bad)
		_, err := ReadJWTSecret(path)
		require.ErrorContains(t, err, "want at least 32 bytes in hexadecimal")
		require.NotContains(t, err.Error(), string(text[:16]))
	}
	require.NoError(t, os.Chmod(path, 0o644))
	_, err = ReadJWTSecret(path)
	require.ErrorIs(t, err, ErrTooOpen)
}

func TestBadSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		require.NoError(t, os.RemoveAll(path))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	for _, text := range []string{"", "key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		write(text)
		_, err := ReadKey(path)
		require.Error(t, err)
	}
	_, err := ReadKey(path + "-nowhere")
	require.ErrorIs(t, err, os.ErrNotExist)
}
