//go:build race

package sim_test

// The simulation is one goroutine. Under the race detector, which makes it ten times as slow, a few seeds show what there is to see of pebble's.
const defaultSeeds = 20
