// Package netns makes hosts on one machine: network namespaces of Linux, each with an address and a loopback of its own, on one bridge. Processes run on them, a
// test dials into them, and the lines between them can be cut, each direction by itself.
//
//	host 0  198.18.0.1      host 1  198.18.0.2      host 2  198.18.0.3
//	   │ eth0                  │ eth0                  │ eth0
//	   └───────────┬───────────┴───────────┬───────────┘
//	               └──── bridge, in a namespace without address
//
// Every host knows the hardware addresses of the others by permanent entries, and asks nobody. A line is cut at its sender: the receiver's entry becomes an address
// that nobody has, so that what is sent goes over the wire and is lost without a word, as behind a switch that died. Connections that are open hang, and new ones
// get no answer; no error tells either side. It takes nothing of the kernel but namespaces, veth and a bridge: no packet filter, no traffic control.
//
// Nothing has a name outside of this process: the kernel removes the namespaces with all that is in them when the last of their processes and this one have
// ended, however they end.
//
// Invariants:
//
//  1. No other namespace than those that New made is changed, and no thread that has entered one runs anything else afterwards.
//  2. Loopback, over which a test talks to the processes of a host, is never cut.
package netns
