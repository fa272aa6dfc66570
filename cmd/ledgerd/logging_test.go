package main

import (
	"bytes"
	"log/slog"
	"testing"

	gethlog "github.com/ethereum/go-ethereum/log"
	"github.com/stretchr/testify/require"
)

// TestLibraryMessages: a library's routine is detail, its warnings stay warnings, and what it would end the process
// for ends it with the code for failed storage.
func TestLibraryMessages(t *testing.T) {
	var out bytes.Buffer
	logger, err := newLogger(&out, "text", "info")
	require.NoError(t, err)
	var exited []exitCode
	library := gethlog.NewLogger(libraryHandler{logger.Handler(), func(code exitCode) { exited = append(exited, code) }})

	library.Info("opened database")
	library.Debug("detail")
	require.Empty(t, out.String())
	library.Warn("slow compaction", "seconds", 3)
	require.Contains(t, out.String(), `level=WARN msg="slow compaction" seconds=3`)
	out.Reset()
	library.Warn("Head block is not reachable")
	require.Empty(t, out.String())

	library.Write(gethlog.LevelCrit, "Failed to store block", "err", "no space left on device")
	require.Contains(t, out.String(), `level=ERROR msg="Failed to store block" err="no space left on device"`)
	require.Equal(t, []exitCode{exitStorage}, exited)
}

func TestLoggerOptions(t *testing.T) {
	var out bytes.Buffer
	logger, err := newLogger(&out, "json", "warn")
	require.NoError(t, err)
	logger.Info("a")
	require.Empty(t, out.String())
	logger.Warn("b", slog.Int("lsn", 7))
	require.Contains(t, out.String(), `"msg":"b","lsn":7`)

	_, err = newLogger(&out, "xml", "warn")
	require.Equal(t, exitUsage, codeOf(err))
	_, err = newLogger(&out, "text", "loud")
	require.Equal(t, exitUsage, codeOf(err))
}
