//go:build unix && !linux

package network

import "syscall"

// childAttributes puts a node into a process group of its own, so that a Ctrl-C at the terminal reaches it through Up alone and
// once.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
