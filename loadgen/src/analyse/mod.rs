//! What follows from a result: pure functions over [`RunResult`](crate::model::result::RunResult).

pub mod pace;
pub mod retransmission;
pub mod verdict;
