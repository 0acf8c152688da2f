//! What follows from a result: pure functions.

pub mod verdict;
