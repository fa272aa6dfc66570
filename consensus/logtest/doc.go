// Package logtest is the contract of consensus.Loglet as a test suite, which every engine must pass, together with the promises of a VirtualLog that
// rest on it.
//
// An engine's test supplies a Harness and calls Run:
//
//	func TestLoglet(t *testing.T) {
//		logtest.Run(t, logtest.Harness{
//			New: func(tb logtest.TB, env logtest.Env) logtest.Cluster {
//				return logtest.Cluster{
//					Spec:   consensus.Spec{Engine: local.Name},
//					Engine: func(int) consensus.Engine { return local.Engine(local.Options{Now: env.Now}) },
//				}
//			},
//		})
//	}
//
// The suite owns what makes faults possible: the disks (a file system in memory that can be cloned as a crash would leave it), the wall clock, and the
// administrators' keys. It opens a consensus.Store for each member and the engine's loglet over it.
//
// A check is a function of a TB, not of a *testing.T, so that the suite itself can be tested: run against an engine with a planted fault, it must
// fail. A new promise of the contract lands here first, with the fault that shows that its check sees something.
package logtest
