//! loadgen: how long did connections wait to be accepted?
fn main() {}
