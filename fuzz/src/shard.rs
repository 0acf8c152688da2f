//! The echo core under a kernel that does whatever the input says: every size, fault, client and
//! order of events is a byte of it. The simulation's assertions are the oracle.

use crate::sim::simulation::Simulation;

/// Whatever is drawn, the run comes to a good end.
pub fn run(data: &[u8]) {
    Simulation::scripted(data.to_vec(), false).run();
}
