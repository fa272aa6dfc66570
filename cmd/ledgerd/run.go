package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"

	"ledgerd/cmd/ledgerd/internal/config"
	"ledgerd/cmd/ledgerd/internal/node"
)

// serve runs a node until ctx ends. It is what dev and start have in common. opened is called when all is open and
// nothing is served yet; then stdout gets exactly one line, when the node has caught up and answers.
func (c console) serve(ctx context.Context, logger *slog.Logger, opts node.Options, opened func()) error {
	tuneCollector(opts.Config, c.getenv)
	adoptLibraryLogs(logger, func(code exitCode) { os.Exit(int(code)) })
	opts.Version = readVersion().Version
	opts.Logger = logger
	opts.Fatal = die(logger)
	told := sync.OnceFunc(opened)
	var line sync.Once
	for {
		err := c.serveOnce(ctx, logger, opts, told, &line)
		if opts.Rejoin = nil; !errors.As(err, &opts.Rejoin) || ctx.Err() != nil {
			return err
		}
	}
}

// serveOnce runs a node from its opening to its end. The line for stdout is printed once.
func (c console) serveOnce(ctx context.Context, logger *slog.Logger, opts node.Options, opened func(), line *sync.Once) error {
	n, err := node.Open(ctx, opts)
	if err != nil {
		if isInterrupt(ctx, err) {
			return nil
		}
		return err
	}
	head := n.Ledger().CurrentHeader()
	logger.Info("node open", "version", opts.Version, "chainId", opts.Genesis.Config.ChainID, "engine", opts.Genesis.Ledgerd.Engine,
		"block", head.Number, "hash", head.Hash(), "lsn", uint64(n.Ledger().Applied()), "home", string(opts.Home))
	if a := n.MetricsAddr(); a != nil {
		logger.Info("metrics", "url", "http://"+a.String()+"/metrics")
	}
	opened()
	err = n.Run(ctx, func() {
		address := dialable(n.Addr())
		line.Do(func() { fmt.Fprintf(c.stdout, "ready http=http://%s ws=ws://%s\n", address, address) })
	})
	if err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// dialable turns the address of a listener into one to connect to: a listener on all interfaces is reached here by
// loopback.
func dialable(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return a.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}

// tuneCollector lets the heap grow further between garbage collections than Go's default does. Execution allocates much
// that dies with its block; at 300 % the collector takes a third of the CPU time that it takes at 100 %, for memory that
// a node has. GOGC, when set, is the operator's word.
func tuneCollector(c *config.Config, getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(c.Node.GCPercent)
	}
}
